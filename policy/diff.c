/*
 * What one policy allows that another does not.
 *
 * Whoever gains does so by an allow rule that came or by a deny rule that went. By an allow: then whoever is
 * just what it asks for gains too. By a deny: then somebody who is just what the deny and an allow of the new
 * policy ask for. So it is enough to look at those (and the same, backwards, for who loses).
 */
#include <errno.h>
#include <string.h>

#include "../common/util.h"
#include "diff.h"

enum { WAYS_MAX = 10000 }; /* subjects tried for one changed rule */

#define NOT_TO_THE_END "  (not compared to the end: too many %s)"

enum job_kind {
    JOB_ALONE,   /* `first`: of the changed rule */
    JOB_COVERED, /* `second`: of an allow, by itself a subject of the changed deny */
    JOB_BOTH,    /* both at once */
};

/* A changed rule, and conjunctions that stand for subjects. */
struct job {
    struct diff *diff;
    struct diff_lines *lines;
    const struct diff_rule *rule;
    const struct conj *first, *second;
    enum job_kind kind;
    struct term *terms, *way; /* way: one member of each; one more fits */
    size_t n, n_first, tried;
    const bool *same; /* of the rule's, those of this conjunction; or NULL */
    struct diff_items items;
    bool left_out; /* some way is nobody, or told elsewhere */
};

/* ---- one subject ---- */

static int add_line(struct job *job, const struct diff_item *item, const struct term *terms, size_t n)
{
    char *part = NULL, *tail = NULL;
    if (item->in_part && asprintf(&part, "  (in part: %s)", item->witness) < 0)
        return -ENOMEM;
    int len = item->incomplete
                  ? asprintf(&tail, "%s" NOT_TO_THE_END, part ? part : "", "overlapping patterns")
                  : asprintf(&tail, "%s", part ? part : "");
    free(part);
    if (len < 0)
        return -ENOMEM;
    int err = lines_add(job->lines, item->sign, terms, n, item->pattern, item->rights, tail);
    free(tail);
    return err;
}

/* The patterns that one word stands for. */
static uint32_t word_end(const struct ast_rule *rule, uint32_t from)
{
    uint32_t end = from + 1;
    while (end < rule->n_patterns && rule->patterns[end].text == rule->patterns[from].text)
        end++;
    return end;
}

static int tally_word(struct job *job, struct tally *tally, uint32_t word, struct candidate *who,
                      struct candidate *base)
{
    const struct ast_rule *rule = job->rule->rule;
    int err = 0;
    for (uint32_t p = word; err == 0 && p < word_end(rule, word); p++)
        err = tally_pattern(tally, job->diff, job->rule, &rule->patterns[p], who, base);
    return err;
}

/* 0: nothing of it; 1: in part; 2: all. */
static int extent(const struct tally *tally, unsigned rights)
{
    uint32_t count = tally->rights[rights].count;
    return count == 0 ? 0 : 1 + (count == tally->n_cells);
}

/* What changes more for this user than for whoever is like the way but no user in particular. */
static int try_user(struct job *job, uint32_t word, const struct term *terms, size_t n, struct tally *usual)
{
    struct candidate who;
    struct tally tally = { .n_cells = 0 };
    size_t before = job->items.n;
    int err = candidate_init(&who, job->diff, terms, n);
    if (err < 0 || !who.who)
        return err;
    err = tally_word(job, &tally, word, &who, NULL);
    for (unsigned r = 1; r <= RIGHT_ALL; r++)
        if (extent(&tally, r) <= extent(usual, r)) {
            free(tally.rights[r].witness);
            tally.rights[r].witness = NULL;
        }
    tally.incomplete = false; /* said already */
    if (err == 0)
        err = items_add(&job->items, job->rule, &job->rule->rule->patterns[word], 0, &tally);
    for (size_t i = before; err == 0 && i < job->items.n; i++)
        err = add_line(job, &job->items.all[i], terms, n);
    items_clear(&job->items, before);
    tally_deinit(&tally);
    candidate_deinit(&who);
    return err;
}

static int try_users(struct job *job, uint32_t word, size_t n, struct tally *usual)
{
    uint32_t *users;
    size_t n_users;
    int err = users_to_try(&users, &n_users, job->diff);
    if (err < 0)
        return err;
    for (size_t i = 0; err == 0 && i < n_users; i++) {
        job->way[n] = (struct term){ .kind = TERM_USER, .id = users[i] };
        err = try_user(job, word, job->way, n + 1, usual);
    }
    free(users);
    return err;
}

