/*
 * Rules that never decide anything. One request that a rule decides shows that it can be reached, which is
 * quick; only where none is found, another rule is held against it.
 */
#include "lint.h"

enum { REQUESTS_MAX = 256, SUSPECTS_MAX = 32 };

struct search {
    struct lint *lint;
    struct witness *witness;
    const struct policy_rule *suspects[SUSPECTS_MAX]; /* that decide in its place */
    unsigned n_suspects, requests;
};

static void suspect(struct search *s, const struct policy_rule *rule)
{
    for (unsigned i = 0; i < s->n_suspects; i++)
        if (s->suspects[i] == rule)
            return;
    if (rule && s->n_suspects < SUSPECTS_MAX)
        s->suspects[s->n_suspects++] = rule;
}

static bool decides(struct search *s, unsigned rights, const char *path, size_t len)
{
    struct policy_decision decision;
    s->requests++;
    policy_decide(s->lint->policy, s->lint->scratch, &s->witness->subject, rights, path, len, s->lint->now,
                  &decision);
    if (decision.rule == &s->lint->rule->rule)
        return true;
    suspect(s, decision.rule);
    return false;
}

/* By all rights, and by each: another rule may take some of them. */
static bool decides_path(struct search *s, const char *path, size_t len)
{
    unsigned all = rights_widen(s->lint->rule->rule.rights);
    if (decides(s, all, path, len))
        return true;
    for (unsigned right = 1; right <= RIGHT_STAT; right <<= 1)
        if (all & right && all != right && decides(s, right, path, len))
            return true;
    return false;
}

static bool decides_pattern(struct search *s, const struct pattern *pattern)
{
    char path[PATH_TEXT_MAX + 1];
    for (unsigned variant = 0; variant < WITNESS_VARIANTS; variant++) {
        size_t len =
            witness_path(pattern->components, pattern->n_components, &s->witness->subject, variant, path);
        if (len && decides_path(s, path, len))
            return true;
    }
    return false;
}

static bool is_reachable(struct search *s)
{
    const struct ast_rule *rule = s->lint->rule;
    for (size_t c = 0; c < rule->subjects->n_conjs && s->requests < REQUESTS_MAX; c++) {
        witness_subject(s->witness, s->lint->policy, &rule->subjects->conjs[c]);
        for (uint32_t p = 0; p < rule->n_patterns && s->requests < REQUESTS_MAX; p++)
            if (decides_pattern(s, &rule->patterns[p]))
                return true;
    }
    return false;
}

void lint_reach(struct lint *lint)
{
    struct witness witness; /* large: not cleared for each of 100,000 rules */
    struct search s = { .lint = lint, .witness = &witness };
    if (is_reachable(&s))
        return;
    for (unsigned i = 0; i < s.n_suspects; i++) {
        const struct policy_rule *other = s.suspects[i];
        if (!cover_rule(lint, &lint->policy->ast.rules[other->number - 1], lint->rule))
            continue;
        lint_warn(lint, lint->rule->rule.text,
                  "never decides anything: %s:%u always does (remove one of them)", other->file,
                  (unsigned)other->line);
        return;
    }
}
