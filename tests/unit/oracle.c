/*
 * The oracle: random policies and requests, decided the fast way and the slow way (policy/slow.c), which must
 * agree on the answer and on the rule.
 *
 *     oracle [COMPARISONS [SEED]]      the default is a quick share; make check-oracle runs millions
 *
 * Paths and patterns are made of few components, so that they often nearly match. A failure prints the policy
 * and the request.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../policy/names.h"
#include "../../policy/policy.h"

enum { QUICK = 300000, OF_A_POLICY = 2000, TEXT_MAX = 1 << 16 };

static unsigned seed;

static unsigned below(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

#define PICK(array) ((array)[below(sizeof(array) / sizeof *(array))])

/* ---- a user database of our own ---- */

static struct passwd users[] = {
    { .pw_name = (char *)"ann", .pw_uid = 1, .pw_gid = 11, .pw_dir = (char *)"/home/ann" },
    { .pw_name = (char *)"bob", .pw_uid = 2, .pw_gid = 12, .pw_dir = (char *)"/a/b" },
    { .pw_name = (char *)"a", .pw_uid = 3, .pw_gid = 13, .pw_dir = (char *)"/" },
    { .pw_name = (char *)"..", .pw_uid = 4, .pw_gid = 11, .pw_dir = (char *)"home/x" },
    { .pw_name = (char *)"b/c", .pw_uid = 5, .pw_gid = 12, .pw_dir = (char *)"/a//b" },
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
    for (size_t i = 0; i < 5; i++)
        if (strcmp(users[i].pw_name, name) == 0)
            return &users[i];
    return NULL;
}

static struct passwd *user_by_id(uid_t uid)
{
    return uid >= 1 && uid <= 5 ? &users[uid - 1] : NULL;
}

static struct group *group_by_name(const char *name)
{
    for (size_t i = 0; i < 3; i++)
        if (strcmp(groups[i].gr_name, name) == 0)
            return &groups[i];
    return NULL;
}

static struct group *group_by_id(gid_t gid)
{
    for (size_t i = 0; i < 3; i++)
        if (groups[i].gr_gid == gid)
            return &groups[i];
    return NULL;
}

static void rewind_users(void)
{
    next_u = 0;
}

static struct passwd *next_user(void)
{
    return next_u < 5 ? &users[next_u++] : NULL;
}

static void rewind_groups(void)
{
    next_g = 0;
}

static struct group *next_group(void)
{
    return next_g < 3 ? &groups[next_g++] : NULL;
}

static void end(void)
{
}

static const struct names_source database = {
    user_by_name, user_by_id,    group_by_name, group_by_id, rewind_users,
    next_user,    rewind_groups, next_group,    end,         end,
};

/* ---- policies ---- */

struct text {
    char bytes[TEXT_MAX];
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text->bytes + text->len, sizeof text->bytes - text->len, format, arguments);
    va_end(arguments);
    text->len += n > 0 && text->len + (size_t)n < sizeof text->bytes ? (size_t)n : 0;
}

static const char *const literals[] = { "a", "b", "ab", "abc", "b.log", "ann", "2", "home" };
static const char *const globs[] = {
    "*",   "?",     "a*",  "*b",  "a*b",  "[ab]",   "[!a]",   "*.log", "?b*",   "%u", "%U",
    "x%u", "a*b*c", "*a*", "ab*", "abc*", "[a-c]?", "{a,b}c", "a{b,}", "*.l?g", "**",
};

static void put_pattern(struct text *text)
{
    unsigned n = 1 + below(5);
    bool literal = below(3) == 0;
    if (below(12) == 0)
        put(text, " %%h");
    else
        put(text, " /%s", below(4) ? PICK(literals) : literal ? "a" : PICK(globs));
    for (unsigned i = 1; i < n; i++)
        put(text, "/%s", literal || below(2) ? PICK(literals) : PICK(globs));
    if (below(4) == 0)
        put(text, "/**");
}

static void put_subjects(struct text *text)
{
    static const char *const terms[] = {
        "any",       "user:ann", "user:bob", "user:3",  "user:7", "group:g11",       "group:12",
        "group:g13", "group:14", "@people",  "@groups", "user:5", "user:1+exe:/a/*", "group:12+cgroup:/x"
    };
    unsigned n = 1 + below(3);
    put(text, " ");
    for (unsigned i = 0; i < n; i++)
        put(text, "%s%s", i ? (below(2) ? "," : "+") : "", PICK(terms));
}

static void put_rights(struct text *text)
{
    static const char *const rights[] = { "read", "write",      "append", "create",   "list",
                                          "stat", "read,write", "all",    "read,list" };
    put(text, " %s", PICK(rights));
}

static void put_policy(struct text *text)
{
    unsigned many = below(10) == 0 ? 400 : 25, n = 1 + below(many);
    bool one_place = below(4) == 0; /* many rules at the same end of the trie */
    text->len = 0;
    put(text, "set @people = user:ann user:2 group:14\nset @groups = group:g11 group:g13\n");
    for (unsigned i = 0; i < n; i++) {
        bool deny = below(5) == 0;
        put(text, "%s", deny ? "deny" : "allow");
        put_subjects(text);
        put_rights(text);
        if (one_place && below(3))
            put(text, " /a/b/**");
        else
            put_pattern(text);
        if (below(4) == 0)
            put_pattern(text);
        if (!deny && below(12) == 0)
            put(text, " until=2001-09-09T01:46:40Z"); /* 10^9 */
        put(text, "\n");
    }
}

/* ---- requests ---- */