static int try_words(struct job *job, size_t way, struct candidate *who, struct candidate *base)
{
    const struct ast_rule *rule = job->rule->rule;
    int err = 0;
    for (uint32_t word = 0; err == 0 && word < rule->n_patterns; word = word_end(rule, word)) {
        struct tally tally = { .n_cells = 0 };
        if (job->same && job->same[word])
            continue;
        err = tally_word(job, &tally, word, who, base);
        if (err == 0)
            err = items_add(&job->items, job->rule, &rule->patterns[word], way, &tally);
        if (err == 0 && tally.personal && who->subject.user == &who->stand_in)
            err = try_users(job, word, job->n, &tally);
        tally_deinit(&tally);
    }
    return err;
}

static bool has_sets(const struct term *terms, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (terms[i].kind == TERM_SET)
            return true;
    return false;
}

/* Is `second` by itself a subject of the deny, or `first` one of the allow? Then it is told by itself. */
static int is_told_alone(struct job *job, const struct candidate *base, bool *told)
{
    struct candidate second;
    const struct term *rest = job->way + job->n_first;
    size_t n_rest = job->n - job->n_first;
    *told = base->who && candidate_is(base, rest, n_rest, false);
    if (*told)
        return 0;
    int err = candidate_init(&second, job->diff, rest, n_rest);
    if (err < 0)
        return err;
    *told = second.who && candidate_is(&second, job->way, job->n_first, true);
    candidate_deinit(&second);
    return 0;
}

/* Whose changes need not be told again. */
static int make_base(struct job *job, struct candidate *base)
{
    *base = (struct candidate){ .who = NULL };
    if (job->kind == JOB_BOTH)
        return candidate_init(base, job->diff, job->way, job->n_first);
    if (job->kind == JOB_COVERED && !has_sets(job->first->terms, job->first->n_terms))
        return candidate_init(base, job->diff, job->first->terms, job->first->n_terms);
    return 0;
}

static int try_subject(struct job *job, size_t way, struct candidate *who, struct candidate *base)
{
    bool told = false;
    int err = 0;
    if (job->kind == JOB_COVERED)
        told = !candidate_is(who, job->first->terms, job->first->n_terms, true);
    if (job->kind == JOB_BOTH)
        err = is_told_alone(job, base, &told);
    job->left_out |= told;
    return err < 0 || told ? err : try_words(job, way, who, base->who ? base : NULL);
}

/* ---- all that a conjunction stands for ---- */

static void choose_way(struct job *job, size_t way)
{
    for (size_t i = job->n; i-- > 0;) {
        size_t members = term_members(&job->terms[i]);
        job->way[i] = term_member(&job->terms[i], way % members);
        way /= members;
    }
}

static int try_way(struct job *job, size_t way)
{
    struct candidate who, base;
    choose_way(job, way);
    int err = candidate_init(&who, job->diff, job->way, job->n);
    if (err < 0 || !who.who) {
        job->left_out = true;
        return err;
    }
    err = make_base(job, &base);
    if (err == 0)
        err = try_subject(job, way, &who, &base);
    candidate_deinit(&who);
    candidate_deinit(&base);
    return err;
}

/* A set that is all of one kind is told by its name. */
static int tell_items(struct job *job, size_t ways)
{
    int err = 0;
    items_sort(&job->items);
    for (size_t i = 0, end; err == 0 && i < job->items.n; i = end) {
        for (end = i + 1; end < job->items.n && items_compare(&job->items.all[i], &job->items.all[end]) == 0;)
            end++;
        if (end - i == ways && !job->left_out) {
            err = add_line(job, &job->items.all[i], job->terms, job->n);
            continue;
        }
        for (size_t at = i; err == 0 && at < end; at++) {
            choose_way(job, job->items.all[at].way);
            err = add_line(job, &job->items.all[at], job->way, job->n);
        }
    }
    return err;
}

static int give_up(struct job *job)
{
    char tail[128], text[POLICY_RIGHTS_TEXT];
    const struct ast_rule *rule = job->rule->rule;
    int err = 0;
    snprintf(tail, sizeof tail, NOT_TO_THE_END, "subjects");
    for (uint32_t word = 0; err == 0 && word < rule->n_patterns; word = word_end(rule, word))
        err = lines_add(job->lines, '?', job->terms, job->n, &rule->patterns[word],
                        policy_rights_text(text, rule->rule.rights), tail);
    return err;
}

