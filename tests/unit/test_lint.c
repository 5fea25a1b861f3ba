/*
 * Warnings: each made and narrowly not made; and what lint calls unreachable never decides.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "../../policy/names.h"
#include "../../policy/policy.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- a user database of our own ---- */

static struct passwd users[] = {
    { .pw_name = (char *)"root", .pw_uid = 0, .pw_gid = 0, .pw_dir = (char *)"/root" },
    { .pw_name = (char *)"ann", .pw_uid = 1, .pw_gid = 11, .pw_dir = (char *)"/home/ann" },
    { .pw_name = (char *)"bob", .pw_uid = 2, .pw_gid = 12, .pw_dir = (char *)"/a/b" },
    { .pw_name = (char *)"a", .pw_uid = 3, .pw_gid = 13, .pw_dir = (char *)"/" },
};
static char *in_11[] = { (char *)"bob", NULL }, *in_13[] = { (char *)"ann", (char *)"bob", NULL },
            *in_none[] = { NULL };
static struct group groups[] = {
    { .gr_name = (char *)"g11", .gr_gid = 11, .gr_mem = in_11 },
    { .gr_name = (char *)"g12", .gr_gid = 12, .gr_mem = in_none },
    { .gr_name = (char *)"g13", .gr_gid = 13, .gr_mem = in_13 },
};
static size_t next_u, next_g;

static struct passwd *user_by_name(const char *name)
{
    for (size_t i = 0; i < COUNT(users); i++)
        if (strcmp(users[i].pw_name, name) == 0)
            return &users[i];
    return NULL;
}

static struct passwd *user_by_id(uid_t uid)
{
    return uid < COUNT(users) ? &users[uid] : NULL;
}

static struct group *group_by_name(const char *name)
{
    for (size_t i = 0; i < COUNT(groups); i++)
        if (strcmp(groups[i].gr_name, name) == 0)
            return &groups[i];
    return NULL;
}

static struct group *group_by_id(gid_t gid)
{
    return gid >= 11 && gid <= 13 ? &groups[gid - 11] : NULL;
}

static void rewind_users(void)
{
    next_u = 0;
}

static struct passwd *next_user(void)
{
    return next_u < COUNT(users) ? &users[next_u++] : NULL;
}

static void rewind_groups(void)
{
    next_g = 0;
}

static struct group *next_group(void)
{
    return next_g < COUNT(groups) ? &groups[next_g++] : NULL;
}

static void end(void)
{
}

static const struct names_source database = {
    user_by_name, user_by_id,    group_by_name, group_by_id, rewind_users,
    next_user,    rewind_groups, next_group,    end,         end,
};

/* ---- tables ---- */

static struct policy *load(const char *text, size_t len, const struct policy_env *env)
{
    struct policy *policy = NULL;
    struct policy_messages messages = { 0 };
    if (policy_load_text(&policy, "t", text, len, env, &messages) < 0)
        fail_msg("does not load:\n%s\n%s", text, messages.text);
    policy_messages_deinit(&messages);
    return policy;
}

static const char *const pseudo[] = { "/pseudo" };
static const struct policy_env with_pseudo = { .pseudo = pseudo, .n_pseudo = 1 };

struct row {
    const char *text, *want; /* what is said, and nothing else; NULL: nothing */
};

static void expect(const struct row *row)
{
    struct policy *policy = load(row->text, strlen(row->text), &with_pseudo);
    struct policy_messages messages = { 0 };
    assert_int_equal(policy_lint(policy, NULL, &messages), 0);
    const char *said = messages.text ? messages.text : "";
    if (messages.n_warnings != (row->want != NULL) || messages.n_errors ||
        !strstr(said, row->want ? row->want : ""))
        fail_msg("not, or not only, said: %s\nof:\n%s\nbut: %s", row->want, row->text, said);
    policy_messages_deinit(&messages);
    policy_free(policy);
}

static void expect_all(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        expect(&rows[i]);
}

#define DEAD(at, by) "t:" at ": warning: never decides anything: t:" by " always does (remove one of them)\n"
#define DEAD2 DEAD("2:1", "1") /* the second, by the first */