static size_t make_path(char *out)
{
    size_t len = 0;
    unsigned n = below(20) == 0 ? 30 : 1 + below(6);
    if (below(40) == 0)
        return (size_t)sprintf(out, "/");
    if (below(6) == 0)
        len = (size_t)sprintf(out, "%s", below(2) ? "/home/ann" : "/a/b");
    for (unsigned i = 0; i < n; i++)
        len += (size_t)sprintf(out + len, "/%s%s", PICK(literals), below(6) == 0 ? PICK(literals) : "");
    return len;
}

static void make_subject(const struct policy *policy, struct policy_subject *subject, gid_t *own)
{
    subject->uid = below(8);
    subject->gid = 10 + below(6);
    subject->n_groups = below(4);
    for (size_t i = 0; i < subject->n_groups; i++)
        own[i] = i ? own[i - 1] + 1 + below(2) : 10 + below(3);
    subject->groups = own;
    subject->groups_unknown = below(3) == 0; /* as of who sent a datagram */
    subject->user = policy_find_user(policy, subject->uid);
    subject->exe = below(2) ? "/a/b" : NULL;
    subject->cgroup = below(2) ? "/x/y" : NULL;
}

/* The decision out of what each rule says alone, which is how fobctl explain has it. */
static bool tries_agree(const struct policy *policy, const struct policy_subject *subject, unsigned rights,
                        const char *path, size_t len, time_t now, const struct policy_decision *decision)
{
    const struct policy_rule *allow = NULL, *deny = NULL;
    for (uint32_t i = 1; i <= policy_rule_count(policy); i++) {
        const struct policy_rule *rule = policy_rule_get(policy, i);
        struct policy_trial trial;
        policy_try(policy, i, subject, rights, path, len, now, &trial);
        if (!trial.subject || !trial.path || trial.ended || trial.lacking)
            continue;
        if (rule->deny)
            deny = deny ? deny : rule;
        else
            allow = allow ? allow : rule;
    }
    return decision->rule == (deny ? deny : allow);
}

/* By a datagram nobody gets what he would not get on a connection, where his groups are known. */
static bool unknown_is_no_wider(const struct policy *policy, struct policy_scratch *scratch,
                                const struct policy_subject *subject, unsigned rights, const char *path,
                                size_t len, time_t now)
{
    struct policy_subject known = *subject, unknown = *subject;
    struct policy_decision connected, sent;
    known.groups_unknown = false;
    unknown.groups_unknown = true;
    unknown.n_groups = 0;
    policy_decide(policy, scratch, &known, rights, path, len, now, &connected);
    policy_decide(policy, scratch, &unknown, rights, path, len, now, &sent);
    return connected.allowed || !sent.allowed;
}

static bool agree(const struct policy *policy, struct policy_scratch *scratch)
{
    char path[1024];
    gid_t own[8];
    struct policy_subject subject = { 0 };
    struct policy_decision fast, slow;
    unsigned rights = 1 + below(RIGHT_ALL);
    time_t now = 999999999 + (time_t)below(3);
    size_t len = make_path(path);
    make_subject(policy, &subject, own);
    policy_decide(policy, scratch, &subject, rights, path, len, now, &fast);
    policy_decide_slow(policy, &subject, rights, path, len, now, &slow);
    if (fast.allowed == slow.allowed && fast.rule == slow.rule &&
        tries_agree(policy, &subject, rights, path, len, now, &slow) &&
        unknown_is_no_wider(policy, scratch, &subject, rights, path, len, now))
        return true;
    printf("uid %u gid %u, %zu groups%s, rights %u, %s: fast %d by %u, slow %d by %u\n", subject.uid,
           subject.gid, subject.n_groups, subject.groups_unknown ? " and more" : "", rights, path,
           fast.allowed, fast.rule ? fast.rule->number : 0, slow.allowed, slow.rule ? slow.rule->number : 0);
    return false;
}

static unsigned long run_policy(unsigned long *failed, unsigned long *allowed_policies)
{
    static struct text text;
    static const char *const pseudo[] = { "/a/b", "/home" };
    struct policy *policy = NULL;
    struct policy_messages messages = { 0 };
    struct policy_env env = { .pseudo = pseudo, .n_pseudo = below(3) };
    put_policy(&text);
    int err = policy_load_text(&policy, "random", text.bytes, text.len, &env, &messages);
    if (err < 0) {
        printf("a random policy does not load:\n%s%s\n", text.bytes, messages.text);
        policy_messages_deinit(&messages);
        ++*failed;
        return 1;
    }
    struct policy_scratch *scratch = policy_scratch_new(policy);
    unsigned long n = 0;
    bool good = scratch;
    while (good && n < OF_A_POLICY) {
        good = agree(policy, scratch);
        n++;
    }
    if (!good) {
        printf("%s", text.bytes);
        ++*failed;
    }
    ++*allowed_policies;
    policy_scratch_free(scratch);
    policy_free(policy);
    policy_messages_deinit(&messages);
    return n;
}

int main(int argc, char **argv)
{
    unsigned long want = argc > 1 ? strtoul(argv[1], NULL, 10) : QUICK, done = 0, failed = 0, policies = 0;
    unsigned first = seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : (unsigned)time(NULL);
    names_set_source(&database);
    while (done < want && failed < 3)
        done += run_policy(&failed, &policies);
    printf("seed %u: %lu comparisons of %lu policies\n", first, done, policies);
    printf("%lu passed, %lu failed\n", policies - (failed < policies ? failed : policies), failed);
    return failed != 0;
}