static int try_ways(struct job *job)
{
    size_t ways = 1;
    int err = 0;
    for (size_t i = 0; i < job->n && ways <= WAYS_MAX; i++)
        ways *= term_members(&job->terms[i]);
    if (ways + job->tried > WAYS_MAX)
        return give_up(job);
    job->tried += ways;
    job->left_out = false;
    for (size_t way = 0; err == 0 && way < ways; way++)
        err = try_way(job, way);
    if (err == 0)
        err = tell_items(job, ways);
    items_clear(&job->items, 0);
    return err;
}

static int run_job(struct job *job, enum job_kind kind, const struct conj *first, const struct conj *second)
{
    job->kind = kind;
    job->first = first;
    job->second = second;
    job->n_first = kind == JOB_COVERED ? 0 : first->n_terms;
    job->n = job->n_first + (second ? second->n_terms : 0);
    job->terms = mem_zalloc(job->n, sizeof *job->terms);
    job->way = mem_zalloc(job->n + 1, sizeof *job->way);
    int err = job->terms && job->way ? 0 : -ENOMEM;
    if (err == 0) {
        memcpy(job->terms, first->terms, job->n_first * sizeof *job->terms);
        if (second)
            memcpy(job->terms + job->n_first, second->terms, second->n_terms * sizeof *job->terms);
        err = try_ways(job);
    }
    free(job->terms);
    free(job->way);
    return err;
}

/* ---- one changed rule ---- */

/* Those whom allow rules, that the deny takes from, are for. */
static void mark_allowed(struct job *job, bool *marks)
{
    enum side side = diff_gives(job->rule) ? SIDE_NEW : SIDE_OLD;
    const struct ast_rule *rule = job->rule->rule;
    for (uint32_t p = 0; p < rule->n_patterns; p++) {
        diff_find_relevant(job->diff, job->rule, &rule->patterns[p]);
        for (size_t i = 0; i < job->diff->n_relevant; i++) {
            const struct diff_rule *r = job->diff->relevant[i]->rule;
            if (r && r->side == side && !r->rule->rule.deny)
                marks[r->subjects] = true;
        }
    }
}

static int run_with_allowed(struct job *job, const struct conj *first, const bool *marks)
{
    int err = 0;
    for (size_t i = 0; i < job->diff->n_subjects; i++) {
        const struct subjects *allowed = job->diff->subjects[i];
        for (size_t j = 0; marks[i] && err == 0 && j < allowed->n_conjs; j++) {
            err = run_job(job, JOB_COVERED, first, &allowed->conjs[j]);
            if (err == 0)
                err = run_job(job, JOB_BOTH, first, &allowed->conjs[j]);
        }
    }
    return err;
}

static int compare_rule(struct diff *diff, struct diff_lines *lines, const struct diff_rule *rule)
{
    struct job job = { .diff = diff, .lines = lines, .rule = rule };
    const struct subjects *subjects = rule->rule->subjects;
    bool *marks = mem_zalloc(diff->n_subjects + 1, sizeof *marks);
    int err = marks ? 0 : -ENOMEM;
    if (err == 0 && rule->rule->rule.deny)
        mark_allowed(&job, marks);
    for (size_t i = 0; err == 0 && i < subjects->n_conjs; i++) {
        job.same = rule->same ? rule->same + i * rule->rule->n_patterns : NULL;
        err = run_job(&job, JOB_ALONE, &subjects->conjs[i], NULL);
        if (err == 0 && rule->rule->rule.deny)
            err = run_with_allowed(&job, &subjects->conjs[i], marks);
    }
    items_clear(&job.items, 0);
    free(job.items.all);
    free(marks);
    return err;
}

/* ---- the whole ---- */

static void free_run(struct diff_run *run)
{
    free(run->list);
    free(run->last);
    free(run->cells);
    free(run->matched);
    free(run->paths);
}

int policy_diff(const struct policy *old, const struct policy *new, time_t now, FILE *out)
{
    struct diff diff = { .sides = { old, new } };
    struct diff_lines lines = { .n = 0 };
    int err = diff_index(&diff, now);
    for (size_t i = 0; err == 0 && i < diff.n_rules; i++)
        if (diff.rules[i].changed)
            err = compare_rule(&diff, &lines, &diff.rules[i]);
    if (err == 0)
        err = lines_write(&lines, &diff, out);
    lines_deinit(&lines);
    free_run(&diff.run);
    diff_index_free(&diff);
    return err;
}
