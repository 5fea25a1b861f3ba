#include "record.h"

#include <errno.h>
#include <string.h>

#include "../../common/escape.h"
#include "../../common/util.h"
#include "../policy.h"

enum { DEPTH_MAX = 16, KEY_MAX = 32 };

enum kind { KIND_TEXT, KIND_BYTES, KIND_NUMBER, KIND_DECISION, KIND_RAW };

/* What a record has. The numbers of struct record are all uint32_t. */
static const struct field {
    const char *name;
    enum kind kind;
    bool nullable, needed;
    size_t offset, size;
} fields[] = {
#define FIELD(kind, nullable, needed, name, member)                                                         \
    {                                                                                                       \
        name, kind, nullable, needed, offsetof(struct record, member), sizeof(((struct record *)0)->member) \
    }
    FIELD(KIND_BYTES, true, true, "path", path),
    FIELD(KIND_BYTES, true, false, "real", real),
    FIELD(KIND_TEXT, true, true, "rule", rule),
    FIELD(KIND_RAW, false, false, "raw", allowed),
    FIELD(KIND_DECISION, false, true, "decision", allowed),
    FIELD(KIND_TEXT, false, true, "reason", reason),
    FIELD(KIND_TEXT, false, true, "op", op),
    FIELD(KIND_TEXT, false, true, "rights", rights),
    FIELD(KIND_NUMBER, false, true, "uid", uid),
    FIELD(KIND_NUMBER, false, false, "gid", gid),
    FIELD(KIND_NUMBER, false, false, "pid", pid),
    FIELD(KIND_NUMBER, false, false, "generation", generation),
    FIELD(KIND_NUMBER, false, false, "latency_us", latency_us),
    FIELD(KIND_TEXT, true, false, "errno", errno_name),
    FIELD(KIND_TEXT, false, false, "time", time),
#undef FIELD
};
enum { FIELD_PATH, FIELD_REAL, FIELD_RULE };

struct parse {
    const char *at, *end;
    bool raw;       /* each character of a string is a byte: escape_json() */
    uint32_t given; /* fields that were there, by their bit */
    uint32_t full;  /* ... and were not null */
    struct record *record;
    size_t path_len[2];
};

/* ---- tokens ---- */

static void skip_blanks(struct parse *p)
{
    while (p->at < p->end && memchr(" \t\r\n", *p->at, 4))
        p->at++;
}

/* Is c the next token? Takes it and the blanks around it. */
static bool take(struct parse *p, char c)
{
    skip_blanks(p);
    if (p->at == p->end || *p->at != c)
        return false;
    p->at++;
    skip_blanks(p);
    return true;
}

static bool take_word(struct parse *p, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(p->end - p->at) < len || memcmp(p->at, word, len) != 0)
        return false;
    p->at += len;
    return true;
}

static size_t take_digits(struct parse *p)
{
    const char *begin = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
        p->at++;
    return (size_t)(p->at - begin);
}

static bool parse_integer(struct parse *p, uint32_t *out)
{
    const char *begin = p->at;
    size_t len = take_digits(p);
    uint64_t value = 0;
    if (len == 0 || len > 10 || (len > 1 && *begin == '0'))
        return false;
    for (size_t i = 0; i < len; i++)
        value = value * 10 + (uint64_t)(begin[i] - '0');
    *out = (uint32_t)value;
    return value <= UINT32_MAX;
}

static bool skip_number(struct parse *p)
{
    take_word(p, "-");
    const char *begin = p->at;
    size_t len = take_digits(p);
    if (len == 0 || (len > 1 && *begin == '0'))
        return false;
    if (take_word(p, ".") && take_digits(p) == 0)
        return false;
    if (!take_word(p, "e") && !take_word(p, "E"))
        return true;
    if (!take_word(p, "+"))
        take_word(p, "-");
    return take_digits(p) > 0;
}

/* ---- strings ---- */

/* Where a string goes. */
struct text {
    char *bytes; /* NULL: nowhere */
    size_t size, len;
    bool raw;
    bool cut; /* it did not fit */
};

