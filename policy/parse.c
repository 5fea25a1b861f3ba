/*
 * Statements: set, allow, deny, assert.
 */
#include "parse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../common/path.h"
#include "../common/util.h"

/* ---- what all parts use ---- */

void parse_error(struct parser *parser, const char *at, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    message_error(parser->messages, parser->source, at, "%s", text);
}

const char *parse_place(const struct word *word, size_t offset)
{
    return word->plain && offset <= word->len ? word->at + offset : word->at;
}

bool word_is(const struct word *word, const char *text)
{
    return !word->quoted && strlen(text) == word->len && memcmp(word->text, text, word->len) == 0;
}

/* Levenshtein distance of short words; more than 2 is as good as infinite. */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    enum { MAX = 16 };
    unsigned row[MAX + 1];
    if (a_len > MAX || b_len > MAX)
        return MAX;
    for (unsigned j = 0; j <= b_len; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            unsigned cost = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            unsigned least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = cost < least ? cost : least;
        }
    }
    return row[b_len];
}

const char *parse_suggestion(const char *text, size_t len, const char *const *known, size_t n)
{
    static char suggestion[64];
    unsigned best = 3;
    suggestion[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        unsigned d = distance(text, len, known[i], strlen(known[i]));
        if (d >= best || d >= len)
            continue;
        best = d;
        snprintf(suggestion, sizeof suggestion, " (did you mean `%s`?)", known[i]);
    }
    return suggestion;
}

/* ---- rights ---- */

static const char *const right_names[] = { "read", "write", "append", "create", "list", "stat", "all" };

static bool parse_rights(struct parser *parser, const struct word *word, unsigned *rights)
{
    *rights = 0;
    if (word_is(word, "all")) {
        *rights = RIGHT_ALL;
        return true;
    }
    for (size_t from = 0; from <= word->len;) {
        const char *comma = memchr(word->text + from, ',', word->len - from);
        size_t to = comma ? (size_t)(comma - word->text) : word->len;
        const char *name = word->text + from;
        unsigned right = policy_right_by_name(name, to - from);
        if (!right) {
            parse_error(
                parser, parse_place(word, from),
                "`%.*s` is no right: there are read, write, append, create, list, stat, or all alone%s",
                (int)(to - from < 100 ? to - from : 100), name,
                parse_suggestion(name, to - from, right_names, ARRAY_SIZE(right_names)));
            return false;
        }
        *rights |= right;
        from = to + 1;
    }
    return true;
}

/* ---- allow, deny ---- */

static bool looks_like_path(const struct word *word)
{
    return word->quoted || (word->len && memchr("/%@", word->text[0], 3));
}

static bool parse_paths(struct parser *parser, const struct word *words, size_t n, size_t *i)
{
    bool good = true;
    parser->n_patterns = 0;
    for (; *i < n && looks_like_path(&words[*i]); ++*i)
        good = parse_path(parser, &words[*i]) && good;
    return good;
}

static bool parse_options(struct parser *parser, const struct word *words, size_t n, struct policy_rule *rule)
{
    unsigned seen = 0;
    bool good = true;
    for (size_t i = 0; i < n; i++) {
        if (looks_like_path(&words[i])) {
            parse_error(parser, words[i].at, "paths stand before the options");
            return false;
        }
        good = parse_option(parser, &words[i], rule, &seen) && good;
    }
    return good;
}

static void keep_rule(struct parser *parser, const struct policy_rule *rule, const struct subjects *subjects)
{
    struct pattern *patterns =
        arena_copy(&parser->policy->arena, parser->patterns, parser->n_patterns, sizeof *patterns);
    if (!patterns ||
        mem_grow(&parser->rules, parser->n_rules, &parser->cap_rules, sizeof *parser->rules) < 0) {
        parser->out_of_memory = true;
        return;
    }
    struct ast_rule *kept = &parser->rules[parser->n_rules++];
    *kept = (struct ast_rule){ *rule, subjects, patterns, (uint32_t)parser->n_patterns, parser->as_uid };
    kept->rule.number = (uint32_t)parser->n_rules;
}

