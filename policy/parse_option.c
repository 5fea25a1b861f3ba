/*
 * Options of a rule: KEY=VALUE after its paths.
 */
#include <ctype.h>
#include <string.h>

#include "../common/peer.h"
#include "../common/util.h"
#include "parse.h"

enum { ID_MAX = 64, MODE_MAX = 0777 };

struct value {
    const char *text;
    size_t len;
    const char *at;
};

static bool value_is(struct value value, const char *text)
{
    return strlen(text) == value.len && memcmp(value.text, text, value.len) == 0;
}

static bool read_as(struct parser *parser, struct value value, struct policy_rule *rule)
{
    uid_t uid;
    if (value_is(value, "broker") || value_is(value, "caller")) {
        rule->as = value_is(value, "broker") ? POLICY_AS_BROKER : POLICY_AS_CALLER;
        return true;
    }
    if (value.len < 6 || memcmp(value.text, "user:", 5) != 0) {
        parse_error(parser, value.at, "as= is broker, caller or user:NAME");
        return false;
    }
    if (names_user(parser->names, value.text + 5, value.len - 5, &uid) < 0) {
        parse_error(parser, value.at, "unknown user `%.*s`", (int)value.len - 5, value.text + 5);
        return false;
    }
    if (uid == 0 || uid == PEER_OVERFLOW_ID) {
        parse_error(parser, value.at, "as=user: cannot be %s",
                    uid ? "an unmapped user" : "root (as=broker passes the checks over)");
        return false;
    }
    if (mem_grow(&parser->mentioned, parser->n_mentioned, &parser->cap_mentioned, sizeof uid) < 0)
        return !(parser->out_of_memory = true);
    parser->mentioned[parser->n_mentioned++] = uid;
    parser->needs_users = true;
    rule->as = POLICY_AS_USER;
    parser->as_uid = uid;
    return true;
}

static bool read_type(struct parser *parser, struct value value, struct policy_rule *rule)
{
    static const char *const names[] = { "file", "dir", "fifo", "socket", "chr", "blk" };
    rule->types = 0;
    for (size_t from = 0; from <= value.len;) {
        const char *comma = memchr(value.text + from, ',', value.len - from);
        size_t to = comma ? (size_t)(comma - value.text) : value.len, i = 0;
        while (i < ARRAY_SIZE(names) &&
               (strlen(names[i]) != to - from || memcmp(names[i], value.text + from, to - from) != 0))
            i++;
        if (i == ARRAY_SIZE(names)) {
            parse_error(parser, value.at, "type= is a list of file, dir, fifo, socket, chr, blk");
            return false;
        }
        rule->types |= (uint8_t)(1u << i);
        from = to + 1;
    }
    return true;
}

static bool read_mode(struct parser *parser, struct value value, struct policy_rule *rule)
{
    unsigned mode = 0;
    bool good = value.len >= 1 && value.len <= 4;
    for (size_t i = 0; good && i < value.len; i++) {
        good = value.text[i] >= '0' && value.text[i] <= '7';
        mode = mode * 8 + (unsigned)(value.text[i] - '0');
    }
    if (!good || mode > MODE_MAX)
        parse_error(parser, value.at,
                    "mode= is octal, at most 0777 (set-user-ID and its like are never set)");
    else if (!(rule->rights & RIGHT_CREATE))
        parse_error(parser, value.at, "mode= is of created files, and this rule has no `create`");
    rule->mode = (uint16_t)mode;
    return good && mode <= MODE_MAX && rule->rights & RIGHT_CREATE;
}

static bool read_links(struct parser *parser, struct value value, struct policy_rule *rule)
{
    rule->links_any = value_is(value, "any");
    if (!rule->links_any)
        parse_error(parser, value.at, "links= can only be any");
    return rule->links_any;
}

static bool read_seal(struct parser *parser, struct value value, struct policy_rule *rule)
{
    rule->sealed = !value_is(value, "no");
    if (rule->sealed)
        parse_error(parser, value.at, "seal= can only be no");
    return !rule->sealed;
}

/* n digits of the value at *i. */
static bool digits(struct value value, size_t *i, size_t n, int *out)
{
    *out = 0;
    for (; n; n--, ++*i) {
        if (*i >= value.len || !isdigit((unsigned char)value.text[*i]))
            return false;
        *out = *out * 10 + (value.text[*i] - '0');
    }
    return true;
}

static bool is_char(struct value value, size_t *i, char c)
{
    return *i < value.len && value.text[(*i)++] == c;
}

