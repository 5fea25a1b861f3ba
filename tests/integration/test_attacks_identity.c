/*
 * threats.md, section A, what test_identity.c leaves: who is root in a namespace of his own, and a broker
 * that is in one. The number of a test is that of its row.
 */
#include "attacks.h"

#include <sched.h>
#include <sys/prctl.h>

#include "../../common/sock.h"

/* ---- namespaces ---- */

static int write_proc(const char *name, const char *text)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/%s", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int err = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
    fd_close(fd);
    return err;
}

/* A user namespace that knows one uid and gid, by this number inside. */
static int enter_namespace(int more, unsigned inside)
{
    char map[32];
    unsigned uid = geteuid();
    snprintf(map, sizeof map, "%u %u 1", inside, uid);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* else /proc/self is root's since the uid changed */
    if (unshare(CLONE_NEWUSER | more) < 0)
        return -errno;
    int err = write_proc("uid_map", map);
    if (err == 0)
        err = write_proc("setgroups", "deny");
    return err < 0 ? err : write_proc("gid_map", map);
}

/* ---- 14: a pid that a namespace's root claims ---- */

static int send_as(int sock, const struct broker *b, const char *path, pid_t pid)
{
    uint8_t out[WIRE_HEADER_SIZE + 256];
    size_t len = WIRE_HEADER_SIZE + wire_encode_entry(out + WIRE_HEADER_SIZE, sizeof out - WIRE_HEADER_SIZE,
                                                      WIRE_READ, 0, at(b, path), strlen(at(b, path)));
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, 1, 1 };
    wire_encode_header(out, sizeof out, &header);
    const struct ucred claim = { pid, geteuid(), getegid() };
    return msg_send(sock, out, len, NULL, 0, &claim, 0);
}

static int take_error(int sock)
{
    uint8_t in[256];
    struct wire_result result;
    static struct msg_in message;
    count_requests(1);
    CHECK_EQ(msg_recv(sock, in, sizeof in, 0, &message), 1);
    CHECK_EQ(wire_decode_result(in + WIRE_HEADER_SIZE, WIRE_RESULT_SIZE, &result), 0);
    CHECK_EQ(message.n_fds, result.error == 0);
    fd_close_many(message.fds, message.n_fds);
    return result.error;
}

/* In the pid namespace, as its first process and root. */
static void claim_pids(const struct broker *b)
{
    int sock = raw_connect(b);
    pid_t sibling = fork();
    if (sibling == 0) {
        pause();
        _exit(0);
    }
    CHECK_EQ(geteuid(), 0);
    int err = send_as(sock, b, "pub/a", sibling);
    if (err < 0)
        skip_in_client("this kernel refuses the forged pid itself");
    CHECK_EQ(take_error(sock), EPERM);
    CHECK_EQ(send_as(sock, b, "pub/a", getpid()), 0);
    CHECK_EQ(take_error(sock), 0); /* her own: it is alice, whatever she is called in there */
    CHECK_EQ(send_as(sock, b, "priv/f", getpid()), 0);
    CHECK_EQ(take_error(sock), EACCES); /* and not root */
    kill(sibling, SIGKILL);
}

static void claim_in_namespace(struct client_env *env)
{
    if (enter_namespace(CLONE_NEWPID, 0) < 0)
        skip_in_client("no user namespaces here");
    pid_t child = fork();
    if (child == 0) {
        claim_pids(env->broker);
        _exit(0);
    }
    int status = child_wait(child);
    if (status)
        _exit(status);
}

static void test_14_pid_claimed_by_root_of_a_namespace(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001 read @/pub/**\nallow user:0 read @/priv/**\n");
    int status = as_user_groups(&b, ALICE, ALICE, NULL, 0, claim_in_namespace, NULL);
    assert_true(status == 0 || status == 77);
    if (status == 0) {
        assert_int_equal(audit_count(&b, "\"reason\":\"credentials\"", "\"uid\":2001,"), 1);
        assert_int_equal(audit_count(&b, "\"op\":\"open\"", "\"uid\":2001,"), 3);
    }
    broker_finish(&b);
    if (status == 77)
        skip();
}

/* ---- 2, 14: uids that are only hers inside ---- */

static void claim_uids(struct client_env *env)
{
    if (enter_namespace(0, 0) < 0)
        skip_in_client("no user namespaces here");
    int sock = raw_connect(env->broker);
    uint8_t out[WIRE_HEADER_SIZE];
    struct wire_header header = { WIRE_HEADER_SIZE, WIRE_LIST, 0, 1 };
    wire_encode_header(out, sizeof out, &header);
    static const unsigned others[] = { 1, BOB, 65534, WORKER_UID };
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        const struct ucred claim = { getpid(), others[i], 0 }, group = { getpid(), 0, others[i] };
        CHECK(msg_send(sock, out, sizeof out, NULL, 0, &claim, 0) < 0);
        CHECK(msg_send(sock, out, sizeof out, NULL, 0, &group, 0) < 0);
    }
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL), 0);
    CHECK_EQ(open_once(env->broker, at(env->broker, "priv/f"), WIRE_READ, NULL), EACCES);
}

