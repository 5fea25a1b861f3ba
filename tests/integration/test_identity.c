/*
 * threats.md, section A: who asks. The number of a test is that of its row.
 */
#include "harness.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../../common/msg.h"
#include "../../common/sock.h"

static const char policy[] = "allow user:2001 read @/pub/**\n";

/* ---- 1: identity in text (dirty_sock, CVE-2019-7304) ---- */

static void ask_from_bound_name(struct client_env *env)
{
    struct sockaddr_un own, to;
    int length = sock_address(&own, env->data);
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(sock, (struct sockaddr *)&own, (socklen_t)length), 0);
    length = sock_address(&to, env->broker->socket);
    CHECK_EQ(connect(sock, (struct sockaddr *)&to, (socklen_t)length), 0);
    int fd;
    CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), EACCES);
}

static void test_1_identity_in_text(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:0 read @/pub/**\n");
    char name[108];
    snprintf(name, sizeof name, "%s/sticky/x;uid=0;", b.dir);
    as_user(&b, ALICE, ask_from_bound_name, name);
    snprintf(name, sizeof name, "%s/sticky/x\nuid=0", b.dir);
    as_user(&b, ALICE, ask_from_bound_name, name);
    assert_int_equal(audit_count(&b, "\"uid\":2001", "\"refused\""), 2);
    assert_int_equal(audit_count(&b, "x;uid=0", NULL), 0);
    broker_finish(&b);
}

/* ---- 2: SCM_CREDENTIALS of somebody else ---- */

static void claim_others(struct client_env *env)
{
    int sock = raw_connect(env->broker);
    const struct ucred claims[] = {
        { getpid(), 0, 0 }, { getpid(), 0, ALICE }, { getpid(), ALICE, 0 }, { 1, ALICE, ALICE }
    };
    struct wire_header header = { WIRE_HEADER_SIZE, WIRE_LIST, 0, 1 };
    uint8_t out[WIRE_HEADER_SIZE];
    wire_encode_header(out, sizeof out, &header);
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++)
        CHECK_EQ(msg_send(sock, out, sizeof out, NULL, 0, &claims[i], 0), -EPERM);
    const struct ucred true_claim = { getpid(), ALICE, ALICE };
    CHECK_EQ(msg_send(sock, out, sizeof out, NULL, 0, &true_claim, 0), 0);
}

static void test_2_claimed_credentials(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, claim_others, NULL);
    broker_finish(&b);
}

/* ---- 7, 8, 9, 10: a connection that somebody else uses ---- */

struct transfer {
    int sock;
    uid_t uid;
    int expected;
};

static void use_inherited(struct client_env *env)
{
    const struct transfer *t = env->data;
    int fd;
    CHECK_EQ(raw_open(t->sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), t->expected);
    CHECK_EQ(fd >= 0, t->expected == 0);
}

/* Root connects; a child of another uid asks on that connection. */
static void test_7_inherited_by_another_uid(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:0,user:2001 read @/pub/**\n");
    struct transfer t = { raw_connect(&b), ALICE, EPERM };
    as_user(&b, ALICE, use_inherited, &t);
    close(t.sock);
    assert_int_equal(audit_count(&b, "\"uid\":0,", "\"reason\":\"credentials\""), 1);
    broker_finish(&b);
}

static void connect_and_pass(struct client_env *env)
{
    int channel = *(int *)env->data;
    int sock = raw_connect(env->broker);
    CHECK_EQ(msg_send(channel, "s", 1, &sock, 1, NULL, 0), 0);
    char byte;
    CHECK_EQ(read(channel, &byte, 1), 1); /* stays alive until it was used */
}

static void receive_and_use(struct client_env *env)
{
    int channel = *(int *)env->data, fd;
    char byte;
    static struct msg_in in;
    CHECK_EQ(msg_recv(channel, &byte, 1, 0, &in), 1);
    CHECK_EQ(in.n_fds, 1);
    CHECK_EQ(raw_open(in.fds[0], at(env->broker, "pub/a"), WIRE_READ, 0, &fd), EPERM);
    CHECK_EQ(write(channel, "x", 1), 1);
}

