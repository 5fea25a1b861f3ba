/*
 * Does one rule decide all that another would? Every "yes" here is a proof; a "no" may be one that was not
 * found.
 */
#include <errno.h>
#include <string.h>

#include "cells.h"
#include "lint.h"

/* Proofs are bounded: what costs n steps is not tried when fewer are left. */
static bool spend(struct lint *lint, size_t n)
{
    if (lint->compares_left < n)
        return false;
    lint->compares_left -= (unsigned)n;
    return true;
}

/* ---- patterns ---- */

static size_t count_classes(const struct component *c)
{
    size_t n = 0;
    for (uint32_t i = 0; i < c->n; i++)
        n += c->tokens[i].kind == TOKEN_CLASS;
    return n;
}

static bool same_component(const struct component *a, const struct component *b)
{
    if (a->kind != b->kind || a->n != b->n)
        return false;
    if (a->kind == COMPONENT_LITERAL)
        return memcmp(a->bytes, b->bytes, a->n) == 0;
    if (a->kind != COMPONENT_GLOB || a->tokens == b->tokens)
        return true;
    if (memcmp(a->tokens, b->tokens, a->n * sizeof *a->tokens) != 0)
        return false;
    size_t begin = component_class_offset(a->n);
    return memcmp((const char *)a->tokens + begin, (const char *)b->tokens + begin,
                  count_classes(a) * sizeof(struct token_class)) == 0;
}

static bool is_any_name(const struct component *c)
{
    bool stars = c->kind == COMPONENT_GLOB;
    for (uint32_t i = 0; stars && i < c->n; i++)
        stars = c->tokens[i].kind == TOKEN_STAR;
    return stars;
}

static bool is_one_name(const struct component *c)
{
    return c->kind == COMPONENT_LITERAL || c->kind == COMPONENT_GLOB;
}

static bool same_pattern(const struct pattern *a, const struct pattern *b)
{
    if (a->n_components != b->n_components)
        return false;
    for (size_t i = 0; a->components != b->components && i < a->n_components; i++)
        if (!same_component(&a->components[i], &b->components[i]))
            return false;
    return true;
}

/* Without what both begin with, where each component takes one name (or the same home) whatever follows. */
static void cut_beginning(struct pattern *mine, struct pattern *its)
{
    size_t i = 0;
    while (i < mine->n_components && i < its->n_components) {
        const struct component *a = &mine->components[i], *b = &its->components[i];
        if (!(same_component(a, b) && a->kind != COMPONENT_ANY_DEPTH) && !(is_any_name(b) && is_one_name(a)))
            break;
        i++;
    }
    *mine = (struct pattern){ mine->components + i, NULL, 0, (uint16_t)(mine->n_components - i), 1 };
    *its = (struct pattern){ its->components + i, NULL, 0, (uint16_t)(its->n_components - i), 1 };
}

static bool is_literal(const struct pattern *pattern)
{
    for (size_t i = 0; i < pattern->n_components; i++)
        if (pattern->components[i].kind != COMPONENT_LITERAL)
            return false;
    return true;
}

static bool all_matched(const uint64_t *matched, const char *path, size_t len, void *covered)
{
    (void)path;
    (void)len;
    *(bool *)covered = matched[0] >> 1 & 1;
    return *(bool *)covered;
}

/* Nothing of `mine` is outside of `its`, by the whole of both. */
static bool prove(struct lint *lint, const struct pattern *mine, const struct pattern *its,
                  const struct policy_subject *subject)
{
    char path[PATH_TEXT_MAX + 1];
    bool covered = true;
    for (unsigned variant = 0; variant < WITNESS_VARIANTS; variant++) {
        size_t len = witness_path(mine->components, mine->n_components, subject, variant, path);
        if (len && !pattern_matches(its, path, len, subject))
            return false;
    }
    if (is_literal(mine))
        return true;
    if (lint->cells_left == 0)
        return false;
    lint->cells_left--;
    const struct pattern *both[] = { mine, its };
    int err = cells_each(both, 2, subject, all_matched, &covered);
    lint->out_of_memory |= err == -ENOMEM;
    return err == 0 && covered;
}

