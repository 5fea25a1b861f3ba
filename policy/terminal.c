/*
 * The rules that end at one place of the trie, made findable by who asks.
 */
#include <errno.h>
#include <string.h>

#include "../common/util.h"
#include "compiled.h"

enum { FEW = 8 }; /* so many are tried one after the other */

struct build {
    struct compiled *c;
    uint32_t *rules; /* of the terminal at hand, ascending */
    size_t n, cap;
    size_t cap_members;
};

static const struct ast *sorting; /* qsort(3) has no argument for its comparison */

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int compare_subjects(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    const struct subjects *s = sorting->rules[x].subjects, *t = sorting->rules[y].subjects;
    if (s != t)
        return s < t ? -1 : 1;
    return x < y ? -1 : x > y;
}

static int compare_keys(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->rule < y->rule ? -1 : x->rule > y->rule;
}

/* Can `earlier` take every decision that `later` could, of the same subjects at the same place? */
static bool covers(const struct policy_rule *earlier, const struct policy_rule *later)
{
    unsigned has = rights_widen(earlier->rights), wants = rights_widen(later->rights);
    return earlier->deny == later->deny && earlier->until == 0 && (has & wants) == wants;
}

/*
 * Rules that can never be the first: the same subjects have an earlier one here with all their rights. With
 * them gone, what is left of one subject is no more than there are sets of rights, and dates.
 */
static void drop_covered(struct build *b)
{
    const struct ast *ast = b->c->ast;
    size_t kept = 0, group = 0;
    sorting = ast;
    qsort(b->rules, b->n, sizeof *b->rules, compare_subjects);
    for (size_t i = 0; i < b->n; i++) {
        const struct ast_rule *rule = &ast->rules[b->rules[i]];
        if (kept && ast->rules[b->rules[kept - 1]].subjects != rule->subjects)
            group = kept;
        bool covered = false;
        for (size_t j = group; j < kept && !covered; j++)
            covered = ast->rules[b->rules[j]].subjects == rule->subjects &&
                      covers(&ast->rules[b->rules[j]].rule, &rule->rule);
        if (!covered)
            b->rules[kept++] = b->rules[i];
    }
    b->n = kept;
    qsort(b->rules, b->n, sizeof *b->rules, compare_numbers);
}

static const struct term *key_of(const struct conj *conj)
{
    const struct term *group = NULL;
    for (size_t i = 0; i < conj->n_terms; i++) {
        if (conj->terms[i].kind == TERM_USER)
            return &conj->terms[i];
        if (conj->terms[i].kind == TERM_GROUP && !group)
            group = &conj->terms[i];
    }
    return group;
}

static int add_key(struct compiled *c, uint32_t id, uint32_t rule)
{
    int err = mem_grow(&c->keys, c->n_keys, &c->cap_keys, sizeof *c->keys);
    if (err == 0)
        c->keys[c->n_keys++] = (struct key){ id, rule };
    return err;
}

static int add_keys(struct build *b, uint8_t kind, uint32_t *first, uint32_t *n)
{
    struct compiled *c = b->c;
    *first = (uint32_t)c->n_keys;
    for (size_t i = 0; i < b->n; i++) {
        const struct subjects *subjects = c->ast->rules[b->rules[i]].subjects;
        for (size_t j = 0; j < subjects->n_conjs; j++) {
            const struct term *key = key_of(&subjects->conjs[j]);
            int err = key && key->kind == kind ? add_key(c, key->id, b->rules[i]) : 0;
            if (err < 0)
                return err;
        }
    }
    *n = (uint32_t)(c->n_keys - *first);
    if (*n)
        qsort(c->keys + *first, *n, sizeof *c->keys, compare_keys);
    return 0;
}

static bool has_unkeyed(const struct subjects *subjects)
{
    for (size_t j = 0; j < subjects->n_conjs; j++)
        if (!key_of(&subjects->conjs[j]))
            return true;
    return false;
}

static int add_member(struct build *b, uint32_t rule)
{
    struct compiled *c = b->c;
    int err = mem_grow(&c->members, c->n_members, &b->cap_members, sizeof *c->members);
    if (err == 0)
        c->members[c->n_members++] = rule;
    return err;
}

static int build_terminal(struct build *b, struct terminal *t)
{
    const struct ast *ast = b->c->ast;
    int err = 0;
    if (b->n > FEW)
        drop_covered(b);
    bool keyed = b->n > FEW;
    t->first = (uint32_t)b->c->n_members;
    for (size_t i = 0; err == 0 && i < b->n; i++)
        if (!keyed || has_unkeyed(ast->rules[b->rules[i]].subjects))
            err = add_member(b, b->rules[i]);
    t->n = (uint32_t)b->c->n_members - t->first;
    if (err == 0 && keyed)
        err = add_keys(b, TERM_USER, &t->uid_first, &t->n_uids);
    if (err == 0 && keyed)
        err = add_keys(b, TERM_GROUP, &t->gid_first, &t->n_gids);
    return err;
}

int terminals_build(struct compiled *compiled, const struct collected *collected, const uint32_t *heads)
{
    struct build b = { .c = compiled };
    int err = 0;

    for (size_t i = 0; err == 0 && i < compiled->n_terminals; i++) {
        b.n = 0;
        for (uint32_t at = heads[i]; err == 0 && at; at = collected[at - 1].next) {
            err = mem_grow(&b.rules, b.n, &b.cap, sizeof *b.rules);
            if (err == 0)
                b.rules[b.n++] = collected[at - 1].rule;
        }
        if (err == 0)
            err = build_terminal(&b, &compiled->terminals[i]);
    }
    free(b.rules);
    return err;
}
