/*
 * A parsed policy: what parse.c makes, what compile.c and slow.c read. Everything lives in the policy's arena and is immutable after
 * load. Names are resolved to ids here already; `{a,b}` is expanded, so a pattern is a sequence of components.
 */
#ifndef FOB_POLICY_AST_H
#define FOB_POLICY_AST_H

#include "policy.h"

/* ---- patterns ---- */

enum token_kind {
    TOKEN_BYTE,    /* one literal byte */
    TOKEN_ANY,     /* ? : any one byte */
    TOKEN_STAR,    /* * : any bytes of a component */
    TOKEN_CLASS,   /* [...] : one byte of a set */
    TOKEN_USER,    /* %u */
    TOKEN_UID,     /* %U */
};

struct token {
    uint8_t kind;               /* enum token_kind */
    uint8_t byte;               /* TOKEN_BYTE */
    const uint32_t *class_bits; /* TOKEN_CLASS: 8 words, bit b of 256 set = byte b matches ('/' and NUL never set) */
};

enum component_kind {
    COMPONENT_LITERAL,  /* bytes[0..len) exactly */
    COMPONENT_GLOB,     /* tokens[0..n) */
    COMPONENT_ANY_DEPTH,/* ** */
    COMPONENT_HOME,     /* %h as a whole component: the components of the caller's home directory */
};

struct component {
    enum component_kind kind;
    const char *bytes;          /* literal */
    size_t len;
    const struct token *tokens; /* glob */
    size_t n_tokens;
};

/* An absolute path pattern after `{}` expansion. No two ANY_DEPTH stand side by side. "/" has no components. */
struct pattern {
    const struct component *components;
    size_t n_components;
    size_t literal_len;   /* bytes of the path that its leading literal components spell ("/srv/a" = 6, "/" or none = 1) */
    const char *text;     /* as written (before expansion, unquoted, escapes kept), for list and print; NOT terminated */
    size_t text_len;
};

/* ---- subjects ---- */

enum term_kind { TERM_ANY, TERM_USER, TERM_GROUP, TERM_EXE, TERM_UNIT, TERM_CGROUP, TERM_LABEL, TERM_SET };

struct subject_set;

struct term {
    enum term_kind kind;
    uint32_t id;                       /* uid or gid */
    const char *text;                  /* exe, unit, cgroup, label: the pattern as written, terminated */
    const struct subject_set *set;     /* TERM_SET */
};

struct conj { const struct term *terms; size_t n_terms; };               /* all of them */
struct subjects { const struct conj *conjs; size_t n_conjs; };           /* any of them */

/* set @NAME = ...: any of its terms. Sets of sets hold their members' terms already (flattened), sorted ids beside. */
struct subject_set {
    const char *name;
    const struct term *terms; size_t n_terms; /* every member, no TERM_SET among them */
    const uid_t *uids; size_t n_uids;         /* sorted: the user: members */
    const gid_t *gids; size_t n_gids;         /* sorted: the group: members */
    bool any;                                 /* has `any` */
    bool other;                               /* has exe, unit, cgroup or label members */
};

/* ---- statements ---- */

struct ast_rule {
    struct policy_rule rule;           /* public part */
    const struct subjects *subjects;   /* identical texts share one */
    const struct pattern *patterns; size_t n_patterns; /* after expansion */
};

struct ast_assert {
    bool deny;                         /* assert deny */
    const struct subjects *subjects;   /* `any`, or conjunctions of user:, group: (and others) */
    unsigned rights;
    const char *path; size_t path_len; /* a clean path */
    const char *file; unsigned line; unsigned column;
};

struct ast {
    struct ast_rule *rules; size_t n_rules;
    struct ast_assert *asserts; size_t n_asserts;
    struct policy_user *users; size_t n_users;  /* sorted by uid; empty when not needed */
    const char **pseudo; size_t n_pseudo;       /* copied from the env */
};

/* What a rule's rights cover: as written, with append added to write. */
static inline unsigned rights_widen(unsigned rights)
{
    return rights & RIGHT_WRITE ? rights | RIGHT_APPEND : rights;
}

#endif
