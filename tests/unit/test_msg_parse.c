/*
 * The parser of control messages (common/msg.c), fed with what no kernel should send.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/compat.h"
#include "../../common/msg_parse.h"
#include "../../common/util.h"
#include "leak.h"

/* A control buffer in the making. */
struct forge {
    size_t len;
    union {
        struct cmsghdr align;
        char bytes[4096];
    } control;
};

/* Appends a message of `len` data bytes whose header claims `claim` bytes in all. */
static void forge_put(struct forge *forge, int level, int type, const void *data, size_t len, size_t claim)
{
    struct cmsghdr c = { .cmsg_len = claim, .cmsg_level = level, .cmsg_type = type };
    memcpy(forge->control.bytes + forge->len, &c, sizeof c);
    memcpy(forge->control.bytes + forge->len + CMSG_LEN(0), data, len);
    forge->len += CMSG_SPACE(len);
}

static void forge_cred(struct forge *forge, size_t claim)
{
    const struct ucred cred = { 100, 2001, 2002 };
    forge_put(forge, SOL_SOCKET, SCM_CREDENTIALS, &cred, sizeof cred, claim);
}

static void forge_fds(struct forge *forge, const int *fds, size_t n)
{
    forge_put(forge, SOL_SOCKET, SCM_RIGHTS, fds, n * sizeof *fds, CMSG_LEN(n * sizeof *fds));
}

/* Parses from a block that ends where the control messages end. */
static int forge_parse(const struct forge *forge, struct msg_in *in)
{
    CLEANUP(free_cleanup) char *exact = malloc(forge->len + 1);
    assert_non_null(exact);
    memcpy(exact, forge->control.bytes, forge->len);
    struct msghdr header = { .msg_control = exact, .msg_controllen = forge->len };
    memset(in, 0x55, sizeof *in);
    return msg_parse(&header, in);
}

static void open_fds(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_true(fds[i] >= 0);
    }
}

/* All of them came back as in->fds (in order), to be closed once. */
static void expect_fds(struct msg_in *in, const int *fds, size_t n)
{
    assert_int_equal(in->n_fds, n);
    assert_memory_equal(in->fds, fds, n * sizeof *fds);
    fd_close_many(in->fds, in->n_fds);
}

static void test_none(void **state)
{
    (void)state;
    struct forge forge = { .len = 0 };
    struct msg_in in;
    assert_int_equal(forge_parse(&forge, &in), 0);
    assert_false(in.has_cred);
    assert_int_equal(in.n_fds, 0);
}

static void test_sound(void **state)
{
    (void)state;
    for (int fds_first = 0; fds_first < 2; fds_first++) {
        struct forge forge = { .len = 0 };
        struct msg_in in;
        int fds[3];
        open_fds(fds, 3);
        if (fds_first)
            forge_fds(&forge, fds, 3);
        forge_cred(&forge, CMSG_LEN(sizeof(struct ucred)));
        if (!fds_first)
            forge_fds(&forge, fds, 3);
        assert_int_equal(forge_parse(&forge, &in), 0);
        assert_true(in.has_cred);
        assert_int_equal(in.cred.pid, 100);
        assert_int_equal(in.cred.uid, 2001);
        assert_int_equal(in.cred.gid, 2002);
        expect_fds(&in, fds, 3);
    }
}

/* Threat 12: the kernel cuts a ucred to what fits; a gid of 0 would be read. */
static void test_cut_credentials(void **state)
{
    (void)state;
    for (size_t claim = CMSG_LEN(0); claim <= CMSG_SPACE(sizeof(struct ucred)); claim++) {
        struct forge forge = { .len = 0 };
        struct msg_in in;
        forge_cred(&forge, claim);
        bool whole = claim == CMSG_LEN(sizeof(struct ucred));
        assert_int_equal(forge_parse(&forge, &in), whole ? 0 : -EPROTO);
        assert_int_equal(in.has_cred, whole);
    }
}

static void test_two_credentials(void **state)
{
    (void)state;
    struct forge forge = { .len = 0 };
    struct msg_in in;
    int fd;
    forge_cred(&forge, CMSG_LEN(sizeof(struct ucred)));
    forge_cred(&forge, CMSG_LEN(sizeof(struct ucred)));
    open_fds(&fd, 1);
    forge_fds(&forge, &fd, 1);
    assert_int_equal(forge_parse(&forge, &in), -EPROTO);
    expect_fds(&in, &fd, 1); /* what came after the mistake was found too */
}

