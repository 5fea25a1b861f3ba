/*
 * Datagrams: replies that somebody else is to get, and askers that have gone. Bob has a socket that alice
 * makes the broker write to: it must receive nothing.
 */
#include "datagram_client.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

static const char policy[] = "allow user:2001,user:2002 read @/pub/**\n";

/* ---- namespaces ---- */

static int write_proc(const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int err = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
    fd_close(fd);
    return err;
}

/* Root of a user namespace, and of what else there is. */
static void enter_namespaces(int kinds)
{
    char map[32];
    unsigned uid = geteuid();
    snprintf(map, sizeof map, "0 %u 1", uid);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* else /proc/self is root's since the uid changed */
    if (unshare(CLONE_NEWUSER | kinds) < 0)
        skip_in_client("no user namespaces here");
    CHECK_EQ(write_proc("self/uid_map", map), 0);
    CHECK_EQ(write_proc("self/setgroups", "deny"), 0);
    CHECK_EQ(write_proc("self/gid_map", map), 0);
}

/* ---- bob ---- */

static bool bob_is_connected; /* to the broker, whose own socket may write to him then */

/* At a name that alice uses too: of what anybody makes the broker send there he gets nothing. */
static void bob_listens(struct client_env *env)
{
    int sock = asker_new(env->data);
    if (bob_is_connected)
        asker_connect(env->broker, sock);
    shared->step = 1;
    WAIT_LONG(shared->over);
    expect_silence(sock);
    expect_datagram(env->broker, sock, "pub/a", "pub a\n"); /* it is a good one */
}

static pid_t bob_begins(const struct broker *b, char *name)
{
    shared->step = 0;
    shared->over = false;
    pid_t bob = client_begin(b, BOB, bob_listens, name);
    EXPECT_STEP(1);
    return bob;
}

static void bob_ends(pid_t bob)
{
    shared->over = true;
    assert_int_equal(child_wait(bob), 0);
}

/* Bob listens at `name` while alice does what she does, and her request goes nowhere. */
static void expect_nothing_for_bob(const struct broker *b, char *name, client_fn *alice)
{
    int before = status_number(b, "undelivered");
    pid_t bob = bob_begins(b, name);
    int status = as_user_groups(b, ALICE, ALICE, NULL, 0, alice, name);
    if (status == 0)
        expect_undelivered(b, before + 1);
    bob_ends(bob);
    if (status == 77)
        skip();
    assert_int_equal(status, 0);
}

/* ---- an abstract name in another network namespace ---- */

static char *abstract_name(void)
{
    static char name[64];
    snprintf(name, sizeof name, "@fob-attack-%d", (int)getpid());
    return name;
}

/* Bob connected and not. */
static void attack_abstract(client_fn *alice)
{
    struct broker *b = datagram_begin(policy, "workers 2");
    for (int i = 0; i < 2; i++) {
        bob_is_connected = i == 1;
        expect_nothing_for_bob(b, abstract_name(), alice);
    }
    bob_is_connected = false;
    datagram_finish();
}

static void ask_from_other_network(struct client_env *env)
{
    enter_namespaces(CLONE_NEWNET);
    int sock = asker_new(env->data);
    datagram_open(env->broker, sock, 7, at(env->broker, "pub/a"));
    expect_silence(sock);
}

static void test_35_other_network(void **state)
{
    (void)state;
    attack_abstract(ask_from_other_network);
}

/* Made there, and used here: the name is the socket's, whoever sends. */
static void ask_with_passed_socket(struct client_env *env)
{
    int pair[2];
    static struct msg_in in;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    pid_t child = fork();
    if (child == 0) {
        enter_namespaces(CLONE_NEWNET);
        int made = asker_new(env->data);
        CHECK_EQ(msg_send(pair[1], "x", 1, &made, 1, NULL, 0), 0);
        _exit(0);
    }
    int status = child_wait(child);
    if (status)
        _exit(status);
    CHECK_EQ(msg_recv(pair[0], &(char){ 0 }, 1, 0, &in), 1);
    CHECK_EQ(in.n_fds, 1);
    datagram_open(env->broker, in.fds[0], 7, at(env->broker, "pub/a"));
    expect_silence(in.fds[0]);
}