static void test_unreachable_rights(void **state)
{
    static const struct row rows[] = {
        { "allow any read /x\nallow any read /x\n", DEAD2 },
        { "allow any read,write /x\nallow any append /x\n", DEAD2 },
        { "allow any append /x\nallow any write /x\n", NULL },
        { "allow any read,list /x\nallow any list /x\n", DEAD2 },
        { "allow any list /x\nallow any read /x\n", NULL },
        { "allow any read,write /x\ndeny any write /x\n", NULL },
        { "allow any read,write /x\ndeny any read,write /x\n", DEAD("1:1", "2") },
        { "allow any read,write /x\ndeny any all /x\n", DEAD("1:1", "2") },
        { "deny any read /x\ndeny any read,write /x\n", NULL },
        { "deny any read,write /x\ndeny any read /x\n", DEAD2 },
        /* a deny decides, allow or not */
        { "allow any read /x\ndeny user:ann read /x\n", NULL },
        { "deny user:ann read /x\nallow any read /x\n", NULL },
        /* behind a deny that takes only some of it */
        { "allow any read,write /x\ndeny any write /x\nallow any read,write /x\n", DEAD("3:1", "1") },
        /* together two make it unreachable, but neither alone: not said */
        { "allow any read /x\nallow any write /x\nallow any read /x /y\n", NULL },
        { "allow any read /x until=2001-01-01\nallow any read /x\n", "t:1:19: warning: until= is over" },
        { "allow any read /x\nallow any read /x until=2999-01-01\n", DEAD2 },
        { "allow any read /x until=2999-01-01\nallow any read /x\n", NULL },
        { "allow any read /x until=2998-01-01\nallow any read /x until=2999-01-01\n", NULL },
        { "allow any read /x until=2999-01-01\nallow any read /x until=2999-01-01\n", DEAD2 },
        { "\n\n  allow any read /x\n\n  allow \\\n any read /x # again\n", DEAD("5:3", "3") },
    };
    (void)state;
    expect_all(rows, COUNT(rows));
}

static void test_unreachable_subjects(void **state)
{
    static const struct row rows[] = {
        { "allow any read /x\nallow user:ann read /x\n", DEAD2 },
        { "allow user:ann read /x\nallow any read /x\n", NULL },
        { "allow user:ann read /x\nallow user:bob read /x\n", NULL },
        { "allow user:ann read /x\nallow user:1 read /x\n", DEAD2 },
        { "allow user:ann,user:bob read /x\nallow user:bob read /x\n", DEAD2 },
        { "allow user:ann read /x\nallow user:ann,user:bob read /x\n", NULL },
        { "allow group:g11 read /x\nallow user:ann+group:g11 read /x\n", DEAD2 },
        { "allow user:ann+group:g11 read /x\nallow group:g11 read /x\n", NULL },
        { "allow user:ann+group:g11 read /x\nallow group:g11+user:ann+exe:/b read /x\n", DEAD2 },
        /* sets */
        { "set @s = user:ann group:g12\nallow @s read /x\nallow user:ann read /x\n", DEAD("3:1", "2") },
        { "set @s = user:ann group:g12\nallow @s read /x\nallow group:g12 read /x\n", DEAD("3:1", "2") },
        { "set @s = user:ann group:g12\nallow @s read /x\nallow user:bob read /x\n", NULL },
        { "set @s = user:ann\nset @t = user:ann user:bob\nallow @s read /x\nallow @t read /x\n", NULL },
        { "set @s = user:ann\nset @t = user:ann user:bob\nallow @t read /x\nallow @s read /x\n",
          DEAD("4:1", "3") },
        { "set @s = user:ann\nallow user:ann read /x\nallow @s read /x\n", DEAD("3:1", "2") },
        { "set @s = user:ann any\nallow @s read /x\nallow group:g11 read /x\n", DEAD("3:1", "2") },
        { "set @s = user:ann group:g11\nallow user:bob+@s read /x\nallow group:g11+user:bob read /x\n",
          DEAD("3:1", "2") },
        /* a deny counts the groups of the user database, an allow those of the process */
        { "allow user:bob read /x\ndeny group:g11 read /x\n", DEAD("1:1", "2") },
        { "allow user:bob read /x\ndeny group:g12 read /x\n", DEAD("1:1", "2") },
        { "set @s = group:g11\nallow user:bob read /x\ndeny @s read /x\n", DEAD("2:1", "3") },
        { "allow user:ann read /x\ndeny group:g12 read /x\n", NULL },
        { "allow group:g11 read /x\nallow user:bob read /x\n", NULL },
    };
    (void)state;
    expect_all(rows, COUNT(rows));
}

