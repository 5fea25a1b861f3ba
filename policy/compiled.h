/*
 * The compiled form: a trie over path components, and at its ends the rules, indexed by who they are for.
 * Immutable.
 *
 * A decision walks the trie with all nodes that the path so far can have reached (most often one), so it
 * costs what the path is long and how many `**` it can run through, not how many rules there are.
 */
#ifndef FOB_POLICY_COMPILED_H
#define FOB_POLICY_COMPILED_H

#include "internal.h"

enum { NODE_NONE = 0, NODE_ROOT = 1, NODE_HOME_ROOT = 2 /* patterns that begin with %h hang here */ };

struct node {
    const char *bytes; /* literal child: its component */
    uint32_t len;
    uint32_t parent;
    uint32_t any_depth;   /* child `**` in the middle of a pattern */
    uint32_t home;        /* child %h */
    uint32_t globs;       /* index of its glob table + 1 */
    uint32_t end;         /* terminal (index + 1): the pattern ends here */
    uint32_t beneath;     /* terminal: the pattern ends here in `**`: everything beneath */
    uint16_t literal_len; /* of the patterns through here: bytes that leading literal components spell, at
                             least 1 */
    bool has_literals, loops /* is a `**` itself */;
};

/* A glob child. Globs with the same literal beginning (or else ending) follow one another by `next`. */
struct glob {
    const struct component *component;
    uint32_t child;
    uint32_t next;  /* index + 1 */
    uint16_t fixed; /* bytes of that beginning or ending */
    bool at_end;    /* ending */
};

enum { FIXED_MAX = 63 }; /* more literal bytes are left to glob_match() */

/* The glob children of one node: which lengths of beginnings and endings there are, and those that have
 * neither. */
struct glob_table {
    uint64_t beginnings, endings; /* bit n: some glob begins (ends) with n literal bytes, 1..FIXED_MAX */
    uint32_t rest;                /* index + 1 of the first glob that has neither */
};

struct key {
    uint32_t id;   /* uid or gid */
    uint32_t rule; /* index */
};

/* The rules that end at one place. Few: tried one after the other; many: looked up by who asks. */
struct terminal {
    uint32_t first, n;          /* in `members`: all of them, or those that have no key */
    uint32_t uid_first, n_uids; /* in `keys`, sorted */
    uint32_t gid_first, n_gids;
    uint16_t literal_len;
};

struct compiled {
    const struct ast *ast;
    struct node *nodes;
    size_t n_nodes, cap_nodes;
    uint32_t *table; /* node by (parent, component): open addressing, a power of 2 */
    size_t table_size;
    struct glob *globs;
    size_t n_globs, cap_globs;
    struct glob_table *glob_tables;
    size_t n_glob_tables, cap_glob_tables;
    uint32_t *glob_table; /* first glob by (node, beginning or ending) */
    size_t glob_table_size;
    struct terminal *terminals;
    size_t n_terminals, cap_terminals;
    uint32_t *members;
    size_t n_members;
    struct key *keys;
    size_t n_keys, cap_keys;
    size_t n_loops; /* nodes with `loops`; their stamps */
};

/* Hashes of a component and of where it is looked for. */
static inline uint32_t component_hash(const char *bytes, size_t len)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 16777619u;
    return hash;
}

static inline uint32_t place_hash(uint32_t node, uint32_t hash)
{
    uint64_t mixed = ((uint64_t)node << 32 | hash) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(mixed >> 32);
}

/* The literal child of node; NODE_NONE. */
uint32_t compiled_child(const struct compiled *compiled, uint32_t node, const char *bytes, size_t len,
                        uint32_t hash);
/* The first glob of node with this beginning or ending (index + 1), or 0. */
uint32_t compiled_globs(const struct compiled *compiled, uint32_t node, const char *bytes, size_t len,
                        bool at_end);

/* terminal.c: turns the lists that were collected (rule indices by terminal) into members and keys. 0 or
 * -ENOMEM. */
struct collected {
    uint32_t rule;
    uint32_t next; /* index + 1 */
};
int terminals_build(struct compiled *compiled, const struct collected *collected, const uint32_t *heads);

/* glob.c: does the component match? */
bool glob_match(const struct component *component, const char *bytes, size_t len,
                const struct policy_subject *subject);

#endif