static bool parse_hex(struct parse *p, uint32_t *code)
{
    *code = 0;
    if (p->end - p->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef";
        char c = *p->at++;
        const char *digit = memchr(digits, c >= 'A' && c <= 'F' ? c | 0x20 : c, 16);
        if (!digit)
            return false;
        *code = *code << 4 | (uint32_t)(digit - digits);
    }
    return true;
}

/* After \u: one unit, or both of a surrogate pair. */
static bool parse_unicode(struct parse *p, uint32_t *code)
{
    uint32_t low;
    if (!parse_hex(p, code))
        return false;
    if (*code < 0xd800 || *code > 0xdfff)
        return true;
    if (*code > 0xdbff || !take_word(p, "\\u") || !parse_hex(p, &low) || low < 0xdc00 || low > 0xdfff)
        return false;
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

/* After the backslash. */
static bool parse_escape(struct parse *p, uint32_t *code)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (p->at == p->end)
        return false;
    char c = *p->at++;
    if (c == 'u')
        return parse_unicode(p, code);
    const char *letter = memchr(letters, c, sizeof letters - 1);
    *code = letter ? (unsigned char)meant[letter - letters] : 0;
    return letter;
}

/* The character at hand, which is not the closing quote. The line is known to be UTF-8. */
static bool parse_char(struct parse *p, uint32_t *code)
{
    unsigned char first = (unsigned char)*p->at++;
    if (first == '\\')
        return parse_escape(p, code);
    if (first < 0x80) {
        *code = first;
        return first >= 0x20;
    }
    size_t more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    *code = first & (0x3fu >> more);
    while (more--)
        *code = *code << 6 | ((unsigned char)*p->at++ & 0x3fu);
    return true;
}

