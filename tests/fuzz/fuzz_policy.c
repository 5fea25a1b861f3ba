/*
 * Any bytes as a policy: no crash, no leak; and what loads decides the fast way as it does the slow way, for
 * requests made of the policy's own words.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/path.h"
#include "../../policy/names.h"
#include "../../policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition)
{
    if (!condition)
        abort();
}

/* ---- a user database that knows a few ---- */

static char *const members[] = { (char *)"alice", NULL };
static struct passwd alice = {
    .pw_name = (char *)"alice", .pw_uid = 1, .pw_gid = 1, .pw_dir = (char *)"/home/alice"
};
static struct passwd bob = { .pw_name = (char *)"bob", .pw_uid = 2, .pw_gid = 2, .pw_dir = (char *)"/a" };
static struct group adm = { .gr_name = (char *)"adm", .gr_gid = 4, .gr_mem = (char **)members };
static int listed_users, listed_groups;

static struct passwd *user_by_name(const char *name)
{
    return strcmp(name, "alice") == 0 ? &alice : strcmp(name, "bob") == 0 ? &bob : NULL;
}

static struct passwd *user_by_id(uid_t uid)
{
    return uid == 1 ? &alice : uid == 2 ? &bob : NULL;
}

static struct group *group_by_name(const char *name)
{
    return strcmp(name, "adm") == 0 ? &adm : NULL;
}

static struct group *group_by_id(gid_t gid)
{
    return gid == adm.gr_gid ? &adm : NULL;
}

static void rewind_users(void)
{
    listed_users = 0;
}

static struct passwd *next_user(void)
{
    return listed_users < 2 ? (listed_users++ ? &bob : &alice) : NULL;
}

static void rewind_groups(void)
{
    listed_groups = 0;
}

static struct group *next_group(void)
{
    return listed_groups++ ? NULL : &adm;
}

static void end(void)
{
}

static const struct names_source database = {
    user_by_name, user_by_id,    group_by_name, group_by_id, rewind_users,
    next_user,    rewind_groups, next_group,    end,         end,
};

/* ---- requests ---- */

/* The slow glob takes exponential time in the number of its stars. */
static int is_quick(const uint8_t *data, size_t size)
{
    size_t stars = 0, percents = 0;
    for (size_t i = 0; i < size; i++) {
        stars += data[i] == '*';
        percents += data[i] == '%';
    }
    return stars <= 10 && percents <= 10;
}

static void compare(const struct policy *policy, struct policy_scratch *scratch, const char *path, size_t len)
{
    static const gid_t groups[] = { 4 };
    for (unsigned uid = 0; uid < 4; uid++) {
        struct policy_subject subject = {
            .uid = uid,
            .gid = uid,
            .groups = groups,
            .n_groups = uid % 2,
            .user = policy_find_user(policy, uid),
        };
        struct policy_decision fast, slow;
        for (unsigned rights = 1; rights <= RIGHT_ALL; rights = rights * 2 + 1) {
            policy_decide(policy, scratch, &subject, rights, path, len, 1, &fast);
            policy_decide_slow(policy, &subject, rights, path, len, 1, &slow);
            expect(fast.allowed == slow.allowed && fast.rule == slow.rule);
        }
    }
}

/* Every word of the text that is a path, as it stands. */
static void ask_words(const struct policy *policy, const char *text, size_t size)
{
    struct policy_scratch *scratch = policy_scratch_new(policy);
    expect(scratch != NULL);
    for (size_t from = 0, words = 0; from < size && words < 16;) {
        size_t to = from;
        while (to < size && !strchr(" \t\n\"", text[to]))
            to++;
        if (path_is_clean(text + from, to - from) && to - from < 200) {
            compare(policy, scratch, text + from, to - from);
            words++;
        }
        from = to + 1;
    }
    compare(policy, scratch, "/home/alice/x", 13);
    compare(policy, scratch, "/", 1);
    policy_scratch_free(scratch);
}

static void use(const struct policy *policy)
{
    static char out[4096];
    struct policy_root *roots;
    size_t n;
    struct policy_subject subject = { .uid = 1, .gid = 1, .user = policy_find_user(policy, 1) };
    expect(policy_list(policy, &subject, 1, out, sizeof out) <= sizeof out);
    expect(policy_get_roots(policy, 4, &roots, &n) == 0 && n <= 4);
    for (size_t i = 0; i < n; i++)
        expect(path_is_clean(roots[i].path, strlen(roots[i].path)));
    policy_roots_free(roots, n);
    for (uint32_t i = 1; i <= policy_rule_count(policy); i++)
        expect(policy_rule_get(policy, i)->number == i);
}

