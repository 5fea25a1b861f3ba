/*
 * common/peer.c: connections of real users, as the kernel tells of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/msg.h"
#include "../../common/peer.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "leak.h"

enum { ALICE = 2001, ALICE_GID = 3001, MANY = 1000 };

static char address[sizeof(((struct sockaddr_un *)0)->sun_path)];
static int listener = -1;

static int setup(void **state)
{
    static unsigned counter;
    struct sock_name name;
    if (leak_setup(state) < 0)
        return -1;
    snprintf(address, sizeof address, "@fob-test-peer-%d-%u", (int)getpid(), counter++);
    listener =
        sock_listen(address, &(struct sock_listen_options){ .type = SOCK_SEQPACKET, .backlog = 8 }, &name);
    return listener < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    listener = fd_close(listener);
    return leak_teardown(state);
}

static void need_root(void)
{
    if (geteuid() == 0)
        return;
    print_message("skipped: needs root, to become other users\n");
    skip();
}

/* A child that becomes somebody, connects, and stays until its end of the pipe closes. */
struct client {
    pid_t pid;
    int hold;   /* closed: the child ends */
    int socket; /* accepted; -1 when the child could not become what it should */
};

static void client_run(int (*become)(void), int hold)
{
    char byte;
    if (become() < 0)
        _exit(3);
    int sock = sock_connect(address, SOCK_SEQPACKET);
    if (sock < 0)
        _exit(1);
    while (read(hold, &byte, 1) < 0 && errno == EINTR)
        continue;
    _exit(0);
}

static int client_accept(pid_t child)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), status;
        if (fd >= 0 || errno != EAGAIN)
            return fd;
        if (waitpid(child, &status, WNOHANG) == child)
            return -1;
        usleep(1000);
    }
}

static struct client client_start(int (*become)(void))
{
    int hold[2];
    assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
    assert_int_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    struct client client = { .pid = fork(), .hold = hold[1] };
    assert_true(client.pid >= 0);
    if (client.pid == 0) {
        close(hold[1]);
        client_run(become, hold[0]);
    }
    fd_close(hold[0]);
    client.socket = client_accept(client.pid);
    return client;
}

static void client_end(struct client *client)
{
    int status;
    client->hold = fd_close(client->hold);
    client->socket = fd_close(client->socket);
    waitpid(client->pid, &status, 0);
}

/* ---- who they become ---- */

static int become_alice_with(size_t n, const gid_t *groups)
{
    if (setgroups(n, groups) < 0 || setresgid(ALICE_GID, ALICE_GID, ALICE_GID) < 0)
        return -1;
    return setresuid(ALICE, ALICE, ALICE);
}

static int become_self(void)
{
    return 0;
}

static int become_alice(void)
{
    return become_alice_with(0, NULL);
}

static int become_alice_of_three_groups(void)
{
    return become_alice_with(3, (const gid_t[]){ 70000, 5, 4001 });
}

/* Beginning at `first`, backwards: what peer_init() gives must be in order all the same. */
static int become_alice_of_n(size_t n)
{
    static gid_t groups[65536];
    for (size_t i = 0; i < n; i++)
        groups[i] = (gid_t)(100000 + n - i);
    return become_alice_with(n, groups);
}

static int become_alice_of_32(void)
{
    return become_alice_of_n(32);
}

static int become_alice_of_33(void)
{
    return become_alice_of_n(33);
}

static int become_alice_of_many(void)
{
    return become_alice_of_n(MANY);
}

static int become_alice_of_65536(void)
{
    return become_alice_of_n(65536); /* NGROUPS_MAX */
}

static int become_overflow_user(void)
{
    return setgroups(0, NULL) < 0 ? -1 : setresuid(PEER_OVERFLOW_ID, PEER_OVERFLOW_ID, PEER_OVERFLOW_ID);
}

static int become_alice_of_nogroup(void)
{
    const gid_t groups[] = { 5, PEER_OVERFLOW_ID, 90000 };
    if (setgroups(3, groups) < 0 || setresgid(PEER_OVERFLOW_ID, PEER_OVERFLOW_ID, PEER_OVERFLOW_ID) < 0)
        return -1;
    return setresuid(ALICE, ALICE, ALICE);
}

/* ---- tests ---- */