static void test_35_socket_of_other_network(void **state)
{
    (void)state;
    attack_abstract(ask_with_passed_socket);
}

/* The root of a pid namespace may claim the pid of any process in it: of one that lives in bob's network. */
static void claim_a_pid(const struct broker *b, const char *name)
{
    uint8_t out[512];
    pid_t sibling = fork();
    if (sibling == 0) {
        alarm(CLIENT_SECONDS);
        pause();
        _exit(0);
    }
    CHECK_EQ(unshare(CLONE_NEWNET), 0);
    int sock = asker_new(name);
    asker_connect(b, sock);
    size_t len = native_open(out, sizeof out, 7, at(b, "pub/a"));
    const struct ucred claim = { sibling, geteuid(), getegid() };
    int err = msg_send(sock, out, len, NULL, 0, &claim, 0);
    if (err < 0)
        skip_in_client("this kernel refuses the forged pid itself");
    count_requests(1);
    expect_silence(sock);
    kill(sibling, SIGKILL);
}

static void ask_with_claimed_pid(struct client_env *env)
{
    enter_namespaces(CLONE_NEWPID);
    pid_t child = fork();
    if (child == 0) {
        claim_a_pid(env->broker, env->data);
        _exit(0);
    }
    int status = child_wait(child);
    if (status)
        _exit(status);
}

static void test_14_claimed_pid(void **state)
{
    (void)state;
    attack_abstract(ask_with_claimed_pid);
}

/* ---- a path in another mount namespace, or beneath another root ---- */

static void ask_from_other_mounts(struct client_env *env)
{
    enter_namespaces(CLONE_NEWNS);
    CHECK_EQ(mount("none", at(env->broker, "sticky"), "tmpfs", 0, NULL), 0);
    int sock = asker_new(env->data); /* the same path as bob's */
    datagram_open(env->broker, sock, 7, at(env->broker, "pub/a"));
    expect_silence(sock);
}

static void make_directories(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        CHECK(mkdir(path, 0755) == 0 || errno == EEXIST);
        *slash = '/';
    }
}

/* Beneath her own directory all is named as it is outside. The way out is the current directory. */
static void ask_from_other_root(struct client_env *env)
{
    char path[2 * DIR_MAX + 32];
    struct sockaddr_un to;
    uint8_t out[512];
    enter_namespaces(0);
    snprintf(path, sizeof path, "%s%s", at(env->broker, "al"), (const char *)env->data);
    make_directories(path);
    CHECK_EQ(chdir(env->broker->dir), 0);
    CHECK_EQ(chroot("al"), 0);
    int sock = asker_new(env->data);
    socklen_t to_len = (socklen_t)sock_address(&to, "dgram");
    size_t len = native_open(out, sizeof out, 7, at(env->broker, "pub/a"));
    CHECK_EQ(sendto(sock, out, len, 0, (const struct sockaddr *)&to, to_len), (ssize_t)len);
    count_requests(1);
    expect_silence(sock);
}

static void test_48_other_mounts_and_root(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(b, "sticky/s"));
    static client_fn *const alice[] = { ask_from_other_mounts, ask_from_other_root };
    for (size_t i = 0; i < ARRAY_SIZE(alice); i++) {
        expect_nothing_for_bob(b, path, alice[i]);
        unlink(path);
    }
    datagram_finish();
}

/* ---- a path that leads somewhere else when the reply comes ---- */

static void ask_from_a_directory(struct client_env *env)
{
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(env->broker, "al/d/s"));
    int sock = asker_new(path);
    datagram_open(env->broker, sock, 7, at(env->broker, "pub/a"));
    shared->step = 2;
    WAIT_LONG(shared->over);
    expect_silence(sock);
}