/* Patterns that do not depend on who asks are in tests/golden/lint/paths.policy. */
static void test_unreachable_paths(void **state)
{
    static const struct row rows[] = {
        { "allow any read /\nallow any read /\n", DEAD2 },
        { "allow any read /x\nallow any read /\n", NULL },
        /* of the caller */
        { "allow any read /x/%u\nallow any read /x/%u\n", DEAD2 },
        { "allow any read /x/%u/**\nallow any read /x/%u/y/*.log\n", DEAD2 },
        { "allow any read /x/*/y\nallow any read /x/%u/y\n", DEAD2 },
        { "allow any read /x/%u\nallow any read /x/*\n", NULL },
        { "allow any read /x/%u\nallow any read /x/ann\n", NULL },
        { "allow any read /x/[!a]*\nallow any read /x/%u\n", NULL },
        { "allow any read /x/4*\nallow any read /x/%U\n", NULL },
        { "allow any read /~/**\nallow any read %h\n", NULL },
        { "allow any read /x/%u\nallow user:ann read /x/ann\n", DEAD2 },
        { "allow any read /x/%u\nallow user:ann read /x/bob\n", NULL },
        { "allow any read /x/ann\nallow user:ann read /x/%u\n", DEAD2 },
        { "set @s = user:ann\nallow any read /x/ann/*\nallow @s read /x/%u/[!a]\n", DEAD("3:1", "2") },
        { "allow any read /x/1\nallow user:ann read /x/%U\n", DEAD2 },
        { "allow any read %h/**\nallow any read %h/y\n", DEAD2 },
        { "allow any read /home/ann/**\nallow user:ann read %h/y\n", DEAD2 },
        { "allow any read /home/**\nallow any read %h/y\n", NULL },
        /* wildcards of an allow do not reach into pseudo file systems, literals and denies do */
        { "allow any read /**/a\nallow any read /pseudo/a\n", "t:1:16: warning: `**` at the root" },
        { "allow any read /*/a\nallow any read /pseudo/a\n", NULL },
        { "allow any read /pseudo/*\nallow any read /pseudo/a\n", DEAD2 },
        { "allow any read /*/a\nallow any read /pseudo2/a\n", DEAD2 },
        { "allow any read /*/a\nallow any read /pseudo/a\nallow any read /y/a /pseudo/a\n", NULL },
        { "deny any read /*/a\nallow any read /pseudo/a\n", DEAD2 },
    };
    (void)state;
    expect_all(rows, COUNT(rows));
}

/* One way or two each, and what narrowly is none; more of them are in tests/golden/lint. */
static void test_others(void **state)
{
    static const struct row rows[] = {
        { "allow any read /y /**/x\n", "t:1:19: warning: `**` at the root: it reaches every directory" },
        { "set @p = /y /*/**\nallow any read /x @p\n", "t:2:19: warning: `**` at the root: " },
        { "allow any read /x*/** /*\n", NULL },
        { "allow any read,append /y /usr/*/x\n", "t:1:26: warning: append reaches /usr/bin (programs): " },
        { "allow any write /etc/**\n", "t:1:17: warning: write reaches /etc/fob (the policy): " },
        { "allow any write /usr/lib*/x.so\n", "t:1:17: warning: write reaches /usr/libexec (" },
        { "allow any write /usr/share/*/x /usr/bin /usr/* /etc/sudoers.bak\n", NULL },
        { "deny any write /usr/bin/**\n", NULL },
        { "allow any read,list /x type=file,dir seal=no\n", "t:1:38: warning: list with seal=no: " },
        { "allow user:root read /x log=none as=caller\n", "t:1:34: warning: as=caller cannot help: " },
        { "set @s = user:root group:g11\nallow @s read /x as=caller\n", NULL },
        { "allow user:ann+group:g11 read /x as=user:ann\n", "t:1:34: warning: as=user: cannot help: it" },
        { "allow user:ann,user:bob read /x as=user:ann\n", NULL },
        { "allow any create /x mode=2\n", "t:1:21: warning: mode=0002: everybody can write " },
        { "allow any create /x mode=0664\nallow any create \"/y mode=2\" # mode=2\n", NULL },
        { "deny user:ann,user:bob+unit:a.service read /x\n", "t:1:24: warning: unit: in a deny: it" },
        { "set @s = user:ann exe:/x\ndeny @s read /x\n", "t:2:6: warning: exe: in a deny: it also" },
        { "deny group:g11,user:ann read /x\nallow user:ann+exe:/x read /y\n", NULL },
        { "# nothing\n", NULL },
    };
    (void)state;
    expect_all(rows, COUNT(rows));
}

