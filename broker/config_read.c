/*
 * The language of fobd.conf(5): one directive a line, words apart by blanks, double quotes around a word with
 * blanks, `#` for comments.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/escape.h"
#include "../common/path.h"
#include "../common/util.h"
#include "busy_poll.h"
#include "config.h"
#include "jobs.h"

enum {
    WORDS_MAX = 8,
    LINE_MAX_BYTES = 8192,
    FILE_MAX_BYTES = 1 << 20,
    WORKERS_LIMIT = 256,
    CONNECTIONS_LIMIT = 1000000,
    RATE_LIMIT = 100000000,
};

struct reader {
    struct config *config;
    const char *name; /* of the file */
    unsigned line;
    FILE *messages;
    bool failed;
    unsigned seen;             /* bit by directive */
    char text[LINE_MAX_BYTES]; /* the words, each terminated */
    char *words[WORDS_MAX];
    size_t n_words;
};

__attribute__((format(printf, 2, 3))) static void complain(struct reader *r, const char *format, ...)
{
    char plain[1024], shown[4 * sizeof plain];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(plain, sizeof plain, format, arguments);
    va_end(arguments);
    if (len < 0)
        len = 0;
    escape_text(shown, sizeof shown, plain, (size_t)len < sizeof plain ? (size_t)len : sizeof plain - 1);
    fprintf(r->messages, "%s:%u: %s\n", r->name, r->line, shown);
    r->failed = true;
}

/* ---- values ---- */

static bool read_number(struct reader *r, const char *text, uint64_t max, unsigned *out)
{
    uint64_t value;
    if (parse_u64(text, max, &value) < 0) {
        complain(r, "%s: `%s`: not a number from 0 to %llu", r->words[0], text, (unsigned long long)max);
        return false;
    }
    *out = (unsigned)value;
    return true;
}

static void read_bool(struct reader *r, bool *out)
{
    if (strcmp(r->words[1], "yes") == 0)
        *out = true;
    else if (strcmp(r->words[1], "no") == 0)
        *out = false;
    else
        complain(r, "%s: `%s`: neither yes nor no", r->words[0], r->words[1]);
}

static void read_path(struct reader *r, const char *text, char **out)
{
    if (!path_is_clean(text, strlen(text))) {
        complain(r, "%s: `%s`: not an absolute path without `.`, `..` and `//`", r->words[0], text);
        return;
    }
    char *copy = strdup(text);
    if (!copy) {
        complain(r, "out of memory");
        return;
    }
    free(*out);
    *out = copy;
}

static void read_mode(struct reader *r, const char *text, mode_t *out)
{
    unsigned mode = 0;
    size_t len = strlen(text);
    bool octal = len >= 1 && len <= 4 && strspn(text, "01234567") == len;
    for (size_t i = 0; octal && i < len; i++)
        mode = mode * 8 + (unsigned)(text[i] - '0');
    if (octal && mode <= 0777)
        *out = (mode_t)mode;
    else
        complain(r, "mode=%s: not an octal mode up to 0777", text);
}

static void read_group(struct reader *r, const char *text, gid_t *out)
{
    uint64_t number;
    const struct group *group = getgrnam(text);
    if (group)
        *out = group->gr_gid;
    else if (parse_u64(text, UINT32_MAX - 1, &number) == 0)
        *out = (gid_t)number;
    else
        complain(r, "%s: `%s`: no such group", r->words[0], text);
}

/* ---- directives ---- */

static void read_socket_into(struct reader *r, struct config_socket *socket)
{
    read_path(r, r->words[1], &socket->path);
    for (size_t i = 2; i < r->n_words; i++) {
        if (strncmp(r->words[i], "mode=", 5) == 0)
            read_mode(r, r->words[i] + 5, &socket->mode);
        else if (strncmp(r->words[i], "group=", 6) == 0)
            read_group(r, r->words[i] + 6, &socket->gid);
        else
            complain(r, "%s: `%s`: neither mode= nor group=", r->words[0], r->words[i]);
    }
}

static void read_socket(struct reader *r)
{
    read_socket_into(r, &r->config->socket);
}

/* `none` turns off what would be there by default. */
static void read_other_socket(struct reader *r, struct config_socket *socket)
{
    socket->is_said = true;
    if (strcmp(r->words[1], "none") != 0)
        read_socket_into(r, socket);
    else if (r->n_words > 2)
        complain(r, "%s none: takes nothing more", r->words[0]);
}

static void read_stream_socket(struct reader *r)
{
    read_other_socket(r, &r->config->stream);
}

static void read_dgram_socket(struct reader *r)
{
    read_other_socket(r, &r->config->datagram);
}

