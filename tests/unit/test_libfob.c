/*
 * libfob against a broker that follows a script: what it believes, what it repeats and what it does not, and
 * that nothing is left open.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../client/fob.h"
#include "../../common/util.h"
#include "../../common/wire.h"
#include "fake_broker.h"
#include "leak.h"

/* ---- what an honest broker is asked ---- */

static void test_open_and_refusal(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(HONEST);
    int fd = fob_open(fob, "/x", O_RDONLY, 0);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    assert_int_equal(fob_open(fob, "/no", O_RDONLY, 0), -1);
    assert_int_equal(errno, EACCES);
    assert_int_equal(fob_check(fob, "/x", O_RDONLY), 0);
    assert_int_equal(fob_check(fob, "/no", O_RDONLY), -1);
    assert_int_equal(errno, EACCES);
    fake_finish(fob);
}

static void test_what_is_not_asked(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(HONEST);
    char longest[5000];
    memset(longest, 'x', sizeof longest);
    longest[0] = '/';
    longest[4999] = '\0';
    const char *const wrong[] = { "", "x", "./x", longest };
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(fob_open(fob, wrong[i], O_RDONLY, 0), -1);
        assert_int_equal(errno, EINVAL);
    }
    assert_int_equal(fob_open(fob, "/x", O_RDONLY | O_TMPFILE, 0600), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(shared->requests, 0);
    fake_finish(fob);
}

static void test_list_hello_server(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(HONEST);
    char *text = fob_list(fob);
    assert_string_equal(text, "read /srv/**\n");
    free(text);
    struct fob_info info;
    assert_int_equal(fob_hello(fob, &info), 0);
    assert_int_equal(info.generation, 5);
    assert_int_equal(info.max_entries, 253);
    struct ucred server;
    assert_int_equal(fob_server(fob, &server), 0);
    assert_int_equal(server.pid, getpid()); /* who called listen(2) */
    fake_finish(fob);
    fob = fake_begin(LONG_LIST);
    text = fob_list(fob);
    assert_int_equal(strlen(text), WIRE_MAX_MESSAGE - WIRE_HEADER_SIZE);
    free(text);
    fake_finish(fob);
}

static void test_many(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    static struct fob_request requests[MANY];
    struct fob *fob = fake_begin(HONEST);
    for (size_t i = 0; i < MANY; i++)
        requests[i] = (struct fob_request){ .path = i % 5 == 4 ? "relative" : i % 3 ? "/yes" : "/no" };
    ssize_t opened = fob_open_many(fob, requests, MANY);
    ssize_t expected = 0;
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(requests[i].error, i % 5 == 4 ? EINVAL : i % 3 ? 0 : EACCES);
        assert_int_equal(requests[i].fd >= 0, requests[i].error == 0);
        expected += requests[i].fd >= 0;
        fd_close(requests[i].fd);
    }
    assert_int_equal(opened, expected);
    assert_int_equal(shared->largest, 253);
    assert_int_equal(shared->requests, 4);
    assert_int_equal(fob_open_many(fob, requests, 0), 0);
    fake_finish(fob);
}

/* Long paths: a message is full before it has 253 entries. */
static void test_many_long_ones(void **state)
{
    (void)state;
    static char longest[4096];
    static struct fob_request requests[40];
    memset(longest, 'x', 4095);
    longest[0] = '/';
    struct fob *fob = fake_begin(HONEST);
    for (size_t i = 0; i < 40; i++)
        requests[i] = (struct fob_request){ .path = longest };
    assert_int_equal(fob_open_many(fob, requests, 40), 40);
    assert_int_equal(shared->largest, 15);
    assert_int_equal(shared->requests, 3);
    for (size_t i = 0; i < 40; i++)
        close(requests[i].fd);
    fake_finish(fob);
}

/* ---- a broker that lies ---- */

