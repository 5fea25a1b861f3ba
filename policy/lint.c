/*
 * Warnings: rules that are likely not to be what was meant.
 */
#include "lint.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../common/util.h"
#include "lex.h"

/* Proofs are bounded: thousands of rules with odd patterns must not take minutes. */
enum { CELLS_MAX = 1000, COMPARES_MAX = 4000000 };

/* ---- places ---- */

typedef bool word_fn(const struct word *word, size_t index, const void *what);

/* The rule's text again as words: they are not kept. The first that fits, or `otherwise`. */
static const char *find_word(const struct policy_rule *rule, word_fn *fits, const void *what,
                             const char *otherwise)
{
    struct arena arena = { 0 };
    struct policy_messages messages = { 0 };
    struct source source = { .text = (char *)rule->text, .len = rule->text_len };
    struct lexer lexer;
    const char *at = otherwise;
    lexer_init(&lexer, &arena, &source, &messages);
    if (lexer_next(&lexer) > 0)
        for (size_t i = 0; at == otherwise && i < lexer.n_words; i++)
            if (fits(&lexer.words[i], i, what))
                at = lexer.words[i].at;
    lexer_deinit(&lexer);
    arena_free(&arena);
    policy_messages_deinit(&messages);
    return at;
}

static bool begins_with(const struct word *word, size_t index, const void *prefix)
{
    return index > 3 && !word->quoted && word->len >= strlen(prefix) &&
           memcmp(word->text, prefix, strlen(prefix)) == 0;
}

static bool is_pattern(const struct word *word, size_t index, const void *what)
{
    const struct pattern *pattern = what;
    return index > 2 && word->len == pattern->text_len && memcmp(word->text, pattern->text, word->len) == 0;
}

static bool is_set(const struct word *word, size_t index, const void *what)
{
    (void)what;
    return index > 2 && !word->quoted && word->len && word->text[0] == '@';
}

static bool is_second(const struct word *word, size_t index, const void *what)
{
    (void)word;
    (void)what;
    return index == 1;
}

const char *lint_at_option(struct lint *lint, const char *prefix)
{
    return find_word(&lint->rule->rule, begins_with, prefix, lint->rule->rule.text);
}

const char *lint_at_pattern(struct lint *lint, const struct pattern *pattern)
{
    const struct policy_rule *rule = &lint->rule->rule;
    const char *at = find_word(rule, is_pattern, pattern, NULL);
    return at ? at : find_word(rule, is_set, NULL, rule->text);
}

const char *lint_at_term(struct lint *lint, enum term_kind kind)
{
    static const char *const prefixes[] = {
        [TERM_EXE] = "exe:", [TERM_UNIT] = "unit:", [TERM_CGROUP] = "cgroup:", [TERM_LABEL] = "label:"
    };
    const struct policy_rule *rule = &lint->rule->rule;
    const char *at = find_word(rule, is_second, NULL, rule->text), *end = rule->text + rule->text_len;
    size_t len = strlen(prefixes[kind]);
    for (const char *p = at; end - p >= (ptrdiff_t)len && !strchr(" \t\n", *p); p++)
        if (memcmp(p, prefixes[kind], len) == 0)
            return p;
    return at;
}

bool lint_is_same_word(const struct ast_rule *rule, uint32_t i)
{
    return i > 0 && rule->patterns[i].text == rule->patterns[i - 1].text;
}

static const struct source *source_of(const struct policy *policy, const char *at)
{
    const struct source *source = policy->sources;
    while (source && (at < source->text || at > source->text + source->len))
        source = source->next;
    return source;
}

void lint_warn(struct lint *lint, const char *at, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    message_warning(lint->messages, source_of(lint->policy, lint->rule->rule.text), at, "%s", text);
}

/* ---- options ---- */

static void check_seal(struct lint *lint)
{
    const struct policy_rule *rule = &lint->rule->rule;
    if (!rule->sealed && rule->rights & RIGHT_LIST && rule->types & POLICY_TYPE_DIR)
        lint_warn(lint, lint_at_option(lint, "seal="),
                  "list with seal=no: `..` of a directory leads out of it (two rules: list without seal=no)");
}

