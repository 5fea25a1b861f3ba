/*
 * Does a rule's subject match who asks?
 */
#include <string.h>

#include "internal.h"

bool ids_have(const uint32_t *ids, size_t n, uint32_t id)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && ids[low] == id;
}

/*
 * An allow counts the groups that the process has. A deny counts those of the user database too: a process
 * can drop groups, with the help of a user namespace even without privilege (shadow CVE-2018-7169). Where
 * they are not known it counts every group.
 */
static bool in_group(const struct policy_subject *subject, gid_t gid, bool deny)
{
    if (subject->gid == gid || ids_have(subject->groups, subject->n_groups, gid))
        return true;
    if (deny && subject->groups_unknown)
        return true;
    const struct policy_user *user = deny ? subject->user : NULL;
    return user && ids_have(user->groups, user->n_groups, gid);
}

static bool set_has_group_of(const struct subject_set *set, const struct policy_subject *subject, bool deny)
{
    if (set->n_gids == 0)
        return false;
    if (ids_have(set->gids, set->n_gids, subject->gid) || (deny && subject->groups_unknown))
        return true;
    for (size_t i = 0; i < subject->n_groups; i++)
        if (ids_have(set->gids, set->n_gids, subject->groups[i]))
            return true;
    const struct policy_user *user = deny ? subject->user : NULL;
    for (size_t i = 0; user && i < user->n_groups; i++)
        if (ids_have(set->gids, set->n_gids, user->groups[i]))
            return true;
    return false;
}

/* `*` and `?`, over anything: a label is no path. */
static bool label_matches(const char *pattern, const char *label)
{
    const char *star = NULL, *resume = label;
    while (*label || *pattern) {
        if (*pattern == '*') {
            star = ++pattern;
            resume = label;
        } else if (*label && (*pattern == '?' || *pattern == *label)) {
            pattern++;
            label++;
        } else if (star && *resume) {
            pattern = star;
            label = ++resume;
        } else {
            return false;
        }
    }
    return true;
}

static bool any_pattern_matches(const struct term *term, const char *path, size_t len,
                                const struct policy_subject *subject)
{
    for (uint32_t i = 0; i < term->id; i++)
        if (pattern_matches(&term->patterns[i], path, len, subject))
            return true;
    return false;
}

/* A cgroup is in those above it too: by component, never by a part of a name. */
static bool cgroup_matches(const struct term *term, const struct policy_subject *subject)
{
    const char *path = subject->cgroup;
    for (size_t len = 1; path[0] == '/' && len <= strlen(path); len++)
        if ((path[len] == '/' || path[len] == '\0') && any_pattern_matches(term, path, len, subject))
            return true;
    return false;
}

/* What is not known of the subject allows nothing, and denies. */
static bool narrowing_matches(const struct term *term, const struct policy_subject *subject, bool deny)
{
    switch (term->kind) {
    case TERM_EXE:
        return subject->exe ? any_pattern_matches(term, subject->exe, strlen(subject->exe), subject) : deny;
    case TERM_UNIT:
        return subject->unit ? strcmp(subject->unit, term->text) == 0 : deny;
    case TERM_CGROUP:
        return subject->cgroup ? cgroup_matches(term, subject) : deny;
    default:
        return subject->label ? label_matches(term->text, subject->label) : deny;
    }
}

static bool term_matches(const struct term *term, const struct policy_subject *subject, bool deny)
{
    switch (term->kind) {
    case TERM_ANY:
        return true;
    case TERM_USER:
        return subject->uid == term->id;
    case TERM_GROUP:
        return in_group(subject, term->id, deny);
    case TERM_SET:
        break;
    default:
        return narrowing_matches(term, subject, deny);
    }
    const struct subject_set *set = term->set;
    if (ids_have(set->uids, set->n_uids, subject->uid) || set_has_group_of(set, subject, deny))
        return true;
    for (size_t i = 0; i < set->n_terms; i++)
        if (term_matches(&set->terms[i], subject, deny))
            return true;
    return false;
}

static bool conj_matches(const struct conj *conj, const struct policy_subject *subject, bool deny)
{
    for (size_t i = 0; i < conj->n_terms; i++)
        if (!term_matches(&conj->terms[i], subject, deny))
            return false;
    return true;
}

bool subjects_match(const struct subjects *subjects, const struct policy_subject *subject, bool deny)
{
    for (size_t i = 0; i < subjects->n_conjs; i++)
        if (conj_matches(&subjects->conjs[i], subject, deny))
            return true;
    return false;
}

static bool narrows(const struct term *term)
{
    if (term->kind == TERM_EXE || term->kind == TERM_UNIT || term->kind == TERM_CGROUP)
        return true;
    for (size_t i = 0; term->kind == TERM_SET && i < term->set->n_terms; i++)
        if (narrows(&term->set->terms[i]))
            return true;
    return false;
}

/* As a deny counts: with the groups of the user database too. */
static bool conj_narrows(const struct conj *conj, const struct policy_subject *subject)
{
    bool some = false;
    for (size_t i = 0; i < conj->n_terms; i++) {
        bool is_narrow = narrows(&conj->terms[i]);
        some |= is_narrow;
        if (!is_narrow && !term_matches(&conj->terms[i], subject, true))
            return false;
    }
    return some;
}

bool policy_narrows(const struct policy *policy, const struct policy_subject *subject)
{
    for (size_t i = 0; i < policy->ast.n_rules; i++) {
        const struct subjects *subjects = policy->ast.rules[i].subjects;
        for (size_t j = 0; j < subjects->n_conjs; j++)
            if (conj_narrows(&subjects->conjs[j], subject))
                return true;
    }
    return false;
}

/* ---- terms, one by one ---- */

size_t term_members(const struct term *term)
{
    const struct subject_set *set = term->set;
    return term->kind == TERM_SET ? set->n_uids + set->n_gids + set->n_terms : 1;
}

struct term term_member(const struct term *term, size_t i)
{
    if (term->kind != TERM_SET)
        return *term;
    const struct subject_set *set = term->set;
    if (i < set->n_uids)
        return (struct term){ .kind = TERM_USER, .id = set->uids[i] };
    i -= set->n_uids;
    if (i < set->n_gids)
        return (struct term){ .kind = TERM_GROUP, .id = set->gids[i] };
    return set->terms[i - set->n_gids];
}
