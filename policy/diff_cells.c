/*
 * One hypothetical subject and one pattern: in which cells do the two policies differ, for which rights?
 */
#include <errno.h>
#include <string.h>

#include "../common/escape.h"
#include "../common/util.h"
#include "diff.h"

/* ---- the cells of a list of patterns ---- */

static bool add_matched(struct diff_run *run, uint32_t i)
{
    if (mem_grow(&run->matched, run->n_matched, &run->cap_matched, sizeof *run->matched) < 0)
        return false;
    run->matched[run->n_matched++] = i;
    return true;
}

static bool add_path(struct diff_run *run, const char *path, size_t len)
{
    while (run->cap_paths - run->n_paths < len)
        if (mem_grow(&run->paths, run->cap_paths, &run->cap_paths, 1) < 0)
            return false;
    memcpy(run->paths + run->n_paths, path, len);
    run->n_paths += len;
    return true;
}

static bool add_cell(const uint64_t *matched, const char *path, size_t len, void *data)
{
    struct diff_run *run = data;
    struct diff_cell cell = { run->n_paths, run->n_matched, (uint32_t)len, 0 };
    bool good = mem_grow(&run->cells, run->n_cells, &run->cap_cells, sizeof *run->cells) == 0 &&
                add_path(run, path, len);
    for (size_t word = 0; good && word < (run->n_list + 63) / 64; word++)
        for (uint64_t bits = matched[word]; good && bits; bits &= bits - 1)
            good = add_matched(run, (uint32_t)(word * 64 + (size_t)__builtin_ctzll(bits)));
    cell.n = (uint32_t)(run->n_matched - cell.first);
    if (good)
        run->cells[run->n_cells++] = cell;
    run->failed |= !good;
    return good;
}

static int add_to_list(struct diff_run *run, const struct diff_entry *entry)
{
    int err = mem_grow(&run->list, run->n_list, &run->cap_list, sizeof *run->list);
    if (err == 0)
        run->list[run->n_list++] = entry;
    run->personal |= entry->personal;
    return err;
}

static int make_list(struct diff *diff, struct candidate *who, struct candidate *base)
{
    struct diff_run *run = &diff->run;
    int err = 0;
    run->n_list = 0;
    run->personal = false;
    for (size_t i = 0; err == 0 && i < diff->n_relevant; i++) {
        uint32_t slot = diff->slots[i];
        if (i == 0 || slot == UINT32_MAX || candidate_matches(diff, who, slot) ||
            (base && candidate_matches(diff, base, slot)))
            err = add_to_list(run, diff->relevant[i]);
    }
    return err;
}

static int keep_list(struct diff_run *run)
{
    const struct diff_entry **list = run->last;
    size_t cap = run->cap_last;
    run->last = run->list;
    run->cap_last = run->cap_list;
    run->n_last = run->n_list;
    run->list = list;
    run->cap_list = cap;
    return 0;
}

static int run_cells(struct diff *diff, const struct policy_subject *subject)
{
    struct diff_run *run = &diff->run;
    if (!run->personal && run->n_list == run->n_last &&
        memcmp(run->list, run->last, run->n_list * sizeof *run->list) == 0)
        return 0; /* as before */
    const struct pattern **patterns = mem_zalloc(run->n_list, sizeof *patterns);
    if (!patterns)
        return -ENOMEM;
    for (size_t i = 0; i < run->n_list; i++)
        patterns[i] = run->list[i]->pattern;
    run->n_cells = run->n_matched = run->n_paths = 0;
    int err = cells_each(patterns, run->n_list, subject, add_cell, run);
    free(patterns);
    run->incomplete = err == -E2BIG;
    if (run->failed || (err < 0 && err != -E2BIG))
        return -ENOMEM;
    return keep_list(run);
}

/* ---- what a cell allows ---- */