static void check_as(struct lint *lint)
{
    const struct ast_rule *rule = lint->rule;
    if (rule->rule.as == POLICY_AS_BROKER)
        return;
    bool user = rule->rule.as == POLICY_AS_USER;
    if (cover_only_user(rule->subjects, 0))
        lint_warn(lint, lint_at_option(lint, "as="),
                  "as=%s cannot help: the caller is root, who %s (leave it out)", user ? "user:" : "caller",
                  user ? "becomes any user without it" : "passes the kernel's checks anyway");
    else if (user && cover_only_user(rule->subjects, rule->as_uid))
        lint_warn(lint, lint_at_option(lint, "as="),
                  "as=user: cannot help: it is the caller itself (write as=caller)");
}

/* The default lets a client choose as open(2) does; only who wrote mode= may have meant something else. */
static void check_mode(struct lint *lint)
{
    const struct policy_rule *rule = &lint->rule->rule;
    if (!(rule->mode & S_IWOTH) || !memmem(rule->text, rule->text_len, "mode=", 5))
        return;
    const char *at = find_word(rule, begins_with, "mode=", NULL);
    if (at)
        lint_warn(lint, at, "mode=%04o: everybody can write the files that are created (write mode=%04o)",
                  (unsigned)rule->mode, (unsigned)(rule->mode & ~S_IWOTH));
}

/* ---- denies ---- */

static bool narrows(const struct term *term, enum term_kind *kind)
{
    *kind = term->kind;
    if (term->kind != TERM_SET)
        return term->kind == TERM_EXE || term->kind == TERM_UNIT || term->kind == TERM_CGROUP ||
               term->kind == TERM_LABEL;
    for (size_t i = 0; i < term->set->n_terms; i++)
        if (narrows(&term->set->terms[i], kind))
            return true;
    return false;
}

static void check_deny(struct lint *lint)
{
    static const char *const names[] = {
        [TERM_EXE] = "exe:", [TERM_UNIT] = "unit:", [TERM_CGROUP] = "cgroup:", [TERM_LABEL] = "label:"
    };
    const struct subjects *subjects = lint->rule->subjects;
    for (size_t i = 0; i < subjects->n_conjs; i++)
        for (size_t j = 0; j < subjects->conjs[i].n_terms; j++) {
            enum term_kind kind;
            if (!narrows(&subjects->conjs[i].terms[j], &kind))
                continue;
            lint_warn(
                lint, lint_at_term(lint, kind),
                "%s in a deny: it also refuses everybody of whom it cannot be known (allow by %s instead)",
                names[kind], names[kind]);
            return;
        }
}

/* ---- the whole ---- */

static void check_rule(struct lint *lint)
{
    const struct policy_rule *rule = &lint->rule->rule;
    if (rule->until && rule->until <= lint->now) {
        lint_warn(lint, lint_at_option(lint, "until="),
                  "until= is over: the rule decides nothing any more (remove it)");
        return;
    }
    lint_reach(lint);
    lint_links(lint);
    lint_paths(lint);
    if (rule->deny) {
        check_deny(lint);
        return;
    }
    check_seal(lint);
    check_as(lint);
    check_mode(lint);
}

static void find_own(struct lint *lint, const char *path)
{
    struct stat st;
    lint->own = path ? realpath(path, NULL) : NULL;
    lint->own_is_dir = lint->own && stat(lint->own, &st) == 0 && S_ISDIR(st.st_mode);
}

int policy_lint(const struct policy *policy, const char *path, struct policy_messages *messages)
{
    struct lint lint = {
        .policy = policy,
        .messages = messages,
        .scratch = policy_scratch_new(policy),
        .now = time(NULL),
        .links = link_cache_new(),
        .cells_left = CELLS_MAX,
        .compares_left = COMPARES_MAX,
    };
    lint.out_of_memory = !lint.scratch || !lint.links;
    find_own(&lint, path);
    for (size_t i = 0; i < policy->ast.n_rules && !lint.out_of_memory; i++) {
        lint.rule = &policy->ast.rules[i];
        check_rule(&lint);
    }
    message_warning_end(messages);
    policy_scratch_free(lint.scratch);
    link_cache_free(lint.links);
    free(lint.own);
    return lint.out_of_memory || messages->out_of_memory ? -ENOMEM : 0;
}
