/*
 * Rights as text, and other small things of policy.h.
 */
#include <string.h>

#include "../common/util.h"
#include "internal.h"

static const char *const right_names[] = { "read", "write", "append", "create", "list", "stat" };

const char *policy_rights_text(char out[POLICY_RIGHTS_TEXT], unsigned rights)
{
    char *at = out;
    *at = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(right_names); i++) {
        if (!(rights & 1u << i))
            continue;
        if (at != out)
            *at++ = ',';
        at = stpcpy(at, right_names[i]);
    }
    return out;
}

unsigned policy_right_by_name(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_SIZE(right_names); i++)
        if (strlen(right_names[i]) == len && memcmp(right_names[i], name, len) == 0)
            return 1u << i;
    return 0;
}

unsigned policy_rights_by_text(const char *text)
{
    unsigned rights = 0;
    if (strcmp(text, "all") == 0)
        return RIGHT_ALL;
    for (;;) {
        size_t len = strcspn(text, ",");
        unsigned right = policy_right_by_name(text, len);
        if (!right)
            return 0;
        rights |= right;
        if (!text[len])
            return rights;
        text += len + 1;
    }
}

uint32_t policy_rule_count(const struct policy *policy)
{
    return (uint32_t)policy->ast.n_rules;
}

const struct policy_rule *policy_rule_get(const struct policy *policy, uint32_t number)
{
    return number >= 1 && number <= policy->ast.n_rules ? &policy->ast.rules[number - 1].rule : NULL;
}

const struct policy_user *policy_find_user(const struct policy *policy, uid_t uid)
{
    size_t low = 0, high = policy->ast.n_users;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (policy->ast.users[middle].uid < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < policy->ast.n_users && policy->ast.users[low].uid == uid ? &policy->ast.users[low] : NULL;
}

size_t policy_memory(const struct policy *policy)
{
    size_t total = sizeof *policy + policy->arena.total + compiled_memory(policy->compiled);
    for (const struct source *source = policy->sources; source; source = source->next)
        total += sizeof *source + source->len + 1;
    return total;
}

struct policy *policy_ref(struct policy *policy)
{
    policy->more_owners++;
    return policy;
}

void policy_free(struct policy *policy)
{
    if (!policy || policy->more_owners-- > 0)
        return;
    for (struct source *source = policy->sources, *next; source; source = next) {
        next = source->next;
        free(source->name);
        free(source->text);
        free(source);
    }
    compiled_free(policy->compiled);
    arena_free(&policy->arena);
    free(policy);
}