static size_t utf8_write(char out[4], uint32_t code)
{
    static const unsigned char marks[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(marks[n] | code);
    return n;
}

/* False: no byte of a raw string. */
static bool text_add(struct text *text, uint32_t code)
{
    char bytes[4] = { (char)code };
    size_t n = text->raw ? 1 : utf8_write(bytes, code);
    if (text->raw && code > 0xff)
        return false;
    text->cut = text->cut || text->size - text->len <= n; /* the NUL */
    if (text->cut)
        return true;
    memcpy(text->bytes + text->len, bytes, n);
    text->len += n;
    return true;
}

static bool parse_string(struct parse *p, struct text *text)
{
    uint32_t code;
    if (!take_word(p, "\""))
        return false;
    while (p->at < p->end && *p->at != '"')
        if (!parse_char(p, &code) || (text->bytes && !text_add(text, code)))
            return false;
    if (text->bytes)
        text->bytes[text->len] = '\0';
    return take_word(p, "\"");
}

/* ---- values that are skipped ---- */

typedef bool member_fn(struct parse *p, const struct text *key, unsigned depth);

static bool parse_object(struct parse *p, member_fn *member, unsigned depth)
{
    if (!take(p, '{'))
        return false;
    if (take(p, '}'))
        return true;
    do {
        char name[KEY_MAX];
        struct text key = { .bytes = name, .size = sizeof name };
        if (!parse_string(p, &key) || !take(p, ':') || !member(p, &key, depth))
            return false;
    } while (take(p, ','));
    return take(p, '}');
}

static bool skip_value(struct parse *p, unsigned depth);

static bool skip_member(struct parse *p, const struct text *key, unsigned depth)
{
    (void)key;
    return skip_value(p, depth + 1);
}

static bool skip_array(struct parse *p, unsigned depth)
{
    take(p, '[');
    if (take(p, ']'))
        return true;
    do {
        if (!skip_value(p, depth + 1))
            return false;
    } while (take(p, ','));
    return take(p, ']');
}

static bool skip_value(struct parse *p, unsigned depth)
{
    if (p->at == p->end || depth > DEPTH_MAX)
        return false;
    switch (*p->at) {
    case '"':
        return parse_string(p, &(struct text){ 0 });
    case '{':
        return parse_object(p, skip_member, depth);
    case '[':
        return skip_array(p, depth);
    case 't':
        return take_word(p, "true");
    case 'f':
        return take_word(p, "false");
    case 'n':
        return take_word(p, "null");
    default:
        return skip_number(p);
    }
}

/* ---- the record ---- */

/* The first of two looks: the flag may stand behind strings that it is about. */
static bool find_raw(struct parse *p, const struct text *key, unsigned depth)
{
    if (key->cut || key->len != 3 || memcmp(key->bytes, "raw", 3) != 0)
        return skip_value(p, depth + 1);
    p->raw = take_word(p, "true");
    return p->raw || take_word(p, "false");
}

static bool parse_decision(struct parse *p, bool *allowed)
{
    *allowed = take_word(p, "\"allowed\"");
    return *allowed || take_word(p, "\"refused\"");
}

static bool parse_field(struct parse *p, size_t i)
{
    const struct field *field = &fields[i];
    char *place = (char *)p->record + field->offset;
    struct text text = { .bytes = place, .size = field->size, .raw = p->raw };
    switch (field->kind) {
    case KIND_RAW:
        return take_word(p, "true") || take_word(p, "false");
    case KIND_DECISION:
        return parse_decision(p, &p->record->allowed);
    case KIND_NUMBER:
        return parse_integer(p, (uint32_t *)(void *)place);
    case KIND_TEXT:
        return parse_string(p, &text) && !text.cut && !memchr(place, '\0', text.len);
    case KIND_BYTES:
        break;
    }
    if (!parse_string(p, &text) || text.cut)
        return false;
    p->path_len[i] = text.len;
    return true;
}

static bool parse_member(struct parse *p, const struct text *key, unsigned depth)
{
    size_t i = 0;
    while (i < ARRAY_SIZE(fields) && (key->cut || strlen(fields[i].name) != key->len ||
                                      memcmp(fields[i].name, key->bytes, key->len) != 0))
        i++;
    if (i == ARRAY_SIZE(fields))
        return skip_value(p, depth + 1);
    uint32_t bit = UINT32_C(1) << i;
    if (p->given & bit)
        return false; /* which of the two should count? */
    p->given |= bit;
    if (fields[i].nullable && take_word(p, "null"))
        return true;
    p->full |= bit;
    return parse_field(p, i);
}

static bool has_needed(const struct parse *p)
{
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
        if (fields[i].needed && !(p->given & UINT32_C(1) << i))
            return false;
    return true;
}

static bool parse_line(struct parse *p, member_fn *member)
{
    return parse_object(p, member, 0) && p->at == p->end;
}

int record_parse(struct record *out, const char *line, size_t len)
{
    const char *begin = memchr(line, '{', len), *end = line + len;
    if (!begin || !escape_is_utf8(begin, (size_t)(end - begin)))
        return -EINVAL;
    struct parse look = { .at = begin, .end = end };
    if (!parse_line(&look, find_raw))
        return -EINVAL;
    memset(out, 0, sizeof *out);
    struct parse p = { .at = begin, .end = end, .raw = look.raw, .record = out };
    if (!parse_line(&p, parse_member) || !has_needed(&p))
        return -EINVAL;
    out->has_path = p.full >> FIELD_PATH & 1;
    out->has_real = p.full >> FIELD_REAL & 1;
    out->has_rule = p.full >> FIELD_RULE & 1;
    out->path_len = p.path_len[FIELD_PATH];
    out->real_len = p.path_len[FIELD_REAL];
    return 0;
}

/* ---- what it says ---- */

bool record_wants_rule(const struct record *record)
{
    return !record->allowed && !record->has_rule && strcmp(record->reason, "default") == 0 &&
           (strcmp(record->op, "open") == 0 || strcmp(record->op, "check") == 0);
}

unsigned record_rights(const struct record *record)
{
    unsigned rights = 0;
    for (const char *name = record->rights;;) {
        size_t len = strcspn(name, ",");
        unsigned right = policy_right_by_name(name, len);
        rights |= right;
        if (right == 0 || name[len] == '\0')
            return right ? rights : 0;
        name += len + 1;
    }
}
