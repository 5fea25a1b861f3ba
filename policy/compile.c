/*
 * Rules to trie. What is made here is described in compiled.h.
 */
#include <errno.h>
#include <string.h>

#include "../common/util.h"
#include "compiled.h"

enum { TABLE_MIN = 64 };

/* Needed while compiling only. */
struct builder {
    struct compiled *c;
    struct collected *collected; /* rules by terminal, in their order */
    size_t n_collected, cap_collected;
    uint32_t *heads, *tails; /* of each terminal's list; index + 1 */
    size_t cap_heads, cap_tails;
    uint32_t *same_glob; /* glob by (node, tokens), index + 1: open addressing */
    size_t same_glob_size;
    size_t n_literals;   /* nodes in c->table */
    size_t n_glob_heads; /* globs in c->glob_table */
};

/* ---- tables: open addressing, grown at half full ---- */

static int table_grow(uint32_t **table, size_t *size, size_t used,
                      uint32_t hash_of(const struct compiled *, uint32_t), const struct compiled *c)
{
    if (*size && used * 2 < *size)
        return 0;
    size_t grown = *size ? *size * 2 : TABLE_MIN;
    uint32_t *fresh = mem_zalloc(grown, sizeof *fresh);
    if (!fresh)
        return -ENOMEM;
    for (size_t i = 0; i < *size; i++) {
        if (!(*table)[i])
            continue;
        size_t at = hash_of(c, (*table)[i]) & (grown - 1);
        while (fresh[at])
            at = (at + 1) & (grown - 1);
        fresh[at] = (*table)[i];
    }
    free(*table);
    *table = fresh;
    *size = grown;
    return 0;
}

static uint32_t literal_hash(const struct compiled *c, uint32_t node)
{
    const struct node *n = &c->nodes[node];
    return place_hash(n->parent, component_hash(n->bytes, n->len));
}

/* ---- nodes ---- */

static int node_add(struct builder *b, uint32_t parent, uint32_t *out)
{
    struct compiled *c = b->c;
    int err = mem_grow(&c->nodes, c->n_nodes, &c->cap_nodes, sizeof *c->nodes);
    if (err < 0)
        return err;
    c->nodes[c->n_nodes] =
        (struct node){ .parent = parent, .literal_len = c->n_nodes > 2 ? c->nodes[parent].literal_len : 0 };
    *out = (uint32_t)c->n_nodes++;
    return 0;
}

static int literal_child(struct builder *b, uint32_t parent, const struct component *component, bool leading,
                         uint32_t *out)
{
    struct compiled *c = b->c;
    uint32_t hash = component_hash(component->bytes, component->n);
    *out = c->table_size ? compiled_child(c, parent, component->bytes, component->n, hash) : NODE_NONE;
    if (*out)
        return 0;
    int err = table_grow(&c->table, &c->table_size, b->n_literals + 1, literal_hash, c);
    if (err == 0)
        err = node_add(b, parent, out);
    if (err < 0)
        return err;
    struct node *node = &c->nodes[*out];
    node->bytes = component->bytes;
    node->len = component->n;
    node->literal_len = (uint16_t)(node->literal_len + (leading ? 1 + component->n : 0));
    c->nodes[parent].has_literals = true;
    size_t at = place_hash(parent, hash) & (c->table_size - 1);
    while (c->table[at])
        at = (at + 1) & (c->table_size - 1);
    c->table[at] = *out;
    b->n_literals++;
    return 0;
}

static int any_depth_child(struct builder *b, uint32_t parent, uint32_t *out)
{
    *out = b->c->nodes[parent].any_depth;
    if (*out)
        return 0;
    int err = node_add(b, parent, out);
    if (err < 0)
        return err;
    b->c->nodes[*out].loops = true;
    b->c->nodes[parent].any_depth = *out;
    b->c->n_loops++;
    return 0;
}

