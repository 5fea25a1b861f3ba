/*
 * Path patterns: braces are expanded first, then each result is cut into components.
 */
#include <errno.h>
#include <string.h>

#include "../common/path.h"
#include "../common/util.h"
#include "parse.h"

enum { EXPANSIONS_MAX = 1024, COMPONENTS_MAX = 2048, TOKENS_MAX = 4096 };

/* ---- braces ---- */

struct expansion {
    struct parser *parser;
    const struct word *word;
    unsigned count;
    bool failed;
};

static void fail(struct expansion *e, size_t offset, const char *what)
{
    if (!e->failed)
        parse_error(e->parser, parse_place(e->word, offset), "%s", what);
    e->failed = true;
}

/* The `}` or the `,` of this level at or after i; len if none. An escaped character is passed over. */
static size_t find_in_braces(const char *text, size_t len, size_t i, bool comma)
{
    for (unsigned depth = 0; i < len; i++) {
        if (text[i] == '\\')
            i++;
        else if (text[i] == '{')
            depth++;
        else if (depth == 0 && (text[i] == '}' || (comma && text[i] == ',')))
            return i;
        else if (text[i] == '}')
            depth--;
    }
    return len;
}

static size_t find_brace(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\\')
            i++;
        else if (text[i] == '{' || text[i] == '}')
            return i;
    }
    return len;
}

static void add_pattern(struct expansion *e, const char *text, size_t len, bool plain);

/* Every alternative of the first brace, each then expanded further. */
static void expand(struct expansion *e, const char *text, size_t len, bool plain)
{
    size_t open = find_brace(text, len);
    if (open == len) {
        add_pattern(e, text, len, plain);
        return;
    }
    size_t close = find_in_braces(text, len, open + 1, false);
    if (text[open] == '}' || close >= len) {
        fail(e, plain ? open : 0,
             text[open] == '}' ? "`}` without `{` (a literal one is written \\})"
                               : "`{` is not closed (a literal one is written \\{)");
        return;
    }
    for (size_t from = open + 1; !e->failed && from <= close;) {
        size_t to = find_in_braces(text, len, from, true), joined = open + (to - from) + (len - close - 1);
        char *made = arena_alloc(&e->parser->policy->arena, joined + 1, 1);
        if (!made) {
            e->parser->out_of_memory = e->failed = true;
            return;
        }
        memcpy(made, text, open);
        memcpy(made + open, text + from, to - from);
        memcpy(made + open + (to - from), text + close + 1, len - close - 1);
        expand(e, made, joined, false);
        from = to + 1;
    }
}

/* ---- one component ---- */

struct component_parse {
    struct expansion *e;
    const char *text;
    size_t offset, end; /* of the component in the pattern's text */
    bool plain;         /* offsets are those of the word */
    struct token tokens[TOKENS_MAX];
    struct token_class classes[CLASSES_MAX];
    size_t n, n_classes;
    bool only_bytes;
};

static void fail_at(struct component_parse *c, size_t offset, const char *what)
{
    fail(c->e, c->plain ? offset : 0, what);
}

static void put_token(struct component_parse *c, enum token_kind kind, char byte)
{
    c->tokens[c->n++] = (struct token){ (uint8_t)kind, (uint8_t)byte };
    c->only_bytes = c->only_bytes && kind == TOKEN_BYTE;
}

static void class_add(uint32_t *bits, unsigned from, unsigned to)
{
    for (unsigned b = from; b <= to; b++)
        bits[b / 32] |= UINT32_C(1) << b % 32;
}

/* One byte of a class at *i, escaped or not. */
static unsigned char class_byte(const struct component_parse *c, size_t *i)
{
    if (c->text[*i] == '\\' && *i + 1 < c->end)
        ++*i;
    return (unsigned char)c->text[(*i)++];
}

/* From the `[` at i; past the `]`, or 0 and an error. A `]` right after the beginning is itself a member, as
 * in sh(1). */
static size_t parse_class(struct component_parse *c, size_t i)
{
    size_t open = i++;
    struct token_class class = { .bits = { 0 } };
    bool inverted = i < c->end && (c->text[i] == '!' || c->text[i] == '^');
    i += inverted;
    for (bool first = true; i < c->end && (first || c->text[i] != ']'); first = false) {
        unsigned char from = class_byte(c, &i), to = from;
        if (i + 1 < c->end && c->text[i] == '-' && c->text[i + 1] != ']') {
            i++;
            to = class_byte(c, &i);
        }
        if (to < from) {
            fail_at(c, open, "range in `[...]` runs backwards");
            return 0;
        }
        class_add(class.bits, from, to);
    }
    if (i >= c->end) {
        fail_at(c, open, "`[` is not closed within its component (a literal one is written \\[)");
        return 0;
    }
    if (c->n_classes == CLASSES_MAX) {
        fail_at(c, open, "more `[...]` than a name has bytes (255): it would match nothing");
        return 0;
    }
    for (size_t word = 0; inverted && word < 8; word++)
        class.bits[word] = ~class.bits[word];
    class.bits[0] &= ~UINT32_C(1);
    class.bits['/' / 32] &= ~(UINT32_C(1) << '/' % 32);
    c->classes[c->n_classes] = class;
    put_token(c, TOKEN_CLASS, (char)c->n_classes++);
    return i + 1;
}

