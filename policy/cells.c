/*
 * The ways in which paths match patterns: all patterns as one automaton over bytes, made deterministic as far
 * as patterns[0] can still match. Breadth first, so that the paths it finds are short ones.
 */
#include "cells.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../common/path.h"
#include "../common/util.h"

#define NONE UINT32_MAX
enum { POOL_MAX = 16 << 20 }; /* numbers */

/* A place in a pattern, and what gets a path on from there. */
enum place_kind { PLACE_BYTE, PLACE_CLASS, PLACE_NO_SLASH, PLACE_ANY, PLACE_END };
struct place {
    const struct token_class *class;
    uint32_t on;   /* where a byte that fits leads; PLACE_END: which pattern it is the end of */
    uint32_t free; /* where no byte leads, or NONE */
    uint8_t kind;  /* enum place_kind */
    uint8_t byte;
};

/* What the component at the end of the path is so far: a path must be clean. */
enum so_far { NO_PATH, EMPTY, DOT, DOTS, NAME };

struct state {
    size_t first; /* its places (or patterns) in the pool, sorted */
    uint32_t n;
    uint32_t parent; /* the state before `byte` */
    uint16_t len;    /* of the path */
    uint8_t so_far;  /* enum so_far */
    uint8_t byte;
};

/* Each list of numbers once. */
struct table {
    struct state *states;
    uint32_t *pool;
    uint32_t *slots; /* hash table of indices into states, or NONE */
    size_t n, cap, n_pool, cap_pool, n_slots;
};

struct cells {
    const struct policy_subject *subject;
    struct place *places;
    size_t n_places, cap_places;
    uint32_t *starts; /* each pattern's first place, or NONE */
    size_t n_patterns;
    uint32_t ends_first; /* the first place that is not of patterns[0] */
    uint8_t representatives[256];
    size_t n_representatives;
    struct table table; /* the states */
    struct table found; /* the sets of patterns told of */
    uint32_t *next;     /* places of the state being made */
    size_t n_next;
    uint32_t *marks; /* of each place: the round in which it got into `next` */
    uint32_t round;
    uint64_t *matched;
    cell_fn *fn;
    void *data;
    bool stopped;
};

/* ---- patterns to places ---- */

static int emit(struct cells *c, enum place_kind kind, uint8_t byte, const struct token_class *class)
{
    int err = c->n_places < NONE - 2 ? mem_grow(&c->places, c->n_places, &c->cap_places, sizeof *c->places)
                                     : -ENOMEM;
    if (err < 0)
        return err;
    uint32_t after = (uint32_t)c->n_places + 1;
    c->places[c->n_places++] = (struct place){ class, after, NONE, (uint8_t)kind, byte };
    return 0;
}

/* A place that its own bytes do not leave. */
static int emit_loop(struct cells *c, enum place_kind kind)
{
    int err = emit(c, kind, 0, NULL);
    if (err < 0)
        return err;
    struct place *place = &c->places[c->n_places - 1];
    place->free = place->on;
    place->on--;
    return 0;
}

static int emit_bytes(struct cells *c, const char *bytes, size_t len)
{
    int err = 0;
    for (size_t i = 0; err == 0 && i < len; i++)
        err = emit(c, PLACE_BYTE, (uint8_t)bytes[i], NULL);
    return err;
}

/* -ENOENT: the subject has no such value, the pattern matches nothing. */
static int emit_value(struct cells *c, enum token_kind kind)
{
    char number[16];
    const char *value = c->subject->user ? c->subject->user->name : "";
    if (kind == TOKEN_UID) {
        snprintf(number, sizeof number, "%u", (unsigned)c->subject->uid);
        value = number;
    }
    if (!*value || strchr(value, '/') || strcmp(value, ".") == 0 || strcmp(value, "..") == 0)
        return -ENOENT;
    return emit_bytes(c, value, strlen(value));
}

static int emit_token(struct cells *c, const struct component *component, const struct token *token)
{
    switch (token->kind) {
    case TOKEN_BYTE:
        return emit(c, PLACE_BYTE, token->byte, NULL);
    case TOKEN_ANY:
        return emit(c, PLACE_NO_SLASH, 0, NULL);
    case TOKEN_CLASS:
        return emit(c, PLACE_CLASS, 0, component_class(component, token));
    case TOKEN_STAR:
        return emit_loop(c, PLACE_NO_SLASH);
    default:
        return emit_value(c, token->kind);
    }
}