static int home_child(struct builder *b, uint32_t parent, uint32_t *out)
{
    *out = b->c->nodes[parent].home;
    int err = *out ? 0 : node_add(b, parent, out);
    if (err == 0)
        b->c->nodes[parent].home = *out;
    return err;
}

/* ---- globs ---- */

static bool tokens_equal(const struct component *a, const struct component *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        const struct token *x = &a->tokens[i], *y = &b->tokens[i];
        if (x->kind != y->kind || x->byte != y->byte)
            return false;
        if (x->kind == TOKEN_CLASS &&
            memcmp(component_class(a, x), component_class(b, y), sizeof(struct token_class)) != 0)
            return false;
    }
    return true;
}

static uint32_t tokens_hash(const struct compiled *c, uint32_t glob)
{
    const struct glob *g = &c->globs[glob - 1];
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < g->component->n; i++) {
        const struct token *t = &g->component->tokens[i];
        hash = (hash ^ (uint32_t)(t->kind << 8 | t->byte)) * 16777619u;
        for (size_t w = 0; t->kind == TOKEN_CLASS && w < 8; w++)
            hash = (hash ^ component_class(g->component, t)->bits[w]) * 16777619u;
    }
    return place_hash(c->nodes[g->child].parent, hash);
}

/* The literal beginning or ending, as bytes. */
static void fixed_bytes(const struct glob *g, char out[FIXED_MAX])
{
    const struct token *from = g->component->tokens + (g->at_end ? g->component->n - g->fixed : 0);
    for (size_t i = 0; i < g->fixed; i++)
        out[i] = (char)from[i].byte;
}

static uint32_t group_hash(const struct compiled *c, uint32_t glob)
{
    const struct glob *g = &c->globs[glob - 1];
    char bytes[FIXED_MAX] = { 0 };
    fixed_bytes(g, bytes);
    return place_hash(c->nodes[g->child].parent, component_hash(bytes, g->fixed) + g->at_end);
}

static void measure_fixed(struct glob *g)
{
    const struct token *tokens = g->component->tokens;
    size_t n = g->component->n, beginning = 0, ending = 0;
    while (beginning < n && beginning < FIXED_MAX && tokens[beginning].kind == TOKEN_BYTE)
        beginning++;
    while (ending < n && ending < FIXED_MAX && tokens[n - 1 - ending].kind == TOKEN_BYTE)
        ending++;
    g->at_end = ending > beginning;
    g->fixed = (uint16_t)(g->at_end ? ending : beginning);
}

static int glob_table_of(struct builder *b, uint32_t node, struct glob_table **out)
{
    struct compiled *c = b->c;
    if (!c->nodes[node].globs) {
        int err = mem_grow(&c->glob_tables, c->n_glob_tables, &c->cap_glob_tables, sizeof *c->glob_tables);
        if (err < 0)
            return err;
        c->glob_tables[c->n_glob_tables++] = (struct glob_table){ .rest = 0 };
        c->nodes[node].globs = (uint32_t)c->n_glob_tables;
    }
    *out = &c->glob_tables[c->nodes[node].globs - 1];
    return 0;
}

/* Puts glob (index + 1) into the group of its beginning or ending. */
static int glob_index(struct builder *b, uint32_t node, uint32_t glob)
{
    struct compiled *c = b->c;
    struct glob *g = &c->globs[glob - 1];
    struct glob_table *table;
    int err = glob_table_of(b, node, &table);
    if (err < 0)
        return err;
    if (g->fixed == 0) {
        g->next = table->rest;
        table->rest = glob;
        return 0;
    }
    *(g->at_end ? &table->endings : &table->beginnings) |= UINT64_C(1) << g->fixed;
    err = table_grow(&c->glob_table, &c->glob_table_size, b->n_glob_heads + 1, group_hash, c);
    if (err < 0)
        return err;
    char bytes[FIXED_MAX] = { 0 };
    fixed_bytes(g, bytes);
    g->next = compiled_globs(c, node, bytes, g->fixed, g->at_end);
    size_t at = group_hash(c, glob) & (c->glob_table_size - 1);
    while (c->glob_table[at] && c->glob_table[at] != g->next)
        at = (at + 1) & (c->glob_table_size - 1);
    b->n_glob_heads += c->glob_table[at] == 0;
    c->glob_table[at] = glob;
    return 0;
}

