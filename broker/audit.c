#include "audit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../common/sock.h"
#include "../common/util.h"
#include "board.h"

enum {
    BATCH_SIZE = 2 * AUDIT_LINE_MAX,
    ENOUGH = 32 * 1024, /* worth a write: more of it costs cache and saves next to nothing */
    TAIL = 1 << 20,     /* of the file, where the last words of the dead are looked for */
};

#define SYSLOG_SOCKET "/dev/log"
#define SYSLOG_PRIORITY "<86>" /* LOG_AUTHPRIV | LOG_INFO: syslog(3) */

/* Whole lines. In shared memory it outlives its process: see audit_salvage(). */
struct batch {
    _Atomic size_t len;
    _Atomic bool writing; /* some of it may be written already */
    char bytes[BATCH_SIZE];
};

struct audit {
    enum config_audit kind;
    int fd;
    bool works;          /* the last write did */
    bool torn;           /* the last write was cut in the middle of a line */
    uint64_t lost;       /* records */
    struct board *board; /* or NULL */
    unsigned slot;
    struct batch *batch;   /* where records go: `own`, or one of `shared` */
    struct batch **shared; /* n_shared of them, each a mapping of its own; or NULL */
    unsigned n_shared;
    struct batch own;
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
    audit->batch = &audit->own;
    *out = audit;
    return 0;
}

