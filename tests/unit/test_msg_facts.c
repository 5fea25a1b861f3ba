/*
 * Facts of the kernel that common/msg.c and its callers stand on (unix(7)).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/compat.h"
#include "../../common/msg.h"
#include "../../common/util.h"
#include "leak.h"
#include "msg_pair.h"

enum { NOBODYS_UID = 2001 };

/* Without the option at the time of sending the sender is nobody, and not: unknown. */
static void test_fact_passcred_too_late(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_SEQPACKET, false);
    const int on = 1;
    struct ucred cred;
    size_t len;
    char byte;
    assert_int_equal(msg_send(pair.out, "x", 1, NULL, 0, NULL, 0), 0);
    assert_int_equal(setsockopt(pair.in, SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    assert_int_equal(msg_recv_cred(pair.in, &byte, 1, 0, &len, &cred), 1);
    assert_int_equal(cred.pid, 0);
    assert_int_equal(cred.uid, 65534);
    assert_int_equal(cred.gid, 65534);
}

static int check_forged_credentials(void)
{
    PAIR pair = pair_open(SOCK_SEQPACKET, true);
    EXPECT(setresgid(NOBODYS_UID, NOBODYS_UID, NOBODYS_UID) == 0);
    EXPECT(setresuid(NOBODYS_UID, NOBODYS_UID, NOBODYS_UID) == 0);
    const struct ucred forged[] = {
        { getpid(), 0, NOBODYS_UID },
        { getpid(), NOBODYS_UID, 0 },
        { 1, NOBODYS_UID, NOBODYS_UID },
    };
    for (size_t i = 0; i < ARRAY_SIZE(forged); i++)
        EXPECT(msg_send(pair.out, "x", 1, NULL, 0, &forged[i], 0) == -EPERM);
    struct ucred cred;
    size_t len;
    char byte;
    EXPECT(msg_recv_cred(pair.in, &byte, 1, MSG_DONTWAIT, &len, &cred) == -EAGAIN);
    return 0;
}

static void test_fact_forged_credentials(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: needs root, to become another user\n");
        skip();
    }
    in_child(check_forged_credentials);
}

/* The usual mistake: room for one descriptor, and credentials come first. */
static void test_fact_small_buffer_cuts_credentials(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_SEQPACKET, true);
    int fd = memfd();
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control;
    char byte;
    struct iovec data = { &byte, 1 };
    struct msghdr header = { .msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes };
    assert_int_equal(msg_send(pair.out, "x", 1, &fd, 1, NULL, 0), 0);
    assert_int_equal(recvmsg(pair.in, &header, 0), 1);
    assert_true(header.msg_flags & MSG_CTRUNC);
    assert_int_equal(CMSG_FIRSTHDR(&header)->cmsg_type, SCM_CREDENTIALS);
    assert_int_equal(CMSG_FIRSTHDR(&header)->cmsg_len, 24);
    fd_close(fd);
}

static void test_pidfd_is_closed(void **state)
{
    (void)state;
    PAIR pair = pair_open(SOCK_SEQPACKET, true);
    const int on = 1;
    if (setsockopt(pair.in, SOL_SOCKET, SO_PASSPIDFD, &on, sizeof on) < 0) {
        print_message("skipped: no SO_PASSPIDFD (before Linux 6.5)\n");
        skip();
    }
    struct msg_in in;
    struct ucred cred;
    size_t len;
    char byte;
    int before = fd_count();
    assert_int_equal(msg_send(pair.out, "x", 1, NULL, 0, NULL, 0), 0);
    assert_int_equal(msg_recv(pair.in, &byte, 1, 0, &in), 1);
    assert_int_equal(in.n_fds, 0);
    assert_int_equal(fd_count(), before);
    assert_int_equal(msg_send(pair.out, "x", 1, NULL, 0, NULL, 0), 0);
    assert_int_equal(msg_recv_cred(pair.in, &byte, 1, 0, &len, &cred), 1);
    assert_int_equal(fd_count(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, leak_setup, leak_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_fact_passcred_too_late),
        TEST(test_fact_forged_credentials),
        TEST(test_fact_small_buffer_cuts_credentials),
        TEST(test_pidfd_is_closed),
    };
    return cmocka_run_group_tests_name("msg_facts", tests, NULL, NULL);
}
