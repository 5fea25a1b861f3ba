/*
 * Patterns that reach more than is likely to be meant: everything, programs, the policy itself.
 */
#include <stdio.h>
#include <string.h>

#include "../common/util.h"
#include "compiled.h"
#include "lint.h"

enum { CHANGING = RIGHT_WRITE | RIGHT_APPEND | RIGHT_CREATE };

static const struct {
    const char *path, *holds;
    bool file; /* it itself; otherwise what is beneath it */
} protected[] = {
    { "/bin", "programs", false },
    { "/sbin", "programs", false },
    { "/usr/bin", "programs", false },
    { "/usr/sbin", "programs", false },
    { "/usr/local/bin", "programs", false },
    { "/usr/local/sbin", "programs", false },
    { "/usr/libexec", "programs", false },
    { "/lib", "libraries", false },
    { "/lib32", "libraries", false },
    { "/lib64", "libraries", false },
    { "/libx32", "libraries", false },
    { "/usr/lib", "libraries", false },
    { "/usr/lib32", "libraries", false },
    { "/usr/lib64", "libraries", false },
    { "/usr/libx32", "libraries", false },
    { "/usr/local/lib", "libraries", false },
    { "/usr/local/lib64", "libraries", false },
    { "/usr/local/libexec", "programs", false },
    { "/boot", "what the machine starts with", false },
    { "/etc/cron.d", "what root runs", false },
    { "/etc/cron.hourly", "what root runs", false },
    { "/etc/cron.daily", "what root runs", false },
    { "/etc/cron.weekly", "what root runs", false },
    { "/etc/cron.monthly", "what root runs", false },
    { "/etc/crontab", "what root runs", true },
    { "/var/spool/cron", "what others run", false },
    { "/etc/init.d", "what root runs", false },
    { "/etc/systemd", "what root runs", false },
    { "/run/systemd", "what root runs", false },
    { "/etc/udev", "what root runs", false },
    { "/etc/profile.d", "what others run", false },
    { "/etc/profile", "what others run", true },
    { "/etc/ld.so.preload", "libraries of every program", true },
    { "/etc/ld.so.conf", "libraries of every program", true },
    { "/etc/ld.so.conf.d", "libraries of every program", false },
    { "/etc/ld.so.cache", "libraries of every program", true },
    { "/etc/pam.d", "who may log in", false },
    { "/etc/pam.conf", "who may log in", true },
    { "/etc/security", "who may log in", false },
    { "/etc/sudoers", "who may become root", true },
    { "/etc/sudoers.d", "who may become root", false },
    { "/etc/polkit-1", "who may become root", false },
    { "/etc/doas.conf", "who may become root", true },
};

/* ---- `**` at the root ---- */

/* `*`, `?*`: names of whatever kind. */
static bool is_wild(const struct component *c)
{
    bool wild = c->kind == COMPONENT_GLOB, star = false;
    for (uint32_t i = 0; wild && i < c->n; i++) {
        wild = c->tokens[i].kind == TOKEN_STAR || c->tokens[i].kind == TOKEN_ANY;
        star = star || c->tokens[i].kind == TOKEN_STAR;
    }
    return wild && star;
}

static bool is_everywhere(const struct pattern *pattern)
{
    size_t i = 0;
    while (i < pattern->n_components && is_wild(&pattern->components[i]))
        i++;
    return i < pattern->n_components && pattern->components[i].kind == COMPONENT_ANY_DEPTH;
}

static void check_root(struct lint *lint)
{
    const struct ast_rule *rule = lint->rule;
    for (uint32_t i = 0; i < rule->n_patterns; i++)
        if (is_everywhere(&rule->patterns[i]) && !lint_is_same_word(rule, i))
            lint_warn(lint, lint_at_pattern(lint, &rule->patterns[i]),
                      "`**` at the root: it reaches every directory there is (name those that are meant)");
}

/* ---- what must not be written ---- */