static void read_control_socket(struct reader *r)
{
    r->config->control_is_default = false;
    read_socket_into(r, &r->config->control);
}

static void read_control_group(struct reader *r)
{
    read_group(r, r->words[1], &r->config->control_gid);
}

static void read_policy(struct reader *r)
{
    read_path(r, r->words[1], &r->config->policy);
}

static void read_user(struct reader *r)
{
    char *copy = strdup(r->words[1]);
    if (!copy || !*copy) {
        complain(r, copy ? "user: a name or a number is missing" : "out of memory");
        free(copy);
        return;
    }
    free(r->config->user);
    r->config->user = copy;
    r->config->user_is_default = false;
}

static void read_workers(struct reader *r)
{
    if (strcmp(r->words[1], "auto") == 0)
        r->config->workers = 0;
    else
        read_number(r, r->words[1], WORKERS_LIMIT, &r->config->workers);
}

static void read_audit(struct reader *r)
{
    const char *kind = r->words[1];
    bool is_file = strcmp(kind, "file") == 0;
    if (is_file != (r->n_words == 3)) {
        complain(r, is_file ? "audit file: a path is missing" : "audit %s: takes nothing more", kind);
    } else if (is_file) {
        r->config->audit = CONFIG_AUDIT_FILE;
        read_path(r, r->words[2], &r->config->audit_file);
    } else if (strcmp(kind, "syslog") == 0) {
        r->config->audit = CONFIG_AUDIT_SYSLOG;
    } else if (strcmp(kind, "stderr") == 0) {
        r->config->audit = CONFIG_AUDIT_STDERR;
    } else if (strcmp(kind, "none") == 0) {
        r->config->audit = CONFIG_AUDIT_NONE;
    } else {
        complain(r, "audit: `%s`: none of syslog, file PATH, stderr, none", kind);
    }
}

static void read_audit_required(struct reader *r)
{
    read_bool(r, &r->config->audit_required);
}

static void read_max_connections(struct reader *r)
{
    read_number(r, r->words[1], CONNECTIONS_LIMIT, &r->config->max_connections);
}

static void read_max_per_user(struct reader *r)
{
    unsigned n;
    if (!read_number(r, r->words[1], CONNECTIONS_LIMIT, &n))
        return;
    if (n == 0)
        complain(r, "max-connections-per-user: 0 would serve nobody");
    else
        r->config->max_connections_per_user = n;
}

static void read_max_rate(struct reader *r)
{
    read_number(r, r->words[1], RATE_LIMIT, &r->config->max_rate);
}

static void read_open_timeout(struct reader *r)
{
    unsigned seconds;
    if (!read_number(r, r->words[1], 3600, &seconds))
        return;
    if (seconds == 0)
        complain(r, "open-timeout: 0 would let nothing be opened that has to be waited for");
    else
        r->config->open_timeout_ms = seconds * 1000;
}

static void read_slow_openers(struct reader *r)
{
    unsigned n;
    if (!read_number(r, r->words[1], JOBS_MAX, &n))
        return;
    if (n == 0)
        complain(r, "slow-openers: 0 would leave slow file systems to nobody");
    else
        r->config->slow_openers = n;
}

static void read_busy_poll(struct reader *r)
{
    read_number(r, r->words[1], BUSY_POLL_MAX_US, &r->config->busy_poll_us);
}

static void read_require_confinement(struct reader *r)
{
    read_bool(r, &r->config->require_confinement);
}

static const struct directive {
    const char *name, *form;
    size_t min, max; /* words with the name */
    void (*read)(struct reader *);
} directives[] = {
    { "socket", "socket PATH [mode=OCTAL] [group=NAME]", 2, 4, read_socket },
    { "stream-socket", "stream-socket none | PATH [mode=OCTAL] [group=NAME]", 2, 4, read_stream_socket },
    { "dgram-socket", "dgram-socket none | PATH [mode=OCTAL] [group=NAME]", 2, 4, read_dgram_socket },
    { "control-socket", "control-socket PATH [mode=OCTAL] [group=NAME]", 2, 4, read_control_socket },
    { "control-group", "control-group NAME", 2, 2, read_control_group },
    { "policy", "policy PATH", 2, 2, read_policy },
    { "user", "user NAME", 2, 2, read_user },
    { "workers", "workers N", 2, 2, read_workers },
    { "audit", "audit syslog | file PATH | stderr | none", 2, 3, read_audit },
    { "audit-required", "audit-required yes|no", 2, 2, read_audit_required },
    { "max-connections", "max-connections N", 2, 2, read_max_connections },
    { "max-connections-per-user", "max-connections-per-user N", 2, 2, read_max_per_user },
    { "max-requests-per-second-per-user", "max-requests-per-second-per-user N", 2, 2, read_max_rate },
    { "open-timeout", "open-timeout SECONDS", 2, 2, read_open_timeout },
    { "slow-openers", "slow-openers N", 2, 2, read_slow_openers },
    { "busy-poll", "busy-poll MICROSECONDS", 2, 2, read_busy_poll },
    { "require-confinement", "require-confinement yes|no", 2, 2, read_require_confinement },
};