static void test_two_rights(void **state)
{
    (void)state;
    struct forge forge = { .len = 0 };
    struct msg_in in;
    int fds[4];
    open_fds(fds, 4);
    forge_fds(&forge, fds, 1);
    forge_fds(&forge, fds + 1, 3);
    assert_int_equal(forge_parse(&forge, &in), -EPROTO);
    expect_fds(&in, fds, 4);
}

static void test_odd_rights(void **state)
{
    (void)state;
    for (size_t odd = 1; odd < sizeof(int); odd++) {
        struct forge forge = { .len = 0 };
        struct msg_in in;
        int fds[3];
        open_fds(fds, 2);
        fds[2] = fds[0]; /* its first bytes are cut: no number of a descriptor */
        forge_put(&forge, SOL_SOCKET, SCM_RIGHTS, fds, sizeof fds, CMSG_LEN(2 * sizeof(int) + odd));
        assert_int_equal(forge_parse(&forge, &in), -EPROTO);
        expect_fds(&in, fds, 2);
    }
    struct forge forge = { .len = 0 };
    struct msg_in in;
    forge_fds(&forge, &(int){ -1 }, 0);
    assert_int_equal(forge_parse(&forge, &in), -EPROTO);
}

static void test_more_rights_than_can_be(void **state)
{
    (void)state;
    struct forge forge = { .len = 0 };
    struct msg_in in;
    int fds[MSG_MAX_FDS + 7];
    open_fds(fds, ARRAY_SIZE(fds));
    forge_fds(&forge, fds, ARRAY_SIZE(fds));
    assert_int_equal(forge_parse(&forge, &in), -EPROTO);
    expect_fds(&in, fds, MSG_MAX_FDS); /* the other 7 are closed: leak_teardown() */
}

static void test_length_lies(void **state)
{
    (void)state;
    const size_t lies[] = { 0, 1, 8, 15, 21, 24, 100, SIZE_MAX, SIZE_MAX - 7, SIZE_MAX / 2 };
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        for (int second = 0; second < 2; second++) {
            struct forge forge = { .len = 0 };
            struct msg_in in;
            int fd = -1;
            if (second)
                forge_cred(&forge, CMSG_LEN(sizeof(struct ucred)));
            forge_put(&forge, SOL_SOCKET, SCM_RIGHTS, &fd, sizeof fd, lies[i]);
            forge.len -= 4; /* no padding: the claim of 24 bytes is too much as well */
            int got = forge_parse(&forge, &in);
            /* As second, CMSG_NXTHDR() may take a wrong length for the end: nothing is read of it either way.
             */
            assert_true(got == -EPROTO || (second && got == 0));
            assert_true(in.n_fds <= 1);
        }
    }
}

static void test_unknown_kinds(void **state)
{
    (void)state;
    struct forge forge = { .len = 0 };
    struct msg_in in;
    const int number = 12345;
    forge_put(&forge, SOL_SOCKET, 0x7777, &number, sizeof number, CMSG_LEN(sizeof number));
    forge_put(&forge, 41, SCM_RIGHTS, &number, sizeof number, CMSG_LEN(sizeof number)); /* another level */
    forge_cred(&forge, CMSG_LEN(sizeof(struct ucred)));
    assert_int_equal(forge_parse(&forge, &in), 0);
    assert_true(in.has_cred);
    assert_int_equal(in.n_fds, 0);
}

static void test_pidfd(void **state)
{
    (void)state;
    struct forge forge = { .len = 0 };
    struct msg_in in;
    int fd, negative = -3;
    open_fds(&fd, 1);
    forge_put(&forge, SOL_SOCKET, SCM_PIDFD, &fd, sizeof fd, CMSG_LEN(sizeof fd));
    forge_put(&forge, SOL_SOCKET, SCM_PIDFD, &negative, sizeof fd, CMSG_LEN(sizeof fd));
    assert_int_equal(forge_parse(&forge, &in), 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    forge = (struct forge){ .len = 0 };
    forge_put(&forge, SOL_SOCKET, SCM_PIDFD, &negative, sizeof fd, CMSG_LEN(2));
    assert_int_equal(forge_parse(&forge, &in), -EPROTO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, leak_setup, leak_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_none),
        TEST(test_sound),
        TEST(test_cut_credentials),
        TEST(test_two_credentials),
        TEST(test_two_rights),
        TEST(test_odd_rights),
        TEST(test_more_rights_than_can_be),
        TEST(test_length_lies),
        TEST(test_unknown_kinds),
        TEST(test_pidfd),
    };
    return cmocka_run_group_tests_name("msg_parse", tests, NULL, NULL);
}
