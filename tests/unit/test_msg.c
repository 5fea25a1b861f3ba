/*
 * common/msg.c over real sockets: what arrives, what is refused, and that nothing stays open.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/compat.h"
#include "../../common/msg.h"
#include "../../common/util.h"
#include "leak.h"
#include "msg_pair.h"

static ino_t inode_of(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return st.st_ino;
}

static void fill(int *fds, size_t n, int fd)
{
    for (size_t i = 0; i < n; i++)
        fds[i] = fd;
}

/* ---- what goes through ---- */

static void test_data_fds_and_credentials(void **state)
{
    (void)state;
    const int types[] = { SOCK_SEQPACKET, SOCK_STREAM, SOCK_DGRAM };
    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        PAIR pair = pair_open(types[t], true);
        int sent[] = { memfd(), memfd(), memfd() };
        const struct ucred me = { getpid(), getuid(), getgid() };
        struct msg_in in;
        char buf[16];
        memset(&in, 0x55, sizeof in);
        assert_int_equal(msg_send(pair.out, "hello", 5, sent, 3, &me, 0), 0);
        assert_int_equal(msg_recv(pair.in, buf, sizeof buf, 0, &in), 1);
        assert_int_equal(in.len, 5);
        assert_memory_equal(buf, "hello", 5);
        assert_true(in.has_cred);
        assert_memory_equal(&in.cred, &me, sizeof me);
        assert_int_equal(in.n_fds, 3);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(inode_of(in.fds[i]), inode_of(sent[i]));
            assert_int_equal(fcntl(in.fds[i], F_GETFD), FD_CLOEXEC);
        }
        fd_close_many(in.fds, in.n_fds);
        fd_close_many(sent, 3);
    }
}

static void test_plain_message(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_SEQPACKET, false);
    struct msg_in in;
    char buf[4];
    memset(&in, 0x55, sizeof in);
    assert_int_equal(msg_send(pair.out, "data", 4, NULL, 0, NULL, 0), 0);
    assert_int_equal(msg_recv(pair.in, buf, sizeof buf, 0, &in), 1); /* exactly its size: not too long */
    assert_int_equal(in.len, 4);
    assert_false(in.has_cred);
    assert_int_equal(in.n_fds, 0);
}

static void test_253_descriptors(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_SEQPACKET, true);
    int fd = memfd(), many[MSG_MAX_FDS + 1];
    const struct ucred me = { getpid(), getuid(), getgid() };
    struct msg_in in;
    char byte;
    fill(many, ARRAY_SIZE(many), fd);
    assert_int_equal(msg_send(pair.out, "x", 1, many, MSG_MAX_FDS, &me, 0), 0);
    assert_int_equal(msg_recv(pair.in, &byte, 1, 0, &in), 1);
    assert_int_equal(in.n_fds, MSG_MAX_FDS);
    assert_true(in.has_cred);
    for (size_t i = 0; i < in.n_fds; i++)
        assert_int_equal(inode_of(in.fds[i]), inode_of(fd));
    fd_close_many(in.fds, in.n_fds);
    assert_int_equal(msg_send(pair.out, "x", 1, many, MSG_MAX_FDS + 1, NULL, 0), -EINVAL);
    assert_int_equal(msg_send(pair.out, "x", 1, many, SIZE_MAX, NULL, 0), -EINVAL);
    assert_int_equal(msg_send(pair.out, "x", 0, many, 1, NULL, 0), -EINVAL);
    assert_int_equal(msg_recv(pair.in, &byte, 1, MSG_DONTWAIT, &in), -EAGAIN); /* none of these was sent */
    fd_close(fd);
}

/* ---- what is refused: nothing stays open (leak_teardown) ---- */

static void test_too_long(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_SEQPACKET, true);
    int fds[] = { memfd(), memfd() };
    struct msg_in in;
    char buf[4];
    size_t len;
    struct ucred cred;
    assert_int_equal(msg_send(pair.out, "12345", 5, fds, 2, NULL, 0), 0);
    assert_int_equal(msg_recv(pair.in, buf, sizeof buf, 0, &in), -EMSGSIZE);
    assert_int_equal(in.n_fds, 0);
    assert_int_equal(msg_send(pair.out, "12345", 5, fds, 2, NULL, 0), 0);
    assert_int_equal(msg_recv_cred(pair.in, buf, sizeof buf, 0, &len, &cred), -EMSGSIZE);
    assert_int_equal(msg_send(pair.out, "1234", 4, NULL, 0, NULL, 0), 0);
    assert_int_equal(msg_recv_cred(pair.in, buf, sizeof buf, 0, &len, &cred), 1);
    fd_close_many(fds, 2);
}

static int fd_room;       /* free places in the table ... */
static bool fd_cred_form; /* ... and which form is tried, for the child */

/* Limits the table to fd_room more than there are. Returns the first free number. */
static int limit_fds(int any)
{
    int first = fcntl(any, F_DUPFD_CLOEXEC, 0);
    struct rlimit limit = { (rlim_t)(first + fd_room), (rlim_t)(first + fd_room) };
    fd_close(first);
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? first : -1;
}

