/*
 * What the kernel says of sockets: against sockets that the test has made itself, some of them in another
 * network namespace.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/unix_diag.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "leak.h"

enum { MANY = 2000, ALICE = 2001 };

static int diag = -1;

static int diag_up(void **state)
{
    leak_setup(state);
    diag = unix_diag_open();
    if (diag < 0)
        print_message("skipped: this kernel tells nothing of sockets: %s\n", strerror(-diag));
    return 0;
}

static int diag_down(void **state)
{
    fd_close(diag);
    return leak_teardown(state);
}

#define DIAG_TEST(name) cmocka_unit_test_setup_teardown(name, diag_up, diag_down)
#define NEED_DIAG()   \
    do {              \
        if (diag < 0) \
            skip();   \
    } while (0)

static uint32_t ino_of(int sock)
{
    struct stat st;
    assert_int_equal(fstat(sock, &st), 0);
    return (uint32_t)st.st_ino;
}

/* name: as of sock_address(); NULL: autobind. */
static int bound(int type, const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int sock = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    int len = name ? sock_address(&address, name) : (int)sizeof(sa_family_t);
    assert_true(sock >= 0 && len > 0);
    assert_int_equal(bind(sock, (const struct sockaddr *)&address, (socklen_t)len), 0);
    return sock;
}

static socklen_t name_of(int sock, struct sockaddr_un *name)
{
    socklen_t len = sizeof *name;
    assert_int_equal(getsockname(sock, (struct sockaddr *)name, &len), 0);
    return len;
}

static void connect_to(int sock, int other)
{
    struct sockaddr_un name;
    socklen_t len = name_of(other, &name);
    assert_int_equal(connect(sock, (const struct sockaddr *)&name, len), 0);
}

static struct unix_diag get(int sock)
{
    struct unix_diag found;
    assert_int_equal(unix_diag_get(diag, ino_of(sock), NULL, &found), 0);
    assert_int_equal(found.ino, ino_of(sock));
    return found;
}

/* ---- one ---- */

static void expect_name(int sock)
{
    struct sockaddr_un name;
    size_t len = name_of(sock, &name) - offsetof(struct sockaddr_un, sun_path);
    struct unix_diag found = get(sock);
    assert_int_equal(found.name_len, len);
    assert_memory_equal(found.name, name.sun_path, len);
}

static void test_names(void **state)
{
    (void)state;
    NEED_DIAG();
    char dir[] = "/tmp/fob-diag.XXXXXX", path[64], abstract[108];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    snprintf(abstract, sizeof abstract, "@%d-%090d", (int)getpid(), 7);
    const char *const names[] = { NULL, path, abstract };
    const int types[] = { SOCK_DGRAM, SOCK_STREAM, SOCK_SEQPACKET };
    for (size_t t = 0; t < ARRAY_SIZE(types); t++)
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
            int sock = bound(types[t], names[i]);
            expect_name(sock);
            assert_int_equal(get(sock).type, types[t]);
            close(sock);
            unlink(path);
        }
    assert_int_equal(rmdir(dir), 0);
    int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(get(sock).name_len, 0);
    close(sock);
}

static void test_peers(void **state)
{
    (void)state;
    NEED_DIAG();
    int a = bound(SOCK_DGRAM, NULL), b = bound(SOCK_DGRAM, NULL), c = bound(SOCK_DGRAM, NULL);
    assert_int_equal(get(a).peer, 0);
    connect_to(a, b);
    assert_int_equal(get(a).peer, ino_of(b));
    assert_int_equal(get(b).peer, 0); /* it is not connected itself */
    connect_to(a, c);
    assert_int_equal(get(a).peer, ino_of(c));
    close(c);
    assert_int_equal(get(a).peer, 0);
    close(a);
    close(b);
}

static void test_unread(void **state)
{
    (void)state;
    NEED_DIAG();
    char buf[16];
    int a = bound(SOCK_DGRAM, NULL), b = bound(SOCK_DGRAM, NULL);
    connect_to(a, b);
    assert_int_equal(get(b).unread, 0);
    assert_int_equal(send(a, "12345", 5, 0), 5);
    assert_int_equal(send(a, "1234567", 7, 0), 7);
    assert_int_equal(get(b).unread, 5);
    assert_int_equal(recv(b, buf, sizeof buf, 0), 5);
    assert_int_equal(get(b).unread, 7);
    assert_int_equal(recv(b, buf, sizeof buf, 0), 7);
    assert_int_equal(get(b).unread, 0);
    assert_int_equal(send(a, "", 0, 0), 0); /* it hides what comes after it */
    assert_int_equal(send(a, "1", 1, 0), 1);
    assert_int_equal(get(b).unread, 0);
    close(a);
    close(b);
}

