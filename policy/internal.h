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
};

/* compile.c: policy->compiled out of policy->ast. 0, -ENOMEM. */
int compile_policy(struct policy *policy);
void compiled_free(struct compiled *compiled);
size_t compiled_memory(const struct compiled *compiled);

/* subject.c: does it match? `deny` decides what an unknown term and the user database count for. */
bool subjects_match(const struct subjects *subjects, const struct policy_subject *subject, bool deny);

#endif