/* From the `%` at i. */
static size_t parse_percent(struct component_parse *c, size_t i)
{
    switch (i + 1 < c->end ? c->text[i + 1] : '\0') {
    case 'u':
        put_token(c, TOKEN_USER, 0);
        c->e->parser->needs_users = true;
        return i + 2;
    case 'U':
        put_token(c, TOKEN_UID, 0);
        return i + 2;
    case '%':
        put_token(c, TOKEN_BYTE, '%');
        return i + 2;
    case 'h':
        fail_at(c, i,
                "%h is a whole path: it stands as a component of its own, at the beginning or after literal "
                "ones");
        return 0;
    default:
        fail_at(c, i, "unknown `%`: there are %u %U %h and %%");
        return 0;
    }
}

/* The token at i; past it, or 0. */
static size_t parse_token(struct component_parse *c, size_t i)
{
    switch (c->text[i]) {
    case '*':
        if (i + 1 < c->end && c->text[i + 1] == '*') {
            fail_at(c, i, "`**` stands as a whole component (/a/**/b)");
            return 0;
        }
        put_token(c, TOKEN_STAR, 0);
        return i + 1;
    case '?':
        put_token(c, TOKEN_ANY, 0);
        return i + 1;
    case '[':
        return parse_class(c, i);
    case '%':
        return parse_percent(c, i);
    case '\\':
        if (i + 1 == c->end) {
            fail_at(c, i, "`\\` at the end of a component escapes nothing");
            return 0;
        }
        put_token(c, TOKEN_BYTE, c->text[i + 1]);
        return i + 2;
    default:
        put_token(c, TOKEN_BYTE, c->text[i]);
        return i + 1;
    }
}

static bool is_dots(const char *bytes, size_t n)
{
    return (n == 1 && bytes[0] == '.') || (n == 2 && bytes[0] == '.' && bytes[1] == '.');
}

static bool keep_literal(struct component_parse *c, const char *bytes, size_t n, struct component *out)
{
    if (is_dots(bytes, n))
        fail_at(c, c->offset, "`.` and `..` are not in real paths");
    *out = (struct component){ .bytes = bytes, .n = (uint32_t)n, .kind = COMPONENT_LITERAL };
    return !is_dots(bytes, n);
}

static bool keep_bytes(struct component_parse *c, struct component *out)
{
    char *bytes = arena_alloc(&c->e->parser->policy->arena, c->n + 1, 1);
    c->e->parser->out_of_memory |= !bytes;
    for (size_t i = 0; bytes && i < c->n; i++)
        bytes[i] = (char)c->tokens[i].byte;
    return bytes && keep_literal(c, bytes, c->n, out);
}

static bool keep_tokens(struct component_parse *c, struct component *out)
{
    size_t classes = component_class_offset(c->n), size = classes + c->n_classes * sizeof *c->classes;
    struct token *tokens = arena_alloc(&c->e->parser->policy->arena, size / 4, 4);
    c->e->parser->out_of_memory |= !tokens;
    if (tokens) {
        memcpy(tokens, c->tokens, c->n * sizeof *tokens);
        memcpy((char *)tokens + classes, c->classes, c->n_classes * sizeof *c->classes);
    }
    *out = (struct component){ .tokens = tokens, .n = (uint32_t)c->n, .kind = COMPONENT_GLOB };
    return tokens;
}

static bool has_special(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (memchr("*?[%\\", text[i], 5))
            return true;
    return false;
}

static bool parse_component(struct component_parse *c, struct component *out)
{
    const char *text = c->text + c->offset;
    size_t len = c->end - c->offset;
    if (len == 2 && memcmp(text, "**", 2) == 0) {
        *out = (struct component){ .kind = COMPONENT_ANY_DEPTH };
        return true;
    }
    if (!has_special(text, len))
        return keep_literal(c, text, len, out);
    c->n = c->n_classes = 0;
    c->only_bytes = true;
    for (size_t i = c->offset; i < c->end;) {
        i = parse_token(c, i);
        if (i == 0)
            return false;
    }
    return c->only_bytes ? keep_bytes(c, out) : keep_tokens(c, out);
}

/* ---- one pattern ---- */

struct pattern_parse {
    struct component_parse c;
    struct component components[COMPONENTS_MAX];
    size_t n;
    size_t literal_len;
    bool literal; /* so far */
};

static bool is_home(const char *text, size_t len)
{
    return len == 2 && memcmp(text, "%h", 2) == 0;
}