static uint32_t same_glob(const struct builder *b, uint32_t parent, const struct component *component,
                          uint32_t hash)
{
    const struct compiled *c = b->c;
    for (size_t at = hash & (b->same_glob_size - 1); b->same_glob[at];
         at = (at + 1) & (b->same_glob_size - 1)) {
        const struct glob *g = &c->globs[b->same_glob[at] - 1];
        if (c->nodes[g->child].parent == parent && tokens_equal(g->component, component))
            return g->child;
    }
    return NODE_NONE;
}

static int glob_child(struct builder *b, uint32_t parent, const struct component *component, uint32_t *out)
{
    struct compiled *c = b->c;
    int err = table_grow(&b->same_glob, &b->same_glob_size, c->n_globs + 1, tokens_hash, c);
    if (err == 0)
        err = mem_grow(&c->globs, c->n_globs, &c->cap_globs, sizeof *c->globs);
    if (err == 0)
        err = node_add(b, parent, out);
    if (err < 0)
        return err;
    struct glob *g = &c->globs[c->n_globs++];
    *g = (struct glob){ .component = component, .child = *out };
    uint32_t glob = (uint32_t)c->n_globs, hash = tokens_hash(c, glob),
             there = same_glob(b, parent, component, hash);
    if (there) {
        c->n_globs--;
        c->n_nodes--;
        *out = there;
        return 0;
    }
    measure_fixed(g);
    size_t at = hash & (b->same_glob_size - 1);
    while (b->same_glob[at])
        at = (at + 1) & (b->same_glob_size - 1);
    b->same_glob[at] = glob;
    return glob_index(b, parent, glob);
}

/* ---- patterns ---- */

static int terminal_of(struct builder *b, uint32_t *slot, uint16_t literal_len, uint32_t *out)
{
    struct compiled *c = b->c;
    if (!*slot) {
        int err = mem_grow(&c->terminals, c->n_terminals, &c->cap_terminals, sizeof *c->terminals);
        if (err == 0)
            err = mem_grow(&b->heads, c->n_terminals, &b->cap_heads, sizeof *b->heads);
        if (err == 0)
            err = mem_grow(&b->tails, c->n_terminals, &b->cap_tails, sizeof *b->tails);
        if (err < 0)
            return err;
        c->terminals[c->n_terminals] = (struct terminal){ .literal_len = literal_len ? literal_len : 1 };
        b->heads[c->n_terminals] = b->tails[c->n_terminals] = 0; /* NOLINT: mem_grow() made room */
        *slot = (uint32_t)++c->n_terminals;
    }
    *out = *slot - 1;
    return 0;
}

static int collect(struct builder *b, uint32_t terminal, uint32_t rule)
{
    uint32_t tail = b->tails[terminal]; /* NOLINT: terminal_of() made room */
    if (tail && b->collected[tail - 1].rule == rule)
        return 0; /* {a,a} */
    int err = mem_grow(&b->collected, b->n_collected, &b->cap_collected, sizeof *b->collected);
    if (err < 0)
        return err;
    b->collected[b->n_collected++] = (struct collected){ rule, 0 };
    uint32_t self = (uint32_t)b->n_collected;
    if (tail)
        b->collected[tail - 1].next = self;
    else
        b->heads[terminal] = self;
    b->tails[terminal] = self;
    return 0;
}

