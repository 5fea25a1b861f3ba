#include "audit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../common/sock.h"
#include "../common/util.h"
#include "board.h"

enum { BATCH_SIZE = 2 * AUDIT_LINE_MAX };

#define SYSLOG_SOCKET "/dev/log"
#define SYSLOG_PRIORITY "<86>" /* LOG_AUTHPRIV | LOG_INFO: syslog(3) */

struct audit {
    enum config_audit kind;
    int fd;
    bool works;          /* the last write did */
    bool torn;           /* the last write was cut in the middle of a line */
    uint64_t lost;       /* records */
    struct board *board; /* or NULL */
    unsigned slot;
    size_t len;
    char batch[BATCH_SIZE];
};

/* ---- sinks ---- */

/* O_NONBLOCK: a FIFO must not hang us before it is refused. */
static int open_file(const char *file)
{
    CLEANUP(fd_cleanup)
    int fd = open(file, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    bool safe = S_ISREG(st.st_mode) && (st.st_uid == 0 || st.st_uid == geteuid()) &&
                !(st.st_mode & (S_IWGRP | S_IWOTH));
    return safe ? fd_take(&fd) : -EPERM;
}

static int open_sink(enum config_audit kind, const char *file)
{
    switch (kind) {
    case CONFIG_AUDIT_FILE:
        return open_file(file);
    case CONFIG_AUDIT_SYSLOG:
        return sock_connect(SYSLOG_SOCKET, SOCK_DGRAM);
    case CONFIG_AUDIT_STDERR:
        return STDERR_FILENO;
    case CONFIG_AUDIT_NONE:
        break;
    }
    return -1;
}

/* A line that was cut when the machine went down: nothing is to be glued to it. */
static bool ends_torn(int fd)
{
    struct stat st;
    char last = '\n';
    if (fstat(fd, &st) == 0 && st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) != 1)
        return true;
    return last != '\n';
}

int audit_open(struct audit **out, enum config_audit kind, const char *file)
{
    int fd = open_sink(kind, file);
    if (fd < 0 && kind != CONFIG_AUDIT_NONE)
        return fd;
    struct audit *audit = mem_zalloc(1, sizeof *audit);
    if (!audit) {
        fd_close(fd);
        return -ENOMEM;
    }
    audit->kind = kind;
    audit->fd = fd;
    audit->works = true;
    audit->torn = kind == CONFIG_AUDIT_FILE && ends_torn(fd);
    *out = audit;
    return 0;
}

void audit_close(struct audit *audit)
{
    if (audit->fd > STDERR_FILENO)
        fd_close(audit->fd);
    free(audit);
}

void audit_replace(struct audit *audit, struct audit *fresh)
{
    if (audit->fd > STDERR_FILENO)
        fd_close(audit->fd);
    audit->kind = fresh->kind;
    audit->fd = fresh->fd;
    audit->works = fresh->works;
    audit->torn = fresh->torn;
    free(fresh);
}

void audit_tell(struct audit *audit, struct board *board, unsigned slot)
{
    audit->board = board;
    audit->slot = slot;
}

int audit_fd(const struct audit *audit)
{
    return audit->fd;
}

/* ---- writing ---- */

static void count_loss(struct audit *audit, const char *batch, size_t len)
{
    for (size_t i = 0; i < len; i++)
        audit->lost += batch[i] == '\n';
    audit->works = false;
}

/* One datagram a record. What the daemon there cannot take now is lost, not waited for. */
static void flush_syslog(struct audit *audit)
{
    char datagram[sizeof SYSLOG_PRIORITY + 32 + AUDIT_LINE_MAX];
    char *line = audit->batch, *end = audit->batch + audit->len;
    while (line < end) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t len = (size_t)(newline - line);
        static const char tag[] = SYSLOG_PRIORITY "fobd: ";
        memcpy(datagram, tag, sizeof tag - 1);
        memcpy(datagram + sizeof tag - 1, line, len);
        if (send(audit->fd, datagram, sizeof tag - 1 + len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            count_loss(audit, newline, 1);
        else
            audit->works = true;
        line = newline + 1;
    }
}

/*
 * One write(2) with O_APPEND, so that the lines of several workers do not mix. A line cut by a full disk is
 * ended before the next one begins.
 */
static void flush_file(struct audit *audit)
{
    if (audit->torn && write(audit->fd, "\n", 1) != 1) {
        count_loss(audit, audit->batch, audit->len);
        return;
    }
    audit->torn = false;
    ssize_t n;
    do
        n = write(audit->fd, audit->batch, audit->len);
    while (n < 0 && errno == EINTR);
    size_t written = n > 0 ? (size_t)n : 0;
    if (written == audit->len) {
        audit->works = true;
        return;
    }
    audit->torn = written > 0 && audit->batch[written - 1] != '\n';
    count_loss(audit, audit->batch + written, audit->len - written);
}

/*
 * Standard error may be a pipe that nobody empties, and its other users would not want it non-blocking: what
 * goes out at once is what poll(2) promises, PIPE_BUF bytes (pipe(7)).
 */
static bool write_promised(struct audit *audit, const char *bytes, size_t len)
{
    while (len) {
        struct pollfd polled = { .fd = audit->fd, .events = POLLOUT };
        size_t piece = len < PIPE_BUF ? len : PIPE_BUF;
        if (poll(&polled, 1, 0) != 1 || !(polled.revents & POLLOUT))
            return false;
        ssize_t n = write(audit->fd, bytes, piece);
        if (n <= 0)
            return false;
        audit->torn = bytes[n - 1] != '\n';
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

static void flush_stderr(struct audit *audit)
{
    char *end = audit->batch + audit->len;
    for (char *line = audit->batch; line < end;) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        bool ready = !audit->torn || write_promised(audit, "\n", 1);
        if (ready && write_promised(audit, line, (size_t)(newline - line) + 1))
            audit->works = true;
        else
            count_loss(audit, newline, 1);
        line = newline + 1;
    }
}

static bool is_watched(const struct audit *audit)
{
    return audit->board && board_is_watched(audit->board);
}

void audit_flush(struct audit *audit)
{
    if (audit->len == 0)
        return;
    int saved = errno;
    if (is_watched(audit))
        board_tell(audit->board, audit->slot, audit->batch, audit->len);
    if (audit->kind == CONFIG_AUDIT_SYSLOG)
        flush_syslog(audit);
    else if (audit->kind == CONFIG_AUDIT_STDERR)
        flush_stderr(audit);
    else if (audit->kind != CONFIG_AUDIT_NONE)
        flush_file(audit);
    audit->len = 0;
    errno = saved;
}

void audit_add(struct audit *audit, const struct audit_record *record)
{
    if (audit->kind == CONFIG_AUDIT_NONE && !is_watched(audit))
        return;
    struct timespec now;
    int saved = errno;
    clock_gettime(CLOCK_REALTIME, &now);
    if (sizeof audit->batch - audit->len < AUDIT_LINE_MAX)
        audit_flush(audit);
    size_t len = audit_format(audit->batch + audit->len, sizeof audit->batch - audit->len, record,
                              (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    audit->len += len;
    if (len == 0)
        count_loss(audit, "\n", 1);
    errno = saved;
}

/* After a loss the record of the refusal itself is the next attempt: when it is written, the next request is
 * served again. */
bool audit_works(struct audit *audit)
{
    return audit->works;
}

uint64_t audit_lost(const struct audit *audit)
{
    return audit->lost;
}
