/*
 * The program's own messages (not the audit), to standard error: one line, one write(2). Keeps errno, so %m
 * works. What is passed as %s from a client goes through escape_text() here: the whole formatted line is
 * escaped, so no byte of a client's can end a line or drive a terminal. A line has at most 4096 bytes; what
 * is cut ends in "...".
 */
#ifndef FOB_COMMON_LOG_H
#define FOB_COMMON_LOG_H

enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
}; /* as syslog(3) */

/* The name that stands before every message ("fobd"); a string that lives on. */
void log_init(const char *program);
/* Messages above this level are dropped; the default is LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/*
 * For a daemon that was started with the rights it has (it opens what standard error is): a pipe, terminal or
 * socket that nobody empties must not hold it up. Standard error does not wait any more; what does not fit is
 * lost. A pipe or terminal is opened anew for that, so that those who share it notice nothing.
 */
void log_never_wait(void);
/*
 * From here on messages go to syslog(3)'s socket, LOG_DAEMON, which becomes standard error (/dev/null where
 * there is none); those of this process, not of its children, also to where standard error was, until
 * log_end_copy().
 */
void log_to_syslog(void);
void log_end_copy(void);

#define LOG_FORMAT __attribute__((format(printf, 2, 3)))
void log_at(enum log_level level, const char *format, ...) LOG_FORMAT;
#undef LOG_FORMAT

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
