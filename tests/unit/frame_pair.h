/*
 * For test_frame.c: a worker with one connection, whose other side is the test's.
 */
#ifndef FOB_TESTS_FRAME_PAIR_H
#define FOB_TESTS_FRAME_PAIR_H

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/connection.h"
#include "../../common/apue.h"
#include "../../common/log.h"
#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "leak.h"

enum { ALICE = 2001, SAMPLE_MAX = 8192 };

/* ---- requests ---- */

/* The bytes of a request, and the message that comes out. */
struct sample {
    enum frame_kind kind;
    size_t len, native_len;
    uint8_t bytes[SAMPLE_MAX], native[SAMPLE_MAX];
};

static inline void make_native(struct sample *s, uint32_t id, uint32_t flags, uint32_t mode, const char *path,
                               size_t path_len)
{
    size_t len = WIRE_HEADER_SIZE;
    if (path_len)
        len += wire_encode_entry(s->native + len, sizeof s->native - len, flags, mode, path, path_len);
    else /* an entry that is none */
        memset(s->native + len, 0, WIRE_ENTRY_SIZE), len += WIRE_ENTRY_SIZE;
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, 1, id };
    wire_encode_header(s->native, sizeof s->native, &header);
    s->native_len = len;
}

static inline void sample_native(struct sample *s, const char *path, uint32_t id)
{
    s->kind = FRAME_NATIVE;
    make_native(s, id, WIRE_READ, 0, path, strlen(path));
    s->len = s->native_len;
    memcpy(s->bytes, s->native, s->len);
}

/* `path` and flags are what the text means. */
static inline void sample_apue(struct sample *s, const char *text, const char *path, uint32_t flags)
{
    s->kind = FRAME_APUE;
    s->len = strlen(text) + 1;
    memcpy(s->bytes, text, s->len);
    make_native(s, 0, flags, flags & WIRE_CREATE ? 0600 : 0, path, strlen(path));
}

enum { SAMPLES = 3 };

static inline void samples_native(struct sample s[SAMPLES])
{
    sample_native(&s[0], "/a", 0x6f6f6f6f);
    sample_native(&s[1], "/pub/some file", 7);
    sample_native(&s[2], "/x/y", 0xffffffff);
}

static inline void samples_apue(struct sample s[SAMPLES])
{
    sample_apue(&s[0], "open /a 0", "/a", WIRE_READ);
    sample_apue(&s[1], "open /pub/some file\t65", "/pub/some file", WIRE_WRITE | WIRE_CREATE);
    sample_apue(&s[2], "o", "", 0);
}

typedef void make_samples(struct sample s[SAMPLES]);
static make_samples *const both_protocols[] = { samples_native, samples_apue };

/* ---- worker and connection ---- */

static struct worker *worker;
static struct worker_setup setup;
static struct connection *connection;
static int client = -1;
static size_t got_len;
static struct ucred got_sender;

static inline int group_setup(void **state)
{
    (void)state;
    struct policy *policy;
    struct policy_messages messages = { 0 };
    const char text[] = "allow any read /srv/**\n";
    log_set_level(LOG_LEVEL_ERROR);
    worker = mem_zalloc(1, sizeof *worker);
    setup.quota = quota_new(1, 10, 10);
    int err = policy_load_text(&policy, "t", text, sizeof text - 1, &(struct policy_env){ 0 }, &messages);
    policy_messages_deinit(&messages);
    if (err < 0 || !worker || !setup.quota)
        return -1;
    worker->setup = &setup;
    worker->clients.policy = policy;
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    return worker->epoll < 0 ? -1 : 0;
}

static inline int group_teardown(void **state)
{
    (void)state;
    policy_free((struct policy *)worker->clients.policy);
    fd_close(worker->epoll);
    free(worker);
    quota_free(setup.quota);
    return 0;
}

static inline void pair_begin_with(int type, enum frame_kind kind, bool as_broker)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
    if (as_broker)
        assert_int_equal(sock_set_receive_options(fds[0]), 0);
    else
        assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)), 0);
    client = fds[1];
    connection = connection_adopt(worker, fds[0], kind);
    assert_non_null(connection);
}

static inline void pair_begin(void)
{
    pair_begin_with(SOCK_STREAM, FRAME_FRESH, true);
}

static inline void pair_end(void)
{
    connection_close(worker, connection);
    connection = NULL;
    client = fd_close(client);
}

/* After a test that failed, too. */
static inline int pair_teardown(void **state)
{
    setup.single = false;
    if (connection)
        pair_end();
    return leak_teardown(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, leak_setup, pair_teardown)

/* ---- both sides ---- */

static inline void send_bytes(const void *bytes, size_t len)
{
    assert_int_equal(send(client, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT), (ssize_t)len);
}

/* Bytes that the kernel has still. */
static inline size_t left(void)
{
    int n;
    assert_int_equal(ioctl(connection->fd, FIONREAD, &n), 0);
    return (size_t)n;
}

/* As a worker does it: again as long as something is there. */
static inline int receive(void)
{
    int got = frame_receive(worker, connection, &got_len, &got_sender);
    for (int i = 0; i < 1000 && got == -EAGAIN && left() > 0; i++)
        got = frame_receive(worker, connection, &got_len, &got_sender);
    return got;
}

static inline void expect_sample(const struct sample *s, pid_t sender)
{
    assert_int_equal(got_len, s->native_len);
    assert_memory_equal(worker->in, s->native, s->native_len);
    assert_int_equal(got_sender.pid, sender);
    assert_int_equal(connection->kind, s->kind);
    assert_null(connection->part);
}

static inline void expect_whole(const struct sample *s)
{
    assert_int_equal(receive(), 1);
    expect_sample(s, getpid());
    assert_int_equal(got_sender.uid, geteuid());
    assert_int_equal(got_sender.gid, getegid());
}

static inline void expect_nothing(void)
{
    assert_int_equal(receive(), -EAGAIN);
    assert_int_equal(left(), 0);
}

/* Its pid, after it has sent them. */
static inline pid_t send_as_other(uid_t uid, const void *bytes, size_t len)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (uid && (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
            _exit(1);
        _exit(send(client, bytes, len, MSG_NOSIGNAL) != (ssize_t)len);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return pid;
}

#endif
