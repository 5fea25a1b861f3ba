/*
 * A reader of audit records that takes nothing for granted (RFC 8259): a line is one record, or the test
 * fails.
 */
#ifndef FOB_TESTS_RECORD_READER_H
#define FOB_TESTS_RECORD_READER_H

#include "harness.h"

#include <ctype.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/un.h>

#include "../../common/sock.h"

enum { LINE_SIZE = 64 << 10 };

struct reader {
    const char *at;
    bool raw;    /* "raw":true: \u00XX is a byte, and not a character */
    bool failed; /* this is no record */
};

static inline char *put_character(char *out, unsigned code, bool raw)
{
    if (code < 0x80 || (raw && code < 0x100)) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

static inline char *take_escape(struct reader *r, char *out)
{
    static const char letters[] = "\"\\/bfnrt", plain[] = "\"\\/\b\f\n\r\t";
    char letter = *r->at++;
    const char *found = strchr(letters, letter);
    if (letter && found)
        return put_character(out, (unsigned char)plain[found - letters], r->raw);
    unsigned code = 0;
    for (int i = 0; letter == 'u' && i < 4; i++, r->at++) {
        r->failed |= !isxdigit((unsigned char)*r->at);
        code = code * 16 +
               (unsigned)(isdigit((unsigned char)*r->at) ? *r->at - '0' : (*r->at | 0x20) - 'a' + 10);
    }
    r->failed |= letter != 'u';
    return r->failed ? out : put_character(out, code, r->raw);
}

/* Its bytes, which may contain NUL; how many. out has room for all of a line. */
static inline size_t take_string(struct reader *r, char *out)
{
    char *begin = out;
    r->failed |= *r->at != '"';
    r->at += !r->failed;
    while (!r->failed && *r->at != '"') {
        r->failed |= (unsigned char)*r->at < 0x20 || *r->at == 0x7f;
        if (*r->at == '\\' && !r->failed) {
            r->at++;
            out = take_escape(r, out);
        } else if (!r->failed) {
            *out++ = *r->at++;
        }
    }
    r->at += !r->failed;
    *out = '\0';
    return (size_t)(out - begin);
}

static inline size_t take_value(struct reader *r, char *out)
{
    if (*r->at == '"')
        return take_string(r, out);
    size_t len = strspn(r->at, "0123456789abcdefghijklmnopqrstuvwxyz");
    r->failed |= len == 0;
    memcpy(out, r->at, len);
    out[len] = '\0';
    r->at += len;
    return len;
}

/* The value of a name, decoded, in out; its length; -1: not there, or twice, or the line is not one record.
 */
static inline ssize_t record_get(const char *line, const char *name, char *out)
{
    static char key[LINE_SIZE], value[LINE_SIZE];
    struct reader r = { .at = line + 1, .failed = *line != '{' };
    ssize_t found = -1;
    for (bool more = true; more && !r.failed;) {
        take_string(&r, key);
        r.failed |= *r.at++ != ':';
        size_t len = r.failed ? 0 : take_value(&r, value);
        r.raw |= !r.failed && strcmp(key, "raw") == 0 && strcmp(value, "true") == 0;
        if (!r.failed && strcmp(key, name) == 0) {
            r.failed = found >= 0;
            memcpy(out, value, len + 1);
            found = (ssize_t)len;
        }
        more = *r.at == ',';
        r.failed |= !more && strcmp(r.at, "}\n") != 0;
        r.at++;
    }
    return r.failed ? -1 : found;
}

static inline void expect_field(const char *line, const char *name, const char *want)
{
    static char got[LINE_SIZE];
    if (record_get(line, name, got) < 0 || strcmp(got, want) != 0)
        fail_msg("%s is `%s`, not `%s`, in %s", name, got, want, line);
}

static inline void expect_number(const char *line, const char *name, unsigned long long want)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", want);
    expect_field(line, name, text);
}

/* The one record of this path and these flags; every line is looked at. Slow openers write records of their
 * own, so the order says nothing. NULL: there is none; more than one fails the test. */
static inline const char *look_for_record(const struct broker *b, const char *path, const char *flags)
{
    static char line[LINE_SIZE], got[LINE_SIZE], found[LINE_SIZE];
    FILE *in = fopen(b->audit, "re");
    assert_non_null(in);
    found[0] = '\0';
    while (fgets(line, sizeof line, in)) {
        ssize_t len = record_get(line, "path", got);
        if (len < 0)
            fail_msg("not a record: %s", line);
        if ((size_t)len != strlen(path) || memcmp(got, path, (size_t)len) != 0)
            continue;
        record_get(line, "flags", got);
        if (strcmp(got, flags) != 0)
            continue;
        assert_string_equal(found, "");
        strcpy(found, line);
    }
    fclose(in);
    return found[0] ? found : NULL;
}

static inline const char *find_record(const struct broker *b, const char *path, const char *flags)
{
    WAIT_FOR(look_for_record(b, path, flags));
    const char *line = look_for_record(b, path, flags);
    if (!line)
        fail_msg("no record of %s", path);
    return line;
}
/* ---- records by syslog ---- */

static inline int listen_as_syslog(const struct broker *b)
{
    struct sockaddr_un address;
    unlink(at(b, "dev/log"));
    int len = sock_address(&address, at(b, "dev/log"));
    int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(sock, (struct sockaddr *)&address, (socklen_t)len), 0);
    return sock;
}

/* All that is there: each is a record, with the priority of LOG_AUTHPRIV | LOG_INFO before it. */
static inline int take_datagrams(int sock)
{
    static char text[LINE_SIZE], op[LINE_SIZE];
    static const char head[] = "<86>fobd: ";
    int n = 0;
    ssize_t len;
    while ((len = recv(sock, text, sizeof text - 2, MSG_DONTWAIT)) > 0) {
        text[len] = '\n';
        text[len + 1] = '\0';
        assert_memory_equal(text, head, sizeof head - 1);
        n += record_get(text + sizeof head - 1, "op", op) > 0;
    }
    return n;
}

/* What is mounted from here on only this process and its children see. */
static inline bool have_own_mounts(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* A /dev of our own, for a /dev/log of our own. The caller mounts it. */
static inline bool make_dev(const struct broker *b)
{
    if (!have_own_mounts())
        return false;
    assert_int_equal(mkdir(at(b, "dev"), 0755), 0);
    file_write(at(b, "dev/null"), "", 0666, 0);
    return mount("/dev/null", at(b, "dev/null"), NULL, MS_BIND, NULL) == 0;
}

static inline void take_dev_away(const struct broker *b)
{
    umount2("/dev", MNT_DETACH);
    umount2(at(b, "dev/null"), MNT_DETACH);
}

#endif