static void expect_open_error(enum behaviour behaviour, int error)
{
    struct fob *fob = fake_begin(behaviour);
    struct fob_request requests[3] = { { .path = "/a" }, { .path = "/b" }, { .path = "/c" } };
    assert_int_equal(fob_open_many(fob, requests, 3), -1);
    assert_int_equal(errno, error);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(requests[i].fd, -1);
        assert_int_equal(requests[i].error, error);
    }
    fake_finish(fob);
}

static void test_lies_are_not_believed(void **state)
{
    (void)state;
    expect_open_error(WRONG_ID, EPROTO);
    expect_open_error(INDEX_TWICE, EPROTO);
    expect_open_error(NO_DESCRIPTOR, EPROTO);
    expect_open_error(SHORT_REPLY, EPROTO);
}

static void test_no_room_for_descriptors(void **state)
{
    (void)state;
    if (getenv("FOB_VALGRIND") != NULL)
        skip(); /* it keeps a limit of its own, which the kernel does not know */
    struct fob *fob = fake_begin(HONEST);
    struct rlimit old, tight;
    getrlimit(RLIMIT_NOFILE, &old);
    tight = old;
    tight.rlim_cur = (rlim_t)fd_count() - 1; /* fd_count() itself had one open */
    int top = dup(0);
    close(top);
    tight.rlim_cur = (rlim_t)top;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(fob_open(fob, "/x", O_RDONLY, 0), -1);
        assert_int_equal(errno, EMFILE);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    int fd = fob_open(fob, "/x", O_RDONLY, 0); /* and the connection is as good as before */
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(shared->connections, 1);
    fake_finish(fob);
}

/* ---- connections that end ---- */

static void test_reading_is_repeated(void **state)
{
    (void)state;
    static const enum behaviour ends[] = { CLOSE_UNREAD, CLOSE_AFTER };
    for (size_t i = 0; i < 2; i++) {
        struct fob *fob = fake_begin(ends[i]);
        usleep(50000);
        int fd = fob_open(fob, "/x", O_RDONLY, 0);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(shared->connections, 2);
        fake_finish(fob);
    }
}

/* What was sent and may have been done is not done again. */
static void test_changes_are_not_repeated(void **state)
{
    (void)state;
    static const int flags[] = { O_WRONLY | O_CREAT | O_EXCL, O_WRONLY | O_TRUNC, O_RDWR,
                                 O_WRONLY | O_APPEND };
    for (size_t i = 0; i < 4; i++) {
        struct fob *fob = fake_begin(CLOSE_AFTER);
        assert_int_equal(fob_open(fob, "/x", flags[i], 0600), -1);
        assert_int_equal(errno, ECONNRESET);
        assert_int_equal(shared->requests, 1);
        int fd = fob_open(fob, "/x", flags[i], 0600); /* the next one finds the broker again */
        assert_true(fd >= 0);
        close(fd);
        fake_finish(fob);
    }
}

