/*
 * Assertions: what the writer of a policy knows must come out of it.
 */
#include <errno.h>

#include "../common/util.h"
#include "load.h"

static void say_false(const struct ast_assert *assert, const struct policy_decision *decision,
                      struct policy_messages *messages)
{
    const struct policy_rule *rule = decision->rule;
    if (rule)
        message_error(messages, assert->source, assert->at, "assertion does not hold: %s by %s:%u: %.*s",
                      decision->allowed ? "allowed" : "refused", rule->file, (unsigned)rule->line,
                      (int)(rule->text_len < 200 ? rule->text_len : 200), rule->text);
    else
        message_error(messages, assert->source, assert->at,
                      "assertion does not hold: refused, as no rule allows it");
}

static bool has_set(const struct conj *conj)
{
    for (size_t i = 0; i < conj->n_terms; i++)
        if (conj->terms[i].kind == TERM_SET)
            return true;
    return false;
}

static int hold_conj(const struct policy *policy, struct policy_scratch *scratch,
                     const struct ast_assert *assert, const struct conj *conj, time_t now,
                     struct policy_messages *messages)
{
    struct policy_decision decision;
    if (has_set(conj)) {
        message_error(messages, assert->source, assert->at,
                      "an assertion is about one subject: user:, group: or any, not a set");
        return 0;
    }
    struct policy_who *who = who_new(policy, conj);
    if (!who)
        return -ENOMEM;
    policy_decide(policy, scratch, policy_who_subject(who), assert->rights, assert->path, assert->path_len,
                  now, &decision);
    policy_who_free(who);
    if (decision.allowed == assert->deny)
        say_false(assert, &decision, messages);
    return 0;
}

int assert_hold(const struct policy *policy, struct policy_scratch *scratch, const struct ast_assert *assert,
                time_t now, struct policy_messages *messages)
{
    int err = 0;
    for (size_t c = 0; err == 0 && c < assert->subjects->n_conjs; c++)
        err = hold_conj(policy, scratch, assert, &assert->subjects->conjs[c], now, messages);
    return err;
}

/* ---- files of assertions ---- */

static int hold_all(const struct policy *policy, const struct policy *tests, time_t now,
                    struct policy_messages *messages, struct policy_test_result *result)
{
    struct policy_scratch *scratch = policy_scratch_new(policy);
    int err = scratch ? 0 : -ENOMEM;
    for (size_t i = 0; err == 0 && i < tests->ast.n_asserts; i++) {
        unsigned errors = messages->n_errors;
        err = assert_hold(policy, scratch, &tests->ast.asserts[i], now, messages);
        if (messages->n_errors == errors)
            result->passed++;
        else
            result->failed++;
    }
    policy_scratch_free(scratch);
    return err;
}

int policy_test(const struct policy *policy, const char *file, const struct policy_env *env,
                struct policy_messages *messages, struct policy_test_result *result)
{
    struct policy *tests;
    *result = (struct policy_test_result){ 0 };
    int err = load_asserts(&tests, file, env, messages);
    if (err < 0)
        return err;
    err = hold_all(policy, tests, env->now ? env->now : time(NULL), messages, result);
    policy_free(tests);
    return err;
}