/* A component as the pattern would have it. */
static bool takes_name(const struct component *c, const char *name, size_t len,
                       const struct policy_subject *subject)
{
    if (c->kind == COMPONENT_LITERAL)
        return c->n == len && memcmp(c->bytes, name, len) == 0;
    return c->kind == COMPONENT_GLOB && glob_match(c, name, len, subject);
}

/* The pattern's components that are left when it has come to dir, or NULL: it does not come beneath it. */
static const struct component *left_beneath(const struct pattern *pattern, const char *dir,
                                            const struct policy_subject *subject)
{
    const struct component *c = pattern->components, *end = c + pattern->n_components;
    for (const char *name = dir + 1; *name; c++) {
        size_t len = strcspn(name, "/");
        if (c == end || c->kind == COMPONENT_ANY_DEPTH)
            break;
        if (!takes_name(c, name, len, subject))
            return NULL;
        name += len + (name[len] == '/');
    }
    return c == end ? NULL : c;
}

static bool is_refused(struct lint *lint, const struct policy_subject *subject, const char *path, size_t len)
{
    struct policy_decision decision;
    for (unsigned right = 1; right <= RIGHT_STAT; right <<= 1) {
        if (!(lint->rule->rule.rights & CHANGING & right))
            continue;
        policy_decide(lint->policy, lint->scratch, subject, right, path, len, lint->now, &decision);
        if (decision.allowed)
            return false;
    }
    return true;
}

static bool reaches(struct lint *lint, const struct pattern *pattern, const char *target, bool file,
                    const struct policy_subject *subject)
{
    char path[2 * PATH_TEXT_MAX + 2], rest[PATH_TEXT_MAX + 1];
    if (file)
        return pattern_matches(pattern, target, strlen(target), subject) &&
               !is_refused(lint, subject, target, strlen(target));
    const struct component *left = left_beneath(pattern, target, subject);
    if (!left)
        return false;
    size_t n = (size_t)(pattern->components + pattern->n_components - left);
    for (unsigned variant = 0; variant < WITNESS_VARIANTS; variant++) {
        if (!witness_path(left, n, subject, variant, rest))
            continue;
        int len = snprintf(path, sizeof path, "%s%s", target, rest);
        if (path_is_clean(path, (size_t)len) && !is_refused(lint, subject, path, (size_t)len))
            return true;
    }
    return false;
}

/* False: told already, or nothing to tell. */
static bool check_target(struct lint *lint, const struct pattern *pattern, const char *target, bool file,
                         const char *holds, const struct policy_subject *subject)
{
    char rights[POLICY_RIGHTS_TEXT];
    if (!reaches(lint, pattern, target, file, subject))
        return false;
    lint_warn(lint, lint_at_pattern(lint, pattern),
              "%s reaches %s (%s): who changes that can act as others (narrow the path, or deny that one)",
              policy_rights_text(rights, lint->rule->rule.rights & CHANGING), target, holds);
    return true;
}

static bool check_pattern(struct lint *lint, const struct pattern *pattern,
                          const struct policy_subject *subject)
{
    if (check_target(lint, pattern, "/etc/fob", false, "the policy", subject) ||
        (lint->own && check_target(lint, pattern, lint->own, !lint->own_is_dir, "the policy", subject)))
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(protected); i++)
        if (check_target(lint, pattern, protected[i].path, protected[i].file, protected[i].holds, subject))
            return true;
    return false;
}

static void check_changes(struct lint *lint)
{
    const struct ast_rule *rule = lint->rule;
    struct witness witness;
    for (uint32_t i = 0; i < rule->n_patterns; i++) {
        bool told = lint_is_same_word(rule, i);
        for (size_t c = 0; !told && c < rule->subjects->n_conjs; c++) {
            witness_subject(&witness, lint->policy, &rule->subjects->conjs[c]);
            told = check_pattern(lint, &rule->patterns[i], &witness.subject);
        }
    }
}

void lint_paths(struct lint *lint)
{
    if (lint->rule->rule.deny)
        return;
    check_root(lint);
    if (lint->rule->rule.rights & CHANGING)
        check_changes(lint);
}
