#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "escape.h"
#include "sock.h"

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

static int log_socket = -1;

void log_to_syslog(void)
{
    int fd = sock_connect("/dev/log", SOCK_DGRAM);
    log_socket = fd < 0 ? -1 : fd;
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
    int head = log_socket < 0
                   ? snprintf(line, sizeof line / 2, "%s: %s", log_program, level_prefix(level))
                   : snprintf(line, sizeof line / 2, "<%d>%s[%d]: ", LOG_DAEMON_FACILITY | (int)level,
                              log_program, (int)getpid());
    if (head < 0 || (size_t)head >= sizeof line / 2)
        return;
    size_t at = (size_t)head;
    at += escape_text(line + at, sizeof line - at, text, kept); /* its NUL's place is the newline's */
    line[at++] = '\n';
    /* Once, whatever comes of it: a program that is in trouble must not hang or fail over saying so. */
    ssize_t written = log_socket < 0 ? write(STDERR_FILENO, line, at)
                                     : send(log_socket, line, at - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)written;
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
