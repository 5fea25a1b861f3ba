/*
 * Which rules do both policies have? Each rule is made a key: what it says, without the order in which it
 * says it. Options are no part of it.
 */
#include <errno.h>
#include <string.h>

#include "../common/util.h"
#include "diff.h"

struct buffer {
    char *bytes;
    size_t n, cap;
    bool failed;
};

static void put(struct buffer *b, const void *bytes, size_t n)
{
    while (!b->failed && b->cap - b->n < n)
        b->failed = mem_grow(&b->bytes, b->cap, &b->cap, 1) < 0;
    if (!b->failed && n && b->bytes)
        memcpy(b->bytes + b->n, bytes, n);
    b->n += b->failed ? 0 : n;
}

static void put_number(struct buffer *b, uint64_t number)
{
    put(b, &number, sizeof number);
}

/* ---- a set of pieces: sorted, each once ---- */

struct piece {
    size_t first, len;
};

struct pieces {
    struct buffer text;
    struct piece *all;
    size_t n, cap;
};

/* What has been put since the last one is a piece. */
static void end_piece(struct pieces *p)
{
    const struct piece *last = p->n ? &p->all[p->n - 1] : NULL;
    size_t first = last ? last->first + last->len : 0;
    p->text.failed |= mem_grow(&p->all, p->n, &p->cap, sizeof *p->all) < 0;
    if (!p->text.failed)
        p->all[p->n++] = (struct piece){ first, p->text.n - first };
}

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t len = a_len < b_len ? a_len : b_len;
    int order = len ? memcmp(a, b, len) : 0;
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_pieces(const void *a, const void *b, void *text)
{
    const struct piece *x = a, *y = b;
    return compare_bytes((const char *)text + x->first, x->len, (const char *)text + y->first, y->len);
}

/* Into `out`, each with its length; and makes p empty again. */
static void put_pieces(struct buffer *out, struct pieces *p)
{
    const struct piece *last = NULL;
    if (p->n)
        qsort_r(p->all, p->n, sizeof *p->all, compare_pieces, p->text.bytes);
    for (size_t i = 0; i < p->n; i++) {
        if (last && compare_pieces(last, &p->all[i], p->text.bytes) == 0)
            continue;
        last = &p->all[i];
        put_number(out, last->len);
        put(out, p->text.bytes + last->first, last->len);
    }
    put_number(out, UINT64_MAX);
    out->failed |= p->text.failed;
    free(p->text.bytes);
    free(p->all);
    *p = (struct pieces){ .n = 0 };
}

/* ---- subjects ---- */

static void put_patterns(struct buffer *out, const struct pattern *patterns, size_t n)
{
    struct pieces words = { .n = 0 };
    for (size_t i = 0; i < n; i++) {
        if (i && patterns[i].text == patterns[i - 1].text)
            continue; /* {a,b} is one word */
        put(&words.text, patterns[i].text, patterns[i].text_len);
        end_piece(&words);
    }
    put_pieces(out, &words);
}

static void put_term(struct buffer *out, const struct term *term)
{
    put(out, &term->kind, sizeof term->kind);
    if (term->kind == TERM_USER || term->kind == TERM_GROUP)
        put_number(out, term->id);
    else if (term->kind == TERM_EXE || term->kind == TERM_CGROUP)
        put_patterns(out, term->patterns, term->id);
    else if (term->kind == TERM_UNIT || term->kind == TERM_LABEL)
        put(out, term->text, strlen(term->text));
    else if (term->kind == TERM_SET) {
        const struct subject_set *set = term->set;
        struct pieces terms = { .n = 0 };
        put_number(out, set->n_uids);
        put(out, set->uids, set->n_uids * sizeof *set->uids);
        put_number(out, set->n_gids);
        put(out, set->gids, set->n_gids * sizeof *set->gids);
        for (size_t i = 0; i < set->n_terms; i++) {
            put_term(&terms.text, &set->terms[i]);
            end_piece(&terms);
        }
        put_pieces(out, &terms);
    }
}

