#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "escape.h"
#include "sock.h"
#include "util.h"

enum {
    LOG_DAEMON_FACILITY = 3 << 3, /* syslog(3) */
    LOG_TEXT = 2048,              /* of a message before it is escaped */
    LOG_LINE = 4096, /* of the line: PIPE_BUF, so that lines of several processes on one pipe never mix */
};

static const char *log_program = "fob";
static enum log_level log_max = LOG_LEVEL_INFO;

void log_init(const char *program)
{
    log_program = program;
}

void log_set_level(enum log_level level)
{
    log_max = level;
}

static bool log_is_syslog;
static int log_copy = -1;
static pid_t log_copy_owner; /* a child may have closed it, or have something else there */

void log_to_syslog(void)
{
    int copy = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int fd = sock_connect("/dev/log", SOCK_DGRAM);
    log_is_syslog = fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
    if (fd < 0)
        fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        dup2(fd, STDERR_FILENO);
    fd_close(fd);
    log_copy = copy;
    log_copy_owner = getpid();
}

void log_end_copy(void)
{
    if (log_copy_owner == getpid())
        fd_close(log_copy);
    log_copy = -1;
}

void log_never_wait(void)
{
    struct stat st;
    if (fstat(STDERR_FILENO, &st) < 0)
        return;
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
        int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd >= 0)
            dup2(fd, STDERR_FILENO);
        fd_close(fd);
    } else if (S_ISSOCK(st.st_mode)) { /* cannot be opened anew */
        int flags = fcntl(STDERR_FILENO, F_GETFL);
        if (flags >= 0)
            fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK);
    }
}

static const char *level_prefix(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR:
        return "error: ";
    case LOG_LEVEL_WARNING:
        return "warning: ";
    case LOG_LEVEL_DEBUG:
        return "debug: ";
    default:
        return "";
    }
}

/* Once, whatever comes of it: a program that is in trouble must not hang or fail over saying so. */
static void put_line(int fd, const char *line, size_t len)
{
    struct pollfd polled = { .fd = fd, .events = POLLOUT };
    if (poll(&polled, 1, 0) == 0)
        return; /* a pipe or socket that is full, of which nobody knows when it is read */
    ssize_t written = write(fd, line, len);
    (void)written;
}

/* What syslogd wants before the text, and no newline behind it. */
static void put_syslog(enum log_level level, const char *text, size_t len)
{
    char datagram[LOG_LINE + 64];
    int head = snprintf(datagram, sizeof datagram - LOG_LINE,
                        "<%d>%s[%d]: ", LOG_DAEMON_FACILITY | (int)level, log_program, (int)getpid());
    if (head < 0 || (size_t)head >= sizeof datagram - LOG_LINE)
        return;
    memcpy(datagram + head, text, len);
    put_line(STDERR_FILENO, datagram, (size_t)head + len);
}

__attribute__((format(printf, 2, 0))) static void log_line(enum log_level level, const char *format,
                                                           va_list args)
{
    char text[LOG_TEXT], line[LOG_LINE];
    int len = vsnprintf(text, sizeof text, format, args);
    if (len < 0)
        return;
    size_t kept = (size_t)len;
    if (kept >= sizeof text) {
        kept = sizeof text - 1;
        memcpy(text + kept - 3, "...", 3);
    }
    int head = snprintf(line, sizeof line / 2, "%s: %s", log_program, level_prefix(level));
    if (head < 0 || (size_t)head >= sizeof line / 2)
        return;
    size_t at = (size_t)head;
    at += escape_text(line + at, sizeof line - at, text, kept); /* its NUL's place is the newline's */
    line[at++] = '\n';
    if (log_is_syslog)
        put_syslog(level, line + head, at - 1 - (size_t)head);
    else
        put_line(STDERR_FILENO, line, at);
    if (log_copy >= 0 && log_copy_owner == getpid())
        put_line(log_copy, line, at);
}

void log_at(enum log_level level, const char *format, ...)
{
    if (level > log_max)
        return;
    int saved = errno;
    va_list args;
    va_start(args, format);
    log_line(level, format, args);
    va_end(args);
    errno = saved;
}
