/*
 * The parts of policy_lint(). What a part cannot prove it does not say.
 */
#ifndef FOB_POLICY_LINT_H
#define FOB_POLICY_LINT_H

#include "../common/path.h"
#include "internal.h"

struct link_cache;

struct lint {
    const struct policy *policy;
    struct policy_messages *messages;
    struct policy_scratch *scratch;
    const struct ast_rule *rule; /* at hand */
    time_t now;
    struct link_cache *links;
    char *own; /* real path of the policy, or NULL */
    bool own_is_dir;
    bool out_of_memory;
    /* What may still be spent on proofs. */
    unsigned cells_left, compares_left;
};

/* ---- lint.c: of the rule at hand ---- */

__attribute__((format(printf, 3, 4))) void lint_warn(struct lint *lint, const char *at, const char *format,
                                                     ...);
/* Where to point. A word that cannot be found is the statement. */
const char *lint_at_option(struct lint *lint, const char *prefix);
const char *lint_at_pattern(struct lint *lint, const struct pattern *pattern);
const char *lint_at_term(struct lint *lint, enum term_kind kind);
/* Some pattern of the rule before the i-th came of the same word. */
bool lint_is_same_word(const struct ast_rule *rule, uint32_t i);

/* ---- lint_witness.c: somebody, and a path ---- */

enum { WITNESS_GROUPS = 256, WITNESS_VARIANTS = 2 };
struct witness {
    struct policy_subject subject;
    gid_t groups[WITNESS_GROUPS];
    char exe[PATH_TEXT_MAX + 1], cgroup[PATH_TEXT_MAX + 1];
};
/* Somebody whom the conjunction matches, with nothing but what it asks for. */
void witness_subject(struct witness *witness, const struct policy *policy, const struct conj *conj);
/*
 * A path that the components match, as unlike what other rules name as can be; variants differ in what stands
 * for `*` and `**`. Its length, or 0: this variant has none.
 */
size_t witness_path(const struct component *components, size_t n, const struct policy_subject *subject,
                    unsigned variant, char out[PATH_TEXT_MAX + 1]);

/* ---- lint_cover.c: what implies what ---- */

/* Nobody but this user. */
bool cover_only_user(const struct subjects *subjects, uid_t uid);
/* `its` decides every request that `mine` would. */
bool cover_rule(struct lint *lint, const struct ast_rule *its, const struct ast_rule *mine);

/* ---- lint_reach.c ---- */

void lint_reach(struct lint *lint);

/* ---- lint_path.c, lint_link.c ---- */

void lint_paths(struct lint *lint);

void lint_links(struct lint *lint);
struct link_cache *link_cache_new(void);
void link_cache_free(struct link_cache *cache);

#endif