/* ---- whose ---- */

static void look_as_other(void)
{
    int sock = bound(SOCK_DGRAM, NULL);
    if (setresuid(ALICE, ALICE, ALICE) < 0)
        _exit(1);
    int later = bound(SOCK_DGRAM, NULL);
    _exit(get(sock).uid == 0 && get(later).uid == ALICE ? 0 : 2); /* of who made it */
}

static void test_uid(void **state)
{
    (void)state;
    NEED_DIAG();
    int sock = bound(SOCK_DGRAM, NULL), status;
    assert_int_equal(get(sock).uid, geteuid());
    close(sock);
    if (geteuid() != 0)
        skip();
    pid_t pid = fork();
    if (pid == 0)
        look_as_other();
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- the very one ---- */

static void test_gone(void **state)
{
    (void)state;
    NEED_DIAG();
    struct unix_diag found;
    int sock = bound(SOCK_DGRAM, NULL);
    struct unix_diag one = get(sock);
    const uint32_t other[2] = { one.cookie[0] ^ 1, one.cookie[1] };
    assert_int_equal(unix_diag_get(diag, one.ino, one.cookie, &found), 0);
    assert_int_equal(unix_diag_get(diag, one.ino, other, &found), -ESTALE);
    assert_int_equal(unix_diag_get(diag, 0, NULL, &found), -ENOENT);
    close(sock);
    assert_int_equal(unix_diag_get(diag, one.ino, one.cookie, &found), -ENOENT);
    assert_int_equal(unix_diag_get(-1, 1, NULL, &found), -EBADF);
}

static void visit_none(void *context, const struct unix_diag *socket)
{
    (void)socket;
    ++*(int *)context;
}

/* A socket of another network is not told of, whoever has it. */
static void test_other_network(void **state)
{
    (void)state;
    NEED_DIAG();
    struct unix_diag found;
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWNET | CLONE_NEWUSER) < 0)
            _exit(77);
        int sock = bound(SOCK_DGRAM, NULL);
        _exit(unix_diag_get(diag, ino_of(sock), NULL, &found) == -ENOENT ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

/* ---- all ---- */

struct census {
    const uint32_t *inos;
    int found;
};

static void visit(void *context, const struct unix_diag *socket)
{
    struct census *census = context;
    for (int i = 0; i < MANY; i++)
        if (census->inos[i] == socket->ino) {
            assert_int_equal(socket->type, SOCK_DGRAM);
            assert_int_equal(socket->peer, i ? census->inos[0] : 0);
            assert_int_equal(socket->uid, geteuid());
            assert_int_not_equal(socket->name_len, 0);
            census->found++;
        }
}

/* More than one answer holds; the next question is not in the way of the last. */
static void test_each(void **state)
{
    (void)state;
    NEED_DIAG();
    static int socks[MANY];
    static uint32_t inos[MANY];
    int n = 0;
    while (n < MANY && (socks[n] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) >= 0) {
        assert_int_equal(bind(socks[n], &(struct sockaddr){ .sa_family = AF_UNIX }, sizeof(sa_family_t)), 0);
        inos[n] = ino_of(socks[n]);
        if (n)
            connect_to(socks[n], socks[0]);
        n++;
    }
    for (int round = 0; round < 3; round++) {
        struct census census = { inos, 0 };
        assert_int_equal(unix_diag_each(diag, visit, &census), 0);
        assert_int_equal(census.found, n);
        assert_int_equal(get(socks[n - 1]).peer, inos[0]);
    }
    for (int i = 0; i < n; i++)
        close(socks[i]);
    n = 0;
    assert_int_equal(unix_diag_each(-1, visit_none, &n), -EBADF);
    assert_int_equal(n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIAG_TEST(test_names), DIAG_TEST(test_peers),         DIAG_TEST(test_unread), DIAG_TEST(test_uid),
        DIAG_TEST(test_gone),  DIAG_TEST(test_other_network), DIAG_TEST(test_each),
    };
    return cmocka_run_group_tests_name("sock_diag", tests, NULL, NULL);
}