/* somebody: who asks, when it can only be one; or NULL. */
static bool cover_pattern(struct lint *lint, const struct pattern *its, const struct pattern *mine,
                          const struct policy_subject *somebody)
{
    static const struct policy_subject nobody = { .uid = (uid_t)-2, .gid = (gid_t)-2 };
    struct pattern a = *mine, b = *its;
    if (!spend(lint, 1))
        return false;
    if (same_pattern(mine, its))
        return true;
    cut_beginning(&a, &b);
    if (a.n_components == 0 || b.n_components == 0)
        return a.n_components == b.n_components;
    if (b.n_components == 1 && b.components[0].kind == COMPONENT_ANY_DEPTH)
        return true;
    if (!somebody && (pattern_is_personal(&a) || pattern_is_personal(&b)))
        return false;
    return prove(lint, &a, &b, somebody ? somebody : &nobody);
}

/* Wildcards of an allow stop where pseudo file systems begin: `mine` is let in, `its` is not. */
static bool is_kept_out(const struct ast *ast, const struct pattern *its, const struct pattern *mine)
{
    char path[PATH_TEXT_MAX + 1];
    if (its->literal_len >= mine->literal_len)
        return false;
    size_t n = 0;
    while (n < mine->n_components && mine->components[n].kind == COMPONENT_LITERAL)
        n++;
    size_t len = witness_path(mine->components, n, NULL, 0, path);
    for (size_t i = 0; i < ast->n_pseudo; i++) {
        size_t point = ast->pseudo_len[i];
        if (its->literal_len < point && path_is_beneath(path, len, ast->pseudo[i], point))
            return true;
    }
    return false;
}

static bool cover_paths(struct lint *lint, const struct ast_rule *its, const struct ast_rule *mine,
                        const struct policy_subject *somebody)
{
    for (uint32_t i = 0; i < mine->n_patterns; i++) {
        bool covered = false;
        for (uint32_t j = 0; !covered && j < its->n_patterns; j++) {
            const struct pattern *p = &its->patterns[(i + j) % its->n_patterns]; /* often of the same set */
            covered = cover_pattern(lint, p, &mine->patterns[i], somebody) &&
                      (its->rule.deny || !is_kept_out(&lint->policy->ast, p, &mine->patterns[i]));
        }
        if (!covered)
            return false;
    }
    return true;
}

/* ---- subjects ---- */

static bool implies(struct lint *lint, const struct term *mine, const struct term *its, bool deny);

static bool set_implies(struct lint *lint, const struct subject_set *set, const struct term *its, bool deny)
{
    bool all = spend(lint, set->n_uids + set->n_gids);
    for (size_t i = 0; all && i < set->n_uids; i++)
        all = implies(lint, &(struct term){ .kind = TERM_USER, .id = set->uids[i] }, its, deny);
    for (size_t i = 0; all && i < set->n_gids; i++)
        all = implies(lint, &(struct term){ .kind = TERM_GROUP, .id = set->gids[i] }, its, deny);
    for (size_t i = 0; all && i < set->n_terms; i++)
        all = implies(lint, &set->terms[i], its, deny);
    return all;
}

/* A deny counts the groups of the user database, whatever the process has. */
static bool is_member(const struct lint *lint, uid_t uid, const gid_t *gids, size_t n)
{
    const struct policy_user *user = policy_find_user(lint->policy, uid);
    for (size_t i = 0; user && i < user->n_groups; i++)
        if (ids_have(gids, n, user->groups[i]))
            return true;
    return false;
}

static bool implies_set(struct lint *lint, const struct term *mine, const struct subject_set *set, bool deny)
{
    if (mine->kind == TERM_USER && (ids_have(set->uids, set->n_uids, mine->id) ||
                                    (deny && is_member(lint, mine->id, set->gids, set->n_gids))))
        return true;
    if (mine->kind == TERM_GROUP && ids_have(set->gids, set->n_gids, mine->id))
        return true;
    for (size_t i = 0; i < set->n_terms; i++)
        if (implies(lint, mine, &set->terms[i], deny))
            return true;
    return false;
}

static bool patterns_imply(struct lint *lint, const struct term *mine, const struct term *its)
{
    for (uint32_t i = 0; i < mine->id; i++) {
        bool covered = false;
        for (uint32_t j = 0; !covered && j < its->id; j++)
            covered = cover_pattern(lint, &its->patterns[j], &mine->patterns[i], NULL);
        if (!covered)
            return false;
    }
    return true;
}

