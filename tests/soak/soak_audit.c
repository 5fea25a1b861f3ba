/*
 * Every reply has its record: the same uid, operation, path, flags, error and, with a descriptor, object,
 * written at the time. Records that a killed worker had not written are the exception that is allowed for,
 * and only near a kill. And every record has its reply, or a request whose reply nobody received.
 */
#include "soak.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "../../common/escape.h"
#include "../../common/util.h"

enum {
    EARLY_US = 20000,
    LATE_US = 2000000,   /* a worker was stopped between reply and record */
    ASIDE_US = 10000000, /* what nobody waits for any more is answered, or given up, by then */
    TURN_US = 400000,    /* the longest turn of a worker's loop, stopped in its middle */
};

/* A reply, or a record. */
struct item {
    uint64_t hash, asked; /* of all facts; of those that were asked */
    int64_t from, to;     /* of a record: its time, both */
    const struct soak_seen *seen;
    unsigned uid;
    int entry;
    bool near_kill, matched;
};

struct items {
    struct item *items;
    size_t n, cap;
};

static struct item *items_add(struct items *items)
{
    SOAK_NEED(mem_grow(&items->items, items->n, &items->cap, sizeof *items->items) == 0);
    return &items->items[items->n++];
}

/* What both sides know, as one text. */
struct facts {
    unsigned uid;
    const char *op, *flags, *error, *decision;
    int entry;
    char object[64]; /* "" without a descriptor */
};

static uint64_t hash_asked(const struct facts *facts)
{
    char text[512];
    int len = snprintf(text, sizeof text, "%u %s %s %d", facts->uid, facts->op, facts->flags, facts->entry);
    return soak_hash(SOAK_HASH_BEGIN, text, (size_t)len);
}

static uint64_t hash_facts(const struct facts *facts)
{
    char text[512];
    int len = snprintf(text, sizeof text, "%u %s %s %s %s %d %s", facts->uid, facts->op, facts->flags,
                       facts->error, facts->decision, facts->entry, facts->object);
    return soak_hash(SOAK_HASH_BEGIN, text, (size_t)len);
}

/* ---- replies ---- */

/* One that nobody received goes by what was asked alone. */
static void add_reply(struct items *items, const struct soak_seen *seen)
{
    char flags[WIRE_FLAGS_TEXT];
    int64_t last = seen->received + (seen->unanswered ? ASIDE_US : LATE_US) + shared->longest;
    struct facts facts = {
        .uid = FIRST_UID + seen->client,
        .op = seen->op == WIRE_CHECK ? "check" : "open",
        .flags = wire_flags_text(flags, seen->flags),
        .error = seen->error ? strerrorname_np(seen->error) : "",
        .decision = seen->error ? "" : "allowed",
        .entry = seen->entry,
    };
    if (seen->got)
        snprintf(facts.object, sizeof facts.object, "%02x:%02x %llu", major(seen->dev), minor(seen->dev),
                 (unsigned long long)seen->ino);
    *items_add(items) = (struct item){
        .hash = seen->unanswered ? hash_asked(&facts) : hash_facts(&facts),
        .from = seen->sent - EARLY_US,
        .to = last,
        .seen = seen,
        .near_kill = soak_killed(seen->sent, seen->received + TURN_US + shared->longest, LOSES_CONNECTIONS),
    };
}

/* ---- records ---- */

/* The value of a key that stands at *at or later: what is quoted without its quotes, terminated; moves *at
 * past it. */
static char *value_of(char **at, const char *key)
{
    char *p = strstr(*at, key);
    if (!p)
        return NULL;
    p += strlen(key);
    char *end = p;
    if (*p == '"') {
        for (end = ++p; *end && *end != '"'; end++)
            end += *end == '\\' && end[1];
    } else {
        end += strcspn(p, ",}");
    }
    if (!*end)
        return NULL;
    *end = '\0';
    *at = end + 1;
    return p;
}

static size_t put_character(char *out, unsigned c, bool raw)
{
    if (c < 0x80 || raw) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    out[0] = (char)(0xe0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 0x3f));
    out[2] = (char)(0x80 | (c & 0x3f));
    return 3;
}

/* A JSON string's bytes (RFC 8259), in place. */
static size_t unescape(char *text, bool raw)
{
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char *out = text;
    for (const char *p = text; *p; p++) {
        const char *escape = *p == '\\' && p[1] ? strchr(escapes, p[1]) : NULL;
        if (escape) {
            *out++ = meant[escape - escapes];
            p++;
        } else if (*p == '\\' && p[1] == 'u' && strlen(p) >= 6) {
            char digits[] = { p[2], p[3], p[4], p[5], '\0' };
            out += put_character(out, (unsigned)strtoul(digits, NULL, 16), raw);
            p += 5;
        } else {
            *out++ = *p;
        }
    }
    return (size_t)(out - text);
}

/* "2026-11-21T08:00:00.123456Z" */
static int64_t time_of(const char *text)
{
    struct tm tm = { 0 };
    const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S.", &tm) : NULL;
    return rest ? (int64_t)timegm(&tm) * 1000000 + atoi(rest) : 0;
}