static int step(struct builder *b, uint32_t *node, const struct component *component, bool *leading)
{
    uint32_t parent = *node;
    *leading = *leading && component->kind == COMPONENT_LITERAL;
    switch ((enum component_kind)component->kind) {
    case COMPONENT_LITERAL:
        return literal_child(b, parent, component, *leading, node);
    case COMPONENT_GLOB:
        return glob_child(b, parent, component, node);
    case COMPONENT_ANY_DEPTH:
        return any_depth_child(b, parent, node);
    case COMPONENT_HOME:
        return home_child(b, parent, node);
    }
    return -EINVAL;
}

static int add_pattern(struct builder *b, const struct pattern *pattern, uint32_t rule)
{
    const struct component *components = pattern->components;
    size_t n = pattern->n_components, i = n && components[0].kind == COMPONENT_HOME;
    uint32_t node = i ? NODE_HOME_ROOT : NODE_ROOT, terminal;
    bool leading = i == 0, beneath = n && components[n - 1].kind == COMPONENT_ANY_DEPTH;
    for (; i < n - beneath; i++) {
        int err = step(b, &node, &components[i], &leading);
        if (err < 0)
            return err;
    }
    struct node *end = &b->c->nodes[node];
    int err = terminal_of(b, beneath ? &end->beneath : &end->end, end->literal_len, &terminal);
    return err < 0 ? err : collect(b, terminal, rule);
}

static int add_rules(struct builder *b, const struct ast *ast)
{
    for (size_t i = 0; i < ast->n_rules; i++)
        for (size_t p = 0; p < ast->rules[i].n_patterns; p++) {
            int err = add_pattern(b, &ast->rules[i].patterns[p], (uint32_t)i);
            if (err < 0)
                return err;
        }
    return 0;
}

static int add_roots(struct builder *b)
{
    uint32_t node;
    for (int i = 0; i <= NODE_HOME_ROOT; i++) {
        int err = node_add(b, NODE_NONE, &node);
        if (err < 0)
            return err;
    }
    return 0;
}

/* What was grown by doubling is cut to its size. */
static void shrink(void *array, size_t n, size_t size)
{
    void **slot = array, *exact = n ? realloc(*slot, n * size) : NULL;
    if (exact)
        *slot = exact;
}

int compile_policy(struct policy *policy)
{
    struct compiled *c = policy->compiled = mem_zalloc(1, sizeof *c);
    struct builder b = { .c = c };
    if (!c)
        return -ENOMEM;
    c->ast = &policy->ast;
    int err = add_roots(&b);
    if (err == 0)
        err = add_rules(&b, &policy->ast);
    if (err == 0)
        err = terminals_build(c, b.collected, b.heads);
    free(b.collected);
    free(b.heads);
    free(b.tails);
    free(b.same_glob);
    shrink(&c->nodes, c->n_nodes, sizeof *c->nodes);
    shrink(&c->terminals, c->n_terminals, sizeof *c->terminals);
    shrink(&c->globs, c->n_globs, sizeof *c->globs);
    shrink(&c->glob_tables, c->n_glob_tables, sizeof *c->glob_tables);
    shrink(&c->keys, c->n_keys, sizeof *c->keys);
    return err;
}

void compiled_free(struct compiled *compiled)
{
    if (!compiled)
        return;
    free(compiled->nodes);
    free(compiled->table);
    free(compiled->globs);
    free(compiled->glob_tables);
    free(compiled->glob_table);
    free(compiled->terminals);
    free(compiled->members);
    free(compiled->keys);
    free(compiled);
}

size_t compiled_memory(const struct compiled *c)
{
    return sizeof *c + c->n_nodes * sizeof *c->nodes + c->table_size * sizeof *c->table +
           c->n_globs * sizeof *c->globs + c->n_glob_tables * sizeof *c->glob_tables +
           c->glob_table_size * sizeof *c->glob_table + c->n_terminals * sizeof *c->terminals +
           c->n_members * sizeof *c->members + c->n_keys * sizeof *c->keys;
}
