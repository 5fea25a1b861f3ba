/*
 * One pattern against one path, one rule against one request: in steps that grow with pattern times path at
 * most, however they are written.
 */
#include <string.h>

#include "../common/path.h"
#include "compiled.h"

/* A path that is walked by component. */
struct walk {
    const char *at, *end; /* at: a slash, or the end */
};

static size_t component_len(const struct walk *w)
{
    const char *slash = memchr(w->at + 1, '/', (size_t)(w->end - w->at) - 1);
    return (size_t)((slash ? slash : w->end) - w->at) - 1;
}

static bool home_matches(struct walk *w, const struct policy_subject *subject)
{
    const char *home = subject->user ? subject->user->home : "";
    size_t len = strlen(home);
    if (len < 2 || !path_is_clean(home, len) || !path_is_beneath(w->at, (size_t)(w->end - w->at), home, len))
        return false;
    w->at += len;
    return true;
}

static bool component_matches(const struct component *c, struct walk *w, const struct policy_subject *subject)
{
    if (w->at == w->end)
        return false;
    if (c->kind == COMPONENT_HOME)
        return home_matches(w, subject);
    size_t len = component_len(w);
    bool matches = c->kind == COMPONENT_LITERAL ? len == c->n && memcmp(w->at + 1, c->bytes, len) == 0
                                                : glob_match(c, w->at + 1, len, subject);
    if (matches)
        w->at += 1 + len;
    return matches;
}

/* Only the last `**` is ever gone back to: what stands before it has matched as early as it can. */
bool pattern_matches(const struct pattern *pattern, const char *path, size_t len,
                     const struct policy_subject *subject)
{
    const struct component *c = pattern->components;
    size_t n = pattern->n_components, i = 0, star = n;
    struct walk w = { path, path + (len == 1 ? 0 : len) }, resume = w;
    while (i < n || w.at < w.end) {
        if (i < n && c[i].kind == COMPONENT_ANY_DEPTH) {
            if (i == n - 1)
                return w.at < w.end;
            star = i++;
            resume = w;
        } else if (i < n && component_matches(&c[i], &w, subject)) {
            i++;
        } else if (star < n && resume.at < resume.end) {
            resume.at += 1 + component_len(&resume);
            w = resume;
            i = star + 1;
        } else {
            return false;
        }
    }
    return true;
}

size_t pattern_needed_literal(const struct ast *ast, const char *path, size_t len)
{
    size_t needed = 0;
    for (size_t i = 0; i < ast->n_pseudo; i++) {
        size_t point = ast->pseudo_len[i];
        if (point > needed && path_is_beneath(path, len, ast->pseudo[i], point))
            needed = point;
    }
    return needed;
}

bool pattern_is_personal(const struct pattern *pattern)
{
    for (size_t i = 0; i < pattern->n_components; i++) {
        const struct component *c = &pattern->components[i];
        if (c->kind == COMPONENT_HOME)
            return true;
        for (uint32_t t = 0; c->kind == COMPONENT_GLOB && t < c->n; t++)
            if (c->tokens[t].kind == TOKEN_USER || c->tokens[t].kind == TOKEN_UID)
                return true;
    }
    return false;
}

static bool rule_has_path(const struct ast *ast, const struct ast_rule *rule, const char *path, size_t len,
                          const struct policy_subject *subject)
{
    size_t needed = rule->rule.deny ? 0 : pattern_needed_literal(ast, path, len);
    for (size_t i = 0; i < rule->n_patterns; i++) {
        const struct pattern *p = &rule->patterns[i];
        if (p->literal_len >= needed && pattern_matches(p, path, len, subject))
            return true;
    }
    return false;
}

void policy_try(const struct policy *policy, uint32_t number, const struct policy_subject *subject,
                unsigned rights, const char *path, size_t path_len, time_t now, struct policy_trial *trial)
{
    const struct ast_rule *rule = &policy->ast.rules[number - 1];
    unsigned has = rights_widen(rule->rule.rights) & rights;
    *trial = (struct policy_trial){
        .subject = subjects_match(rule->subjects, subject, rule->rule.deny),
        .path = rule_has_path(&policy->ast, rule, path, path_len, subject),
        .ended = rule->rule.until && rule->rule.until <= now,
        .lacking = rule->rule.deny ? (has ? 0 : rights) : rights & ~has,
    };
}
