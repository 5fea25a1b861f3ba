/*
 * The cells of patterns against brute force: all short paths of few bytes, each matched the slow way.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/path.h"
#include "../../policy/cells.h"

enum { PATTERNS_MAX = 4, SETS = 1 << PATTERNS_MAX, BRUTE_LEN = 7, ROUNDS = 400 };

static const struct policy_user ann = { .uid = 7, .gid = 7, .name = "ab", .home = "/a/b" };
static const struct policy_subject subject = { .uid = 7, .gid = 7, .user = &ann };

static unsigned seed = 1;

static unsigned below(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

/* ---- patterns, each a policy of its own ---- */

static struct policy *policies[PATTERNS_MAX];
static const struct pattern *patterns[PATTERNS_MAX];
static size_t n_patterns;

static bool add(const char *word)
{
    char text[512];
    struct policy_env env = { 0 };
    struct policy_messages messages = { 0 };
    int len = snprintf(text, sizeof text, "allow any read \"%s\"\n", word);
    int err = policy_load_text(&policies[n_patterns], "cells", text, (size_t)len, &env, &messages);
    if (err == 0)
        patterns[n_patterns] = policies[n_patterns]->ast.rules[0].patterns, n_patterns++;
    policy_messages_deinit(&messages);
    return err == 0;
}

static void clear(void)
{
    while (n_patterns)
        policy_free(policies[--n_patterns]);
}

static unsigned matched_slowly(const char *path, size_t len)
{
    unsigned set = 0;
    for (size_t i = 0; i < n_patterns; i++) {
        struct policy_decision decision;
        policy_decide_slow(policies[i], &subject, RIGHT_READ, path, len, 0, &decision);
        set |= (unsigned)decision.allowed << i;
    }
    return set;
}

/* ---- what both ways find ---- */

struct found {
    size_t len[SETS]; /* of the witness; 0: none */
    bool good;
    unsigned stop_after;
};

static bool note(const uint64_t *matched, const char *path, size_t len, void *data)
{
    struct found *found = data;
    unsigned set = (unsigned)matched[0];
    if (!path_is_clean(path, len) || strlen(path) != len || !(set & 1) || found->len[set] ||
        matched_slowly(path, len) != set) {
        print_error("set %x by %s\n", set, path);
        found->good = false;
    }
    found->len[set] = len;
    return !found->stop_after || --found->stop_after;
}

static void brute(char *path, size_t len, struct found *found)
{
    static const char bytes[] = "/.ab7";
    if (path_is_clean(path, len)) {
        unsigned set = matched_slowly(path, len);
        if (set & 1 && (found->len[set] == 0 || len < found->len[set]))
            found->len[set] = len;
    }
    for (size_t i = 0; len < BRUTE_LEN && bytes[i]; i++) {
        if (bytes[i] == '/' && len && path[len - 1] == '/')
            continue;
        path[len] = bytes[i];
        if (path[0] == '/')
            brute(path, len + 1, found);
    }
}

static void compare(void)
{
    struct found fast = { .good = true }, slow = { .good = true };
    char path[BRUTE_LEN + 1] = "";
    assert_int_equal(cells_each(patterns, n_patterns, &subject, note, &fast), 0);
    assert_true(fast.good);
    brute(path, 0, &slow);
    for (unsigned set = 0; set < SETS; set++)
        if (slow.len[set] && (fast.len[set] == 0 || fast.len[set] > slow.len[set])) {
            for (size_t i = 0; i < n_patterns; i++)
                print_error("%.*s\n", (int)patterns[i]->text_len, patterns[i]->text);
            print_error("set %x: %zu bytes, by brute force %zu\n", set, fast.len[set], slow.len[set]);
            fail();
        }
}