/* Bit r of *gained (or lost): the set of rights r is. */
static void compare_cell(struct diff *diff, const struct diff_cell *cell, struct candidate *who,
                         uint64_t *gained, uint64_t *lost)
{
    uint64_t allowed[SIDES] = { 0 };
    unsigned denied[SIDES] = { 0 };
    size_t needed[SIDES];
    for (int side = 0; side < SIDES; side++)
        needed[side] =
            pattern_needed_literal(&diff->sides[side]->ast, diff->run.paths + cell->path, cell->len);
    for (uint32_t i = 0; i < cell->n; i++) {
        const struct diff_entry *e = diff->run.last[diff->run.matched[cell->first + i]];
        if (!e->rule || !candidate_matches(diff, who, slot_of_rule(e->rule)))
            continue;
        unsigned rights = rights_widen(e->rule->rule->rule.rights);
        if (e->rule->rule->rule.deny)
            denied[e->rule->side] |= rights;
        else if (e->pattern->literal_len >= needed[e->rule->side])
            allowed[e->rule->side] |= diff->subsets[rights];
    }
    for (int side = 0; side < SIDES; side++)
        allowed[side] &= diff->subsets[RIGHT_ALL & ~denied[side]] & ~(uint64_t)1;
    *gained = allowed[SIDE_NEW] & ~allowed[SIDE_OLD];
    *lost = allowed[SIDE_OLD] & ~allowed[SIDE_NEW];
}

/* Those of the changed rule's doing. */
static uint64_t changes_of(struct diff *diff, const struct diff_cell *cell, const struct diff_rule *rule,
                           struct candidate *who)
{
    uint64_t gained, lost;
    compare_cell(diff, cell, who, &gained, &lost);
    return (diff_gives(rule) ? gained : lost) & diff->subsets[rights_widen(rule->rule->rule.rights)];
}

static int keep_witness(struct tally_rights *rights, const char *path, size_t len)
{
    if (rights->witness)
        return 0;
    rights->witness = mem_zalloc(4 * len + 1, 1);
    if (!rights->witness)
        return -ENOMEM;
    escape_text(rights->witness, 4 * len + 1, path, len);
    return 0;
}

/* Only sets of rights that change though none of their parts does. */
static int tally_cell(struct tally *tally, struct diff *diff, const struct diff_cell *cell, uint64_t changes,
                      uint64_t told)
{
    int err = 0;
    tally->n_cells++;
    for (unsigned r = 1; err == 0 && r <= RIGHT_ALL; r++) {
        uint64_t parts = changes & diff->subsets[r];
        if (parts != (uint64_t)1 << r)
            continue;
        struct tally_rights *rights = &tally->rights[r];
        rights->count++;
        rights->which = (rights->which ^ tally->n_cells) * 1099511628211u + 1;
        if (!(told >> r & 1))
            err = keep_witness(rights, diff->run.paths + cell->path, cell->len);
    }
    return err;
}

static int tally_run(struct tally *tally, struct diff *diff, const struct diff_rule *rule,
                     struct candidate *who, struct candidate *base)
{
    int err = run_cells(diff, &who->subject);
    for (size_t i = 0; err == 0 && i < diff->run.n_cells; i++) {
        const struct diff_cell *cell = &diff->run.cells[i];
        uint64_t changes = changes_of(diff, cell, rule, who);
        uint64_t told = base && changes ? changes_of(diff, cell, rule, base) : 0;
        err = tally_cell(tally, diff, cell, changes, told);
    }
    tally->incomplete |= diff->run.incomplete;
    return err;
}

int tally_pattern(struct tally *tally, struct diff *diff, const struct diff_rule *rule,
                  const struct pattern *pattern, struct candidate *who, struct candidate *base)
{
    diff_find_relevant(diff, rule, pattern);
    int err = make_list(diff, who, base);
    bool personal = diff->run.personal;
    tally->personal |= personal;
    if (err == 0)
        err = tally_run(tally, diff, rule, who, base);
    if (err < 0 || !personal || who->subject.user != &who->stand_in)
        return err;
    who->stand_in.home = "/%h"; /* a home that is not beneath /home */
    err = make_list(diff, who, base);
    if (err == 0)
        err = tally_run(tally, diff, rule, who, base);
    who->stand_in.home = "/home/%u";
    return err;
}

void tally_deinit(struct tally *tally)
{
    for (unsigned r = 0; r <= RIGHT_ALL; r++)
        free(tally->rights[r].witness);
    *tally = (struct tally){ .n_cells = 0 };
}
