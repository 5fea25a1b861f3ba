/*
 * The parser's parts: words to ast.h. Everything that is wrong goes to parser->messages; a function that says
 * 0 has said why.
 */
#ifndef FOB_POLICY_PARSE_H
#define FOB_POLICY_PARSE_H

#include "lex.h"
#include "names.h"

/* set @NAME = ... */
struct named_set {
    struct named_set *next;
    const char *name; /* terminated, without the @ */
    bool has_paths;
    struct subject_set subjects;
    const struct pattern *patterns;
    size_t n_patterns;
};

struct shared_subjects {
    struct shared_subjects *next;
    const char *text;
    size_t len;
    uint32_t hash;
    bool narrows; /* has an exe:, unit:, cgroup: or label: term that stands without user: or group: */
    const struct subjects *subjects;
};

enum { SUBJECT_BUCKETS = 4096 };
struct parser {
    struct policy *policy;
    struct policy_messages *messages;
    const struct policy_env *env;
    const struct source *source;
    struct names *names;
    struct named_set *sets;
    struct shared_subjects **subjects; /* SUBJECT_BUCKETS */
    struct ast_rule *rules;            /* growing */
    size_t n_rules, cap_rules;
    struct ast_assert *asserts; /* growing */
    size_t n_asserts, cap_asserts;
    uid_t *mentioned; /* growing: of as=user: and assert */
    size_t n_mentioned, cap_mentioned;
    const char **ids; /* growing: id= of all rules */
    size_t n_ids, cap_ids;
    bool needs_users; /* %u, %h, deny by group, as=user:, assert */
    bool out_of_memory;
    bool trusts_all; /* whoever owns the file: it grants nothing */
    void *scratch;   /* parse_scratch_size() bytes: of the pattern at hand */
    /* of the rule at hand */
    struct pattern *patterns;
    size_t n_patterns, cap_patterns;
    uid_t as_uid;
};

__attribute__((format(printf, 3, 4))) void parse_error(struct parser *parser, const char *at,
                                                       const char *format, ...);
/* Of a word's byte: its place in the source as near as can be told. */
const char *parse_place(const struct word *word, size_t offset);
/* The word's text is `text`. */
bool word_is(const struct word *word, const char *text);
/* " (did you mean `x`?)" in a static buffer, or "". */
const char *parse_suggestion(const char *text, size_t len, const char *const *known, size_t n);

/* parse_pattern.c */
size_t parse_scratch_size(void);
/* Appends the word's patterns to parser->patterns. */
bool parse_path(struct parser *parser, const struct word *word);
/* Part of a word as the patterns of an exe: or cgroup: term. */
bool parse_pattern_term(struct parser *parser, const struct word *word, size_t offset, size_t len,
                        struct term *term);

/* parse_subject.c */
const struct subjects *parse_subjects(struct parser *parser, const struct word *word, bool deny);
bool parse_term(struct parser *parser, const struct word *word, size_t offset, size_t len, struct term *term);
struct named_set *parse_find_set(struct parser *parser, const char *name, size_t len);

/* parse_set.c */
void parse_set(struct parser *parser, const struct word *words, size_t n);

/* parse_option.c */
bool parse_option(struct parser *parser, const struct word *word, struct policy_rule *rule, unsigned *seen);

int parser_init(struct parser *parser, struct policy *policy, const struct policy_env *env,
                struct policy_messages *messages);
void parser_deinit(struct parser *parser);
/* After the last source: users, identical ids; fills policy->ast. 0, -ENOMEM. */
int parser_finish(struct parser *parser);
/* parse.c: one file. Its errors go to messages; -ENOMEM. */
int parse_source(struct parser *parser, const struct source *source);

#endif
