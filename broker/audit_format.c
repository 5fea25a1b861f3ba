/*
 * One record as a line of JSON. Hand-made: it is on the way of every request, and printf(3) would cost more
 * than the open.
 */
#include <string.h>
#include <sys/sysmacros.h>

#include "../common/escape.h"
#include "../common/wire.h"
#include "../policy/policy.h"
#include "audit.h"

/* Where the line grows; `full` once something did not fit, and then nothing is written any more. */
struct line {
    char *at, *end;
    bool full;
    bool raw; /* escape_json() */
};

static void put(struct line *line, const char *bytes, size_t len)
{
    if (line->full || (size_t)(line->end - line->at) < len) {
        line->full = true;
        return;
    }
    memcpy(line->at, bytes, len);
    line->at += len;
}

#define PUT(line, literal) put((line), (literal), sizeof(literal) - 1)

static void put_number(struct line *line, uint64_t value)
{
    char digits[20];
    size_t n = sizeof digits;
    do
        digits[--n] = (char)('0' + value % 10);
    while (value /= 10);
    put(line, digits + n, sizeof digits - n);
}

static void put_hex(struct line *line, unsigned value)
{
    static const char hex[] = "0123456789abcdef";
    char digits[8];
    size_t n = sizeof digits;
    do
        digits[--n] = hex[value & 15];
    while ((value >>= 4) || n > sizeof digits - 2);
    put(line, digits + n, sizeof digits - n);
}

static void put_json(struct line *line, const char *bytes, size_t len)
{
    size_t room = (size_t)(line->end - line->at);
    size_t written = line->full ? 0 : escape_json(line->at, room, bytes, len, &line->raw);
    line->full = line->full || written == 0;
    line->at += written;
}

static void put_text(struct line *line, const char *text)
{
    put_json(line, text, strlen(text));
}

/* A word of our own, in quotes: nothing in it needs to be escaped. */
static void put_word(struct line *line, const char *word)
{
    PUT(line, "\"");
    put(line, word, strlen(word));
    PUT(line, "\"");
}

static void put_optional(struct line *line, const char *text)
{
    if (text)
        put_text(line, text);
    else
        PUT(line, "null");
}

static void put_two(char *out, int value)
{
    out[0] = (char)('0' + value / 10 % 10);
    out[1] = (char)('0' + value % 10);
}

/*
 * Year, month and day from days since 1970-01-01, in the Gregorian calendar, with years that begin in March
 * so that the leap day comes last. Not gmtime_r(3): it reads the time zone's file, which a worker must not.
 */
static void put_date(char *out, int64_t days)
{
    days += 719468; /* since 0000-03-01 */
    int64_t era = days / 146097, of_era = days % 146097;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int of_year = (int)(of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100));
    int month = (5 * of_year + 2) / 153; /* 0 = March */
    int year = (int)(year_of_era + era * 400) + (month >= 10);
    put_two(out, year / 100);
    put_two(out + 2, year);
    put_two(out + 5, month < 10 ? month + 3 : month - 9);
    put_two(out + 8, of_year - (153 * month + 2) / 5 + 1);
}

/* RFC 3339, UTC, microseconds. The part up to the second is made once a second. */
static void put_time(struct line *line, int64_t time_us)
{
    static int64_t cached = -1;
    static char text[] = "0000-00-00T00:00:00.";
    int64_t seconds = time_us / 1000000;
    if (seconds != cached) {
        int of_day = (int)(seconds % 86400);
        put_date(text, seconds / 86400);
        put_two(text + 11, of_day / 3600);
        put_two(text + 14, of_day / 60 % 60);
        put_two(text + 17, of_day % 60);
        cached = seconds;
    }
    char fraction[6];
    int micros = (int)(time_us % 1000000);
    put_two(fraction, micros / 10000);
    put_two(fraction + 2, micros / 100);
    put_two(fraction + 4, micros);
    put(line, text, sizeof text - 1);
    put(line, fraction, sizeof fraction);
}