static void test_8_passed_to_another_user(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001,user:2002 read @/pub/**\n");
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    pid_t passer = fork();
    if (passer == 0)
        _exit(as_user_groups(&b, ALICE, ALICE, NULL, 0, connect_and_pass, &pair[0]));
    as_user(&b, BOB, receive_and_use, &pair[1]);
    assert_int_equal(child_wait(passer), 0);
    close(pair[0]);
    close(pair[1]);
    assert_int_equal(audit_count(&b, "\"uid\":2001", "\"reason\":\"credentials\""), 1);
    broker_finish(&b);
}

static void drop_after_connect(struct client_env *env)
{
    int sock = raw_connect(env->broker), fd;
    CHECK_EQ(setgroups(0, NULL) | setresgid(ALICE, ALICE, ALICE) | setresuid(ALICE, ALICE, ALICE), 0);
    CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), EPERM);
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL), 0);
}

static void test_9_privilege_dropped_after_connect(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:0,user:2001 read @/pub/**\n");
    as_user(&b, 0, drop_after_connect, NULL);
    broker_finish(&b);
}

static void fork_after_connect(struct client_env *env)
{
    int sock = raw_connect(env->broker), fd;
    CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), EPERM);
        CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL), 0);
        _exit(0);
    }
    CHECK_EQ(child_wait(child), 0);
    CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
}

static void test_10_fork_after_connect(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, fork_after_connect, NULL);
    broker_finish(&b);
}

/* ---- 11: sent before accept ---- */

static void ask_stopped_broker(struct client_env *env)
{
    int sock = raw_connect(env->broker), fd;
    CHECK_EQ(write(*(int *)env->data, "c", 1), 1);
    CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
    CHECK(fd_reads(fd, "pub a\n"));
}

static void signal_workers(const struct broker *b, int signal)
{
    pid_t pids[16];
    int n = broker_workers(b, pids, 16);
    for (int i = 0; i < n; i++)
        kill(pids[i], signal);
}

static void test_11_sent_before_accept(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    signal_workers(&b, SIGSTOP);
    pid_t asker = fork();
    if (asker == 0)
        _exit(as_user_groups(&b, ALICE, ALICE, NULL, 0, ask_stopped_broker, &pipe_fds[1]));
    char byte;
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    usleep(50000);
    signal_workers(&b, SIGCONT);
    assert_int_equal(child_wait(asker), 0);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    broker_finish(&b);
}

/* ---- 14: a pid that a namespace's root may forge ---- */

static void forge_pid(struct client_env *env)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0)
        skip_in_client("no user namespaces here");
    pid_t child = fork();
    if (child == 0) {
        int sock = raw_connect(env->broker), fd;
        pid_t sibling = fork();
        if (sibling == 0) {
            pause();
            _exit(0);
        }
        uint8_t out[WIRE_HEADER_SIZE + 256];
        const char *path = at(env->broker, "pub/a");
        size_t size =
            WIRE_HEADER_SIZE + wire_encode_entry(out + WIRE_HEADER_SIZE, sizeof out - WIRE_HEADER_SIZE,
                                                 WIRE_READ, 0, path, strlen(path));
        struct wire_header header = { (uint32_t)size, WIRE_OPEN, 1, 1 };
        wire_encode_header(out, sizeof out, &header);
        struct ucred claim = { sibling, geteuid(), getegid() };
        int err = msg_send(sock, out, size, NULL, 0, &claim, 0);
        kill(sibling, SIGKILL);
        if (err == -EPERM || err == -EINVAL)
            _exit(77);
        CHECK_EQ(err, 0);
        count_requests(1);
        struct wire_result result;
        uint8_t in[256];
        CHECK_EQ(recv(sock, in, sizeof in, 0), WIRE_HEADER_SIZE + WIRE_RESULT_SIZE);
        CHECK_EQ(wire_decode_result(in + WIRE_HEADER_SIZE, WIRE_RESULT_SIZE, &result), 0);
        CHECK_EQ(result.error, EPERM);
        (void)fd;
        _exit(0);
    }
    int status = child_wait(child);
    if (status == 77)
        skip_in_client("this kernel refuses the forged pid itself");
    CHECK_EQ(status, 0);
}

static void test_14_forged_pid(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    int status = as_user_groups(&b, ALICE, ALICE, NULL, 0, forge_pid, NULL);
    if (status == 77) {
        broker_finish(&b);
        skip();
    }
    assert_int_equal(status, 0);
    broker_finish(&b);
}

