/*
 * common/path.c: which texts are paths that fob serves, and containment by component.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../common/path.h"
#include "../../common/util.h"

static bool clean(const char *path)
{
    return path_is_clean(path, strlen(path));
}

static void test_clean(void **state)
{
    (void)state;
    static const char *const good[] = {
        "/",      "/a", "/a/b", "/...",      "/.a",         "/..a", "/a.",   "/a..",
        "/.../x", "/ ", "/\n",  "/\xff\x01", "/a/.b/..c/d", "/~",   "/a\\b", "/a/ /b",
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(clean(good[i]));
}

static void test_unclean(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",      "a",     "a/b",   "./a",    "../a",    ".",    "..",  "//",   "///",
        "//a",   "/a//b", "/a/",   "/a/b/",  "/.",      "/..",  "/./", "/../", "/./a",
        "/../a", "/a/.",  "/a/..", "/a/./b", "/a/../b", "/a//", " /a", "~/a",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(clean(bad[i]));
}

static void test_nul(void **state)
{
    (void)state;
    char path[] = "/etc/passwd";
    size_t len = sizeof path - 1;
    assert_true(path_is_clean(path, len));
    assert_false(path_is_clean(path, sizeof path)); /* the NUL at the end belongs to it now */
    for (size_t i = 0; i < len; i++) {
        char saved = path[i];
        path[i] = '\0';
        assert_false(path_is_clean(path, len));
        path[i] = saved;
    }
}

static void test_length(void **state)
{
    (void)state;
    CLEANUP(free_cleanup) char *path = malloc(PATH_TEXT_MAX + 2);
    assert_non_null(path);
    memset(path, 'x', PATH_TEXT_MAX + 2);
    path[0] = '/';
    assert_true(path_is_clean(path, PATH_TEXT_MAX - 1));
    assert_true(path_is_clean(path, PATH_TEXT_MAX));
    assert_false(path_is_clean(path, PATH_TEXT_MAX + 1));
    assert_false(path_is_clean(path, SIZE_MAX));
}

/* Nothing behind len counts, and nothing is read there (ASan: the block ends with the path). */
static void test_bounds(void **state)
{
    (void)state;
    assert_true(path_is_clean("/a/../b", 2));
    assert_true(path_is_clean("/a/", 2));
    assert_true(path_is_clean("//", 1));
    for (size_t len = 1; len < 8; len++) {
        CLEANUP(free_cleanup) char *path = malloc(len);
        assert_non_null(path);
        memset(path, '.', len);
        path[0] = '/';
        assert_int_equal(path_is_clean(path, len), len != 2 && len != 3);
    }
}

static bool beneath(const char *path, const char *dir)
{
    return path_is_beneath(path, strlen(path), dir, strlen(dir));
}

static void test_beneath(void **state)
{
    (void)state;
    assert_true(beneath("/", "/"));
    assert_true(beneath("/a", "/"));
    assert_true(beneath("/a/b/c", "/"));
    assert_true(beneath("/a", "/a"));
    assert_true(beneath("/a/b", "/a"));
    assert_true(beneath("/a/b/c", "/a/b"));
    assert_false(beneath("/", "/a"));
    assert_false(beneath("/ab", "/a"));
    assert_false(beneath("/a", "/ab"));
    assert_false(beneath("/a", "/a/b"));
    assert_false(beneath("/a/bc", "/a/b"));
    assert_false(beneath("/b/a", "/a"));
    assert_false(beneath("/a-evil/x", "/a"));
}

/* The plain statement of it, over all paths of up to 5 bytes of this alphabet. */
static bool clean_slowly(const char *path)
{
    char copy[16];
    size_t len = strlen(path);
    if (path[0] != '/')
        return false;
    if (strcmp(path, "/") == 0)
        return true;
    snprintf(copy, sizeof copy, "%s/", path);
    return path[len - 1] != '/' && !strstr(copy, "//") && !strstr(copy, "/./") && !strstr(copy, "/../");
}

static void test_all_short_paths(void **state)
{
    (void)state;
    static const char letters[] = "/.a\n";
    unsigned served = 0;
    for (unsigned n = 1; n < 1u << 10; n++) { /* a leading 1 bit marks the length: 2 bits a letter below it */
        char path[8];
        size_t len = 0;
        for (unsigned rest = n; rest > 3; rest >>= 2)
            path[len++] = letters[rest & 3];
        path[len] = '\0';
        assert_int_equal(path_is_clean(path, len), len > 0 && clean_slowly(path));
        served += path_is_clean(path, len);
    }
    assert_true(served > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_unclean),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_beneath),
        cmocka_unit_test(test_all_short_paths),
    };
    return cmocka_run_group_tests_name("path", tests, NULL, NULL);
}