static int check_descriptor_table_full(void)
{
    EXPECT(close_range(3, ~0u, 0) == 0); /* whatever was inherited: the table shall have no gaps */
    PAIR pair = pair_open(SOCK_SEQPACKET, true);
    int fd = memfd(), five[5];
    struct msg_in in;
    struct ucred cred;
    size_t len;
    char byte;
    fill(five, 5, fd);
    EXPECT(msg_send(pair.out, "x", 1, five, 5, NULL, 0) == 0);
    int first = limit_fds(fd);
    EXPECT(first > fd);
    if (fd_cred_form) {
        EXPECT(msg_recv_cred(pair.in, &byte, 1, 0, &len, &cred) == -EPROTO);
    } else {
        EXPECT(msg_recv(pair.in, &byte, 1, 0, &in) == (fd_room < 5 ? -EMFILE : 1));
        EXPECT(in.n_fds == (fd_room < 5 ? 0 : 5));
        fd_close_many(in.fds, in.n_fds);
    }
    for (int i = 0; i < fd_room; i++)
        EXPECT(dup(fd) == first + i); /* all are free again */
    EXPECT(dup(fd) < 0 && errno == EMFILE);
    return 0;
}

static void test_descriptor_table_full(void **state)
{
    (void)state;
    if (getenv("FOB_VALGRIND") != NULL) {
        print_message("skipped: valgrind has limits of its own\n");
        skip();
    }
    for (fd_room = 0; fd_room <= 6; fd_room++) {
        for (int form = 0; form < 2; form++) {
            fd_cred_form = form;
            in_child(check_descriptor_table_full);
        }
    }
}

static void test_end_of_connection(void **state)
{
    (void)state;
    const int types[] = { SOCK_SEQPACKET, SOCK_STREAM };
    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        PAIR pair = pair_open(types[t], true);
        struct msg_in in;
        struct ucred cred;
        size_t len;
        char byte;
        assert_int_equal(msg_recv(pair.in, &byte, 1, MSG_DONTWAIT, &in), -EAGAIN);
        assert_int_equal(msg_recv_cred(pair.in, &byte, 1, MSG_DONTWAIT, &len, &cred), -EAGAIN);
        pair.out = fd_close(pair.out);
        assert_int_equal(msg_recv(pair.in, &byte, 1, 0, &in), 0);
        assert_int_equal(in.n_fds, 0);
        assert_int_equal(msg_recv_cred(pair.in, &byte, 1, 0, &len, &cred), 0);
    }
    char byte;
    struct msg_in in;
    assert_int_equal(msg_recv(-1, &byte, 1, 0, &in), -EBADF);
}

/* sendmsg(2) bare: what msg_send() would not do. */
static void send_raw(int sock, const void *buf, size_t len, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control = { .bytes = { 0 } };
    struct iovec data = { (void *)(uintptr_t)buf, len };
    struct msghdr header = { .msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes };
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    assert_int_equal(sendmsg(sock, &header, MSG_NOSIGNAL), len);
}

static void test_zero_length_packet(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_SEQPACKET, true);
    struct msg_in in;
    struct ucred cred;
    size_t len;
    char byte;
    int fd = memfd();
    send_raw(pair.out, "", 0, fd); /* the descriptor does come with it (dbus-broker PR 462) */
    assert_int_equal(msg_recv(pair.in, &byte, 1, 0, &in), 0);
    assert_int_equal(in.n_fds, 0);
    send_raw(pair.out, "", 0, fd);
    assert_int_equal(msg_recv_cred(pair.in, &byte, 1, 0, &len, &cred), 0);
    fd_close(fd);
}

static void test_cred_form(void **state)
{
    (void)state;
    const size_t counts[] = { 1, 2, 8, 9, 10, 253 };
    PAIR pair = pair_open(SOCK_SEQPACKET, true);
    struct ucred cred = { 0 };
    size_t len = 0;
    char byte;
    int fd = memfd(), many[MSG_MAX_FDS];
    fill(many, MSG_MAX_FDS, fd);
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        int before = fd_count();
        assert_int_equal(msg_send(pair.out, "x", 1, many, counts[i], NULL, 0), 0);
        assert_int_equal(msg_recv_cred(pair.in, &byte, 1, 0, &len, &cred), -EPROTO);
        assert_int_equal(fd_count(), before);
    }
    assert_int_equal(msg_send(pair.out, "x", 1, NULL, 0, NULL, 0), 0);
    assert_int_equal(msg_recv_cred(pair.in, &byte, 1, 0, &len, &cred), 1); /* and the connection works on */
    assert_int_equal(len, 1);
    assert_int_equal(cred.pid, getpid());
    assert_int_equal(cred.uid, getuid());
    assert_int_equal(cred.gid, getgid());
    fd_close(fd);
}

