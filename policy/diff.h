/*
 * What the parts of policy_diff() share.
 *
 * A difference is always a changed rule's doing: one that only one policy has. For each of its patterns the
 * ways in which paths match (cells.h) are looked at with hypothetical subjects: who the rule names; for a
 * deny, also whom the allow rules name that it takes from, and both at once. Of each the two policies are
 * asked which sets of rights they allow.
 */
#ifndef FOB_POLICY_DIFF_H
#define FOB_POLICY_DIFF_H

#include "cells.h"

enum side { SIDE_OLD, SIDE_NEW, SIDES };

/* A rule of either policy that has not ended. */
struct diff_rule {
    const struct ast_rule *rule;
    uint32_t subjects; /* which of the distinct ones */
    uint8_t side;
    bool changed;                 /* the other policy has none like it */
    const struct diff_rule *twin; /* of an old rule: the first new one like it */
    size_t key, key_len;          /* what makes rules alike */
    bool *same; /* of a changed rule, or NULL: [conjunction * n_patterns + a word's first pattern]: the other
                   policy has this much of it */
};

/* A pattern of a rule, or a mount point of a pseudo file system, which wildcards do not cross. */
struct diff_entry {
    const struct pattern *pattern;
    const struct diff_rule *rule; /* NULL: mount point */
    uint16_t n_literal;           /* leading components that are */
    bool personal;                /* has %u, %U or %h */
};

struct diff_cell {
    size_t path, first; /* in the run's paths, in its matched */
    uint32_t len, n;
};

/* The cells of one list of patterns. */
struct diff_run {
    const struct diff_entry **list; /* [0]: the pattern whose cells they are */
    size_t n_list, cap_list;
    const struct diff_entry **last; /* the list that the cells are of */
    size_t n_last, cap_last;
    struct diff_cell *cells;
    uint32_t *matched; /* indices into the list */
    char *paths;
    size_t n_cells, cap_cells, n_matched, cap_matched, n_paths, cap_paths;
    bool personal, incomplete, failed;
};

/* Patterns of exe: or cgroup: terms: a witness keeps clear of those that it need not match. */
struct diff_patterns {
    const struct pattern **all;
    size_t n, cap;
};

struct diff {
    const struct policy *sides[SIDES];
    const struct policy_user *users; /* of the user database */
    size_t n_users;
    uint32_t *by_name; /* indices of users, sorted by name; made when needed */
    struct arena arena;
    struct diff_rule *rules; /* sorted by key once indexed */
    size_t n_rules;
    char *keys;
    const struct subjects **subjects; /* the distinct ones */
    size_t n_subjects;
    struct diff_entry *entries; /* sorted by literal beginning */
    size_t n_entries, cap_entries;
    const struct diff_entry **relevant; /* to relevant_to */
    uint32_t *slots;                    /* of each of them: its rule's, of verdicts; mount points have none */
    size_t n_relevant;
    const struct pattern *relevant_to;
    struct diff_patterns exes, cgroups;
    struct diff_run run;
    uint64_t subsets[RIGHT_ALL + 1]; /* bit r: r is a subset of the rights */
};

/* ---- diff_index.c ---- */

int diff_index(struct diff *diff, time_t now);
void diff_index_free(struct diff *diff);
/* Fills diff->relevant: what a path that the pattern matches can match too, of rules with any of the rights.
 * The pattern's own entry stands first. */
void diff_find_relevant(struct diff *diff, const struct diff_rule *rule, const struct pattern *pattern);

/* ---- diff_rules.c ---- */

int diff_match_rules(struct diff *diff);

/* ---- diff_who.c ---- */

struct candidate {
    struct policy_who *who; /* NULL: nobody is all of that */
    struct policy_subject subject;
    struct policy_user stand_in; /* for a user whom no rule names: %u */
    char *exe, *cgroup;
    uint8_t
        *verdicts; /* by slot: of each of diff->subjects, allow and deny. 0: not asked yet; 1: no; 2: yes */
};
int candidate_init(struct candidate *candidate, struct diff *diff, const struct term *terms, size_t n);
void candidate_deinit(struct candidate *candidate);
bool candidate_is(const struct candidate *candidate, const struct term *terms, size_t n, bool deny);
/* Does a rule mean them? */
bool candidate_matches(const struct diff *diff, struct candidate *candidate, uint32_t slot);
static inline uint32_t slot_of_rule(const struct diff_rule *rule)
{
    return 2 * rule->subjects + rule->rule->rule.deny;
}

/* "user:bob+group:adm": a word, quoted where it must be. */
int put_who(FILE *out, const struct term *terms, size_t n);

/* ---- diff_cells.c ---- */

/* In how many cells a set of rights changes hands. */
struct tally_rights {
    uint32_t count;
    uint64_t which; /* hash of the cells */
    char *witness;  /* escaped; of a cell in which `base` does not have the same change */
};
struct tally {
    struct tally_rights rights[RIGHT_ALL + 1];
    uint32_t n_cells;
    bool incomplete; /* there are more cells */
    bool personal;   /* %u, %U or %h had a say */
};
/* Adds the cells of one pattern of a changed rule. base (or NULL): whose changes are told already. */
int tally_pattern(struct tally *tally, struct diff *diff, const struct diff_rule *rule,
                  const struct pattern *pattern, struct candidate *who, struct candidate *base);
void tally_deinit(struct tally *tally);
/* Does the changed rule, by its coming or going, give? */
static inline bool diff_gives(const struct diff_rule *rule)
{
    return (rule->side == SIDE_NEW) != rule->rule->rule.deny;
}

/* ---- diff_items.c ---- */

/* A change for one of the subjects that a conjunction with sets stands for. */
struct diff_item {
    const struct pattern *pattern;
    char *rights, *witness;
    size_t way;
    char sign;
    bool in_part, incomplete;
};
struct diff_items {
    struct diff_item *all;
    size_t n, cap;
};
/* What a tally of a pattern (a word's first) says; takes from the tally what goes without saying. */
int items_add(struct diff_items *items, const struct diff_rule *rule, const struct pattern *word, size_t way,
              struct tally *tally);
/* By what they say, then by way. Compared: 0 if they say the same. */
void items_sort(struct diff_items *items);
int items_compare(const struct diff_item *a, const struct diff_item *b);
void items_clear(struct diff_items *items, size_t from);

/* ---- diff_users.c ---- */

/* A list of users of the database whose %u or %h might meet what other patterns say. free() it. */
int users_to_try(uint32_t **users, size_t *n, struct diff *diff);

/* ---- diff_lines.c ---- */

struct diff_line {
    char *text, *subject;
    const struct pattern *pattern;
};
struct diff_lines {
    struct diff_line *all;
    size_t n, cap;
};
/* "SIGN SUBJECT RIGHTS PATTERN TAIL" */
int lines_add(struct diff_lines *lines, char sign, const struct term *terms, size_t n,
              const struct pattern *pattern, const char *rights, const char *tail);
/* Sorted, each once; then the rules whose options changed. The number of lines, or a negative errno. */
int lines_write(struct diff_lines *lines, const struct diff *diff, FILE *out);
void lines_deinit(struct diff_lines *lines);

#endif