/* 2026-12-31, 2026-12-31T18:00Z, 2026-12-31T18:00:30Z */
static bool read_date(struct value value, struct tm *tm)
{
    size_t i = 0;
    *tm = (struct tm){ 0 };
    bool good = digits(value, &i, 4, &tm->tm_year) && is_char(value, &i, '-') &&
                digits(value, &i, 2, &tm->tm_mon) && is_char(value, &i, '-') &&
                digits(value, &i, 2, &tm->tm_mday);
    tm->tm_year -= 1900;
    tm->tm_mon -= 1;
    if (!good || i == value.len)
        return good;
    good = is_char(value, &i, 'T') && digits(value, &i, 2, &tm->tm_hour) && is_char(value, &i, ':') &&
           digits(value, &i, 2, &tm->tm_min);
    if (good && i < value.len && value.text[i] == ':')
        good = is_char(value, &i, ':') && digits(value, &i, 2, &tm->tm_sec);
    return good && is_char(value, &i, 'Z') && i == value.len;
}

/* What timegm(3) had to change was no date: February 30th, 25 o'clock. */
static bool is_date(const struct tm *tm, time_t *out)
{
    struct tm there = *tm, back;
    *out = timegm(&there);
    return gmtime_r(out, &back) && back.tm_mon == tm->tm_mon && back.tm_mday == tm->tm_mday &&
           back.tm_hour == tm->tm_hour && back.tm_min == tm->tm_min && back.tm_sec == tm->tm_sec && *out > 0;
}

static bool read_until(struct parser *parser, struct value value, struct policy_rule *rule)
{
    struct tm tm;
    if (read_date(value, &tm) && is_date(&tm, &rule->until))
        return true;
    parse_error(parser, value.at, "until= is a date in UTC: 2026-12-31 or 2026-12-31T18:00Z");
    return false;
}

static bool read_log(struct parser *parser, struct value value, struct policy_rule *rule)
{
    static const char *const names[] = { "all", "refused", "none" };
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (value_is(value, names[i])) {
            rule->log = (uint8_t)i;
            return true;
        }
    parse_error(parser, value.at, "log= is all, refused or none");
    return false;
}

static bool read_id(struct parser *parser, struct value value, struct policy_rule *rule)
{
    bool good = value.len >= 1 && value.len <= ID_MAX;
    for (size_t i = 0; good && i < value.len; i++)
        good = isalnum((unsigned char)value.text[i]) || strchr("._-", value.text[i]);
    if (!good) {
        parse_error(parser, value.at, "id= is 1 to %d letters, digits, `.`, `_`, `-`", ID_MAX);
        return false;
    }
    char *id = arena_text(&parser->policy->arena, value.text, value.len);
    if (!id || mem_grow(&parser->ids, parser->n_ids, &parser->cap_ids, sizeof *parser->ids) < 0)
        return !(parser->out_of_memory = true);
    rule->id = parser->ids[parser->n_ids++] = id;
    return true;
}

static const struct {
    const char *name;
    bool (*read)(struct parser *, struct value, struct policy_rule *);
    bool of_deny;
} options[] = {
    { "as", read_as, false },       { "type", read_type, false }, { "mode", read_mode, false },
    { "links", read_links, false }, { "seal", read_seal, false }, { "until", read_until, false },
    { "log", read_log, true },      { "id", read_id, true },
};
static const char *const option_names[] = { "as", "type", "mode", "links", "seal", "until", "log", "id" };

bool parse_option(struct parser *parser, const struct word *word, struct policy_rule *rule, unsigned *seen)
{
    const char *equals = memchr(word->text, '=', word->len);
    size_t len = equals ? (size_t)(equals - word->text) : word->len;
    for (size_t i = 0; equals && i < ARRAY_SIZE(options); i++) {
        if (strlen(options[i].name) != len || memcmp(options[i].name, word->text, len) != 0)
            continue;
        if (*seen & 1u << i)
            parse_error(parser, word->at, "%s= stands here a second time", options[i].name);
        else if (rule->deny && !options[i].of_deny)
            parse_error(parser, word->at, "%s= has no meaning in a deny rule (log= and id= have)",
                        options[i].name);
        else {
            *seen |= 1u << i;
            struct value value = { equals + 1, word->len - len - 1, parse_place(word, len + 1) };
            return options[i].read(parser, value, rule);
        }
        return false;
    }
    parse_error(
        parser, word->at,
        "`%.*s` is neither a path (absolute) nor an option (as= type= mode= links= seal= until= log= id=)%s",
        (int)(word->len < 100 ? word->len : 100), word->text,
        parse_suggestion(word->text, len, option_names, ARRAY_SIZE(option_names)));
    return false;
}