static void test_cred_missing(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_SEQPACKET, false);
    struct ucred cred;
    size_t len;
    char byte;
    assert_int_equal(msg_send(pair.out, "x", 1, NULL, 0, NULL, 0), 0);
    assert_int_equal(msg_recv_cred(pair.in, &byte, 1, 0, &len, &cred), -EPROTO);
}

static void test_reset(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_STREAM, false);
    struct msg_in in;
    char byte;
    assert_int_equal(msg_send(pair.in, "unread", 6, NULL, 0, NULL, 0), 0);
    pair.out = fd_close(pair.out); /* closed with unread data */
    assert_int_equal(msg_recv(pair.in, &byte, 1, 0, &in), -ECONNRESET);
    assert_int_equal(in.n_fds, 0);
    assert_int_equal(msg_send(pair.in, "x", 1, NULL, 0, NULL, 0),
                     -EPIPE); /* and no SIGPIPE ended this program */
}

/* ---- streams that take a message in parts ---- */

static void ignore_signal(int number)
{
    (void)number;
}

static void alarms(bool often)
{
    const suseconds_t period = often ? 1000 : 0;
    const struct itimerval timer = { { 0, period }, { 0, period } };
    const struct sigaction action = { .sa_handler =
                                          often ? ignore_signal : SIG_DFL }; /* without SA_RESTART */
    if (often)
        assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
    if (!often)
        assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
}

static int copy_all(int sock, size_t total)
{
    uint8_t buf[3000], next = 0;
    for (size_t seen = 0; seen < total;) {
        struct msg_in in;
        usleep(300); /* slowly: the sender waits, is interrupted, and has sent a part */
        EXPECT(msg_recv(sock, buf, sizeof buf, 0, &in) == 1);
        EXPECT(in.n_fds == (seen == 0 ? 1 : 0)); /* with the first byte, once */
        fd_close_many(in.fds, in.n_fds);
        for (size_t i = 0; i < in.len; i++)
            EXPECT(buf[i] == (uint8_t)(next++ * 7));
        seen += in.len;
    }
    return 0;
}

static void test_stream_rest_is_sent(void **state)
{
    (void)state;
    enum { TOTAL = 300000 };
    PAIR pair = pair_open(SOCK_STREAM, false);
    const int small = 0;
    CLEANUP(free_cleanup) uint8_t *data = mem_zalloc(TOTAL, 1);
    assert_non_null(data);
    for (size_t i = 0; i < TOTAL; i++)
        data[i] = (uint8_t)((uint8_t)i * 7);
    assert_int_equal(setsockopt(pair.out, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(copy_all(pair.in, TOTAL) ? 1 : 0);
    int fd = memfd(), status;
    alarms(true);
    int err = msg_send(pair.out, data, TOTAL, &fd, 1, NULL, 0);
    alarms(false);
    assert_int_equal(err, 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    fd_close(fd);
}

static void test_stream_that_may_not_wait(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_STREAM, false);
    static const char data[1 << 20];
    assert_int_equal(msg_send(pair.out, data, sizeof data, NULL, 0, NULL, MSG_DONTWAIT),
                     -ENOBUFS); /* a part went */
    assert_true(msg_unread(pair.out) > 0);
    int err;
    while ((err = msg_send(pair.out, data, 1000, NULL, 0, NULL, MSG_DONTWAIT)) == 0)
        continue;
    assert_true(err == -EAGAIN || err == -ENOBUFS);
    assert_int_equal(msg_send(pair.out, data, 1000, NULL, 0, NULL, MSG_DONTWAIT), -EAGAIN); /* nothing went */
}

static void test_unread(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_SEQPACKET, false);
    struct msg_in in;
    char byte;
    assert_int_equal(msg_unread(pair.out), 0);
    assert_int_equal(msg_send(pair.out, "x", 1, NULL, 0, NULL, 0), 0);
    assert_true(msg_unread(pair.out) > 0);
    assert_int_equal(msg_recv(pair.in, &byte, 1, 0, &in), 1);
    assert_int_equal(msg_unread(pair.out), 0);
    assert_int_equal(msg_unread(-1), -EBADF);
}

/* ---- interrupted ---- */

static void test_interrupted(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_SEQPACKET, false);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        usleep(50000);
        _exit(msg_send(pair.out, "x", 1, NULL, 0, NULL, 0) ? 1 : 0);
    }
    struct msg_in in;
    char byte;
    alarms(true);
    int got = msg_recv(pair.in, &byte, 1, 0, &in);
    alarms(false);
    assert_int_equal(got, 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, leak_setup, leak_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_data_fds_and_credentials),
        TEST(test_plain_message),
        TEST(test_253_descriptors),
        TEST(test_too_long),
        TEST(test_descriptor_table_full),
        TEST(test_end_of_connection),
        TEST(test_zero_length_packet),
        TEST(test_cred_form),
        TEST(test_cred_missing),
        TEST(test_reset),
        TEST(test_stream_rest_is_sent),
        TEST(test_stream_that_may_not_wait),
        TEST(test_unread),
        TEST(test_interrupted),
    };
    return cmocka_run_group_tests_name("msg", tests, NULL, NULL);
}
