/*
 * Integration tests: a real, confined fobd in a directory of its own, and clients that are real processes of
 * real uids.
 *
 * A test starts a broker, runs clients as users, and ends with broker_finish(), which holds what must be true
 * after every test: another user is still answered, the workers' descriptors are back to their number, no
 * zombie is left, and there is exactly one audit record for every entry that a client asked for.
 */
#ifndef FOB_TESTS_HARNESS_H
#define FOB_TESTS_HARNESS_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/wire.h"

enum {
    ALICE = 2001,
    BOB = 2002,
    WORKER_UID = 64999,
    DIR_MAX = 64,
    UNREAD_MAX = 16, /* replies that a client may leave unread: fob-protocol(7) */
};

struct broker {
    char dir[DIR_MAX]; /* the test's own, removed at the end */
    char socket[DIR_MAX + 16];
    char audit[DIR_MAX + 16];
    pid_t pid;
    int worker_fds; /* open descriptors of all workers when nothing is asked */
    bool uncounted; /* the test sent what is no request: audit records are not compared with requests */
};

/*
 * Makes the directory and in it: pub/ (root 0755: a 0600 "pub a\n", b 0644 "pub b\n", sub/c), priv/ (root
 * 0700: f 0600, shared 0666), al/ (alice's), secret/ (root 0700: f 0600 "SECRET\n", in no rule), sticky/
 * (root 1777).
 */
void broker_prepare(struct broker *broker);
/* Starts fobd with a policy and more configuration lines ("" for none); in both `@` stands for the directory.
 * Waits until it serves. */
void broker_start(struct broker *broker, const char *policy, const char *config);
/* broker_prepare() and broker_start() with 2 workers. */
void broker_begin(struct broker *broker, const char *policy);
/* Holds the invariants above, then broker_end(). */
void broker_finish(struct broker *broker);
/* SIGTERM; holds that fobd ends with 0, its socket is gone; removes the directory. */
void broker_end(struct broker *broker);
/* Starts build/fobd with these arguments (NULL-terminated) as uid, output to `log`; its pid. */
pid_t fobd_run(uid_t uid, const char *log, const char *const *arguments);
/* Asks the control socket (words ended by a NUL each, the whole by an empty one): the exit status that it
 * answers, -1: none; what it wrote is in out (terminated, cut at size). */
int broker_control(const struct broker *broker, const char *words, char *out, size_t size);
/* Writes test.policy anew (with `@`), for a reload. */
void broker_write_policy(const struct broker *broker, const char *policy);
/* Waits for a child; its exit status, or 128 + signal. */
int child_wait(pid_t pid);
/* The workers' pids (children of fobd by that name); how many. */
int broker_workers(const struct broker *broker, pid_t *pids, int max);

/* A field ("Uid:") of /proc/PID/status without the blanks around it, in a static buffer (one of 8 in turn).
 */
const char *status_of(pid_t pid, const char *field);

/* PATH beneath the directory, in a static buffer (one of 8 in turn). */
const char *at(const struct broker *broker, const char *path);
void file_write(const char *path, const char *text, mode_t mode, uid_t uid);
/* The whole text, at most size - 1 bytes, terminated; -1 when it cannot be read. */
ssize_t file_read(const char *path, char *out, size_t size);

/* ---- clients: in a child process of that uid; a failed CHECK ends it with 1 ---- */

struct client_env {
    const struct broker *broker;
    void *data;
};
typedef void client_fn(struct client_env *env);
/* Runs fn in a child as uid (gid the same, no supplementary groups) and holds that all its CHECKs held. */
void as_user(const struct broker *broker, uid_t uid, client_fn *fn, void *data);
/* The same with these groups; returns the exit status. */
int as_user_groups(const struct broker *broker, uid_t uid, gid_t gid, const gid_t *groups, size_t n,
                   client_fn *fn, void *data);

#define CHECK(condition) check_in_client((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQ(got, want) \
    check_equal_in_client((long long)(got), (long long)(want), #got, __FILE__, __LINE__)
void check_in_client(bool held, const char *what, const char *file, int line);
void check_equal_in_client(long long got, long long want, const char *what, const char *file, int line);
/* The client cannot test this here: its test is skipped, with the reason. */
void skip_in_client(const char *reason);

/* A connection, without libfob. */
int raw_connect(const struct broker *broker);
/* One OPEN of one entry: 0 and *fd, or the errno of its result; -1 when the connection broke. */
int raw_open(int sock, const char *path, uint32_t flags, mode_t mode, int *fd);
/* The same with all that it is made of. op: WIRE_OPEN or WIRE_CHECK; len bytes of path. */
int raw_ask(int sock, int op, const char *path, size_t len, uint32_t flags, uint32_t mode, int *fd);
/* Connect, raw_open(), close; the descriptor in *fd when not NULL, else closed. */
int open_once(const struct broker *broker, const char *path, uint32_t flags, int *fd);
/* Does fd read as this text from its beginning? */
bool fd_reads(int fd, const char *text);
/* n entries that are asked without raw_ask() are counted by this. */
void count_requests(unsigned n);

/* ---- audit ---- */

/* How many records hold both texts (either may be NULL). Waits for workers to write. */
int audit_count(const struct broker *broker, const char *a, const char *b);

/* Microseconds since some time. */
int64_t now_us(void);
/* Waits up to two seconds for the condition. */
#define WAIT_FOR(condition)                                          \
    do {                                                             \
        for (int wait_i = 0; wait_i < 200 && !(condition); wait_i++) \
            usleep(10000);                                           \
    } while (0)

#define RUN_AS_ROOT()                                   \
    do {                                                \
        if (geteuid() != 0) {                           \
            puts("skipped: needs root (several uids)"); \
            puts("0 passed, 0 failed, 1 skipped");      \
            return 0;                                   \
        }                                               \
    } while (0)

#endif
