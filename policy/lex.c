#include "lex.h"

#include <errno.h>
#include <string.h>

#include "../common/escape.h"
#include "../common/util.h"

void lexer_init(struct lexer *lexer, struct arena *arena, const struct source *source,
                struct policy_messages *messages)
{
    *lexer = (struct lexer){
        .arena = arena,
        .source = source,
        .messages = messages,
        .pos = source->text,
        .line = 1,
    };
    if (source->len >= 3 && memcmp(source->text, "\xef\xbb\xbf", 3) == 0) {
        message_error(messages, source, source->text, "byte order mark: save the file without one");
        lexer->pos += 3;
    }
}

void lexer_deinit(struct lexer *lexer)
{
    free(lexer->words);
}

static const char *end_of(const struct lexer *lexer)
{
    return lexer->source->text + lexer->source->len;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* A byte that cannot stand in a policy, with what to do; NULL when it can. */
static const char *forbidden(const char *p, const char *end)
{
    unsigned char c = (unsigned char)*p;
    if (c == '\0')
        return "NUL byte: this is not a text file";
    if (c == '\r' && p + 1 < end && p[1] == '\n')
        return "line ends in CR LF: save the file with Unix line ends";
    if (c < ' ' && c != '\t' && c != '\n')
        return "control character: write it as \\xHH in double quotes";
    return c == 127 ? "control character: write it as \\xHH in double quotes" : NULL;
}

static size_t utf8_len(unsigned char first)
{
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* Is the character at p text? Says why not, once. */
static bool check_char(struct lexer *lexer, const char *p, const char *end)
{
    const char *why = forbidden(p, end);
    size_t len = utf8_len((unsigned char)*p);
    if (!why && len > 1 && ((size_t)(end - p) < len || !escape_is_utf8(p, len)))
        why = "invalid UTF-8: write the bytes as \\xHH in double quotes";
    if (why)
        message_error(lexer->messages, lexer->source, p, "%s", why);
    return !why;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The escape at p (a backslash), in quotes: its length, the byte in *out; 0 and an error. */
static size_t unescape(struct lexer *lexer, const char *p, const char *end, char *out)
{
    char next = p + 1 < end ? p[1] : '\0';
    if (next == '"' || next == '\\') {
        *out = next;
        return 2;
    }
    if (next == 'n') {
        *out = '\n';
        return 2;
    }
    if (next == 'x' && end - p >= 4 && hex_value(p[2]) >= 0 && hex_value(p[3]) >= 0) {
        *out = (char)(hex_value(p[2]) * 16 + hex_value(p[3]));
        return 4;
    }
    message_error(lexer->messages, lexer->source, p,
                  "unknown escape: in double quotes there are \\\" \\\\ \\n and \\xHH");
    return 0;
}

static int add_word(struct lexer *lexer, struct word word)
{
    int err = mem_grow(&lexer->words, lexer->n_words, &lexer->cap, sizeof *lexer->words);
    if (err < 0)
        return err;
    lexer->words[lexer->n_words++] = word;
    return 0;
}

/* From the opening quote. 1 ok, 0 an error was said, -ENOMEM. */
static int quoted_word(struct lexer *lexer)
{
    const char *at = lexer->pos, *p = at + 1, *end = end_of(lexer);
    const char *limit = memchr(at, '\n', (size_t)(end - at));
    limit = limit ? limit : end;
    char *out = arena_text(lexer->arena, p, (size_t)(limit - p));
    size_t len = 0;
    if (!out)
        return -ENOMEM;
    while (p < limit && *p != '"') {
        size_t step = 1;
        out[len] = *p;
        if (*p == '\\')
            step = unescape(lexer, p, limit, &out[len]);
        else if (!check_char(lexer, p, limit))
            step = 0;
        if (step == 0)
            return 0;
        p += step;
        len++;
    }
    if (p == limit) {
        message_error(lexer->messages, lexer->source, at, "quote is not closed on its line");
        return 0;
    }
    lexer->pos = p + 1;
    if (lexer->pos < end && !is_blank(*lexer->pos) && *lexer->pos != '\n') {
        message_error(lexer->messages, lexer->source, lexer->pos,
                      "a blank is missing after the closing quote");
        return 0;
    }
    return add_word(lexer, (struct word){ out, len, at, true, false }) < 0 ? -ENOMEM : 1;
}

static int plain_word(struct lexer *lexer)
{
    const char *at = lexer->pos, *p = at, *end = end_of(lexer);
    while (p < end && !is_blank(*p) && *p != '\n') {
        if (*p == '\\' && p + 1 < end && p[1] == '\n')
            break;
        if (*p == '"') {
            message_error(lexer->messages, lexer->source, p, "quote inside a word: quote the whole word");
            return 0;
        }
        if (!check_char(lexer, p, end))
            return 0;
        p += utf8_len((unsigned char)*p);
        if (p[-1] == '\\' && p < end && *p != '\n' && check_char(lexer, p, end))
            p += utf8_len((unsigned char)*p); /* what is escaped belongs to the word, a blank too */
    }
    lexer->pos = p;
    return add_word(lexer, (struct word){ at, (size_t)(p - at), at, false, true }) < 0 ? -ENOMEM : 1;
}

/* Passes blanks, comments and continued line ends. False at the end of the statement. */
static bool skip_blanks(struct lexer *lexer)
{
    const char *end = end_of(lexer);
    for (;;) {
        while (lexer->pos < end && is_blank(*lexer->pos))
            lexer->pos++;
        if (lexer->pos < end && *lexer->pos == '#')
            while (lexer->pos < end && *lexer->pos != '\n') {
                if (!check_char(lexer, lexer->pos, end))
                    return false;
                lexer->pos += utf8_len((unsigned char)*lexer->pos);
            }
        if (end - lexer->pos < 2 || lexer->pos[0] != '\\' || lexer->pos[1] != '\n')
            return lexer->pos < end && *lexer->pos != '\n';
        lexer->pos += 2;
        lexer->line++;
    }
}

static void skip_line(struct lexer *lexer)
{
    const char *end = end_of(lexer);
    while (lexer->pos < end && *lexer->pos != '\n')
        lexer->pos++;
}

/* 1: words were read; 0: an error was said; -ENOMEM. */
static int read_words(struct lexer *lexer)
{
    while (skip_blanks(lexer)) {
        if (lexer->n_words == 0) {
            lexer->statement = lexer->pos;
            lexer->statement_line = lexer->line;
        }
        int got = *lexer->pos == '"' ? quoted_word(lexer) : plain_word(lexer);
        if (got <= 0)
            return got;
        lexer->statement_end = lexer->pos;
    }
    return 1;
}

int lexer_next(struct lexer *lexer)
{
    const char *end = end_of(lexer);
    while (lexer->pos < end) {
        unsigned errors = lexer->messages->n_errors;
        lexer->n_words = 0;
        int got = read_words(lexer);
        if (got < 0)
            return got;
        skip_line(lexer);
        if (lexer->pos < end) {
            lexer->pos++;
            lexer->line++;
        }
        if (got && lexer->n_words && lexer->messages->n_errors == errors)
            return 1;
    }
    return 0;
}
