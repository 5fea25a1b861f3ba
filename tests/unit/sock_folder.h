/*
 * For tests of listening: a folder for each test, which must be empty at its end.
 */
#ifndef FOB_TESTS_SOCK_FOLDER_H
#define FOB_TESTS_SOCK_FOLDER_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "leak.h"

enum { ALICE = 2001, STAFF = 3002 };

static char folder[] = "/tmp/fob-test-sock-XXXXXX";
static char path[64], lock[72];

static const struct sock_listen_options SEQPACKET = {
    .type = SOCK_SEQPACKET, .mode = 0666, .gid = (gid_t)-1, .backlog = 16
};

static inline int setup(void **state)
{
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    if (leak_setup(state) < 0 || mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/sock", folder);
    snprintf(lock, sizeof lock, "%s.lock", path);
    return 0;
}

/* Every test leaves its folder empty: rmdir(2) says whether it did. */
static inline int teardown(void **state)
{
    if (rmdir(folder) < 0) {
        fprintf(stderr, "%s is not empty\n", folder);
        return -1;
    }
    return leak_teardown(state);
}

static inline void need_root(void)
{
    if (geteuid() == 0)
        return;
    print_message("skipped: needs root, to give files to other users\n");
    skip();
}

static inline bool exists(const char *name)
{
    struct stat st;
    return lstat(name, &st) == 0;
}

/* A socket that nobody is behind any more. */
static inline void make_stale(int type)
{
    struct sockaddr_un addr;
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0), len = sock_address(&addr, path);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, (socklen_t)len), 0);
    fd_close(fd);
}

static inline int try_listen(void)
{
    struct sock_name name;
    int fd = sock_listen(path, &SEQPACKET, &name);
    if (fd < 0) {
        assert_int_equal(name.lock_fd, -1);
        sock_unlisten(&name); /* fit for it, and does nothing */
        return fd;
    }
    fd_close(fd);
    sock_unlisten(&name);
    return 0;
}

static inline void expect_exchange(int listener, const char *address, int type)
{
    struct ucred cred;
    size_t len;
    char byte;
    int client = sock_connect(address, type);
    assert_true(client >= 0);
    assert_int_equal(fcntl(client, F_GETFD), FD_CLOEXEC);
    assert_int_equal(msg_send(client, "x", 1, NULL, 0, NULL, 0), 0);
    int accepted = type == SOCK_DGRAM ? listener : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(msg_recv_cred(accepted, &byte, 1, 0, &len, &cred), 1);
    assert_int_equal(cred.pid, getpid());
    if (accepted != listener)
        fd_close(accepted);
    fd_close(client);
}

#endif