static int emit_home(struct cells *c)
{
    const char *home = c->subject->user ? c->subject->user->home : "";
    size_t len = strlen(home);
    return len < 2 || !path_is_clean(home, len) ? -ENOENT : emit_bytes(c, home, len);
}

/* In the middle it is two places: between components, which is its free end too, and within one. */
static int emit_depth(struct cells *c, bool last)
{
    int err = emit(c, PLACE_BYTE, '/', NULL);
    if (err == 0 && last)
        return emit_loop(c, PLACE_ANY);
    if (err < 0)
        return err;
    uint32_t between = (uint32_t)c->n_places - 1;
    c->places[between].free = between + 2;
    err = emit_loop(c, PLACE_NO_SLASH);
    if (err == 0)
        c->places[between + 1].free = between;
    return err;
}

static int emit_component(struct cells *c, const struct component *component, bool last)
{
    if (component->kind == COMPONENT_ANY_DEPTH)
        return emit_depth(c, last);
    if (component->kind == COMPONENT_HOME)
        return emit_home(c);
    int err = emit(c, PLACE_BYTE, '/', NULL);
    if (err == 0 && component->kind == COMPONENT_LITERAL)
        return emit_bytes(c, component->bytes, component->n);
    for (uint32_t i = 0; err == 0 && i < component->n; i++)
        err = emit_token(c, component, &component->tokens[i]);
    return err;
}

/* "/" matches no path that has components: it has no places. */
static int emit_pattern(struct cells *c, const struct pattern *pattern, uint32_t number)
{
    size_t first = c->n_places;
    int err = pattern->n_components ? 0 : -ENOENT;
    for (size_t i = 0; err == 0 && i < pattern->n_components; i++)
        err = emit_component(c, &pattern->components[i], i + 1 == pattern->n_components);
    if (err == 0)
        err = emit(c, PLACE_END, 0, NULL);
    if (err == 0)
        c->places[c->n_places - 1].on = number;
    else
        c->n_places = first;
    c->starts[number] = err == 0 ? (uint32_t)first : NONE;
    return err == -ENOENT ? 0 : err;
}

/* ---- bytes that no pattern tells apart ---- */

/* Kinds of bytes, the most readable first. */
static int readability(int b)
{
    if (b >= 'a' && b <= 'z')
        return 0;
    return b >= '0' && b <= '9' ? 1 : b > ' ' && b < 127 ? 2 : 3;
}

static void split(uint8_t group[256], unsigned *n_groups, const struct token_class *class)
{
    bool divided[256] = { false };
    uint8_t to[256] = { 0 };
    for (int b = 1; b < 256; b++)
        divided[group[b]] |= !class_has(class, (uint8_t)b);
    for (int b = 1; b < 256; b++) {
        uint8_t from = group[b];
        if (!class_has(class, (uint8_t)b) || !divided[from])
            continue;
        if (!to[from])
            to[from] = (uint8_t)(*n_groups)++;
        group[b] = to[from];
    }
}

static void split_byte(uint8_t group[256], unsigned *n_groups, uint8_t byte)
{
    struct token_class class = { { 0 } };
    class.bits[byte / 32] |= 1u << byte % 32;
    split(group, n_groups, &class);
}

static void choose_representatives(struct cells *c)
{
    uint8_t group[256] = { 0 };
    bool named[256] = { false }, taken[256] = { false };
    unsigned n_groups = 1;
    split_byte(group, &n_groups, '/');
    split_byte(group, &n_groups, '.');
    named['/'] = named['.'] = true;
    for (size_t i = 0; i < c->n_places; i++) {
        const struct place *place = &c->places[i];
        if (place->kind == PLACE_CLASS)
            split(group, &n_groups, place->class);
        if (place->kind != PLACE_BYTE || named[place->byte])
            continue;
        split_byte(group, &n_groups, place->byte);
        named[place->byte] = true;
    }
    for (int kind = 0; kind <= 3; kind++)
        for (int b = 1; b < 256; b++)
            if (readability(b) == kind && !taken[group[b]]) {
                taken[group[b]] = true;
                c->representatives[c->n_representatives++] = (uint8_t)b;
            }
}

/* ---- lists of numbers, each once ---- */

