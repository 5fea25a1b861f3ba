/*
 * The names that are opened without a look: never one that was not seen twice, whatever other names there
 * are, nor one in a directory that others can write.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/known.h"
#include "../../common/util.h"
#include "leak.h"

enum { NAMES = 2000, ROUNDS = 200000 };

static char folder[] = "/tmp/fob-test-known-XXXXXX";
static int tree;

static int setup(void **state)
{
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    if (leak_setup(state) < 0 || !mkdtemp(folder) || chmod(folder, 0755) < 0)
        return -1;
    tree = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return tree < 0 || mkdirat(tree, "d", 0755) < 0 || mkdirat(tree, "d/e", 0755) < 0;
}

static int teardown(void **state)
{
    unlinkat(tree, "d/e", AT_REMOVEDIR);
    unlinkat(tree, "d", AT_REMOVEDIR);
    fd_close(tree);
    rmdir(folder);
    return leak_teardown(state);
}

/* As target_init() makes it, of a tree whose path is /t. */
static struct target target_of(const char *path)
{
    return (
        struct target){ .path = path, .len = strlen(path), .tree = tree, .rel = path + 3, .sealed = true };
}

static bool is_remembered(const char *path, bool sealed)
{
    struct known *known = known_new();
    struct target target = target_of(path);
    assert_non_null(known);
    target.sealed = sealed;
    for (int i = 0; i < 3; i++)
        known_saw_file(known, &target);
    bool has = known_has(known, &target);
    known_forget(known, &target);
    assert_false(known_has(known, &target));
    known_free(known);
    return has;
}

static void test_whose_directories(void **state)
{
    (void)state;
    static const char *const dirs[] = { "", "/d", "/d/e" };
    char path[128];
    assert_true(is_remembered("/t/d/e/file", true));
    assert_false(is_remembered("/t/d/e/file", false));
    assert_false(is_remembered("/t/d/none/file", true));
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        snprintf(path, sizeof path, "%s%s", folder, dirs[i]);
        static const mode_t bad[] = { 0775, 0757, 01777 };
        for (size_t m = 0; m < ARRAY_SIZE(bad); m++) {
            assert_int_equal(chmod(path, bad[m]), 0);
            assert_false(is_remembered("/t/d/e/file", true));
        }
        assert_int_equal(chmod(path, 0755), 0);
        if (geteuid() == 0) {
            assert_int_equal(chown(path, 2001, 0), 0);
            assert_false(is_remembered("/t/d/e/file", true));
            assert_int_equal(chown(path, 0, 0), 0);
        }
        assert_true(is_remembered("/t/d/e/file", true));
    }
}

static void test_lengths(void **state)
{
    (void)state;
    char path[512];
    memset(path, 'x', sizeof path);
    memcpy(path, "/t/", 3);
    int longest = 0;
    for (int len = 4; len < 500; len++) {
        char copy[512];
        snprintf(copy, sizeof copy, "%.*s", len, path);
        if (is_remembered(copy, true))
            assert_int_equal(longest = len, len);
        else
            assert_true(len > 200);
    }
    assert_in_range(longest, 200, 300);
}

/* At first, once and again: an oracle that forgets nothing, where the table may forget anything. */
static void test_many_names(void **state)
{
    (void)state;
    static char names[NAMES][64];
    static unsigned seen[NAMES];
    struct known *known = known_new();
    unsigned hits = 0;
    assert_non_null(known);
    srand(11);
    for (int i = 0; i < NAMES; i++) /* alike, of all lengths */
        snprintf(names[i], sizeof names[i], "/t/d/%.*s%d", i % 40,
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", i / 40);
    for (int round = 0; round < ROUNDS; round++) {
        int i = rand() % NAMES;
        struct target target = target_of(names[i]);
        bool has = known_has(known, &target);
        assert_true(!has || seen[i] >= 2);
        hits += has;
        if (rand() % 16 == 0) {
            known_forget(known, &target);
            seen[i] = 0;
            continue;
        }
        for (int n = rand() % 3; n > 0; n--, seen[i]++)
            known_saw_file(known, &target);
    }
    printf("%u hits of %d\n", hits, ROUNDS);
    assert_in_range(hits, 100, ROUNDS / 4);
    known_free(known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whose_directories, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lengths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_names, setup, teardown),
    };
    return cmocka_run_group_tests_name("known", tests, NULL, NULL);
}