static void test_self(void **state)
{
    (void)state;
    struct client client = client_start(become_self);
    struct peer peer;
    gid_t mine[65536];
    assert_int_equal(peer_init(&peer, client.socket), 0);
    assert_int_equal(peer.pid, client.pid);
    assert_int_equal(peer.uid, geteuid());
    assert_int_equal(peer.gid, getegid());
    int n = getgroups(ARRAY_SIZE(mine), mine);
    assert_int_equal(peer.n_groups, n);
    peer_deinit(&peer);
    assert_null(peer.groups);
    assert_int_equal(peer.n_groups, 0);
    client_end(&client);
}

static void test_groups_sorted(void **state)
{
    (void)state;
    need_root();
    struct client client = client_start(become_alice_of_three_groups);
    struct peer peer;
    const gid_t expected[] = { 5, 4001, 70000 };
    assert_int_equal(peer_init(&peer, client.socket), 0);
    assert_int_equal(peer.uid, ALICE);
    assert_int_equal(peer.gid, ALICE_GID);
    assert_int_equal(peer.n_groups, 3);
    assert_memory_equal(peer.groups, expected, sizeof expected);
    peer_deinit(&peer);
    client_end(&client);
}

static void test_group_counts(void **state)
{
    (void)state;
    need_root();
    static const struct {
        int (*become)(void);
        size_t n;
    } cases[] = {
        { become_alice, 0 },
        { become_alice_of_32, 32 },
        { become_alice_of_33, 33 },
        { become_alice_of_many, MANY },
        { become_alice_of_65536, 65536 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct client client = client_start(cases[i].become);
        struct peer peer;
        assert_int_equal(peer_init(&peer, client.socket), 0);
        assert_int_equal(peer.n_groups, cases[i].n);
        for (size_t g = 0; g < peer.n_groups; g++)
            assert_int_equal(peer.groups[g], 100001 + g);
        peer_deinit(&peer);
        client_end(&client);
    }
}

/* Credentials are those of the connecting moment; also when the process is gone. */
static void test_fact_frozen(void **state)
{
    (void)state;
    need_root();
    struct client client = client_start(become_alice_of_three_groups);
    struct peer peer;
    pid_t pid = client.pid;
    int sock = fcntl(client.socket, F_DUPFD_CLOEXEC, 0);
    client_end(&client);
    assert_int_equal(peer_init(&peer, sock), 0);
    assert_int_equal(peer.pid, pid);
    assert_int_equal(peer.uid, ALICE);
    assert_int_equal(peer.n_groups, 3);
    peer_deinit(&peer);
    fd_close(sock);
}

static void test_overflow_user(void **state)
{
    (void)state;
    need_root();
    struct client client = client_start(become_overflow_user);
    struct peer peer;
    assert_int_equal(peer_init(&peer, client.socket), -EPERM);
    assert_int_equal(peer.uid, PEER_OVERFLOW_ID); /* for the record */
    assert_int_equal(peer.pid, client.pid);
    assert_null(peer.groups);
    client_end(&client);
}

static void test_overflow_groups(void **state)
{
    (void)state;
    need_root();
    struct client client = client_start(become_alice_of_nogroup);
    struct peer peer;
    const gid_t expected[] = { 5, 90000 };
    assert_int_equal(peer_init(&peer, client.socket), 0);
    assert_int_equal(peer.gid, PEER_OVERFLOW_ID);
    assert_int_equal(peer.n_groups, 2);
    assert_memory_equal(peer.groups, expected, sizeof expected);
    peer_deinit(&peer);
    client_end(&client);
}

static void test_not_connected(void **state)
{
    (void)state;
    struct peer peer;
    int inet = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int alone = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(peer_init(&peer, inet) < 0);
    assert_true(peer_init(&peer, alone) < 0);
    assert_null(peer.groups);
    assert_int_equal(peer_init(&peer, file), -ENOTSOCK);
    assert_int_equal(peer.pid, 0);
    assert_int_equal(peer.uid, PEER_OVERFLOW_ID);
    assert_int_equal(peer.gid, PEER_OVERFLOW_ID);
    assert_int_equal(peer_init(&peer, -1), -EBADF);
    fd_close(inet);
    fd_close(alone);
    fd_close(file);
}

/* ---- namespaces ---- */

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int err = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
    fd_close(fd);
    return err;
}

/* A user namespace in which alice calls herself root. */
static int become_root_of_a_namespace(void)
{
    char map[64];
    if (become_alice() < 0 || unshare(CLONE_NEWUSER) < 0)
        return -1;
    prctl(PR_SET_DUMPABLE,
          1); /* a process that changed its uid is not, and its /proc files are then root's */
    snprintf(map, sizeof map, "0 %d 1", ALICE);
    if (write_text("/proc/self/uid_map", map) < 0 || geteuid() != 0)
        return -1;
    return 0;
}