static void put_conj(struct buffer *out, const struct conj *conj)
{
    struct pieces terms = { .n = 0 };
    for (size_t i = 0; i < conj->n_terms; i++) {
        put_term(&terms.text, &conj->terms[i]);
        end_piece(&terms);
    }
    put_pieces(out, &terms);
}

static void put_subjects(struct buffer *out, const struct subjects *subjects)
{
    struct pieces conjs = { .n = 0 };
    for (size_t i = 0; i < subjects->n_conjs; i++) {
        put_conj(&conjs.text, &subjects->conjs[i]);
        end_piece(&conjs);
    }
    put_pieces(out, &conjs);
}

/* ---- distinct subjects: words of the same text share theirs, within one policy ---- */

static int compare_pointers(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct diff_rule *)a)->rule->subjects;
    uintptr_t y = (uintptr_t)((const struct diff_rule *)b)->rule->subjects;
    return (x > y) - (x < y);
}

struct distinct {
    struct piece key;
    const struct subjects *subjects;
    size_t first_rule;
};

static int compare_distinct(const void *a, const void *b, void *text)
{
    return compare_pieces(&((const struct distinct *)a)->key, &((const struct distinct *)b)->key, text);
}

static int number_subjects(struct diff *diff, struct distinct *all, size_t n, char *text)
{
    diff->subjects = mem_zalloc(n + 1, sizeof *diff->subjects);
    if (!diff->subjects)
        return -ENOMEM;
    qsort_r(all, n, sizeof *all, compare_distinct, text);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || compare_distinct(&all[i - 1], &all[i], text) != 0)
            diff->subjects[diff->n_subjects++] = all[i].subjects;
        for (size_t r = all[i].first_rule;
             r < diff->n_rules && diff->rules[r].rule->subjects == all[i].subjects; r++)
            diff->rules[r].subjects = (uint32_t)diff->n_subjects - 1;
    }
    return 0;
}

static int find_subjects(struct diff *diff)
{
    struct buffer keys = { .n = 0 };
    struct distinct *all = mem_zalloc(diff->n_rules + 1, sizeof *all);
    size_t n = 0;
    if (!all)
        return -ENOMEM;
    qsort(diff->rules, diff->n_rules, sizeof *diff->rules, compare_pointers);
    for (size_t i = 0; i < diff->n_rules; i++) {
        const struct subjects *subjects = diff->rules[i].rule->subjects;
        if (i && diff->rules[i - 1].rule->subjects == subjects)
            continue;
        size_t first = keys.n;
        put_subjects(&keys, subjects);
        all[n++] = (struct distinct){ { first, keys.n - first }, subjects, i };
    }
    int err = keys.failed ? -ENOMEM : 0;
    if (err == 0 && n)
        err = number_subjects(diff, all, n, keys.bytes);
    free(all);
    free(keys.bytes);
    return err;
}

/* ---- rules ---- */

static int compare_keys(const void *a, const void *b, void *keys)
{
    const struct diff_rule *x = a, *y = b;
    return compare_bytes((const char *)keys + x->key, x->key_len, (const char *)keys + y->key, y->key_len);
}

/* Old before new, then as they were written. */
static int compare_rules(const void *a, const void *b, void *keys)
{
    const struct diff_rule *x = a, *y = b;
    int order = compare_keys(a, b, keys);
    if (order == 0)
        order = x->side - y->side;
    return order ? order : (x->rule->rule.number > y->rule->rule.number) * 2 - 1;
}

/* From i on: rules that are alike. Where they end. */
static size_t mark_alike(struct diff *diff, size_t i)
{
    struct diff_rule *first = &diff->rules[i], *last = first;
    size_t end = i + 1;
    while (end < diff->n_rules && compare_keys(first, &diff->rules[end], diff->keys) == 0)
        last = &diff->rules[end++];
    bool both = first->side != last->side;
    for (size_t r = i; r < end; r++) {
        diff->rules[r].changed = !both;
        if (both && !first->twin && diff->rules[r].side == SIDE_NEW)
            first->twin = &diff->rules[r];
    }
    return end;
}

