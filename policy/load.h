/*
 * What loading shares with assert.c.
 */
#ifndef FOB_POLICY_LOAD_H
#define FOB_POLICY_LOAD_H

#include "messages.h"

/* Holds one assertion against the policy; that it is false is an error in messages. 0 or -ENOMEM. */
int assert_hold(const struct policy *policy, struct policy_scratch *scratch, const struct ast_assert *assert,
                time_t now, struct policy_messages *messages);
/* A file of assertions and the sets that they use: parsed, not held; rules are errors. As policy_load(). */
int load_asserts(struct policy **out, const char *file, const struct policy_env *env,
                 struct policy_messages *messages);

#endif