static void parse_rule(struct parser *parser, const struct lexer *lexer)
{
    const struct word *words = lexer->words;
    size_t n = lexer->n_words, path = 3;
    struct policy_rule rule = {
        .line = lexer->statement_line,
        .file = parser->source->base,
        .text = lexer->statement,
        .text_len = (uint32_t)(lexer->statement_end - lexer->statement),
        .mode = 0666,
        .sealed = true,
        .deny = word_is(&words[0], "deny"),
    };
    unsigned rights = 0;
    if (n < 4) {
        parse_error(parser, words[0].at,
                    "a rule has the form: %s SUBJECTS RIGHTS PATH [PATH ...] [OPTION ...]",
                    rule.deny ? "deny" : "allow");
        return;
    }
    const struct subjects *subjects = parse_subjects(parser, &words[1], rule.deny);
    bool good = parse_rights(parser, &words[2], &rights);
    rule.rights = (uint8_t)rights;
    good = parse_paths(parser, words, n, &path) && good;
    good = parse_options(parser, words + path, n - path, &rule) && good;
    if (good && path == 3) {
        parse_error(parser, words[3].at, "a path is missing (absolute, before the options)");
        good = false;
    }
    if (rule.types == 0)
        rule.types = (uint8_t)(POLICY_TYPE_FILE | (rights & RIGHT_LIST ? POLICY_TYPE_DIR : 0));
    if (good && subjects)
        keep_rule(parser, &rule, subjects);
}

/* ---- assert ---- */

static void keep_assert(struct parser *parser, const struct ast_assert *assert)
{
    if (mem_grow(&parser->asserts, parser->n_asserts, &parser->cap_asserts, sizeof *parser->asserts) < 0)
        parser->out_of_memory = true;
    else
        parser->asserts[parser->n_asserts++] = *assert;
    parser->needs_users = true;
}

static void parse_assert(struct parser *parser, const struct word *words, size_t n)
{
    bool deny = n > 1 && word_is(&words[1], "deny");
    if (n != 5 || (!deny && !word_is(&words[1], "allow"))) {
        parse_error(parser, words[0].at, "an assertion has the form: assert allow|deny SUBJECTS RIGHTS PATH");
        return;
    }
    unsigned rights;
    /* A hypothetical subject may be an exe: alone; nothing is allowed by it. */
    const struct subjects *subjects = parse_subjects(parser, &words[2], true);
    bool good = parse_rights(parser, &words[3], &rights) && subjects;
    if (!path_is_clean(words[4].text, words[4].len)) {
        parse_error(parser, words[4].at,
                    "an assertion is about one path: absolute, without `.`, `..` and `//`");
        good = false;
    }
    struct ast_assert assert = { deny,         subjects,       rights,     words[4].text,
                                 words[4].len, parser->source, words[0].at };
    if (good)
        keep_assert(parser, &assert);
}

/* ---- files ---- */

static void parse_statement(struct parser *parser, const struct lexer *lexer)
{
    static const char *const keywords[] = { "allow", "deny", "set", "assert" };
    const struct word *first = &lexer->words[0];
    parser->as_uid = 0;
    if (word_is(first, "allow") || word_is(first, "deny"))
        parse_rule(parser, lexer);
    else if (word_is(first, "set"))
        parse_set(parser, lexer->words, lexer->n_words);
    else if (word_is(first, "assert"))
        parse_assert(parser, lexer->words, lexer->n_words);
    else
        parse_error(parser, first->at, "`%.*s` begins no statement: there are allow, deny, set and assert%s",
                    (int)(first->len < 100 ? first->len : 100), first->text,
                    parse_suggestion(first->text, first->len, keywords, ARRAY_SIZE(keywords)));
}

int parse_source(struct parser *parser, const struct source *source)
{
    struct lexer lexer;
    parser->source = source;
    lexer_init(&lexer, &parser->policy->arena, source, parser->messages);
    int got;
    while ((got = lexer_next(&lexer)) > 0 && !parser->out_of_memory)
        parse_statement(parser, &lexer);
    lexer_deinit(&lexer);
    return got < 0 || parser->out_of_memory ? -ENOMEM : 0;
}
