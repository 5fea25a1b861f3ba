/*
 * threats.md, section A, on the stream socket, where a request can come in parts: who asks. The number of a
 * test is that of its row; all is tried with both protocols.
 */
#include "stream_client.h"

#include <sys/wait.h>

static const char policy[] = "allow user:0,user:2001,user:2002 read @/pub/**\n";

/* EPERM, in the connection's own protocol. */
static void expect_refused(enum protocol p, int sock)
{
    int fd;
    CHECK_EQ(answer(p, sock, &fd), EPERM);
    CHECK_EQ(fd, -1);
    CHECK(p == NATIVE || memmem(apue_said, apue_said_len, ": Operation not permitted\n", 26));
}

static void become(uid_t uid)
{
    CHECK_EQ(setresgid(uid, uid, uid) | setresuid(uid, uid, uid), 0);
}

/* ---- 2: SCM_CREDENTIALS of somebody else ---- */

static void claim_others(struct client_env *env)
{
    uint8_t out[512];
    const struct ucred claims[] = {
        { getpid(), 0, 0 }, { getpid(), 0, ALICE }, { getpid(), ALICE, 0 }, { 1, ALICE, ALICE }
    };
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        int fd, sock = stream_connect(env->broker);
        size_t len = request_bytes(p, out, sizeof out, at(env->broker, "pub/a"));
        for (size_t i = 0; i < ARRAY_SIZE(claims); i++)
            CHECK_EQ(msg_send(sock, out, len, NULL, 0, &claims[i], 0), -EPERM);
        const struct ucred own = { getpid(), ALICE, ALICE };
        CHECK_EQ(msg_send(sock, out, len, NULL, 0, &own, 0), 0);
        count_requests(1);
        CHECK_EQ(answer(p, sock, &fd), 0);
        CHECK(fd_reads(fd, "pub a\n"));
    }
}

static void test_2_claimed_credentials(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, claim_others, NULL);
    broker_finish(&b);
}

/* What root may claim, though it is not so: the message and the connection are not of the same. */
static void claim_as_root(struct client_env *env)
{
    uint8_t out[512];
    const struct ucred claims[] = { { getpid(), ALICE, ALICE }, { getpid(), 0, ALICE }, { 1, 0, 0 } };
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        int sock = stream_connect(env->broker);
        size_t len = request_bytes(p, out, sizeof out, at(env->broker, "pub/a"));
        for (size_t i = 0; i < ARRAY_SIZE(claims); i++)
            for (size_t cut = 0; cut < len; cut += len / 3) { /* the end of it alone will do */
                if (cut)
                    put(sock, out, cut);
                CHECK_EQ(msg_send(sock, out + cut, len - cut, NULL, 0, &claims[i], 0), 0);
                count_requests(1);
                expect_refused(p, sock);
            }
        expect_text(p, sock, at(env->broker, "pub/a"), "pub a\n");
    }
}

static void test_2_claimed_by_root(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, 0, claim_as_root, NULL);
    broker_finish(&b);
}

/* ---- 7, 9, 10: a connection in other hands ---- */

static void use_inherited(struct client_env *env)
{
    const int *socks = env->data;
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        ask_for(p, socks[p], at(env->broker, "pub/a"));
        expect_refused(p, socks[p]);
    }
}

/* Root connects; a child of another uid asks, before anything was said and after it. */
static void test_7_inherited_by_another_uid(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    int socks[PROTOCOLS] = { stream_connect(&b), stream_connect(&b) };
    as_user(&b, ALICE, use_inherited, socks);
    for (enum protocol p = 0; p < PROTOCOLS; p++)
        expect_text(p, socks[p], at(&b, "pub/a"), "pub a\n");
    as_user(&b, ALICE, use_inherited, socks);
    close(socks[0]);
    close(socks[1]);
    assert_int_equal(audit_count(&b, "\"uid\":0,", "\"reason\":\"credentials\""), 4);
    broker_finish(&b);
}

static void drop_after_connect(struct client_env *env)
{
    int socks[PROTOCOLS] = { stream_connect(env->broker), stream_connect(env->broker) };
    become(ALICE);
    use_inherited(&(struct client_env){ env->broker, socks });
    for (enum protocol p = 0; p < PROTOCOLS; p++)
        expect_text(p, stream_connect(env->broker), at(env->broker, "pub/a"), "pub a\n");
}

static void test_9_privilege_dropped_after_connect(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, 0, drop_after_connect, NULL);
    broker_finish(&b);
}

static void fork_after_connect(struct client_env *env)
{
    int socks[PROTOCOLS] = { stream_connect(env->broker), stream_connect(env->broker) };
    pid_t child = fork();
    if (child == 0) {
        use_inherited(&(struct client_env){ env->broker, socks });
        _exit(0);
    }
    CHECK_EQ(child_wait(child), 0);
    for (enum protocol p = 0; p < PROTOCOLS; p++)
        expect_text(p, socks[p], at(env->broker, "pub/a"), "pub a\n");
}

static void test_10_fork_after_connect(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, fork_after_connect, NULL);
    broker_finish(&b);
}

/* ---- 8: passed with SCM_RIGHTS ---- */

