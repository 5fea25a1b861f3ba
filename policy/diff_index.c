/*
 * All patterns of both policies by their literal beginnings, so that a change looks only at what it touches.
 */
#include <errno.h>
#include <string.h>

#include "../common/path.h"
#include "../common/util.h"
#include "diff.h"

enum { OTHERS_MAX = 512 };

/* ---- entries ---- */

static int add_entry(struct diff *diff, const struct pattern *pattern, const struct diff_rule *rule)
{
    int err = mem_grow(&diff->entries, diff->n_entries, &diff->cap_entries, sizeof *diff->entries);
    uint16_t n = 0;
    if (err < 0)
        return err;
    while (n < pattern->n_components && pattern->components[n].kind == COMPONENT_LITERAL)
        n++;
    diff->entries[diff->n_entries++] = (struct diff_entry){ pattern, rule, n, pattern_is_personal(pattern) };
    return 0;
}

/* The mount point itself, and all that is beneath it. */
static int add_mount(struct diff *diff, const char *path)
{
    size_t n = 0, len = strlen(path);
    if (len < 2 || !path_is_clean(path, len))
        return 0;
    struct component *components = arena_alloc(&diff->arena, len, sizeof *components);
    struct pattern *patterns = arena_alloc(&diff->arena, 2, sizeof *patterns);
    if (!components || !patterns)
        return -ENOMEM;
    for (const char *at = path; *at; n++) {
        size_t size = strcspn(at + 1, "/");
        components[n] = (struct component){ { at + 1 }, (uint32_t)size, COMPONENT_LITERAL };
        at += 1 + size;
    }
    components[n].kind = COMPONENT_ANY_DEPTH;
    for (size_t i = 0; i < 2; i++)
        patterns[i] = (struct pattern){ .components = components, .n_components = (uint16_t)(n + i) };
    int err = add_entry(diff, &patterns[0], NULL);
    return err < 0 ? err : add_entry(diff, &patterns[1], NULL);
}

static bool has_mount(const struct ast *ast, const char *path)
{
    for (size_t i = 0; i < ast->n_pseudo; i++)
        if (strcmp(ast->pseudo[i], path) == 0)
            return true;
    return false;
}

static int add_mounts(struct diff *diff)
{
    const struct ast *old = &diff->sides[SIDE_OLD]->ast, *new = &diff->sides[SIDE_NEW]->ast;
    int err = 0;
    for (size_t i = 0; err == 0 && i < new->n_pseudo; i++)
        err = add_mount(diff, new->pseudo[i]);
    for (size_t i = 0; err == 0 && i < old->n_pseudo; i++)
        err = has_mount(new, old->pseudo[i]) ? 0 : add_mount(diff, old->pseudo[i]);
    return err;
}

/* The literal beginning of an entry, cut to `cut` components, against the first n components of a pattern. */
static int compare_beginning(const struct diff_entry *e, size_t cut, const struct component *c, size_t n)
{
    size_t has = e->n_literal < cut ? e->n_literal : cut;
    for (size_t i = 0; i < has && i < n; i++) {
        const struct component *mine = &e->pattern->components[i];
        size_t len = mine->n < c[i].n ? mine->n : c[i].n;
        int order = memcmp(mine->bytes, c[i].bytes, len);
        if (order || mine->n != c[i].n)
            return order ? order : mine->n < c[i].n ? -1 : 1;
    }
    return (has > n) - (has < n);
}

static int compare_entries(const void *a, const void *b)
{
    const struct diff_entry *y = b;
    return compare_beginning(a, SIZE_MAX, y->pattern->components, y->n_literal);
}

/* ---- the whole ---- */

static int add_others(struct diff_patterns *others, const struct term *term)
{
    int err = 0;
    for (uint32_t i = 0; err == 0 && i < term->id && others->n < OTHERS_MAX; i++) {
        err = mem_grow(&others->all, others->n, &others->cap, sizeof *others->all);
        if (err == 0)
            others->all[others->n++] = &term->patterns[i];
    }
    return err;
}

static int note_term(struct diff *diff, const struct term *term)
{
    int err = 0;
    if (term->kind == TERM_EXE)
        return add_others(&diff->exes, term);
    if (term->kind == TERM_CGROUP)
        return add_others(&diff->cgroups, term);
    for (size_t i = 0; term->kind == TERM_SET && err == 0 && i < term->set->n_terms; i++)
        err = note_term(diff, &term->set->terms[i]);
    return err;
}

static int note_terms(struct diff *diff)
{
    int err = 0;
    for (size_t i = 0; i < diff->n_subjects; i++)
        for (size_t j = 0; j < diff->subjects[i]->n_conjs; j++)
            for (size_t t = 0; err == 0 && t < diff->subjects[i]->conjs[j].n_terms; t++)
                err = note_term(diff, &diff->subjects[i]->conjs[j].terms[t]);
    return err;
}