static void read_directive(struct reader *r)
{
    for (size_t i = 0; i < ARRAY_SIZE(directives); i++) {
        const struct directive *d = &directives[i];
        if (strcmp(d->name, r->words[0]) != 0)
            continue;
        if (r->seen & 1u << i)
            complain(r, "%s: stands here a second time", d->name);
        else if (r->n_words < d->min || r->n_words > d->max)
            complain(r, "%s: has the form: %s", d->name, d->form);
        else
            d->read(r);
        r->seen |= 1u << i;
        return;
    }
    complain(r, "`%s`: unknown directive (fobd.conf(5) lists them)", r->words[0]);
}

/* ---- lines ---- */

/* Copies the word at *at to out; past it. NULL and a complaint: a quote that does not end. */
static char *read_word(struct reader *r, const char **at, const char *end, char *out)
{
    bool quoted = **at == '"';
    const char *p = *at + quoted;
    while (p < end && (quoted ? *p != '"' : *p != ' ' && *p != '\t')) {
        if (quoted && *p == '\\' && p + 1 < end)
            p++;
        *out++ = *p++;
    }
    if (quoted && p == end) {
        complain(r, "a quote is opened and not closed");
        return NULL;
    }
    *out++ = '\0';
    *at = p + quoted;
    return out;
}

static bool split_line(struct reader *r, const char *line, size_t len)
{
    const char *p = line, *end = line + len;
    char *out = r->text;
    r->n_words = 0;
    for (;;) {
        while (p < end && (*p == ' ' || *p == '\t'))
            p++;
        if (p == end || *p == '#')
            return r->n_words > 0;
        if (r->n_words == WORDS_MAX) {
            complain(r, "too many words");
            return false;
        }
        r->words[r->n_words++] = out;
        out = read_word(r, &p, end, out);
        if (!out)
            return false;
    }
}

static bool line_is_text(struct reader *r, const char *line, size_t len)
{
    if (len >= sizeof r->text - WORDS_MAX) {
        complain(r, "the line is longer than %d bytes", LINE_MAX_BYTES - WORDS_MAX);
        return false;
    }
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 127) {
            complain(r, "a control character (byte 0x%02x)", (unsigned char)line[i]);
            return false;
        }
    return true;
}

int config_read_text(struct config *config, const char *name, const char *text, size_t len, FILE *messages)
{
    struct reader *r = mem_zalloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->config = config;
    r->name = name;
    r->messages = messages;
    for (const char *p = text, *end = text + len; p < end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *stop = newline ? newline : end;
        r->line++;
        if (line_is_text(r, p, (size_t)(stop - p)) && split_line(r, p, (size_t)(stop - p)))
            read_directive(r);
        p = stop + 1;
    }
    int err = r->failed ? -EINVAL : 0;
    free(r);
    return err;
}

/* ---- files ---- */

static int check_file(int fd, const char *file, FILE *messages)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode) && (st.st_uid == 0 || st.st_uid == geteuid()) &&
        !(st.st_mode & (S_IWGRP | S_IWOTH)))
        return 0;
    fprintf(messages, "fobd: %s: others can change it (a regular file of root's: chown root, chmod go-w)\n",
            file);
    return -EPERM;
}

static ssize_t read_all(int fd, char *out, size_t size)
{
    size_t len = 0;
    ssize_t n;
    while (len < size && (n = read(fd, out + len, size - len)) != 0) {
        if (n < 0 && errno != EINTR)
            return -errno;
        len += n > 0 ? (size_t)n : 0;
    }
    return len < size ? (ssize_t)len : -EFBIG;
}

int config_read(struct config *config, const char *file, FILE *messages)
{
    CLEANUP(fd_cleanup) int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    int err = check_file(fd, file, messages);
    if (err < 0)
        return err;
    CLEANUP(free_cleanup) char *text = mem_zalloc(1, FILE_MAX_BYTES);
    if (!text)
        return -ENOMEM;
    ssize_t len = read_all(fd, text, FILE_MAX_BYTES);
    return len < 0 ? (int)len : config_read_text(config, file, text, (size_t)len, messages);
}