/* ---- printed and read again ---- */

static char *print(const struct policy *policy, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    expect(out != NULL);
    int err = policy_print(policy, false, out);
    fclose(out);
    if (err == 0)
        return text;
    expect(err == -E2BIG);
    free(text);
    return NULL;
}

static void expect_same_rule(const struct policy_rule *a, const struct policy_rule *b)
{
    expect(a->deny == b->deny && a->rights == b->rights && a->types == b->types && a->as == b->as);
    expect(a->mode == b->mode && a->links_any == b->links_any && a->sealed == b->sealed);
    expect(a->until == b->until && a->log == b->log && !a->id == !b->id);
    expect(!a->id || strcmp(a->id, b->id) == 0);
    expect(a->as != POLICY_AS_USER || a->as_user->uid == b->as_user->uid);
}

static void expect_same_decisions(const struct policy *a, const struct policy *b)
{
    static const char *const paths[] = { "/", "/a", "/a/b", "/home/alice/x", "/var/log/x.log" };
    for (unsigned uid = 0; uid < 4; uid++)
        for (unsigned rights = 1; rights <= RIGHT_ALL; rights = rights * 2 + 1)
            for (size_t i = 0; i < 5; i++) {
                struct policy_subject subject = { .uid = uid, .gid = uid, .user = policy_find_user(a, uid) };
                struct policy_decision x, y;
                policy_decide_slow(a, &subject, rights, paths[i], strlen(paths[i]), 1, &x);
                subject.user = policy_find_user(b, uid);
                policy_decide_slow(b, &subject, rights, paths[i], strlen(paths[i]), 1, &y);
                expect(x.allowed == y.allowed && !x.rule == !y.rule);
                expect(!x.rule || x.rule->number == y.rule->number);
            }
}

static void print_again(const struct policy *policy, const struct policy_env *env, bool quick)
{
    size_t first_len, second_len;
    char *first = print(policy, &first_len);
    struct policy_messages messages = { 0 };
    struct policy *again = NULL;
    if (!first)
        return;
    expect(policy_load_text(&again, "printed", first, first_len, env, &messages) == 0);
    char *second = print(again, &second_len);
    expect(second && first_len == second_len && memcmp(first, second, first_len) == 0);
    expect(policy_rule_count(policy) == policy_rule_count(again));
    for (uint32_t i = 1; i <= policy_rule_count(policy); i++)
        expect_same_rule(policy_rule_get(policy, i), policy_rule_get(again, i));
    if (quick)
        expect_same_decisions(policy, again);
    free(first);
    free(second);
    policy_free(again);
    policy_messages_deinit(&messages);
}

/* The beginning of the text as a question about it. */
static void explain(const struct policy *policy, const uint8_t *data, size_t size)
{
    char subject[64], *text = NULL;
    size_t n = size < sizeof subject - 1 ? size : sizeof subject - 1, len;
    memcpy(subject, data, n);
    subject[n] = '\0';
    FILE *out = open_memstream(&text, &len);
    expect(out != NULL);
    policy_explain(policy, subject, "read", "/a/b", 1, out, out);
    expect(policy_explain(policy, "user:1+group:4", "read,write", "/home/alice/x", 1, out, out) <=
           POLICY_REFUSED);
    fclose(out);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const pseudo[] = { "/proc", "/a/sys" };
    struct policy_env env = { .pseudo = pseudo, .n_pseudo = 2, .now = 1 };
    struct policy_messages messages = { 0 };
    struct policy *policy = NULL;
    names_set_source(&database);
    int err = policy_load_text(&policy, "fuzz", (const char *)data, size, &env, &messages);
    expect((err == 0) == (policy != NULL) && (err == 0) == (messages.n_errors == 0));
    bool quick = size < 4096 && is_quick(data, size);
    if (policy && quick)
        ask_words(policy, (const char *)data, size);
    if (policy) {
        use(policy);
        print_again(policy, &env, quick);
        explain(policy, data, size);
    }
    policy_free(policy);
    policy_messages_deinit(&messages);
    return 0;
}
