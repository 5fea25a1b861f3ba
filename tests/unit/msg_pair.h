/*
 * For tests of messages: a pair of connected sockets, and checks in a child whose limits and users are its
 * own.
 */
#ifndef FOB_TESTS_MSG_PAIR_H
#define FOB_TESTS_MSG_PAIR_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/util.h"

struct pair {
    int in, out; /* messages go from out to in */
};

static inline void pair_close(struct pair *pair)
{
    fd_close(pair->in);
    fd_close(pair->out);
}
#define PAIR CLEANUP(pair_close) struct pair

static inline struct pair pair_open(int type, bool passcred)
{
    int fds[2];
    const int on = passcred;
    assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    return (struct pair){ fds[0], fds[1] };
}

static inline int memfd(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* Runs check in a child: limits and users are its own. It returns 0 when all is well, else a line number. */
static inline void in_child(int (*check)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(check() ? 1 : 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}
#define EXPECT(condition)                                                                    \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "%s:%d: %s: errno %d\n", __FILE__, __LINE__, #condition, errno); \
            return __LINE__;                                                                 \
        }                                                                                    \
    } while (0)

#endif
