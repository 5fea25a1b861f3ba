/*
 * What the halves of the policy library share: the front (text to ast.h) and the back (ast.h to decisions).
 */
#ifndef FOB_POLICY_INTERNAL_H
#define FOB_POLICY_INTERNAL_H

#include "arena.h"
#include "ast.h"

struct compiled;

/* One file's text, as it was read; lives as long as the policy. */
struct source {
    struct source *next;
    char *name;       /* as messages name it */
    const char *base; /* the file's name alone */
    char *text;       /* owned */
    size_t len;
};

struct policy {
    struct arena arena;
    struct source *sources; /* last first */
    struct ast ast;
    struct compiled *compiled;
    unsigned more_owners; /* policy_ref() */
};

/* compile.c: policy->compiled out of policy->ast. 0, -ENOMEM. */
int compile_policy(struct policy *policy);
void compiled_free(struct compiled *compiled);
size_t compiled_memory(const struct compiled *compiled);

/* subject.c: does it match? `deny` decides what an unknown term and the user database count for. */
bool subjects_match(const struct subjects *subjects, const struct policy_subject *subject, bool deny);

/* subject.c: is it among them? They are sorted. */
bool ids_have(const uint32_t *ids, size_t n, uint32_t id);
/* subject.c: how many single terms stand for a term (more than one for a set), and the i-th of them. */
size_t term_members(const struct term *term);
struct term term_member(const struct term *term, size_t i);
/* print.c: "user:bob", "@people". */
void term_print(FILE *out, const struct term *term);

/* pattern.c: does the pattern match, whatever file system it is on? */
bool pattern_matches(const struct pattern *pattern, const char *path, size_t len,
                     const struct policy_subject *subject);

/* pattern.c: %u, %U, %h: does what it matches depend on who asks? */
bool pattern_is_personal(const struct pattern *pattern);
/* pattern.c: how long the literal beginning of an allow's pattern must be for this path: wildcards do not
 * reach into pseudo file systems. (The oracle has its own, slow.c.) */
size_t pattern_needed_literal(const struct ast *ast, const char *path, size_t len);

/* who.c: the hypothetical subject of one conjunction without sets. NULL: no memory. */
struct policy_who *who_new(const struct policy *policy, const struct conj *conj);

/* quote.c: the word as the language would have it, in quotes where it needs them. */
void quote_word(FILE *out, const char *text, size_t len);
bool quote_needed(const char *text, size_t len);

#endif