static void test_2_claims_of_root_of_a_namespace(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001 read @/pub/**\nallow user:0,user:2002 read @/priv/**\n");
    as_user(&b, ALICE, claim_uids, NULL);
    assert_int_equal(audit_count(&b, "\"op\":\"open\"", NULL), audit_count(&b, "\"uid\":2001,", "\"open\""));
    broker_finish(&b);
}

/* ---- 18: a broker in a namespace that does not know its clients ---- */

/* Alice's own broker, seen from where only alice is mapped. */
static pid_t start_in_namespace(const struct broker *b)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid)
        return pid;
    if (setgroups(0, NULL) || setresgid(ALICE, ALICE, ALICE) || setresuid(ALICE, ALICE, ALICE))
        _exit(126);
    if (enter_namespace(0, ALICE) < 0)
        _exit(77);
    const char *build = getenv("BUILD");
    char program[512], socket[DIR_MAX + 16], policy[DIR_MAX + 16];
    snprintf(program, sizeof program, "%s/fobd", build && *build ? build : "build");
    snprintf(socket, sizeof socket, "%s", b->socket);
    snprintf(policy, sizeof policy, "%s", at(b, "al/own.policy"));
    int log = open(at(b, "al/log"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(log, 1);
    dup2(log, 2);
    execl(program, "fobd", "-s", socket, "-p", policy, (char *)NULL);
    _exit(127);
}

static bool said(const struct broker *b, const char *what)
{
    static char text[8192];
    return file_read(at(b, "al/log"), text, sizeof text) > 0 && strstr(text, what);
}

/* No answer at all; at most the connection is closed. */
static void expect_nothing(struct client_env *env)
{
    int sock = sock_connect(env->broker->socket, SOCK_SEQPACKET), fd;
    if (sock >= 0)
        CHECK(raw_open(sock, at(env->broker, "al/f"), WIRE_READ, 0, &fd) != 0);
}

static void expect_hers(struct client_env *env)
{
    int fd;
    CHECK_EQ(open_once(env->broker, at(env->broker, "al/f"), WIRE_READ, &fd), 0);
    CHECK(fd_reads(fd, "hers\n"));
}

static void test_18_broker_that_knows_only_alice(void **state)
{
    (void)state;
    struct broker b;
    char text[256];
    broker_begin(&b, "allow user:2001 read @/pub/**\n"); /* for the count of requests */
    snprintf(b.socket, sizeof b.socket, "%s/al/sock", b.dir);
    snprintf(text, sizeof text, "allow any read %s/al/**\n", b.dir);
    file_write(at(&b, "al/own.policy"), text, 0644, ALICE);
    file_write(at(&b, "al/f"), "hers\n", 0644, ALICE);
    pid_t pid = start_in_namespace(&b);
    int status = 0;
    WAIT_FOR(said(&b, "serving ") || waitpid(pid, &status, WNOHANG) == pid);
    bool serves = said(&b, "serving ");
    if (serves) {
        assert_int_equal(chmod(b.socket, 0666), 0);
        as_user(&b, BOB, expect_nothing, NULL);
        as_user(&b, 65534, expect_nothing, NULL);
        as_user(&b, 0, expect_nothing, NULL);
        as_user(&b, ALICE, expect_hers, NULL);
        assert_int_equal(kill(pid, SIGTERM), 0);
        assert_int_equal(child_wait(pid), 0);
    } else if (file_read(at(&b, "al/log"), text, sizeof text) > 0) {
        print_message("skipped: no broker in a user namespace here: %s\n", text);
    } else {
        print_message("skipped: no user namespaces here (status %d)\n", status);
    }
    snprintf(b.socket, sizeof b.socket, "%s/sock", b.dir);
    b.uncounted = true; /* the other one has no record of its own here */
    broker_finish(&b);
    if (!serves)
        skip();
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_14_pid_claimed_by_root_of_a_namespace),
        ATTACK(test_2_claims_of_root_of_a_namespace),
        ATTACK(test_18_broker_that_knows_only_alice),
    };
    return cmocka_run_group_tests_name("attacks_identity", tests, shared_setup, NULL);
}
