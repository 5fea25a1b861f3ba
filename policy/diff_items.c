/*
 * A tally to words: which rights change alike, and what goes without saying.
 */
#include <errno.h>
#include <string.h>

#include "../common/util.h"
#include "diff.h"

/* A set with append is not told beside the same with write, which includes it; nor one beside a part of it.
 */
static void drop_implied(struct tally *tally)
{
    for (unsigned r = 1; r <= RIGHT_ALL; r++) {
        struct tally_rights *t = &tally->rights[r];
        const struct tally_rights *wider = &tally->rights[(r & ~(unsigned)RIGHT_APPEND) | RIGHT_WRITE];
        bool drop = r & RIGHT_APPEND && t != wider && wider->witness && t->which == wider->which;
        for (unsigned part = (r - 1) & r; part && !drop; part = (part - 1) & r)
            drop = tally->rights[part].witness;
        if (drop) {
            free(t->witness);
            t->witness = NULL;
        }
    }
}

static void put_set(FILE *out, unsigned rights, const char **comma)
{
    char text[POLICY_RIGHTS_TEXT];
    policy_rights_text(text, rights);
    for (char *p = text; *p; p++)
        *p = *p == ',' ? '+' : *p;
    fprintf(out, "%s%s", *comma, text);
    *comma = ",";
}

/* All that change in the same cells: single rights first. */
static char *rights_alike(const struct tally *tally, unsigned like, bool *done)
{
    char *text = NULL;
    size_t len = 0;
    const char *comma = "";
    FILE *memory = open_memstream(&text, &len);
    unsigned single = 0;
    if (!memory)
        return NULL;
    for (int size = 1; size <= 6; size++)
        for (unsigned r = 1; r <= RIGHT_ALL; r++) {
            const struct tally_rights *t = &tally->rights[r];
            if (__builtin_popcount(r) != size || !t->witness || t->which != tally->rights[like].which)
                continue;
            done[r] = true;
            single |= size == 1 ? r : 0;
            if (tally->rights[RIGHT_APPEND].which == t->which)
                single |= RIGHT_APPEND; /* dropped beside write */
            put_set(memory, r, &comma);
        }
    if (fclose(memory) != 0) {
        free(text);
        return NULL;
    }
    if (single != RIGHT_ALL)
        return text;
    free(text);
    return strdup("all");
}

static int add_item(struct diff_items *items, struct diff_item item)
{
    int err = item.rights && item.witness ? mem_grow(&items->all, items->n, &items->cap, sizeof *items->all)
                                          : -ENOMEM;
    if (err == 0) {
        items->all[items->n++] = item;
        return 0;
    }
    free(item.rights);
    free(item.witness);
    return err;
}

static int add_unknown(struct diff_items *items, unsigned rights, struct diff_item item)
{
    char text[POLICY_RIGHTS_TEXT];
    item.sign = '?';
    item.rights = strdup(rights == RIGHT_ALL ? "all" : policy_rights_text(text, rights));
    item.witness = strdup("");
    return add_item(items, item);
}

int items_add(struct diff_items *items, const struct diff_rule *rule, const struct pattern *word, size_t way,
              struct tally *tally)
{
    bool done[RIGHT_ALL + 1] = { false };
    size_t before = items->n;
    int err = 0;
    struct diff_item item = { .pattern = word, .way = way, .incomplete = tally->incomplete };
    drop_implied(tally);
    for (unsigned r = 1; err == 0 && r <= RIGHT_ALL; r++) {
        const struct tally_rights *t = &tally->rights[r];
        if (!t->witness || done[r])
            continue;
        item.sign = diff_gives(rule) ? '+' : '-';
        item.rights = rights_alike(tally, r, done);
        item.witness = strdup(t->witness);
        item.in_part = t->count < tally->n_cells;
        err = add_item(items, item);
    }
    return err == 0 && tally->incomplete && items->n == before
               ? add_unknown(items, rule->rule->rule.rights, item)
               : err;
}

/* ---- the list ---- */

int items_compare(const struct diff_item *x, const struct diff_item *y)
{
    if (x->pattern != y->pattern)
        return x->pattern < y->pattern ? -1 : 1;
    int order = strcmp(x->rights, y->rights);
    if (order == 0)
        order =
            (x->sign * 4 + x->in_part * 2 + x->incomplete) - (y->sign * 4 + y->in_part * 2 + y->incomplete);
    return order;
}

static int compare_ways(const void *a, const void *b)
{
    const struct diff_item *x = a, *y = b;
    int order = items_compare(x, y);
    return order ? order : (x->way > y->way) - (x->way < y->way);
}

void items_sort(struct diff_items *items)
{
    if (items->n)
        qsort(items->all, items->n, sizeof *items->all, compare_ways);
}

void items_clear(struct diff_items *items, size_t from)
{
    while (items->n > from) {
        struct diff_item *item = &items->all[--items->n];
        free(item->rights);
        free(item->witness);
    }
}