static int match_whole_rules(struct diff *diff)
{
    struct buffer keys = { .n = 0 };
    for (size_t i = 0; i < diff->n_rules; i++) {
        struct diff_rule *r = &diff->rules[i];
        r->key = keys.n;
        put_number(&keys, r->rule->rule.deny);
        put_number(&keys, rights_widen(r->rule->rule.rights));
        put_number(&keys, r->subjects);
        put_patterns(&keys, r->rule->patterns, r->rule->n_patterns);
        r->key_len = keys.n - r->key;
    }
    diff->keys = keys.bytes;
    if (keys.failed || diff->n_rules == 0)
        return keys.failed ? -ENOMEM : 0;
    qsort_r(diff->rules, diff->n_rules, sizeof *diff->rules, compare_rules, diff->keys);
    for (size_t i = 0; i < diff->n_rules;)
        i = mark_alike(diff, i);
    return 0;
}

/* ---- parts of changed rules: one conjunction, one word each ---- */

enum { PARTS_MAX = 100000 }; /* of one rule */

struct part {
    struct piece key;
    struct diff_rule *rule;
    size_t index; /* into rule->same */
};

struct parts {
    struct buffer keys;
    struct part *all;
    size_t n, cap;
};

static void add_part(struct parts *parts, struct diff_rule *rule, size_t conj, uint32_t word)
{
    const struct ast_rule *ast = rule->rule;
    size_t first = parts->keys.n;
    put_number(&parts->keys, ast->rule.deny);
    put_number(&parts->keys, rights_widen(ast->rule.rights));
    put_conj(&parts->keys, &ast->subjects->conjs[conj]);
    put(&parts->keys, ast->patterns[word].text, ast->patterns[word].text_len);
    parts->keys.failed |= mem_grow(&parts->all, parts->n, &parts->cap, sizeof *parts->all) < 0;
    if (!parts->keys.failed)
        parts->all[parts->n++] =
            (struct part){ { first, parts->keys.n - first }, rule, conj * ast->n_patterns + word };
}

static int add_parts(struct diff *diff, struct parts *parts, struct diff_rule *rule)
{
    const struct ast_rule *ast = rule->rule;
    if (!rule->changed || !ast->n_patterns || ast->subjects->n_conjs > PARTS_MAX / ast->n_patterns)
        return 0;
    rule->same = arena_alloc(&diff->arena, ast->subjects->n_conjs * ast->n_patterns, sizeof *rule->same);
    if (!rule->same)
        return -ENOMEM;
    for (size_t conj = 0; conj < ast->subjects->n_conjs; conj++)
        for (uint32_t word = 0; word < ast->n_patterns; word++)
            if (word == 0 || ast->patterns[word].text != ast->patterns[word - 1].text)
                add_part(parts, rule, conj, word);
    return parts->keys.failed ? -ENOMEM : 0;
}

static int compare_parts(const void *a, const void *b, void *keys)
{
    return compare_pieces(&((const struct part *)a)->key, &((const struct part *)b)->key, keys);
}

static void mark_same_parts(struct parts *parts)
{
    if (parts->n)
        qsort_r(parts->all, parts->n, sizeof *parts->all, compare_parts, parts->keys.bytes);
    for (size_t i = 0, end; i < parts->n; i = end) {
        bool sides[SIDES] = { false };
        for (end = i;
             end < parts->n && compare_parts(&parts->all[i], &parts->all[end], parts->keys.bytes) == 0; end++)
            sides[parts->all[end].rule->side] = true;
        for (size_t at = i; at < end; at++)
            parts->all[at].rule->same[parts->all[at].index] = sides[SIDE_OLD] && sides[SIDE_NEW];
    }
}

int diff_match_rules(struct diff *diff)
{
    struct parts parts = { .n = 0 };
    int err = find_subjects(diff);
    if (err == 0)
        err = match_whole_rules(diff);
    for (size_t i = 0; err == 0 && i < diff->n_rules; i++)
        err = add_parts(diff, &parts, &diff->rules[i]);
    if (err == 0)
        mark_same_parts(&parts);
    free(parts.all);
    free(parts.keys.bytes);
    return err;
}