/* ---- many ---- */

enum { MANY = 100000 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Rule i. */
static void put_reachable(FILE *out, unsigned i)
{
    if (i % 4 == 0)
        fprintf(out, "allow user:%u read /data/set%u/**\n", 3000 + i % 1000, i);
    else if (i % 4 == 1)
        fprintf(out, "allow group:%u read,list /log/app%u/*.log\n", 100 + i % 50, i);
    else if (i % 4 == 2)
        fprintf(out, "allow user:%u,group:%u read,write /own/%u/file%u\n", 3000 + i % 1000, i % 100, i % 5000,
                i);
    else
        fprintf(out, "deny group:%u write /data/set%u/locked-*\n", i, i);
}

/* Every other one is covered but for one path, every 200th wholly, which only a proof finds out. */
static void put_covered(FILE *out, unsigned i)
{
    if (i % 2 == 0)
        fprintf(out, "allow any read /data/%u/*.log\n", i);
    else
        fprintf(out, "allow user:%u read /data/%u/a*.log%s\n", i, i - 1, i % 200 == 1 ? "" : " /data/x");
}

static void put_same(FILE *out, unsigned i)
{
    (void)i;
    fputs("allow any read /data/[a-c]*/%u\n", out);
}

static void lint_many(const char *what, void (*put)(FILE *out, unsigned i), unsigned n_warnings)
{
    char *text, more[32];
    size_t len;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    for (unsigned i = 0; i < MANY; i++)
        put(out, i);
    assert_int_equal(fclose(out), 0);
    struct policy *policy = load(text, len, &with_pseudo);
    struct policy_messages messages = { 0 };
    double begin = seconds();
    assert_int_equal(policy_lint(policy, NULL, &messages), 0);
    print_message("%u rules, %s: %.3f s\n", policy_rule_count(policy), what, seconds() - begin);
    assert_int_equal(messages.n_warnings, n_warnings);
    snprintf(more, sizeof more, "\n%u more warnings\n", n_warnings - 100);
    assert_true(n_warnings <= 100 || strstr(messages.text, more));
    policy_messages_deinit(&messages);
    policy_free(policy);
    free(text);
}

static void test_many(void **state)
{
    (void)state;
    lint_many("all can be reached", put_reachable, 0);
    lint_many("500 cannot be reached", put_covered, 500);
    lint_many("all the same", put_same, MANY - 1);
}

/* ---- the oracle: random policies, held against the slow decision ---- */

enum { POLICIES = 600, REQUESTS = 1500, RULES_MAX = 14 };

static unsigned seed;

static unsigned below(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

#define PICK(array) ((array)[below(COUNT(array))])

static const char *const literals[] = { "a", "b", "ab", "ann", "2", "home" };

static void put_pattern(FILE *out)
{
    static const char *const globs[] = { "*",  "?",  "a*", "*b", "[ab]", "[!a]", "[a-b]*", "%u",
                                         "%U", "**", "**", "?*", "a?",   "*a*",  "{a,b}" };
    unsigned n = 1 + below(3);
    fputs(below(10) ? " " : " %h", out);
    for (unsigned i = 0; i < n; i++)
        fprintf(out, "/%s", below(2) ? PICK(literals) : PICK(globs));
    fputs(below(4) ? "" : "/**", out);
}

static void put_rule(FILE *out)
{
    static const char *const terms[] = { "any",       "any",       "user:ann", "user:bob", "user:7",
                                         "group:g11", "group:g13", "@people",  "@groups",  "user:a" };
    static const char *const more[] = { "user:ann",  "group:g11", "@people",        "@groups",    "exe:/a/b",
                                        "cgroup:/a", "exe:/a/*",  "unit:a.service", "cgroup:/a/*" };
    static const char *const rights[] = { "read", "write", "append", "read,write", "all", "read,append" };
    bool deny = below(4) == 0;
    unsigned n = 1 + below(2);
    fputs(deny ? "deny " : "allow ", out);
    for (unsigned i = 0; i < n; i++) {
        bool narrow = below(3) == 0;
        fprintf(out, "%s%s", i ? "," : "", narrow ? "user:bob" : PICK(terms));
        if (narrow || below(4) == 0)
            fprintf(out, "+%s", narrow ? PICK(more) : PICK(terms));
    }
    fprintf(out, " %s", PICK(rights));
    for (unsigned i = 0; i <= below(3); i++)
        put_pattern(out);
    if (!deny && below(6) == 0)
        fputs(below(2) ? " until=2998-01-01" : " until=2999-01-01", out);
    fputc('\n', out);
}

static char *random_policy(size_t *len)
{
    char *text;
    FILE *out = open_memstream(&text, len);
    assert_non_null(out);
    fputs("set @people = user:ann user:2 group:12\nset @groups = group:g11 group:g13\n", out);
    for (unsigned i = 0, n = 2 + below(RULES_MAX - 2); i < n; i++)
        put_rule(out);
    assert_int_equal(fclose(out), 0);
    return text;
}

/* Bit of each rule (0..) that is said to be unreachable. */
static unsigned unreachable(const struct policy *policy)
{
    struct policy_messages messages = { 0 };
    unsigned found = 0;
    assert_int_equal(policy_lint(policy, NULL, &messages), 0);
    for (const char *line = messages.text; line && *line;) {
        const char *newline = strchr(line, '\n'), *said = strstr(line, "never decides anything");
        unsigned number;
        if (said && said < newline && sscanf(line, "t:%u:", &number) == 1)
            found |= 1u << (number - 3); /* two sets stand before the rules */
        line = newline + 1;
    }
    policy_messages_deinit(&messages);
    return found;
}

static size_t random_path(char *out)
{
    size_t len = 0;
    unsigned n = 1 + below(5);
    if (below(5) == 0)
        len = (size_t)sprintf(out, "%s", below(2) ? "/home/ann" : "/a/b");
    for (unsigned i = 0; i < n; i++)
        len += (size_t)sprintf(out + len, "/%s%s", PICK(literals), below(4) ? "" : PICK(literals));
    return len;
}

static void random_subject(const struct policy *policy, struct policy_subject *subject, gid_t *own)
{
    static const char *const paths[] = { "/a", "/a/b", "/b", "/a/b/ab", NULL };
    *subject = (struct policy_subject){ .uid = below(6), .gid = 10 + below(5), .groups = own };
    for (gid_t gid = 11; gid <= 13; gid++)
        if (below(3) == 0)
            own[subject->n_groups++] = gid;
    subject->user = policy_find_user(policy, subject->uid);
    subject->exe = PICK(paths);
    subject->cgroup = PICK(paths);
    subject->unit = below(2) ? "a.service" : NULL;
}

/* Bits of the rules that decided some random request. */
static unsigned deciding(const struct policy *policy)
{
    unsigned found = 0;
    for (unsigned i = 0; i < REQUESTS; i++) {
        char path[256];
        gid_t own[3];
        struct policy_subject subject;
        struct policy_decision decision;
        unsigned rights = below(2) ? 1u << below(6) : 1 + below(RIGHT_ALL);
        size_t len = random_path(path);
        time_t at = below(4) ? time(NULL) : 32472144000 + (time_t)below(3) - 1; /* 2999-01-01 */
        random_subject(policy, &subject, own);
        policy_decide_slow(policy, &subject, rights, path, len, at, &decision);
        if (decision.rule)
            found |= 1u << (decision.rule->number - 1);
    }
    return found;
}

static void test_random(void **state)
{
    static const char *const points[] = { "/home", "/a/b" };
    const char *more = getenv("LINT_POLICIES");
    unsigned long n = more ? strtoul(more, NULL, 10) : POLICIES;
    unsigned dead = 0, silent = 0;
    (void)state;
    seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    for (unsigned long i = 0; i < n; i++) {
        size_t len;
        char *text = random_policy(&len);
        struct policy_env env = { .pseudo = points, .n_pseudo = below(3) };
        struct policy *policy = load(text, len, &env);
        unsigned said = unreachable(policy), decided = deciding(policy);
        unsigned all = (1u << policy_rule_count(policy)) - 1;
        if (said & decided)
            fail_msg("said to be unreachable, but deciding: rules %#x of\n%s", said & decided, text);
        dead += (unsigned)__builtin_popcount(said);
        silent += (unsigned)__builtin_popcount(all & ~said & ~decided);
        policy_free(policy);
        free(text);
    }
    print_message("%u rules said to be unreachable; %u more decided nothing\n", dead, silent);
    assert_true(dead > n / 10); /* or nothing was tested */
}

static int set_up(void **state)
{
    (void)state;
    names_set_source(&database);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unreachable_rights),
        cmocka_unit_test(test_unreachable_subjects),
        cmocka_unit_test(test_unreachable_paths),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