/* A worker that was taken over is not to reach what others have still to write: each inherits its own. */
static struct batch *batch_new(void)
{
    struct batch *batch =
        mmap(NULL, sizeof *batch, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (batch == MAP_FAILED)
        return NULL;
    if (madvise(batch, sizeof *batch, MADV_DONTFORK) == 0)
        return batch;
    munmap(batch, sizeof *batch);
    return NULL;
}

int audit_share(struct audit *audit, unsigned slots)
{
    audit->shared = mem_zalloc(slots, sizeof *audit->shared);
    if (!audit->shared)
        return -ENOMEM;
    for (; audit->n_shared < slots; audit->n_shared++) {
        audit->shared[audit->n_shared] = batch_new();
        if (!audit->shared[audit->n_shared])
            return -ENOMEM;
    }
    return 0;
}

int audit_lend(struct audit *audit, unsigned slot, bool lends)
{
    if (slot >= audit->n_shared)
        return 0;
    int err = madvise(audit->shared[slot], sizeof *audit->shared[slot], lends ? MADV_DOFORK : MADV_DONTFORK);
    return err < 0 ? -errno : 0;
}

void audit_close(struct audit *audit)
{
    if (audit->fd > STDERR_FILENO)
        fd_close(audit->fd);
    for (unsigned i = 0; i < audit->n_shared; i++)
        munmap(audit->shared[i], sizeof *audit->shared[i]);
    free(audit->shared);
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
    audit->lost = 0; /* those of the supervisor are counted */
    if (slot < audit->n_shared)
        audit->batch = audit->shared[slot];
}

int audit_fd(const struct audit *audit)
{
    return audit->fd;
}

/* ---- writing ---- */

static void count_loss(struct audit *audit, const char *lines, size_t len)
{
    for (size_t i = 0; i < len; i++)
        audit->lost += lines[i] == '\n';
    audit->works = false;
}

/* One datagram a record. What the daemon there cannot take now is lost, not waited for. */
static void flush_syslog(struct audit *audit, const char *lines, size_t all)
{
    char datagram[sizeof SYSLOG_PRIORITY + 32 + AUDIT_LINE_MAX];
    const char *line = lines, *end = lines + all;
    while (line < end) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
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
static void flush_file(struct audit *audit, const char *lines, size_t len)
{
    if (audit->torn && write(audit->fd, "\n", 1) != 1) {
        count_loss(audit, lines, len);
        return;
    }
    audit->torn = false;
    ssize_t n;
    do
        n = write(audit->fd, lines, len);
    while (n < 0 && errno == EINTR);
    size_t written = n > 0 ? (size_t)n : 0;
    if (written == len) {
        audit->works = true;
        return;
    }
    audit->torn = written > 0 && lines[written - 1] != '\n';
    count_loss(audit, lines + written, len - written);
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

static void flush_stderr(struct audit *audit, const char *lines, size_t len)
{
    const char *end = lines + len;
    for (const char *line = lines; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
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

static void write_lines(struct audit *audit, const char *lines, size_t len)
{
    if (audit->kind == CONFIG_AUDIT_SYSLOG)
        flush_syslog(audit, lines, len);
    else if (audit->kind == CONFIG_AUDIT_STDERR)
        flush_stderr(audit, lines, len);
    else if (audit->kind != CONFIG_AUDIT_NONE)
        flush_file(audit, lines, len);
}

void audit_flush(struct audit *audit)
{
    struct batch *batch = audit->batch;
    if (batch->len == 0)
        return;
    int saved = errno;
    if (is_watched(audit))
        board_tell(audit->board, audit->slot, batch->bytes, batch->len);
    batch->writing = true;
    write_lines(audit, batch->bytes, batch->len);
    batch->len = 0;
    batch->writing = false;
    errno = saved;
}

bool audit_is_pending(const struct audit *audit)
{
    return audit->batch->len > 0;
}

bool audit_is_full(const struct audit *audit)
{
    return audit->batch->len >= ENOUGH;
}

void audit_add(struct audit *audit, const struct audit_record *record)
{
    if (audit->kind == CONFIG_AUDIT_NONE && !is_watched(audit))
        return;
    struct batch *batch = audit->batch;
    struct timespec now;
    int saved = errno;
    clock_gettime(CLOCK_REALTIME, &now);
    if (sizeof batch->bytes - batch->len < AUDIT_LINE_MAX)
        audit_flush(audit);
    size_t len = audit_format(batch->bytes + batch->len, sizeof batch->bytes - batch->len, record,
                              (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    batch->len += len;
    if (len == 0)
        count_loss(audit, "\n", 1);
    errno = saved;
}

/* ---- the last words of the dead ---- */

/* Is this line among the last of the file? */
static bool file_has(int fd, const char *line, size_t len)
{
    struct stat st;
    char *tail = malloc(TAIL);
    if (!tail || fstat(fd, &st) < 0) {
        free(tail);
        return false;
    }
    off_t from = st.st_size > TAIL ? st.st_size - TAIL : 0;
    ssize_t n = pread(fd, tail, TAIL, from);
    bool found = n > 0 && memmem(tail, (size_t)n, line, len);
    free(tail);
    return found;
}

static bool is_written(const struct audit *audit, const struct batch *batch, size_t len)
{
    if (!batch->writing || audit->kind != CONFIG_AUDIT_FILE)
        return false;
    const char *before = memrchr(batch->bytes, '\n', len - 1);
    const char *last = before ? before + 1 : batch->bytes;
    return file_has(audit->fd, last, (size_t)(batch->bytes + len - last));
}

/* Else it is not ours: whoever took the process over wrote it. */
static bool are_lines(const char *lines, size_t len)
{
    const char *newline = NULL;
    for (const char *end = lines + len; lines < end; lines = newline + 1) {
        newline = memchr(lines, '\n', (size_t)(end - lines));
        if (!newline || newline - lines >= AUDIT_LINE_MAX)
            return false;
    }
    return true;
}

uint64_t audit_salvage(struct audit *audit, struct board *board, unsigned slot)
{
    if (slot >= audit->n_shared)
        return 0;
    struct batch *batch = audit->shared[slot];
    uint64_t lost = audit->lost;
    size_t len = batch->len;
    if (len > sizeof batch->bytes || !are_lines(batch->bytes, len))
        len = 0;
    if (len && !is_written(audit, batch, len)) {
        if (board_is_watched(board) && !batch->writing)
            board_tell(board, slot, batch->bytes, len);
        audit->torn = audit->kind == CONFIG_AUDIT_FILE && ends_torn(audit->fd);
        write_lines(audit, batch->bytes, len);
    }
    batch->len = 0;
    batch->writing = false;
    return audit->lost - lost;
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
