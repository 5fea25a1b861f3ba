/*
 * Decisions by the compiled form.
 */
#include <string.h>

#include "../common/path.h"
#include "../common/util.h"
#include "compiled.h"

enum { HOMES_MAX = PATH_TEXT_MAX / 2 + 1 }; /* %h behind literal components: one a depth at most */

struct arrival {
    uint32_t node;
    size_t at; /* offset in the path */
};

struct policy_scratch {
    uint32_t *now, *next; /* nodes that the path so far reaches, each once */
    uint32_t *stamps;     /* by node, of `**` nodes: the step in which it was put into `next` */
    size_t n_now, n_next;
    uint32_t step;
    struct arrival homes[HOMES_MAX];
    size_t n_homes;
};

/* One decision under way. */
struct match {
    const struct compiled *c;
    struct policy_scratch *scratch;
    const struct policy_subject *subject;
    unsigned rights;
    const char *path;
    size_t len;
    time_t time;
    size_t needed_literal; /* of an allow's pattern, to reach into a pseudo file system */
    const struct policy_rule *allow, *deny;
};

struct policy_scratch *policy_scratch_new(const struct policy *policy)
{
    size_t n = policy->compiled->n_nodes;
    struct policy_scratch *scratch = mem_zalloc(1, sizeof *scratch);
    if (!scratch)
        return NULL;
    scratch->now = mem_zalloc(n, sizeof *scratch->now);
    scratch->next = mem_zalloc(n, sizeof *scratch->next);
    scratch->stamps = mem_zalloc(n, sizeof *scratch->stamps);
    if (scratch->now && scratch->next && scratch->stamps)
        return scratch;
    policy_scratch_free(scratch);
    return NULL;
}

void policy_scratch_free(struct policy_scratch *scratch)
{
    if (!scratch)
        return;
    free(scratch->now);
    free(scratch->next);
    free(scratch->stamps);
    free(scratch);
}

/* ---- look-ups ---- */

uint32_t compiled_child(const struct compiled *c, uint32_t node, const char *bytes, size_t len, uint32_t hash)
{
    size_t mask = c->table_size - 1;
    for (size_t at = place_hash(node, hash) & mask; c->table[at]; at = (at + 1) & mask) {
        const struct node *child = &c->nodes[c->table[at]];
        if (child->parent == node && child->len == len && memcmp(child->bytes, bytes, len) == 0)
            return c->table[at];
    }
    return NODE_NONE;
}

static bool has_fixed(const struct glob *glob, const char *bytes)
{
    const struct token *from =
        glob->component->tokens + (glob->at_end ? glob->component->n - glob->fixed : 0);
    for (size_t i = 0; i < glob->fixed; i++)
        if (from[i].byte != (uint8_t)bytes[i])
            return false;
    return true;
}

uint32_t compiled_globs(const struct compiled *c, uint32_t node, const char *bytes, size_t len, bool at_end)
{
    if (!c->glob_table_size)
        return 0;
    size_t mask = c->glob_table_size - 1;
    uint32_t hash = place_hash(node, component_hash(bytes, len) + at_end);
    for (size_t at = hash & mask; c->glob_table[at]; at = (at + 1) & mask) {
        const struct glob *glob = &c->globs[c->glob_table[at] - 1];
        if (c->nodes[glob->child].parent == node && glob->at_end == at_end && glob->fixed == len &&
            has_fixed(glob, bytes))
            return c->glob_table[at];
    }
    return 0;
}

/* ---- rules ---- */

static void consider(struct match *m, uint32_t index, uint16_t literal_len)
{
    const struct ast_rule *rule = &m->c->ast->rules[index];
    const struct policy_rule *pub = &rule->rule;
    const struct policy_rule *best = pub->deny ? m->deny : m->allow;
    if (best && best->number <= pub->number)
        return;
    unsigned has = rights_widen(pub->rights) & m->rights;
    if (pub->deny ? has == 0 : has != m->rights || literal_len < m->needed_literal)
        return;
    if ((pub->until && pub->until <= m->time) || !subjects_match(rule->subjects, m->subject, pub->deny))
        return;
    *(pub->deny ? &m->deny : &m->allow) = pub;
}