static size_t slot_of(const struct table *t, const uint32_t *numbers, size_t n, uint8_t so_far)
{
    uint64_t hash = 14695981039346656037u ^ so_far;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ numbers[i]) * 1099511628211u;
    size_t slot = (hash ^ hash >> 32) & (t->n_slots - 1);
    while (t->slots[slot] != NONE) {
        const struct state *s = &t->states[t->slots[slot]];
        if (s->n == n && s->so_far == so_far && memcmp(t->pool + s->first, numbers, n * sizeof *numbers) == 0)
            break;
        slot = (slot + 1) & (t->n_slots - 1);
    }
    return slot;
}

static int table_rehash(struct table *t)
{
    size_t n_slots = t->n_slots ? 2 * t->n_slots : 256;
    uint32_t *slots = mem_zalloc(n_slots, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    free(t->slots);
    t->slots = slots;
    t->n_slots = n_slots;
    memset(slots, 0xff, n_slots * sizeof *slots);
    for (size_t i = 0; i < t->n; i++) {
        const struct state *s = &t->states[i];
        t->slots[slot_of(t, t->pool + s->first, s->n, s->so_far)] = (uint32_t)i;
    }
    return 0;
}

/* 1: it is new; 0: it was there already; or a negative errno. */
static int table_add(struct table *t, const uint32_t *numbers, struct state state)
{
    int err = t->n * 2 >= t->n_slots ? table_rehash(t) : 0;
    if (err < 0)
        return err;
    size_t slot = slot_of(t, numbers, state.n, state.so_far);
    if (t->slots[slot] != NONE)
        return 0;
    if (t->n >= CELLS_STATES_MAX || t->n_pool + state.n > POOL_MAX)
        return -E2BIG;
    state.first = t->n_pool;
    err = mem_grow(&t->states, t->n, &t->cap, sizeof *t->states);
    for (uint32_t i = 0; err == 0 && i < state.n; i++) {
        err = mem_grow(&t->pool, t->n_pool, &t->cap_pool, sizeof *t->pool);
        if (err == 0)
            t->pool[t->n_pool++] = numbers[i];
    }
    if (err < 0)
        return err;
    t->slots[slot] = (uint32_t)t->n;
    t->states[t->n++] = state;
    return 1;
}

static void table_deinit(struct table *t)
{
    free(t->states);
    free(t->pool);
    free(t->slots);
}

/* ---- from state to state ---- */

static void reach(struct cells *c, uint32_t place)
{
    while (place != NONE && c->marks[place] != c->round) {
        c->marks[place] = c->round;
        c->next[c->n_next++] = place;
        place = c->places[place].free;
    }
}

static bool fits(const struct place *place, uint8_t byte)
{
    switch (place->kind) {
    case PLACE_BYTE:
        return place->byte == byte;
    case PLACE_CLASS:
        return class_has(place->class, byte);
    case PLACE_NO_SLASH:
        return byte != '/';
    default:
        return place->kind == PLACE_ANY;
    }
}

/* False: no clean path goes on so. */
static bool go_on(uint8_t *so_far, uint8_t byte)
{
    uint8_t before = *so_far;
    if (byte == '/') {
        *so_far = EMPTY;
        return before == NO_PATH || before == NAME;
    }
    if (byte == '.' && (before == EMPTY || before == DOT))
        *so_far = before == EMPTY ? DOT : DOTS;
    else
        *so_far = NAME;
    return before != NO_PATH;
}

static int add_state(struct cells *c, struct state state)
{
    sort_ids(c->next, c->n_next);
    if (c->n_next == 0 || c->next[0] >= c->ends_first)
        return 0;
    state.n = (uint32_t)c->n_next;
    int err = table_add(&c->table, c->next, state);
    return err < 0 ? err : 0;
}

static int step(struct cells *c, uint32_t from, uint8_t byte)
{
    const struct state *s = &c->table.states[from];
    struct state to = { .parent = from, .len = (uint16_t)(s->len + 1), .so_far = s->so_far, .byte = byte };
    if (!go_on(&to.so_far, byte))
        return 0;
    c->n_next = 0;
    c->round++;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t number = c->table.pool[s->first + i];
        const struct place *place = &c->places[number];
        if (number >= c->ends_first && c->n_next == 0)
            return 0; /* patterns[0] is out */
        if (fits(place, byte))
            reach(c, place->on);
    }
    return add_state(c, to);
}