static void test_not_for_ever(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(CLOSE_ALWAYS);
    assert_int_equal(fob_open(fob, "/x", O_RDONLY, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(shared->requests, 2);
    fake_finish(fob);
}

static void test_broker_gone(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(HONEST);
    kill(fake_pid, SIGKILL);
    waitpid(fake_pid, NULL, 0);
    struct fob *late = fob_connect(fake_path);
    assert_null(late);
    assert_int_equal(errno, ECONNREFUSED);
    assert_null(fob_connect("/nonexistent/fob.sock"));
    assert_int_equal(errno, ENOENT);
    fob_close(fob);
    fob_close(NULL);
}

/* ---- processes, threads, identities ---- */

static void test_fork(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(HONEST);
    int fd = fob_open(fob, "/x", O_RDONLY, 0);
    close(fd);
    pid_t child = fork();
    if (child == 0) {
        int got = fob_open(fob, "/x", O_RDONLY, 0);
        fob_close(fob);
        _exit(got >= 0 && shared->sender.pid == getpid() ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(shared->connections, 2);
    fd = fob_open(fob, "/x", O_RDONLY, 0);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(shared->connections, 2);
    fake_finish(fob);
}

static void *open_often(void *data)
{
    for (int i = 0; i < 500; i++) {
        int fd = fob_open(data, i % 2 ? "/yes" : "/no", O_RDONLY, 0);
        if ((fd >= 0) != (i % 2 != 0))
            return (void *)1;
        fd_close(fd);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[8];
    struct fob *fob = fake_begin(HONEST);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_often, fob), 0);
    for (int i = 0; i < 8; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(shared->requests, 4000);
    fake_finish(fob);
}

/* The broker compares with SO_PEERCRED, which has effective ids; the kernel by itself would send the real
 * ones. */
static void test_effective_ids_are_sent(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        puts("skipped: needs root");
        skip();
    }
    struct fob *root = fake_begin(HONEST);
    pid_t child = fork();
    if (child == 0) {
        if (setresgid(2001, 2002, 2002) || setresuid(2001, 2002, 2002))
            _exit(2);
        struct fob *fob = fob_connect(fake_path);
        int fd = fob ? fob_open(fob, "/x", O_RDONLY, 0) : -1;
        fob_close(fob);
        fob_close(root);
        _exit(fd >= 0 && shared->sender.uid == 2002 && shared->sender.gid == 2002 ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    fake_finish(root);
}

static void test_environment(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(HONEST);
    setenv("FOB_SOCKET", fake_path, 1);
    struct fob *other = fob_connect(NULL);
    assert_non_null(other);
    fob_close(other);
    setenv("FOB_SOCKET", "", 1);
    other = fob_connect(NULL); /* as if unset: the default, which may be there */
    fob_close(other);
    unsetenv("FOB_SOCKET");
    fake_finish(fob);
}

/* ---- descriptors over any socket ---- */

static void test_send_and_receive(void **state)
{
    (void)state;
    int pair[2], fds[3] = { 0, 1, 2 }, got[3];
    size_t len = 8, n = 3;
    char data[8];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(fob_send_fds(pair[0], "abc", 3, fds, 3, NULL), 0);
    struct ucred cred;
    assert_int_equal(fob_recv_fds(pair[1], data, &len, got, &n, &cred), 1);
    assert_int_equal(len, 3);
    assert_int_equal(n, 3);
    assert_int_equal(cred.pid, 0);
    fd_close_many(got, 3);
    assert_int_equal(fob_send_fds(pair[0], "abc", 3, fds, 3, NULL), 0);
    n = 2;
    len = 8;
    assert_int_equal(fob_recv_fds(pair[1], data, &len, got, &n, NULL), -1);
    assert_int_equal(errno, EMSGSIZE);
    assert_int_equal(fob_send_fds(pair[0], "", 0, fds, 1, NULL), -1);
    assert_int_equal(errno, EINVAL);
    close(pair[0]);
    len = 8;
    n = 2;
    assert_int_equal(fob_recv_fds(pair[1], data, &len, got, &n, NULL), 0);
    close(pair[1]);
}

#define leak_test(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_test(test_open_and_refusal),
        leak_test(test_what_is_not_asked),
        leak_test(test_list_hello_server),
        leak_test(test_many),
        leak_test(test_many_long_ones),
        leak_test(test_lies_are_not_believed),
        leak_test(test_no_room_for_descriptors),
        leak_test(test_reading_is_repeated),
        leak_test(test_changes_are_not_repeated),
        leak_test(test_not_for_ever),
        leak_test(test_broker_gone),
        leak_test(test_fork),
        leak_test(test_threads),
        leak_test(test_effective_ids_are_sent),
        leak_test(test_environment),
        leak_test(test_send_and_receive),
    };
    return cmocka_run_group_tests_name("libfob", tests, fake_setup, fake_teardown);
}
