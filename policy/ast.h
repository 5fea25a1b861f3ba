/*
 * A parsed policy: what the parser makes, what the compiler and the slow matcher read. Everything lives in
 * the policy's arena and is immutable after load. Names are ids here already; `{a,b}` is expanded, so a
 * pattern is a sequence of components.
 */
#ifndef FOB_POLICY_AST_H
#define FOB_POLICY_AST_H

#include "policy.h"

/* ---- patterns ---- */

enum token_kind {
    TOKEN_BYTE,  /* one literal byte */
    TOKEN_ANY,   /* ?      any one byte */
    TOKEN_STAR,  /* *      any bytes of a component */
    TOKEN_CLASS, /* [...]  one byte of a set */
    TOKEN_USER,  /* %u */
    TOKEN_UID,   /* %U */
};

struct token {
    uint8_t kind; /* enum token_kind */
    uint8_t byte; /* TOKEN_BYTE: it; TOKEN_CLASS: which of the component's classes */
};

/* The bytes of one [...]: bit b of 256 set = byte b matches; '/' and NUL never. */
struct token_class {
    uint32_t bits[8];
};
enum { CLASSES_MAX = 255 };

enum component_kind {
    COMPONENT_LITERAL,   /* n bytes exactly */
    COMPONENT_GLOB,      /* n tokens */
    COMPONENT_ANY_DEPTH, /* ** */
    COMPONENT_HOME,      /* %h: the components of the caller's home directory */
};

struct component {
    union {
        const char *bytes;          /* literal: NOT terminated */
        const struct token *tokens; /* glob; its classes stand behind them, see component_class() */
    };
    uint32_t n;
    uint8_t kind; /* enum component_kind */
};

/* Where the classes begin, in bytes behind the tokens: small tokens are what 100,000 rules weigh. */
static inline size_t component_class_offset(size_t n_tokens)
{
    size_t align = sizeof(uint32_t), size = n_tokens * sizeof(struct token);
    return (size + align - 1) / align * align;
}

static inline const struct token_class *component_class(const struct component *c, const struct token *t)
{
    const char *behind = (const char *)c->tokens + component_class_offset(c->n);
    return (const struct token_class *)(const void *)behind + t->byte;
}

static inline bool class_has(const struct token_class *class, uint8_t byte)
{
    return class->bits[byte / 32] >> byte % 32 & 1;
}

/* An absolute path pattern after `{}` expansion. No two ANY_DEPTH stand side by side. "/" has no components.
 */
struct pattern {
    const struct component *components;
    const char *text; /* the word as written, without its quotes: for list and print; NOT terminated */
    uint32_t text_len;
    uint16_t n_components;
    uint16_t literal_len; /* bytes of a path that the leading literal components spell ("/srv/a" = 6), at
                             least 1 */
};

/* ---- subjects ---- */

enum term_kind { TERM_ANY, TERM_USER, TERM_GROUP, TERM_EXE, TERM_UNIT, TERM_CGROUP, TERM_LABEL, TERM_SET };

struct subject_set;

struct term {
    uint8_t kind; /* enum term_kind */
    uint32_t id;  /* uid or gid; of patterns: how many */
    union {
        const char *text;               /* unit, label: as written, terminated */
        const struct pattern *patterns; /* exe, cgroup: `id` of them */
        const struct subject_set *set;  /* TERM_SET */
    };
};

/* All of its terms. */
struct conj {
    const struct term *terms;
    size_t n_terms;
};

/* Any of its conjunctions. Words of the same text share one. */
struct subjects {
    const struct conj *conjs;
    size_t n_conjs;
};

/* set @NAME = ...: any of its terms; those of sets named in it stand in it. */
struct subject_set {
    const char *name;         /* without its @ */
    const struct term *terms; /* no TERM_SET, TERM_USER or TERM_GROUP among them */
    const uid_t *uids;        /* sorted: the user: members */
    const gid_t *gids;        /* sorted: the group: members */
    size_t n_terms, n_uids, n_gids;
};

/* ---- statements ---- */

struct ast_rule {
    struct policy_rule rule; /* public part, first */
    const struct subjects *subjects;
    const struct pattern *patterns; /* after expansion */
    uint32_t n_patterns;
    uid_t as_uid; /* with POLICY_AS_USER */
};

struct source;
struct ast_assert {
    bool deny; /* assert deny */
    const struct subjects *subjects;
    unsigned rights;
    const char *path; /* clean; NOT terminated */
    size_t path_len;
    const struct source *source;
    const char *at; /* where the statement begins in the source */
};

struct ast {
    struct ast_rule *rules;
    size_t n_rules;
    struct ast_assert *asserts;
    size_t n_asserts;
    struct policy_user *users; /* sorted by uid; empty when not needed */
    size_t n_users;
    const char **pseudo; /* mount points, copied from the env */
    size_t *pseudo_len;  /* of each */
    size_t n_pseudo;
};

/* What a rule's rights cover: write includes append. */
static inline unsigned rights_widen(unsigned rights)
{
    return rights & RIGHT_WRITE ? rights | RIGHT_APPEND : rights;
}

#endif