static void test_client_in_user_namespace(void **state)
{
    (void)state;
    need_root();
    struct client client = client_start(become_root_of_a_namespace);
    struct peer peer;
    if (client.socket < 0) {
        client_end(&client);
        print_message("skipped: no user namespaces for ordinary users here\n");
        skip();
    }
    assert_int_equal(peer_init(&peer, client.socket), 0);
    assert_int_equal(peer.uid, ALICE); /* not the 0 of inside */
    assert_int_equal(peer.gid, ALICE_GID);
    assert_int_equal(peer.pid, client.pid);
    peer_deinit(&peer);
    client_end(&client);
}

/*
 * The other way round: the broker stands in a namespace (user, then also pid) that knows nothing of the
 * client. Exit status: 0 refused as it should, 3 no namespaces, else the wrong answer.
 */
static int refused_from_inside(int namespaces, int sock)
{
    if (unshare(namespaces) < 0)
        return 3;
    if (namespaces & CLONE_NEWUSER && write_text("/proc/self/uid_map", "0 0 1") < 0)
        return 3;
    pid_t child = fork(); /* the pid namespace is that of children */
    if (child == 0) {
        struct peer peer;
        int got = peer_init(&peer, sock);
        bool nobody = namespaces & CLONE_NEWUSER ? peer.uid == PEER_OVERFLOW_ID : peer.pid == 0;
        _exit(got == -EPERM && nobody && peer.groups == NULL ? 0 : 1);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return 2;
    return WEXITSTATUS(status);
}

static void test_broker_in_namespace(void **state)
{
    (void)state;
    need_root();
    const int namespaces[] = { CLONE_NEWUSER, CLONE_NEWPID };
    for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++) {
        struct client client = client_start(become_alice);
        pid_t broker = fork();
        assert_true(broker >= 0);
        if (broker == 0)
            _exit(refused_from_inside(namespaces[i], client.socket));
        int status;
        assert_int_equal(waitpid(broker, &status, 0), broker);
        client_end(&client);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 3) {
            print_message("skipped: no new namespaces here\n");
            skip();
        }
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

/* ---- who sent a message ---- */

static void test_sent(void **state)
{
    (void)state;
    const struct peer peer = { .pid = 10, .uid = 20, .gid = 30 };
    assert_true(peer_sent(&peer, &(struct ucred){ 10, 20, 30 }));
    assert_false(peer_sent(&peer, &(struct ucred){ 11, 20, 30 }));
    assert_false(peer_sent(&peer, &(struct ucred){ 10, 0, 30 }));
    assert_false(peer_sent(&peer, &(struct ucred){ 10, 20, 0 }));
    assert_false(peer_sent(&peer, &(struct ucred){ 0, PEER_OVERFLOW_ID, PEER_OVERFLOW_ID }));
}

/* Threat 7: root connects, a child that has become alice sends. Threat 11: all of it before accept(2). */
static void test_inherited_socket(void **state)
{
    (void)state;
    need_root();
    struct ucred cred;
    struct peer peer;
    size_t len;
    char byte;
    int sock = sock_connect(address, SOCK_SEQPACKET);
    assert_true(sock >= 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(become_alice() < 0 || msg_send(sock, "x", 1, NULL, 0, NULL, 0) < 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(msg_send(sock, "y", 1, NULL, 0, NULL, 0), 0);
    int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(peer_init(&peer, accepted), 0);
    assert_int_equal(msg_recv_cred(accepted, &byte, 1, 0, &len, &cred), 1);
    assert_int_equal(cred.uid, ALICE);
    assert_int_equal(cred.pid, child);
    assert_false(peer_sent(&peer, &cred));
    assert_int_equal(msg_recv_cred(accepted, &byte, 1, 0, &len, &cred), 1);
    assert_true(peer_sent(&peer, &cred));
    peer_deinit(&peer);
    fd_close(accepted);
    fd_close(sock);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_self),
        TEST(test_groups_sorted),
        TEST(test_group_counts),
        TEST(test_fact_frozen),
        TEST(test_overflow_user),
        TEST(test_overflow_groups),
        TEST(test_not_connected),
        TEST(test_client_in_user_namespace),
        TEST(test_broker_in_namespace),
        TEST(test_sent),
        TEST(test_inherited_socket),
    };
    return cmocka_run_group_tests_name("peer", tests, NULL, NULL);
}