static void random_word(char *out)
{
    static const char *const components[] = { "a",     "b",   "ab",  "*",  "?",     "a*",     "*b",
                                              "[ab]",  "%u",  "%U",  "**", "[!a.]", ".?",     "**",
                                              "*a*b*", "..?", "a%u", ".*", "?*",    "[.-z]*", "[!b]?" };
    size_t len = 0;
    unsigned n = 1 + below(4);
    if (below(20) == 0)
        n = 0, len = (size_t)sprintf(out, "%s", below(2) ? "/" : "%h");
    if (n && below(8) == 0)
        len = (size_t)sprintf(out, "%%h");
    for (unsigned i = 0; i < n; i++)
        len += (size_t)sprintf(out + len, "/%s", components[below(sizeof components / sizeof *components)]);
}

static void test_random(void **state)
{
    (void)state;
    unsigned compared = 0;
    while (compared < ROUNDS) {
        unsigned n = 1 + below(PATTERNS_MAX);
        while (n_patterns < n) {
            char word[128];
            random_word(word);
            (void)add(word); /* some are no patterns */
        }
        compare();
        compared++;
        clear();
    }
}

static void expect(size_t cells, const char *const *words)
{
    struct found fast = { .good = true };
    size_t n = 0;
    for (size_t i = 0; words[i]; i++)
        assert_true(add(words[i]));
    assert_int_equal(cells_each(patterns, n_patterns, &subject, note, &fast), 0);
    assert_true(fast.good);
    for (unsigned set = 0; set < SETS; set++)
        n += fast.len[set] > 0;
    assert_int_equal(n, cells);
    clear();
}

static void test_table(void **state)
{
    (void)state;
    expect(1, (const char *const[]){ "/", "/**", NULL });
    expect(1, (const char *const[]){ "/**", "/", NULL });
    expect(3, (const char *const[]){ "/var/**", "/var/log/**", "/var/log/secret", NULL });
    expect(1, (const char *const[]){ "/var/log/x", "/var/log/*", NULL });
    expect(0, (const char *const[]){ "/.[.]", "/*", NULL });
    expect(4, (const char *const[]){ "/*", "/*a", "/b*", NULL });
    expect(2, (const char *const[]){ "%h/**", "/a/b/c", NULL });
    expect(2, (const char *const[]){ "/*/%u", "/7/*", "/x/**/y", NULL });
}

static bool copy_path(const uint64_t *matched, const char *path, size_t len, void *data)
{
    (void)matched;
    snprintf(data, 32, "%s", path);
    return len == 0;
}

/* %u of somebody unknown matches nothing; witnesses are readable. */
static void test_witness(void **state)
{
    (void)state;
    char path[32] = "none";
    const struct policy_subject nobody = { .uid = 3 };
    assert_true(add("/home/%u/**") && add("/srv/[!a-y]?%U"));
    assert_int_equal(cells_each(patterns, 1, &nobody, copy_path, path), 0);
    assert_string_equal(path, "none");
    assert_int_equal(cells_each(patterns, 1, &subject, copy_path, path), 0);
    assert_string_equal(path, "/home/ab/a");
    assert_int_equal(cells_each(patterns + 1, 1, &nobody, copy_path, path), 0);
    assert_string_equal(path, "/srv/za3");
    assert_int_equal(cells_each(patterns, 0, &nobody, copy_path, path), 0);
    clear();
}

static void test_stops(void **state)
{
    (void)state;
    struct found fast = { .good = true, .stop_after = 1 };
    assert_true(add("/**") && add("/a") && add("/b"));
    assert_int_equal(cells_each(patterns, n_patterns, &subject, note, &fast), 0);
    assert_int_equal((fast.len[1] > 0) + (fast.len[3] > 0) + (fast.len[5] > 0), 1);
    clear();
}

/* The last byte but twenty: a million states. */
static void test_too_many(void **state)
{
    (void)state;
    struct found fast = { .good = true };
    assert_true(add("/*a????????????????????") && add("/**"));
    assert_int_equal(cells_each(patterns, n_patterns, &subject, note, &fast), -E2BIG);
    assert_true(fast.good);
    clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table), cmocka_unit_test(test_random),   cmocka_unit_test(test_witness),
        cmocka_unit_test(test_stops), cmocka_unit_test(test_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