static void connect_and_pass(struct client_env *env)
{
    int channel = *(int *)env->data;
    int socks[PROTOCOLS] = { stream_connect(env->broker), stream_connect(env->broker) };
    expect_text(APUE, socks[APUE], at(env->broker, "pub/b"), "pub b\n");
    CHECK_EQ(msg_send(channel, "s", 1, socks, PROTOCOLS, NULL, 0), 0);
    char byte;
    CHECK_EQ(read(channel, &byte, 1), 1); /* stays alive until they were used */
}

static void receive_and_use(struct client_env *env)
{
    int channel = *(int *)env->data;
    char byte;
    static struct msg_in in;
    CHECK_EQ(msg_recv(channel, &byte, 1, 0, &in), 1);
    CHECK_EQ(in.n_fds, PROTOCOLS);
    use_inherited(&(struct client_env){ env->broker, in.fds });
    use_inherited(&(struct client_env){ env->broker, in.fds }); /* each time anew */
    CHECK_EQ(write(channel, "x", 1), 1);
}

static void test_8_passed_to_another_user(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    pid_t passer = fork();
    if (passer == 0)
        _exit(as_user_groups(&b, ALICE, ALICE, NULL, 0, connect_and_pass, &pair[0]));
    as_user(&b, BOB, receive_and_use, &pair[1]);
    assert_int_equal(child_wait(passer), 0);
    close(pair[0]);
    close(pair[1]);
    assert_int_equal(audit_count(&b, "\"uid\":2001,", "\"reason\":\"credentials\""), 4);
    assert_int_equal(audit_count(&b, "\"uid\":2002,", NULL), 0);
    broker_finish(&b);
}

/* ---- one request of two senders ---- */

/* In a child of this uid. */
static void put_as(uid_t uid, int sock, const void *bytes, size_t len)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        become(uid);
        put(sock, bytes, len);
        _exit(0);
    }
    CHECK_EQ(child_wait(pid), 0);
}

/* Cut anywhere: the rest of a request of root's is alice's, or its beginning, or one byte in it. */
static void ask_together(struct client_env *env)
{
    uint8_t out[512];
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        int sock = stream_connect(env->broker);
        size_t len = request_bytes(p, out, sizeof out, at(env->broker, "pub/a"));
        for (size_t cut = 1; cut < len; cut += 3)
            for (int way = 0; way < 3; way++) {
                size_t end = way == 2 ? cut + 1 : len;
                way == 1 ? put_as(ALICE, sock, out, cut) : put(sock, out, cut);
                if (cut % 2)
                    usleep(1000); /* read before the rest comes, or not */
                way == 1 ? put(sock, out + cut, len - cut) : put_as(ALICE, sock, out + cut, end - cut);
                if (end < len)
                    put(sock, out + end, len - end);
                count_requests(1);
                expect_refused(p, sock);
            }
        expect_text(p, sock, at(env->broker, "pub/a"), "pub a\n");
    }
}

static void test_two_senders(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, 0, ask_together, NULL);
    assert_int_equal(audit_count(&b, "\"uid\":0,\"gid\":0,", "\"op\":\"open\""),
                     audit_count(&b, NULL, "\"op\":\"open\""));
    broker_finish(&b);
}

/* Requests of two senders, joined at one connection: each is judged by who sent it, and answered in order. */
static void ask_in_turn(struct client_env *env)
{
    uint8_t out[512];
    int fd;
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        int sock = stream_connect(env->broker);
        size_t len = request_bytes(p, out, sizeof out, at(env->broker, "pub/a"));
        for (int i = 0; i < 30; i++)
            i % 3 == 1 ? put_as(ALICE, sock, out, len) : put(sock, out, len);
        count_requests(30);
        for (int i = 0; i < 30; i++) {
            CHECK_EQ(answer(p, sock, &fd), i % 3 == 1 ? EPERM : 0);
            CHECK(fd < 0 || fd_reads(fd, "pub a\n"));
        }
    }
}

static void test_senders_in_turn(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, 0, ask_in_turn, NULL);
    broker_finish(&b);
}

/* ---- 11: sent before accept ---- */

static void ask_stopped_broker(struct client_env *env)
{
    uint8_t out[512];
    int socks[PROTOCOLS], fd;
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        size_t len = request_bytes(p, out, sizeof out, at(env->broker, "pub/a"));
        socks[p] = stream_connect(env->broker);
        put(socks[p], out, len / 2);
        put(socks[p], out + len / 2, len - len / 2);
        count_requests(1);
    }
    CHECK_EQ(write(*(int *)env->data, "c", 1), 1);
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        CHECK_EQ(answer(p, socks[p], &fd), 0);
        CHECK(fd_reads(fd, "pub a\n"));
    }
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
    stream_begin(&b, policy, "workers 2");
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

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_2_claimed_credentials),
        cmocka_unit_test(test_2_claimed_by_root),
        cmocka_unit_test(test_7_inherited_by_another_uid),
        cmocka_unit_test(test_8_passed_to_another_user),
        cmocka_unit_test(test_9_privilege_dropped_after_connect),
        cmocka_unit_test(test_10_fork_after_connect),
        cmocka_unit_test(test_two_senders),
        cmocka_unit_test(test_senders_in_turn),
        cmocka_unit_test(test_11_sent_before_accept),
    };
    return cmocka_run_group_tests_name("stream_identity", tests, NULL, NULL);
}
