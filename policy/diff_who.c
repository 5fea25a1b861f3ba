/*
 * Hypothetical subjects: who_new()'s, with an executable and a cgroup that the terms' patterns match, and
 * beyond that with what no rule means.
 */
#include <errno.h>
#include <string.h>

#include "../common/util.h"
#include "diff.h"

/* ---- a path that some patterns match, and as few others as can be ---- */

struct required {
    size_t from, to; /* patterns of one term: one of them must match */
};

struct pick {
    const struct pattern **list; /* of the first term one, of the other terms, then all others */
    size_t n, cap;
    struct required *required;
    size_t n_required, cap_required, others;
    char *best;
    size_t best_others;
    bool failed;
};

static bool has_bit(const uint64_t *bits, size_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

static bool consider(const uint64_t *matched, const char *path, size_t len, void *data)
{
    struct pick *pick = data;
    size_t others = 0;
    for (size_t i = 0; i < pick->n_required; i++) {
        bool any = false;
        for (size_t p = pick->required[i].from; p < pick->required[i].to; p++)
            any |= has_bit(matched, p);
        if (!any)
            return true;
    }
    for (size_t i = pick->others; i < pick->n; i++)
        others += has_bit(matched, i);
    if (pick->best && others >= pick->best_others)
        return true;
    free(pick->best);
    pick->best = strndup(path, len);
    pick->best_others = others;
    pick->failed |= !pick->best;
    return !pick->failed && others > 0;
}

static void pick_add(struct pick *pick, const struct pattern *pattern)
{
    pick->failed |= mem_grow(&pick->list, pick->n, &pick->cap, sizeof *pick->list) < 0;
    if (!pick->failed)
        pick->list[pick->n++] = pattern;
}

static void pick_require(struct pick *pick, const struct term *term)
{
    pick->failed |=
        mem_grow(&pick->required, pick->n_required, &pick->cap_required, sizeof *pick->required) < 0;
    size_t from = pick->n;
    for (uint32_t i = 0; i < term->id; i++)
        pick_add(pick, &term->patterns[i]);
    if (!pick->failed)
        pick->required[pick->n_required++] = (struct required){ from, pick->n };
}

/* The path for terms of one kind; NULL: there is none. */
static char *pick_path(const struct diff_patterns *others, const struct policy_subject *subject,
                       const struct term *terms, size_t n, uint8_t kind, bool *out_of_memory)
{
    static const struct component beneath = { .kind = COMPONENT_ANY_DEPTH };
    static const struct pattern anything = { .components = &beneath, .n_components = 1 };
    const struct term *first = NULL;
    struct pick pick = { .n = 0 };
    pick_add(&pick, &anything);
    for (size_t i = 0; i < n; i++)
        if (terms[i].kind == kind && !first)
            first = &terms[i];
        else if (terms[i].kind == kind)
            pick_require(&pick, &terms[i]);
    pick.others = pick.n;
    for (size_t i = 0; i < others->n; i++)
        pick_add(&pick, others->all[i]);
    for (uint32_t i = 0; !pick.failed && i < (first ? first->id : 1); i++) {
        pick.list[0] = first ? &first->patterns[i] : &anything;
        pick.failed |= cells_each(pick.list, pick.n, subject, consider, &pick) == -ENOMEM;
    }
    *out_of_memory |= pick.failed;
    free(pick.list);
    free(pick.required);
    return pick.best;
}

/* ---- candidates ---- */

static bool has_kind(const struct term *terms, size_t n, uint8_t kind)
{
    for (size_t i = 0; i < n; i++)
        if (terms[i].kind == kind)
            return true;
    return false;
}

/* Somebody has a home directory, and %u a value, though no rule says whose. */
static void stand_in(struct candidate *c)
{
    c->stand_in = (struct policy_user){
        .uid = c->subject.uid, .gid = c->subject.gid, .name = "%u", .home = "/home/%u"
    };
    c->subject.user = &c->stand_in;
}

static int narrow(struct candidate *c, const struct diff *diff, const struct term *terms, size_t n)
{
    bool out_of_memory = false;
    c->exe = pick_path(&diff->exes, &c->subject, terms, n, TERM_EXE, &out_of_memory);
    c->cgroup = pick_path(&diff->cgroups, &c->subject, terms, n, TERM_CGROUP, &out_of_memory);
    c->subject.exe = c->exe;
    c->subject.cgroup = c->cgroup;
    if (!c->subject.unit)
        c->subject.unit = "-";
    if (!c->subject.label)
        c->subject.label = "-";
    return out_of_memory ? -ENOMEM : 0;
}

bool candidate_is(const struct candidate *candidate, const struct term *terms, size_t n, bool deny)
{
    const struct conj conj = { terms, n };
    const struct subjects subjects = { &conj, 1 };
    return subjects_match(&subjects, &candidate->subject, deny);
}

int candidate_init(struct candidate *c, struct diff *diff, const struct term *terms, size_t n)
{
    const struct conj conj = { terms, n };
    *c = (struct candidate){ .who = who_new(diff->sides[SIDE_NEW], &conj) };
    if (!c->who)
        return -ENOMEM;
    c->subject = *policy_who_subject(c->who);
    c->verdicts = mem_zalloc(2 * diff->n_subjects + 1, 1);
    if (!has_kind(terms, n, TERM_USER))
        stand_in(c);
    int err = c->verdicts ? narrow(c, diff, terms, n) : -ENOMEM;
    if (err < 0 || !candidate_is(c, terms, n, false)) {
        candidate_deinit(c);
        return err;
    }
    return 0;
}

void candidate_deinit(struct candidate *c)
{
    policy_who_free(c->who);
    free(c->exe);
    free(c->cgroup);
    free(c->verdicts);
    *c = (struct candidate){ .who = NULL };
}

bool candidate_matches(const struct diff *diff, struct candidate *c, uint32_t slot)
{
    uint8_t *verdict = &c->verdicts[slot];
    if (*verdict == 0)
        *verdict = 1 + subjects_match(diff->subjects[slot / 2], &c->subject, slot % 2);
    return *verdict == 2;
}

/* ---- as text ---- */

static bool is_same(const struct term *a, const struct term *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind == TERM_UNIT || a->kind == TERM_LABEL)
        return strcmp(a->text, b->text) == 0;
    if (a->kind == TERM_EXE || a->kind == TERM_CGROUP)
        return a->patterns[0].text_len == b->patterns[0].text_len &&
               memcmp(a->patterns[0].text, b->patterns[0].text, a->patterns[0].text_len) == 0;
    return a->kind == TERM_SET ? a->set == b->set : a->id == b->id;
}

static bool stands_before(const struct term *terms, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (is_same(&terms[j], &terms[i]))
            return true;
    return false;
}

int put_who(FILE *out, const struct term *terms, size_t n)
{
    static const uint8_t order[] = { TERM_SET,  TERM_USER,   TERM_GROUP, TERM_EXE,
                                     TERM_UNIT, TERM_CGROUP, TERM_LABEL };
    char *text = NULL;
    size_t len = 0;
    FILE *memory = open_memstream(&text, &len);
    const char *plus = "";
    if (!memory)
        return -ENOMEM;
    for (size_t k = 0; k < ARRAY_SIZE(order); k++)
        for (size_t i = 0; i < n; i++)
            if (terms[i].kind == order[k] && !stands_before(terms, i)) {
                fputs(plus, memory);
                term_print(memory, &terms[i]);
                plus = "+";
            }
    fputs(*plus ? "" : "any", memory);
    int err = fclose(memory) == 0 ? 0 : -ENOMEM;
    if (err == 0)
        quote_word(out, text, len);
    free(text);
    return err;
}