/* Bytes that none of the state's places names are all alike, unless there is a class among them. */
static int step_all(struct cells *c, uint32_t from)
{
    const struct state *s = &c->table.states[from];
    bool named[256] = { ['/'] = true, ['.'] = true }, classes = false, others = false;
    int err = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct place *place = &c->places[c->table.pool[s->first + i]];
        classes |= place->kind == PLACE_CLASS;
        if (place->kind == PLACE_BYTE)
            named[place->byte] = true;
    }
    for (size_t i = 0; err == 0 && i < c->n_representatives; i++) {
        uint8_t byte = c->representatives[i];
        bool other = !classes && !named[byte];
        if (!other || !others)
            err = step(c, from, byte);
        others |= other;
    }
    return err;
}

/* ---- what is found ---- */

static void tell(struct cells *c, uint32_t number, const uint32_t *patterns, size_t n)
{
    char path[PATH_TEXT_MAX + 1];
    const struct state *states = c->table.states;
    size_t len = states[number].len;
    path[len] = '\0';
    for (size_t at = len; at > 0; number = states[number].parent)
        path[--at] = (char)states[number].byte;
    memset(c->matched, 0, (c->n_patterns + 63) / 64 * sizeof *c->matched);
    for (size_t i = 0; i < n; i++)
        c->matched[patterns[i] / 64] |= (uint64_t)1 << patterns[i] % 64;
    c->stopped = !c->fn(c->matched, path, len, c->data);
}

static int look(struct cells *c, uint32_t number)
{
    const struct state *s = &c->table.states[number];
    if (s->so_far != NAME)
        return 0;
    size_t n = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct place *place = &c->places[c->table.pool[s->first + i]];
        if (place->kind == PLACE_END)
            c->next[n++] = place->on; /* sorted: places are in the order of patterns */
    }
    if (n == 0 || c->next[0] != 0)
        return 0;
    int err = table_add(&c->found, c->next, (struct state){ .n = (uint32_t)n });
    if (err == 1)
        tell(c, number, c->next, n);
    return err < 0 ? err : 0;
}

static int search(struct cells *c)
{
    int err = 0;
    c->round++;
    for (size_t i = 0; i < c->n_patterns; i++)
        reach(c, c->starts[i]);
    err = add_state(c, (struct state){ .so_far = NO_PATH });
    for (uint32_t i = 0; err == 0 && !c->stopped && i < c->table.n; i++) {
        err = look(c, i);
        if (err == 0 && c->table.states[i].len < PATH_TEXT_MAX)
            err = step_all(c, i);
    }
    return c->stopped ? 0 : err;
}

/* "/" alone is matched by "/" alone. */
static void tell_root(const struct pattern *const *patterns, struct cells *c)
{
    for (size_t i = 0; i < c->n_patterns; i++)
        if (patterns[i]->n_components == 0)
            c->matched[i / 64] |= (uint64_t)1 << i % 64;
    c->fn(c->matched, "/", 1, c->data);
}

static int prepare(struct cells *c, const struct pattern *const *patterns)
{
    int err = 0;
    for (size_t i = 0; err == 0 && i < c->n_patterns; i++) {
        err = emit_pattern(c, patterns[i], (uint32_t)i);
        c->ends_first = i == 0 ? (uint32_t)c->n_places : c->ends_first;
    }
    if (err < 0)
        return err;
    choose_representatives(c);
    c->next = mem_zalloc(c->n_places + 1, sizeof *c->next);
    c->marks = mem_zalloc(c->n_places + 1, sizeof *c->marks);
    return c->next && c->marks ? 0 : -ENOMEM;
}

int cells_each(const struct pattern *const *patterns, size_t n, const struct policy_subject *subject,
               cell_fn *fn, void *data)
{
    struct cells c = { .subject = subject, .n_patterns = n, .fn = fn, .data = data };
    int err = 0;
    if (n == 0)
        return 0;
    c.starts = mem_zalloc(n, sizeof *c.starts);
    c.matched = mem_zalloc((n + 63) / 64, sizeof *c.matched);
    if (!c.starts || !c.matched)
        err = -ENOMEM;
    else if (patterns[0]->n_components == 0)
        tell_root(patterns, &c);
    else
        err = prepare(&c, patterns);
    if (err == 0 && c.ends_first > 0)
        err = search(&c);
    free(c.starts);
    free(c.matched);
    free(c.places);
    free(c.next);
    free(c.marks);
    table_deinit(&c.table);
    table_deinit(&c.found);
    return err;
}
