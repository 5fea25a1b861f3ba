/*
 * Users of the database beside those whom rules name: /home/%u means each of them, /home/alice one.
 */
#include <errno.h>
#include <string.h>

#include "../common/util.h"
#include "diff.h"

enum { USERS_ALL_MAX = 256 }; /* with more users than that only those are tried whose name is written out */

static int compare_names(const void *a, const void *b, void *users)
{
    const struct policy_user *all = users;
    return strcmp(all[*(const uint32_t *)a].name, all[*(const uint32_t *)b].name);
}

static int sort_names(struct diff *diff)
{
    if (diff->by_name)
        return 0;
    diff->by_name = mem_zalloc(diff->n_users + 1, sizeof *diff->by_name);
    if (!diff->by_name)
        return -ENOMEM;
    for (size_t i = 0; i < diff->n_users; i++)
        diff->by_name[i] = (uint32_t)i;
    qsort_r(diff->by_name, diff->n_users, sizeof *diff->by_name, compare_names, (void *)diff->users);
    return 0;
}

static int compare_name(const struct policy_user *user, const struct component *c)
{
    int order = strncmp(user->name, c->bytes, c->n);
    return order ? order : user->name[c->n] != '\0';
}

static void mark_named(const struct diff *diff, const struct component *c, bool *marks)
{
    size_t low = 0, high = diff->n_users;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint32_t user = diff->by_name[middle];
        int order = compare_name(&diff->users[user], c);
        if (order == 0) {
            marks[user] = true;
            return;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
}

static int mark_all_named(struct diff *diff, bool *marks)
{
    int err = sort_names(diff);
    for (size_t i = 0; err == 0 && i < diff->n_relevant; i++) {
        const struct pattern *p = diff->relevant[i]->pattern;
        for (size_t c = 0; c < p->n_components; c++)
            if (p->components[c].kind == COMPONENT_LITERAL)
                mark_named(diff, &p->components[c], marks);
    }
    return err;
}

int users_to_try(uint32_t **users, size_t *n, struct diff *diff)
{
    bool *marks = mem_zalloc(diff->n_users + 1, sizeof *marks);
    *users = mem_zalloc(diff->n_users + 1, sizeof **users);
    *n = 0;
    int err = marks && *users ? 0 : -ENOMEM;
    if (err == 0 && diff->n_users > USERS_ALL_MAX)
        err = mark_all_named(diff, marks);
    for (size_t i = 0; err == 0 && i < diff->n_users; i++)
        if (marks[i] || diff->n_users <= USERS_ALL_MAX)
            (*users)[(*n)++] = diff->users[i].uid;
    free(marks);
    if (err == 0)
        return 0;
    free(*users);
    return err;
}