/* As root, who can more than alice. */
static void put_in_its_place(const struct broker *b, int how)
{
    char own[DIR_MAX + 16], bobs[DIR_MAX + 16];
    snprintf(own, sizeof own, "%s", at(b, "al/d/s"));
    snprintf(bobs, sizeof bobs, "%s", at(b, "sticky/s"));
    if (how == 3) {
        assert_int_equal(rename(at(b, "al/d"), at(b, "al/e")), 0);
        assert_int_equal(symlink(at(b, "sticky"), at(b, "al/d")), 0);
        return;
    }
    assert_int_equal(rename(own, at(b, "al/away")), 0);
    if (how < 3)
        assert_int_equal(how == 0 ? rename(bobs, own) : how == 1 ? symlink(bobs, own) : link(bobs, own), 0);
}

/* Bob's socket itself, a symlink to it, a hard link to it, a symlink on the way to it, and nothing. */
static void attack_path(int how)
{
    struct broker *b = datagram_begin(policy, "workers 2");
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(b, "sticky/s"));
    assert_int_equal(mkdir(at(b, "al/d"), 0755), 0);
    assert_int_equal(chown(at(b, "al/d"), ALICE, ALICE), 0);
    pid_t bob = bob_begins(b, path), courier = courier_hold(b),
          alice = client_begin(b, ALICE, ask_from_a_directory, NULL);
    EXPECT_STEP(2);
    put_in_its_place(b, how);
    courier_go(courier);
    expect_undelivered(b, 1);
    if (how == 0) /* back to where bob can be answered */
        assert_int_equal(rename(at(b, "al/d/s"), path), 0);
    shared->over = true;
    assert_int_equal(child_wait(alice), 0);
    bob_ends(bob);
    datagram_finish();
}

static void test_paths_replaced(void **state)
{
    (void)state;
    for (int how = 0; how < 5; how++)
        attack_path(how);
}

/* ---- an asker that has gone ---- */

static void ask_from_other_network_and_go(struct client_env *env)
{
    enter_namespaces(CLONE_NEWNET);
    datagram_open(env->broker, asker_new(env->data), 7, at(env->broker, "pub/a"));
}

/* A process with this pid, which lives where the broker lives; 0: not to be had. */
static pid_t make_process(pid_t wanted)
{
    char number[16];
    snprintf(number, sizeof number, "%d", (int)wanted - 1);
    for (int i = 0; i < 50 && write_proc("sys/kernel/ns_last_pid", number) == 0; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(CLIENT_SECONDS);
            pause();
            _exit(0);
        }
        if (pid == wanted)
            return pid;
        client_kill(pid);
    }
    return 0;
}

static void test_6_pid_used_again(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    pid_t bob = bob_begins(b, abstract_name()), courier = courier_hold(b);
    pid_t alice = client_begin(b, ALICE, ask_from_other_network_and_go, abstract_name());
    int status = child_wait(alice);
    pid_t again = status == 0 ? make_process(alice) : 0;
    courier_go(courier);
    if (again) {
        expect_undelivered(b, 1);
        client_kill(again);
    }
    bob_ends(bob);
    datagram_finish();
    assert_true(status == 0 || status == 77);
    if (!again)
        skip();
}

static void ask_and_go(struct client_env *env)
{
    datagram_open(env->broker, asker_new(env->data), 7, at(env->broker, "pub/a"));
}

/* Closed, or its process gone, before its reply. */
static void test_gone(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(b, "al/s"));
    pid_t courier = courier_hold(b);
    as_user(b, ALICE, ask_and_go, NULL);
    as_user(b, ALICE, ask_and_go, path);
    courier_go(courier);
    expect_undelivered(b, 2);
    as_user(b, ALICE, ask_by_datagram, NULL);
    datagram_finish();
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        DATAGRAMS(test_35_other_network),
        DATAGRAMS(test_35_socket_of_other_network),
        DATAGRAMS(test_14_claimed_pid),
        DATAGRAMS(test_48_other_mounts_and_root),
        DATAGRAMS(test_paths_replaced),
        DATAGRAMS(test_6_pid_used_again),
        DATAGRAMS(test_gone),
    };
    return cmocka_run_group_tests_name("datagram attacks", tests, shared_setup, NULL);
}
