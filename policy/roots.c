/*
 * What a process needs that serves a policy: capabilities, and the directories beneath which all is that it
 * can allow.
 */
#include <errno.h>
#include <string.h>

#include "../common/path.h"
#include "../common/util.h"
#include "internal.h"

static void need_term(const struct term *term, struct policy_needs *needs)
{
    needs->narrow |= term->kind == TERM_EXE || term->kind == TERM_UNIT || term->kind == TERM_CGROUP;
    needs->label |= term->kind == TERM_LABEL;
    for (size_t i = 0; term->kind == TERM_SET && i < term->set->n_terms; i++)
        need_term(&term->set->terms[i], needs);
}

/* Of allow and deny: what is not known must be known to be so. */
static void need_terms(const struct subjects *subjects, struct policy_needs *needs)
{
    for (size_t i = 0; i < subjects->n_conjs; i++)
        for (size_t j = 0; j < subjects->conjs[i].n_terms; j++)
            need_term(&subjects->conjs[i].terms[j], needs);
}

void policy_get_needs(const struct policy *policy, struct policy_needs *needs)
{
    *needs = (struct policy_needs){ .read = false };
    for (size_t i = 0; i < policy->ast.n_rules; i++) {
        const struct policy_rule *rule = &policy->ast.rules[i].rule;
        need_terms(policy->ast.rules[i].subjects, needs);
        if (rule->deny)
            continue;
        bool broker = rule->as == POLICY_AS_BROKER;
        needs->read |= broker && rule->rights & (RIGHT_READ | RIGHT_LIST | RIGHT_STAT);
        needs->write |= broker && rule->rights & (RIGHT_WRITE | RIGHT_APPEND | RIGHT_CREATE);
        needs->identity |= !broker || rule->rights & RIGHT_CREATE;
        needs->list |= (rule->rights & RIGHT_LIST) || rule->types & POLICY_TYPE_DIR;
        needs->unsealed |= !rule->sealed;
    }
}

/* ---- roots ---- */

struct roots {
    struct policy_root *all;
    size_t n, cap;
};

static int add_root(struct roots *roots, const struct policy_rule *rule, const char *path, size_t len)
{
    int err = mem_grow(&roots->all, roots->n, &roots->cap, sizeof *roots->all);
    if (err < 0)
        return err;
    char *copy = mem_zalloc(len + 2, 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, len ? path : "/", len ? len : 1);
    roots->all[roots->n++] =
        (struct policy_root){ copy, rights_widen(rule->rights), rule->sealed, !rule->sealed };
    return 0;
}

static int add_homes(struct roots *roots, const struct policy *policy, const struct policy_rule *rule)
{
    int err = 0;
    for (size_t i = 0; err == 0 && i < policy->ast.n_users; i++) {
        const char *home = policy->ast.users[i].home;
        size_t len = strlen(home);
        if (len > 1 && path_is_clean(home, len))
            err = add_root(roots, rule, home, len);
    }
    return err;
}

/* The leading literal components; not the last one of a pattern that is literal throughout: a file may be
 * replaced, its directory stays. */
static int add_pattern(struct roots *roots, const struct policy *policy, const struct policy_rule *rule,
                       const struct pattern *p)
{
    char path[PATH_TEXT_MAX + 1];
    size_t len = 0, n = 0;
    if (p->n_components && p->components[0].kind == COMPONENT_HOME)
        return add_homes(roots, policy, rule);
    while (n < p->n_components && p->components[n].kind == COMPONENT_LITERAL)
        n++;
    n -= n && n == p->n_components;
    for (size_t i = 0; i < n; i++) {
        path[len++] = '/';
        memcpy(path + len, p->components[i].bytes, p->components[i].n);
        len += p->components[i].n;
    }
    return add_root(roots, rule, path, len);
}

/* By component: a directory stands right before what is beneath it ('/' sorts before every other byte). */
static int compare_paths(const void *a, const void *b)
{
    const char *x = ((const struct policy_root *)a)->path, *y = ((const struct policy_root *)b)->path;
    for (;; x++, y++) {
        unsigned char c = *x == '/' ? 1 : (unsigned char)*x, d = *y == '/' ? 1 : (unsigned char)*y;
        if (c != d)
            return c < d ? -1 : 1;
        if (c == 0)
            return 0;
    }
}

static void merge_beneath(struct roots *roots)
{
    size_t kept = 0;
    if (roots->n)
        qsort(roots->all, roots->n, sizeof *roots->all, compare_paths);
    for (size_t i = 0; i < roots->n; i++) {
        struct policy_root *root = &roots->all[i], *over = kept ? &roots->all[kept - 1] : NULL;
        if (over && path_is_beneath(root->path, strlen(root->path), over->path, strlen(over->path))) {
            over->rights |= root->rights;
            over->sealed |= root->sealed;
            over->unsealed |= root->unsealed;
            free(root->path);
        } else {
            roots->all[kept++] = *root;
        }
    }
    roots->n = kept;
}

static size_t depth_of(const char *path)
{
    size_t depth = 0;
    for (const char *p = path; p[1] && *p; p++)
        depth += *p == '/';
    return path[1] ? depth : 0;
}

/* Cuts the last component off the deepest ones. */
static void shorten_deepest(struct roots *roots)
{
    size_t deepest = 0;
    for (size_t i = 0; i < roots->n; i++) {
        size_t depth = depth_of(roots->all[i].path);
        deepest = depth > deepest ? depth : deepest;
    }
    for (size_t i = 0; i < roots->n; i++) {
        char *path = roots->all[i].path;
        if (depth_of(path) == deepest && deepest) {
            char *slash = strrchr(path, '/');
            slash[slash == path] = '\0';
        }
    }
}

int policy_get_roots(const struct policy *policy, size_t max, struct policy_root **out, size_t *n)
{
    struct roots roots = { 0 };
    int err = 0;
    for (size_t i = 0; err == 0 && i < policy->ast.n_rules; i++) {
        const struct ast_rule *rule = &policy->ast.rules[i];
        for (size_t p = 0; err == 0 && !rule->rule.deny && p < rule->n_patterns; p++)
            err = add_pattern(&roots, policy, &rule->rule, &rule->patterns[p]);
    }
    merge_beneath(&roots);
    while (err == 0 && roots.n > max) {
        shorten_deepest(&roots);
        merge_beneath(&roots);
    }
    if (err < 0) {
        policy_roots_free(roots.all, roots.n);
        return err;
    }
    *out = roots.all;
    *n = roots.n;
    return 0;
}

void policy_roots_free(struct policy_root *roots, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(roots[i].path);
    free(roots);
}