/* ---- 15, 16: groups that were dropped, or are only in the database ---- */

/* A user who is a member of a group in the user database of this machine. */
static bool find_member(struct passwd *user, gid_t *group)
{
    struct group *g;
    bool found = false;
    setgrent();
    while (!found && (g = getgrent()))
        for (char **name = g->gr_mem; name && *name && !found; name++) {
            struct passwd *pw = getpwnam(*name);
            if (pw && pw->pw_uid != 0 && pw->pw_gid != g->gr_gid) {
                *user = *pw;
                *group = g->gr_gid;
                found = true;
            }
        }
    endgrent();
    return found;
}

static void expect_refused(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL), EACCES);
}

static void expect_allowed(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL), 0);
}

static void test_15_group_dropped_to_dodge_a_deny(void **state)
{
    (void)state;
    struct passwd user;
    gid_t group;
    if (!find_member(&user, &group)) {
        puts("skipped: no user of this machine is a member of a group beside its own");
        skip();
    }
    struct broker b;
    char text[256];
    snprintf(text, sizeof text, "allow any read @/pub/**\ndeny group:%u read @/pub/**\n", (unsigned)group);
    broker_begin(&b, text);
    assert_int_equal(as_user_groups(&b, user.pw_uid, user.pw_gid, NULL, 0, expect_refused, NULL), 0);
    assert_int_equal(as_user_groups(&b, ALICE, ALICE, NULL, 0, expect_allowed, NULL), 0);
    broker_finish(&b);
}

static void test_16_group_of_the_database_alone(void **state)
{
    (void)state;
    struct passwd user;
    gid_t group;
    if (!find_member(&user, &group)) {
        puts("skipped: no user of this machine is a member of a group beside its own");
        skip();
    }
    struct broker b;
    char text[256];
    snprintf(text, sizeof text, "allow group:%u read @/pub/**\n", (unsigned)group);
    broker_begin(&b, text);
    assert_int_equal(as_user_groups(&b, user.pw_uid, user.pw_gid, NULL, 0, expect_refused, NULL), 0);
    assert_int_equal(as_user_groups(&b, user.pw_uid, user.pw_gid, &group, 1, expect_allowed, NULL), 0);
    assert_int_equal(as_user_groups(&b, user.pw_uid, group, NULL, 0, expect_allowed, NULL), 0);
    broker_finish(&b);
}

/* ---- 17: more groups than a small buffer holds ---- */

static void test_17_a_thousand_groups(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow group:30999 read @/pub/**\ndeny group:30998 read @/pub/sub/**\n");
    gid_t groups[1000];
    for (int i = 0; i < 1000; i++)
        groups[i] = 30000 + (gid_t)i;
    assert_int_equal(as_user_groups(&b, ALICE, ALICE, groups, 1000, expect_allowed, NULL), 0);
    assert_int_equal(as_user_groups(&b, ALICE, ALICE, groups, 999, expect_refused, NULL), 0);
    broker_finish(&b);
}

/* ---- 18: who has no name here ---- */

static void expect_closed(struct client_env *env)
{
    int sock = sock_connect(env->broker->socket, SOCK_SEQPACKET), fd;
    if (sock < 0)
        return;
    CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), -1);
}

static void test_18_overflow_uid(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow any read @/pub/**\n");
    b.uncounted = true;
    assert_int_equal(as_user_groups(&b, 65534, 65534, NULL, 0, expect_closed, NULL), 0);
    assert_true(audit_count(&b, "\"reason\":\"credentials\"", "EPERM") >= 1);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_1_identity_in_text),
        cmocka_unit_test(test_2_claimed_credentials),
        cmocka_unit_test(test_7_inherited_by_another_uid),
        cmocka_unit_test(test_8_passed_to_another_user),
        cmocka_unit_test(test_9_privilege_dropped_after_connect),
        cmocka_unit_test(test_10_fork_after_connect),
        cmocka_unit_test(test_11_sent_before_accept),
        cmocka_unit_test(test_14_forged_pid),
        cmocka_unit_test(test_15_group_dropped_to_dodge_a_deny),
        cmocka_unit_test(test_16_group_of_the_database_alone),
        cmocka_unit_test(test_17_a_thousand_groups),
        cmocka_unit_test(test_18_overflow_uid),
    };
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