/* False: it is no record of a request. *uid: of any record that says so. */
static bool read_record(char *line, struct facts *facts, int64_t *time, int *uid)
{
    char *at = line;
    *uid = -1;
    *time = time_of(value_of(&at, "{\"time\":"));
    bool raw = strncmp(at, ",\"raw\":true", 11) == 0;
    char *decision = value_of(&at, "\"decision\":"), *error = value_of(&at, "\"errno\":");
    char *uid_text = value_of(&at, "\"uid\":"), *op = value_of(&at, "\"op\":");
    char *flags = value_of(&at, "\"flags\":"), *path = value_of(&at, "\"path\":");
    char *dev = value_of(&at, "\"dev\":"), *ino = value_of(&at, "\"ino\":");
    if (!*time || !decision || !error || !uid_text || !op || !flags || !path || !dev || !ino)
        return false;
    *uid = atoi(uid_text);
    bool failed = strcmp(error, "null") != 0, opened = strcmp(op, "open") == 0;
    *facts = (struct facts){
        .uid = (unsigned)*uid,
        .op = op,
        .flags = flags,
        .error = failed ? error : "",
        .decision = failed ? "" : decision,
    };
    facts->entry = soak_entry_find(path, unescape(path, raw));
    if (opened && !failed)
        snprintf(facts->object, sizeof facts->object, "%s %s", dev, ino);
    return opened || strcmp(op, "check") == 0;
}

static void add_record(struct soak_tally *tally, struct items *records, char *line)
{
    struct facts facts;
    int64_t time;
    int uid;
    char *last = line;
    /* A worker that is killed while it writes leaves the beginning of a line, to which the next is glued. */
    for (char *p = line; (p = strstr(p, "{\"time\":\"")) != NULL; p++)
        last = p;
    tally->torn += last != line;
    bool is_request = read_record(last, &facts, &time, &uid);
    if (uid < FIRST_UID || uid >= FIRST_UID + CLIENTS) {
        tally->torn += uid < 0;
        tally->strange_records += uid >= 0;
        return;
    }
    if (!is_request)
        return;
    tally->records++;
    if (facts.entry < 0) {
        tally->strange_records++;
        soak_complain("audit: a record of a path that nobody asked for: uid %d", uid);
        return;
    }
    *items_add(records) = (struct item){
        .hash = hash_facts(&facts),
        .asked = hash_asked(&facts),
        .from = time,
        .to = time,
        .uid = facts.uid,
        .entry = facts.entry,
    };
}

static void read_audit(struct soak_tally *tally, struct items *records, const char *file)
{
    size_t len;
    char *text = soak_read(file, &len);
    SOAK_NEED(text);
    for (char *line = text, *end; line < text + len; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + len - line));
        if (!end)
            end = text + len;
        *end = '\0';
        add_record(tally, records, line);
    }
    free(text);
}

/* ---- comparing ---- */

static int compare(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    if (x->near_kill != y->near_kill)
        return x->near_kill ? 1 : -1;
    return (x->to > y->to) - (x->to < y->to);
}

/* Whoever can wait least takes the first record of his time; those whose record may be lost come last. */
static void match(struct items *replies, struct items *records)
{
    size_t first = 0;
    qsort(replies->items, replies->n, sizeof *replies->items, compare);
    qsort(records->items, records->n, sizeof *records->items, compare);
    for (size_t i = 0; i < replies->n; i++) {
        struct item *reply = &replies->items[i];
        while (first < records->n && records->items[first].hash < reply->hash)
            first++;
        for (size_t r = first; r < records->n && records->items[r].hash == reply->hash; r++) {
            struct item *record = &records->items[r];
            if (record->to > reply->to)
                break;
            if (record->matched || record->from < reply->from)
                continue;
            record->matched = reply->matched = true;
            break;
        }
    }
}

static const char *show_path(int entry)
{
    static char path[4 * SOAK_PATH];
    const char *bytes = soak_entries[entry].path;
    escape_text(path, sizeof path, bytes, strlen(bytes));
    return path;
}

static void judge(struct soak_tally *tally, const struct item *reply)
{
    const struct soak_seen *seen = reply->seen;
    tally->in_flight += reply->near_kill;
    if (reply->matched)
        return;
    tally->missing++;
    tally->missing_descriptors += seen->got;
    if (reply->near_kill)
        return;
    soak_complain("audit: uid %u: no record of %s %s flags %#x error %d, answered at %lld",
                  FIRST_UID + seen->client, seen->got ? "the descriptor of" : "the answer for",
                  show_path(seen->entry), (unsigned)seen->flags, seen->error, (long long)seen->received);
    tally->unexplained++;
    tally->unexplained_descriptors += seen->got;
}

/* The records that no reply has taken, to the requests that had none. */
static void judge_rest(struct soak_tally *tally, struct items *unanswered, struct items *records)
{
    size_t n = 0;
    for (size_t i = 0; i < records->n; i++)
        if (!records->items[i].matched) {
            records->items[n] = records->items[i];
            records->items[n++].hash = records->items[i].asked;
        }
    records->n = n;
    match(unanswered, records);
    for (size_t i = 0; i < records->n; i++) {
        const struct item *record = &records->items[i];
        if (record->matched)
            continue;
        tally->surplus++;
        soak_complain("audit: a record of no request, or a second one: uid %u, %s, at %lld", record->uid,
                      show_path(record->entry), (long long)record->from);
    }
}

void soak_audit_compare(struct soak_tally *tally, const struct soak_seen *seen, size_t n)
{
    struct items replies = { 0 }, unanswered = { 0 }, records = { 0 };
    for (size_t i = 0; i < n; i++)
        if (seen[i].op == WIRE_OPEN || seen[i].op == WIRE_CHECK)
            add_reply(seen[i].unanswered ? &unanswered : &replies, &seen[i]);
    read_audit(tally, &records, soak_path("audit.round"));
    match(&replies, &records);
    for (size_t i = 0; i < replies.n; i++)
        judge(tally, &replies.items[i]);
    judge_rest(tally, &unanswered, &records);
    free(replies.items);
    free(unanswered.items);
    free(records.items);
}