static int collect_rules(struct diff *diff, time_t now)
{
    size_t n = diff->sides[SIDE_OLD]->ast.n_rules + diff->sides[SIDE_NEW]->ast.n_rules;
    diff->rules = mem_zalloc(n + 1, sizeof *diff->rules);
    if (!diff->rules)
        return -ENOMEM;
    for (int side = 0; side < SIDES; side++) {
        const struct ast *ast = &diff->sides[side]->ast;
        for (size_t i = 0; i < ast->n_rules; i++)
            if (!ast->rules[i].rule.until || ast->rules[i].rule.until > now)
                diff->rules[diff->n_rules++] =
                    (struct diff_rule){ .rule = &ast->rules[i], .side = (uint8_t)side };
        if (ast->n_users > diff->n_users) {
            diff->users = ast->users;
            diff->n_users = ast->n_users;
        }
    }
    return 0;
}

int diff_index(struct diff *diff, time_t now)
{
    for (unsigned rights = 0; rights <= RIGHT_ALL; rights++)
        for (unsigned r = 0; r <= RIGHT_ALL; r++)
            diff->subsets[rights] |= (uint64_t)((r & ~rights) == 0) << r;
    int err = collect_rules(diff, now);
    if (err == 0)
        err = diff_match_rules(diff);
    if (err == 0)
        err = note_terms(diff);
    for (size_t i = 0; err == 0 && i < diff->n_rules; i++)
        for (size_t p = 0; err == 0 && p < diff->rules[i].rule->n_patterns; p++)
            err = add_entry(diff, &diff->rules[i].rule->patterns[p], &diff->rules[i]);
    if (err == 0)
        err = add_mounts(diff);
    if (err < 0)
        return err;
    if (diff->n_entries)
        qsort(diff->entries, diff->n_entries, sizeof *diff->entries, compare_entries);
    diff->relevant = mem_zalloc(diff->n_entries + 1, sizeof *diff->relevant);
    diff->slots = mem_zalloc(diff->n_entries + 1, sizeof *diff->slots);
    return diff->relevant && diff->slots ? 0 : -ENOMEM;
}

void diff_index_free(struct diff *diff)
{
    free(diff->rules);
    free(diff->keys);
    free(diff->subjects);
    free(diff->entries);
    free(diff->relevant);
    free(diff->slots);
    free(diff->by_name);
    free(diff->exes.all);
    free(diff->cgroups.all);
    arena_free(&diff->arena);
}

/* ---- what overlaps ---- */

/* The first entry whose beginning, cut, is at least (or, with `after`, greater than) that of the pattern. */
static size_t find_entry(const struct diff *diff, const struct pattern *p, size_t n, size_t cut, bool after)
{
    size_t low = 0, high = diff->n_entries;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_beginning(&diff->entries[middle], cut, p->components, n);
        if (order < 0 || (order == 0 && after))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void add_relevant(struct diff *diff, size_t from, size_t to, unsigned rights)
{
    for (size_t i = from; i < to; i++) {
        const struct diff_rule *rule = diff->entries[i].rule;
        if (!rule || rights_widen(rule->rule->rule.rights) & rights)
            diff->relevant[diff->n_relevant++] = &diff->entries[i];
    }
}

static void put_first(struct diff *diff, const struct pattern *pattern)
{
    for (size_t i = 0; i < diff->n_relevant; i++)
        if (diff->relevant[i]->pattern == pattern) {
            const struct diff_entry *own = diff->relevant[i];
            diff->relevant[i] = diff->relevant[0];
            diff->relevant[0] = own;
            return;
        }
}

void diff_find_relevant(struct diff *diff, const struct diff_rule *rule, const struct pattern *pattern)
{
    unsigned rights = rights_widen(rule->rule->rule.rights);
    size_t n = 0;
    if (diff->relevant_to == pattern)
        return;
    diff->relevant_to = pattern;
    diff->n_relevant = 0;
    for (; n < pattern->n_components && pattern->components[n].kind == COMPONENT_LITERAL; n++)
        add_relevant(diff, find_entry(diff, pattern, n, SIZE_MAX, false),
                     find_entry(diff, pattern, n, SIZE_MAX, true), rights);
    add_relevant(diff, find_entry(diff, pattern, n, SIZE_MAX, false), find_entry(diff, pattern, n, n, true),
                 rights);
    put_first(diff, pattern);
    for (size_t i = 0; i < diff->n_relevant; i++)
        diff->slots[i] = diff->relevant[i]->rule ? slot_of_rule(diff->relevant[i]->rule) : UINT32_MAX;
}