static void put_error(struct line *line, int error)
{
    const char *name = error ? strerrorname_np(error) : NULL;
    if (!error) {
        PUT(line, "null");
    } else if (name) {
        put_word(line, name);
    } else {
        PUT(line, "\"E");
        put_number(line, (uint64_t)error);
        PUT(line, "\"");
    }
}

static void put_rule(struct line *line, const struct audit_record *record)
{
    if (!record->rule_file) {
        PUT(line, "null");
        return;
    }
    put_text(line, record->rule_file);
    line->at -= !line->full; /* into the quotes */
    PUT(line, ":");
    put_number(line, record->rule_line);
    PUT(line, "\"");
}

static void put_who(struct line *line, const struct audit_record *record)
{
    PUT(line, ",\"generation\":");
    put_number(line, record->generation);
    PUT(line, ",\"uid\":");
    put_number(line, record->uid);
    PUT(line, ",\"gid\":");
    put_number(line, record->gid);
    PUT(line, ",\"pid\":");
    put_number(line, (uint64_t)record->pid);
}

static void put_what(struct line *line, const struct audit_record *record)
{
    char rights[POLICY_RIGHTS_TEXT], flags[WIRE_FLAGS_TEXT];
    PUT(line, ",\"op\":");
    put_word(line, record->op);
    PUT(line, ",\"rights\":");
    put_word(line, policy_rights_text(rights, record->rights));
    PUT(line, ",\"flags\":");
    put_word(line, wire_flags_text(flags, record->flags));
    PUT(line, ",\"path\":");
    if (record->path)
        put_json(line, record->path, record->path_len);
    else
        PUT(line, "null");
    PUT(line, ",\"real\":");
    if (record->real)
        put_json(line, record->real, record->real_len);
    else
        PUT(line, "null");
}

static void put_file(struct line *line, const struct audit_record *record)
{
    if (!record->has_file) {
        PUT(line, ",\"dev\":null,\"ino\":null");
        return;
    }
    PUT(line, ",\"dev\":\"");
    put_hex(line, major(record->dev));
    PUT(line, ":");
    put_hex(line, minor(record->dev));
    PUT(line, "\",\"ino\":");
    put_number(line, record->ino);
}

static size_t format(char *out, size_t size, const struct audit_record *record, int64_t time_us, bool *raw)
{
    struct line line = { out, out + size, false, *raw };
    PUT(&line, "{\"time\":\"");
    put_time(&line, time_us);
    PUT(&line, "Z\"");
    if (*raw)
        PUT(&line, ",\"raw\":true");
    PUT(&line, ",\"decision\":");
    put_word(&line, record->allowed ? "allowed" : "refused");
    PUT(&line, ",\"errno\":");
    put_error(&line, record->error);
    PUT(&line, ",\"reason\":");
    put_word(&line, record->reason);
    PUT(&line, ",\"rule\":");
    put_rule(&line, record);
    PUT(&line, ",\"id\":");
    put_optional(&line, record->rule_id);
    put_who(&line, record);
    put_what(&line, record);
    put_file(&line, record);
    PUT(&line, ",\"as\":");
    put_optional(&line, record->as);
    PUT(&line, ",\"sealed\":");
    put(&line, record->sealed ? "true" : "false", record->sealed ? 4 : 5);
    PUT(&line, ",\"latency_us\":");
    put_number(&line, record->latency_us);
    PUT(&line, "}\n");
    *raw = line.raw;
    return line.full ? 0 : (size_t)(line.at - out);
}

/* The flag stands before the strings that it is about, so the rare record that needs it is made twice. */
size_t audit_format(char *out, size_t size, const struct audit_record *record, int64_t time_us)
{
    bool raw = false;
    size_t len = format(out, size, record, time_us, &raw);
    return raw ? format(out, size, record, time_us, &raw) : len;
}