static bool add_component(struct pattern_parse *p, size_t offset, size_t end)
{
    struct component component = { .kind = COMPONENT_HOME };
    p->c.offset = offset;
    p->c.end = end;
    if (p->literal && is_home(p->c.text + offset, end - offset))
        p->c.e->parser->needs_users = true;
    else if (!parse_component(&p->c, &component))
        return false;
    if (component.kind == COMPONENT_ANY_DEPTH && p->n && p->components[p->n - 1].kind == COMPONENT_ANY_DEPTH)
        return true; /* one is as much as two */
    if (p->n == COMPONENTS_MAX) {
        fail_at(&p->c, offset, "more components than a path can have");
        return false;
    }
    p->literal = p->literal && component.kind == COMPONENT_LITERAL;
    p->literal_len += p->literal ? 1 + component.n : 0;
    p->components[p->n++] = component;
    return true;
}

static bool cut(struct pattern_parse *p, size_t len)
{
    const char *text = p->c.text;
    size_t offset = text[0] == '/';
    if (len == 1 && offset)
        return true; /* "/" itself */
    for (;;) {
        const char *slash = memchr(text + offset, '/', len - offset);
        size_t end = slash ? (size_t)(slash - text) : len;
        if (end == offset) {
            fail_at(&p->c, offset,
                    slash ? "empty component (`//`)" : "slash at the end: a directory is named without");
            return false;
        }
        if (!add_component(p, offset, end))
            return false;
        if (!slash)
            return true;
        offset = end + 1;
    }
}

static bool check_text(struct pattern_parse *p, size_t len)
{
    const char *text = p->c.text;
    if (len > PATH_TEXT_MAX)
        fail_at(&p->c, 0, "longer than a path can be (4095 bytes)");
    else if (memchr(text, '\0', len))
        fail_at(&p->c, 0, "NUL byte in a path");
    else if (len == 0 || (text[0] != '/' && !(len >= 2 && is_home(text, 2) && (len == 2 || text[2] == '/'))))
        fail_at(&p->c, 0, "a path is absolute: it begins with `/` (or with %h)");
    return !p->c.e->failed;
}

static void keep_pattern(struct pattern_parse *p)
{
    struct parser *parser = p->c.e->parser;
    const struct component *components =
        arena_copy(&parser->policy->arena, p->components, p->n, sizeof *components);
    if ((p->n && !components) || mem_grow(&parser->patterns, parser->n_patterns, &parser->cap_patterns,
                                          sizeof *parser->patterns) < 0) {
        parser->out_of_memory = true;
        return;
    }
    parser->patterns[parser->n_patterns++] = (struct pattern){
        .components = components,
        .text = p->c.e->word->text,
        .text_len = (uint32_t)p->c.e->word->len,
        .n_components = (uint16_t)p->n,
        .literal_len = (uint16_t)(p->literal_len ? p->literal_len : 1),
    };
}

static void add_pattern(struct expansion *e, const char *text, size_t len, bool plain)
{
    if (++e->count > EXPANSIONS_MAX) {
        fail(e, 0, "braces expand to more than 1024 patterns (write several rules)");
        return;
    }
    struct pattern_parse *p = e->parser->scratch;
    p->c.e = e;
    p->c.text = text;
    p->c.plain = plain && e->word->plain;
    p->n = p->literal_len = 0;
    p->literal = true;
    if (check_text(p, len) && cut(p, len))
        keep_pattern(p);
    e->failed |= e->parser->out_of_memory;
}

size_t parse_scratch_size(void)
{
    return sizeof(struct pattern_parse);
}

bool parse_path(struct parser *parser, const struct word *word)
{
    struct expansion e = { .parser = parser, .word = word };
    if (!word->quoted && word->len && word->text[0] == '@') {
        const struct named_set *set = parse_find_set(parser, word->text + 1, word->len - 1);
        if (!set || !set->has_paths)
            fail(&e, 0,
                 set ? "this set holds subjects, and paths stand here"
                     : "unknown set (a set is defined before it is used)");
        for (size_t i = 0; set && set->has_paths && i < set->n_patterns; i++) {
            if (mem_grow(&parser->patterns, parser->n_patterns, &parser->cap_patterns,
                         sizeof *parser->patterns) < 0)
                return !(parser->out_of_memory = true);
            parser->patterns[parser->n_patterns++] = set->patterns[i];
        }
        return !e.failed;
    }
    expand(&e, word->text, word->len, true);
    return !e.failed;
}

bool parse_pattern_term(struct parser *parser, const struct word *word, size_t offset, size_t len,
                        struct term *term)
{
    struct word part = { word->text + offset, len, word->plain ? word->at + offset : word->at, true,
                         word->plain };
    struct parser own = *parser;
    own.patterns = NULL;
    own.n_patterns = own.cap_patterns = 0;
    bool good = parse_path(&own, &part);
    term->patterns = arena_copy(&parser->policy->arena, own.patterns, own.n_patterns, sizeof *own.patterns);
    term->id = (uint32_t)own.n_patterns;
    free(own.patterns);
    parser->needs_users = own.needs_users;
    parser->out_of_memory |= own.out_of_memory || (own.n_patterns && !term->patterns);
    return good && term->patterns;
}
