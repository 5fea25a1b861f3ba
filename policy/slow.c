/*
 * The decision by the slow and obvious way: every rule, every pattern, one after the other. It is what the
 * fast way is held against (tests/unit/oracle.c) and shares nothing with it but the rules as parsed and
 * subject.c; where the two differ, this one says what is right.
 */
#include <stdio.h>
#include <string.h>

#include "../common/path.h"
#include "internal.h"

struct text {
    const char *bytes;
    size_t len;
};

static bool is_dots(struct text t)
{
    return (t.len == 1 && t.bytes[0] == '.') || (t.len == 2 && t.bytes[0] == '.' && t.bytes[1] == '.');
}

/* What %u and %U stand for; no bytes: never matches. */
static struct text value_of(const struct token *token, const struct policy_subject *subject, char number[16])
{
    struct text value = { NULL, 0 };
    if (token->kind == TOKEN_UID) {
        value.len = (size_t)snprintf(number, 16, "%u", (unsigned)subject->uid);
        value.bytes = number;
    } else if (subject->user) {
        value = (struct text){ subject->user->name, strlen(subject->user->name) };
    }
    bool usable = value.len && !is_dots(value) && !memchr(value.bytes, '/', value.len);
    return usable ? value : (struct text){ NULL, 0 };
}

/* The component's tokens from i on. */
static bool glob(const struct component *c, size_t i, struct text rest, const struct policy_subject *subject)
{
    const struct token *token = &c->tokens[i];
    char number[16];
    if (i == c->n)
        return rest.len == 0;
    struct text after = { rest.bytes + 1, rest.len - 1 };
    switch (token->kind) {
    case TOKEN_BYTE:
        return rest.len && (uint8_t)rest.bytes[0] == token->byte && glob(c, i + 1, after, subject);
    case TOKEN_ANY:
        return rest.len && glob(c, i + 1, after, subject);
    case TOKEN_CLASS: {
        uint8_t byte = rest.len ? (uint8_t)rest.bytes[0] : 0;
        return rest.len && class_has(component_class(c, token), byte) && glob(c, i + 1, after, subject);
    }
    case TOKEN_STAR:
        return glob(c, i + 1, rest, subject) || (rest.len && glob(c, i, after, subject));
    default: {
        struct text value = value_of(token, subject, number);
        return value.len && rest.len >= value.len && memcmp(rest.bytes, value.bytes, value.len) == 0 &&
               glob(c, i + 1, (struct text){ rest.bytes + value.len, rest.len - value.len }, subject);
    }
    }
}

/* rest: "" or "/component/...". Its first component; what follows it in *after. */
static struct text first_component(struct text rest, struct text *after)
{
    struct text first = { rest.bytes + 1, 0 };
    while (first.len < rest.len - 1 && first.bytes[first.len] != '/')
        first.len++;
    *after = (struct text){ first.bytes + first.len, rest.len - 1 - first.len };
    return first;
}

static bool home_prefix(struct text rest, const struct policy_subject *subject, struct text *after)
{
    const char *home = subject->user ? subject->user->home : "";
    size_t len = strlen(home);
    if (len < 2 || !path_is_clean(home, len) || !path_is_beneath(rest.bytes, rest.len, home, len))
        return false;
    *after = (struct text){ rest.bytes + len, rest.len - len };
    return true;
}

static bool components(const struct component *c, size_t n, struct text rest,
                       const struct policy_subject *subject)
{
    struct text after;
    if (n == 0)
        return rest.len == 0;
    if (c->kind == COMPONENT_HOME)
        return rest.len && home_prefix(rest, subject, &after) && components(c + 1, n - 1, after, subject);
    if (c->kind == COMPONENT_ANY_DEPTH && n == 1)
        return rest.len > 0;
    if (c->kind == COMPONENT_ANY_DEPTH && components(c + 1, n - 1, rest, subject))
        return true;
    if (rest.len == 0)
        return false;
    struct text first = first_component(rest, &after);
    if (c->kind == COMPONENT_ANY_DEPTH)
        return components(c, n, after, subject);
    bool matches = c->kind == COMPONENT_LITERAL
                       ? first.len == c->n && memcmp(first.bytes, c->bytes, first.len) == 0
                       : glob(c, 0, first, subject);
    return matches && components(c + 1, n - 1, after, subject);
}

/* How long the literal beginning of an allow's pattern must be to reach into the pseudo file system that the
 * path is on. */
static size_t needed_literal(const struct ast *ast, const char *path, size_t len)
{
    size_t needed = 0;
    for (size_t i = 0; i < ast->n_pseudo; i++) {
        size_t point = strlen(ast->pseudo[i]);
        if (point > needed && path_is_beneath(path, len, ast->pseudo[i], point))
            needed = point;
    }
    return needed;
}

static bool rule_has_path(const struct ast *ast, const struct ast_rule *rule, const char *path, size_t len,
                          const struct policy_subject *subject)
{
    size_t needed = rule->rule.deny ? 0 : needed_literal(ast, path, len);
    struct text rest = { path, len == 1 ? 0 : len };
    for (size_t i = 0; i < rule->n_patterns; i++) {
        const struct pattern *p = &rule->patterns[i];
        if (p->literal_len >= needed && components(p->components, p->n_components, rest, subject))
            return true;
    }
    return false;
}

static bool rule_has_rights(const struct policy_rule *rule, unsigned asked)
{
    unsigned has = rights_widen(rule->rights);
    return rule->deny ? (has & asked) != 0 : (has & asked) == asked;
}

void policy_decide_slow(const struct policy *policy, const struct policy_subject *subject, unsigned rights,
                        const char *path, size_t path_len, time_t now, struct policy_decision *decision)
{
    const struct policy_rule *allow = NULL, *deny = NULL;
    for (size_t i = 0; i < policy->ast.n_rules && !deny; i++) {
        const struct ast_rule *rule = &policy->ast.rules[i];
        bool ended = rule->rule.until && rule->rule.until <= now;
        if (ended || (allow && !rule->rule.deny) || !rule_has_rights(&rule->rule, rights) ||
            !subjects_match(rule->subjects, subject, rule->rule.deny) ||
            !rule_has_path(&policy->ast, rule, path, path_len, subject))
            continue;
        if (rule->rule.deny)
            deny = &rule->rule;
        else
            allow = &rule->rule;
    }
    *decision = (struct policy_decision){ allow && !deny, deny ? deny : allow };
}