static void consider_keys(struct match *m, const struct terminal *t, uint32_t first, uint32_t n, uint32_t id)
{
    uint32_t low = first, end = first + n, high = end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (m->c->keys[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < end && m->c->keys[low].id == id; low++)
        consider(m, m->c->keys[low].rule, t->literal_len);
}

static void consider_groups(struct match *m, const struct terminal *t)
{
    const struct policy_subject *s = m->subject;
    for (uint32_t i = 0; s->groups_unknown && i < t->n_gids; i++)
        consider(m, m->c->keys[t->gid_first + i].rule, t->literal_len); /* for denies */
    consider_keys(m, t, t->gid_first, t->n_gids, s->gid);
    for (size_t i = 0; i < s->n_groups; i++)
        consider_keys(m, t, t->gid_first, t->n_gids, s->groups[i]);
    for (size_t i = 0; s->user && i < s->user->n_groups; i++)
        consider_keys(m, t, t->gid_first, t->n_gids, s->user->groups[i]); /* for denies; consider() knows */
}

static void consider_all(struct match *m, uint32_t terminal)
{
    const struct terminal *t = &m->c->terminals[terminal - 1];
    for (uint32_t i = 0; i < t->n; i++)
        consider(m, m->c->members[t->first + i], t->literal_len);
    if (t->n_uids)
        consider_keys(m, t, t->uid_first, t->n_uids, m->subject->uid);
    if (t->n_gids)
        consider_groups(m, t);
}

/* ---- the walk ---- */

/* Where the caller's home ends in the path that goes on at `at`; 0 when it does not stand there. */
static size_t home_end(const struct match *m, size_t at)
{
    const char *home = m->subject->user ? m->subject->user->home : "";
    size_t len = strlen(home);
    bool usable =
        len > 1 && path_is_clean(home, len) && path_is_beneath(m->path + at, m->len - at, home, len);
    return usable ? at + len : 0;
}

/* The path up to `at` leads to node: rules that end here, and what goes on from here. `at` is the end, or at
 * a slash. */
static void arrive(struct match *m, uint32_t index, size_t at)
{
    const struct node *node = &m->c->nodes[index];
    if (at == m->len) {
        if (node->end)
            consider_all(m, node->end);
        return;
    }
    if (node->beneath)
        consider_all(m, node->beneath);
    if (node->has_literals || node->globs)
        m->scratch->next[m->scratch->n_next++] = index;
    size_t end = node->home ? home_end(m, at) : 0;
    if (end && m->scratch->n_homes < HOMES_MAX)
        m->scratch->homes[m->scratch->n_homes++] = (struct arrival){ node->home, end };
}

/* A `**` is reached from its parent and from itself: it goes into a step once. */
static void arrive_loop(struct match *m, uint32_t index, size_t at)
{
    if (at == m->len || m->scratch->stamps[index] == m->scratch->step)
        return;
    m->scratch->stamps[index] = m->scratch->step;
    m->scratch->next[m->scratch->n_next++] = index;
}

static void arrive_with_loop(struct match *m, uint32_t index, size_t at)
{
    uint32_t loop = m->c->nodes[index].any_depth;
    arrive(m, index, at);
    if (loop)
        arrive_loop(m, loop, at);
}

static void try_globs(struct match *m, uint32_t glob, const char *bytes, size_t len, size_t after)
{
    for (; glob; glob = m->c->globs[glob - 1].next) {
        const struct glob *g = &m->c->globs[glob - 1];
        if (glob_match(g->component, bytes, len, m->subject))
            arrive_with_loop(m, g->child, after);
    }
}

static void try_lengths(struct match *m, uint32_t node, uint64_t lengths, bool at_end, const char *bytes,
                        size_t len, size_t after)
{
    for (uint64_t left = lengths; left; left &= left - 1) {
        size_t fixed = (unsigned)__builtin_ctzll(left);
        if (fixed > len)
            return;
        const char *from = at_end ? bytes + len - fixed : bytes;
        try_globs(m, compiled_globs(m->c, node, from, fixed, at_end), bytes, len, after);
    }
}

static void step_from(struct match *m, uint32_t index, const char *bytes, size_t len, uint32_t hash,
                      size_t after)
{
    const struct node *node = &m->c->nodes[index];
    uint32_t child = node->has_literals ? compiled_child(m->c, index, bytes, len, hash) : NODE_NONE;
    if (child)
        arrive_with_loop(m, child, after);
    if (node->globs) {
        const struct glob_table *table = &m->c->glob_tables[node->globs - 1];
        try_lengths(m, index, table->beginnings, false, bytes, len, after);
        try_lengths(m, index, table->endings, true, bytes, len, after);
        try_globs(m, table->rest, bytes, len, after);
    }
    if (node->loops)
        arrive_loop(m, index, after);
}

static void begin_step(struct match *m)
{
    struct policy_scratch *s = m->scratch;
    uint32_t *swap = s->now;
    s->now = s->next;
    s->next = swap;
    s->n_now = s->n_next;
    s->n_next = 0;
    if (++s->step == 0) { /* once in 2^32 components: old stamps must not look new */
        memset(s->stamps, 0, m->c->n_nodes * sizeof *s->stamps);
        s->step = 1;
    }
}

static void arrive_homes(struct match *m, size_t at)
{
    struct policy_scratch *s = m->scratch;
    for (size_t i = 0; i < s->n_homes; i++)
        if (s->homes[i].at == at)
            arrive_with_loop(m, s->homes[i].node, at);
}

static void walk(struct match *m)
{
    struct policy_scratch *s = m->scratch;
    size_t at = 0, home = home_end(m, 0);
    s->n_next = s->n_homes = 0;
    begin_step(m);
    if (home)
        s->homes[s->n_homes++] = (struct arrival){ NODE_HOME_ROOT, home };
    arrive_with_loop(m, NODE_ROOT, 0);
    while (at < m->len) {
        const char *bytes = m->path + at + 1, *slash = memchr(bytes, '/', m->len - at - 1);
        size_t len = slash ? (size_t)(slash - bytes) : m->len - at - 1;
        uint32_t hash = component_hash(bytes, len);
        at += 1 + len;
        begin_step(m);
        for (size_t i = 0; i < s->n_now; i++)
            step_from(m, s->now[i], bytes, len, hash, at);
        if (s->n_homes)
            arrive_homes(m, at);
    }
}

void policy_decide(const struct policy *policy, struct policy_scratch *scratch,
                   const struct policy_subject *subject, unsigned rights, const char *path, size_t path_len,
                   time_t now, struct policy_decision *decision)
{
    struct match m = {
        .c = policy->compiled,
        .scratch = scratch,
        .subject = subject,
        .rights = rights,
        .path = path,
        .len = path_len == 1 ? 0 : path_len,
        .time = now,
        .needed_literal = pattern_needed_literal(&policy->ast, path, path_len),
    };
    if (m.c->table_size || m.c->n_terminals)
        walk(&m);
    *decision = (struct policy_decision){ m.allow && !m.deny, m.deny ? m.deny : m.allow };
}