/* Whom `mine` matches, `its` does. deny: of the rule that `its` stands in. Sets hold no sets: this ends. */
static bool implies(struct lint *lint, const struct term *mine, const struct term *its, bool deny)
{
    if (its->kind == TERM_ANY)
        return true;
    if (mine->kind == TERM_SET)
        return (its->kind == TERM_SET && its->set == mine->set) || set_implies(lint, mine->set, its, deny);
    if (its->kind == TERM_SET)
        return implies_set(lint, mine, its->set, deny);
    if (mine->kind == TERM_USER && its->kind == TERM_GROUP)
        return deny && is_member(lint, mine->id, &its->id, 1);
    if (mine->kind != its->kind || mine->kind == TERM_ANY)
        return false;
    switch (mine->kind) {
    case TERM_USER:
    case TERM_GROUP:
        return mine->id == its->id;
    case TERM_EXE:
    case TERM_CGROUP:
        return patterns_imply(lint, mine, its);
    default:
        return strcmp(mine->text, its->text) == 0;
    }
}

static bool conj_implies(struct lint *lint, const struct conj *mine, const struct conj *its, bool deny)
{
    for (size_t i = 0; i < its->n_terms; i++) {
        bool covered = false;
        if (!spend(lint, mine->n_terms))
            return false;
        for (size_t j = 0; !covered && j < mine->n_terms; j++)
            covered = implies(lint, &mine->terms[j], &its->terms[i], deny);
        if (!covered)
            return false;
    }
    return true;
}

static bool cover_conj(struct lint *lint, const struct subjects *its, const struct conj *mine, bool deny)
{
    for (size_t i = 0; i < its->n_conjs; i++)
        if (conj_implies(lint, mine, &its->conjs[i], deny))
            return true;
    return false;
}

/* The one user that a conjunction is about. */
static bool only_uid(const struct conj *conj, uid_t *uid)
{
    for (size_t i = 0; i < conj->n_terms; i++) {
        const struct term *t = &conj->terms[i];
        bool single = t->kind == TERM_SET && t->set->n_uids == 1 && !t->set->n_gids && !t->set->n_terms;
        if (t->kind != TERM_USER && !single)
            continue;
        *uid = single ? t->set->uids[0] : t->id;
        return true;
    }
    return false;
}

bool cover_only_user(const struct subjects *subjects, uid_t uid)
{
    for (size_t i = 0; i < subjects->n_conjs; i++) {
        uid_t only;
        if (!only_uid(&subjects->conjs[i], &only) || only != uid)
            return false;
    }
    return true;
}

/* ---- rules ---- */

static bool has_personal(const struct ast_rule *rule)
{
    for (uint32_t i = 0; i < rule->n_patterns; i++)
        if (pattern_is_personal(&rule->patterns[i]))
            return true;
    return false;
}

static bool cover_paths_of(struct lint *lint, const struct ast_rule *its, const struct ast_rule *mine,
                           const struct conj *conj)
{
    uid_t uid;
    if (!only_uid(conj, &uid))
        return cover_paths(lint, its, mine, NULL);
    struct policy_subject somebody = { .uid = uid, .user = policy_find_user(lint->policy, uid) };
    return cover_paths(lint, its, mine, &somebody);
}

static bool can_cover(const struct policy_rule *its, const struct policy_rule *mine)
{
    if (!its->deny && mine->deny)
        return false;
    if (its->deny == mine->deny && its->number >= mine->number)
        return false;
    if (rights_widen(mine->rights) & ~rights_widen(its->rights))
        return false;
    return !its->until || (mine->until && mine->until <= its->until);
}

bool cover_rule(struct lint *lint, const struct ast_rule *its, const struct ast_rule *mine)
{
    const struct subjects *subjects = mine->subjects;
    if (!can_cover(&its->rule, &mine->rule))
        return false;
    /* Words of the same text share their subjects. */
    for (size_t i = 0; its->subjects != subjects && i < subjects->n_conjs; i++)
        if (!cover_conj(lint, its->subjects, &subjects->conjs[i], its->rule.deny))
            return false;
    if (!has_personal(its) && !has_personal(mine))
        return cover_paths(lint, its, mine, NULL);
    for (size_t i = 0; i < subjects->n_conjs; i++)
        if (!cover_paths_of(lint, its, mine, &subjects->conjs[i]))
            return false;
    return true;
}
