/*
 * A broker that its client starts on a socketpair, with no other rights than the client's: root's with the
 * system's form of configuration, and a user's own. What it has more when it is installed set-user-ID is in
 * test_setuid_*.c.
 */
#include "spawn_own.h"

static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET };

/* On a socket of packets the second protocol has no form. */
static int protocols_of(int type)
{
    return type == SOCK_STREAM ? PROTOCOLS : APUE;
}

/* ---- requests ---- */

static void ask_each(int type, enum protocol protocol)
{
    const struct spawn how = plain(type);
    struct spawned s = spawn(&b, &how);
    int fd;
    expect_content(protocol, s.sock, at(&b, "pub/b"), "pub b\n");
    CHECK_EQ(ask(protocol, s.sock, at(&b, "secret/f"), &fd), EACCES);
    CHECK_EQ(ask(protocol, s.sock, at(&b, "pub/none"), &fd), ENOENT);
    CHECK_EQ(ask(protocol, s.sock, "pub/b", &fd), EINVAL);
    expect_content(protocol, s.sock, at(&b, "pub/b"), "pub b\n");
    for (int i = 0; i < 50; i++)
        send_request(protocol, s.sock, at(&b, i % 2 ? "pub/b" : "secret/f"));
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(receive_reply(protocol, s.sock, &fd), i % 2 ? 0 : EACCES);
        fd_close(fd);
    }
    CHECK_EQ(spawn_end(&s), 0);
}

static void ask_all(struct client_env *env)
{
    (void)env;
    for (size_t t = 0; t < ARRAY_SIZE(types); t++)
        for (int p = 0; p < protocols_of(types[t]); p++)
            ask_each(types[t], (enum protocol)p);
}

enum { ASKED = 3 * 55 };

static void test_requests_of_root(void **state)
{
    (void)state;
    as_user(&b, 0, ask_all, NULL);
    assert_int_equal(audit_count(&b, "\"uid\":0,\"gid\":0,", "\"op\":\"open\""), ASKED);
    assert_int_equal(audit_count(&b, NULL, NULL), ASKED);
    assert_int_equal(access(b.socket, F_OK), -1); /* that of the configuration is somebody else's business */
}

/* How many lines of what was said have this. */
static int count_said(const char *what)
{
    int n = 0;
    for (const char *at = said(&b); (at = strstr(at, what)); at++)
        n++;
    return n;
}

static void test_requests_of_a_user(void **state)
{
    (void)state;
    as_user(&b, ALICE, ask_all, NULL);
    assert_int_equal(count_said("\"uid\":2001,\"gid\":2001,"), ASKED); /* its audit */
}

/* What the policy allows and the user may not is refused by the kernel. */
static void ask_beyond_own_rights(struct client_env *env)
{
    (void)env;
    const struct spawn how = plain(SOCK_SEQPACKET);
    struct spawned s = spawn(&b, &how);
    int fd;
    expect_error(s.sock, at(&b, "pub/a"), EACCES);
    expect_content(NATIVE, s.sock, at(&b, "al/f"), "al f\n");
    CHECK_EQ(ask_native(s.sock, at(&b, "al/new"), WIRE_WRITE | WIRE_CREATE, 0640, &fd), 0);
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_uid, ALICE);
    CHECK_EQ(st.st_mode, S_IFREG | 0640);
    CHECK_EQ(ask_native(s.sock, at(&b, "pub/new"), WIRE_WRITE | WIRE_CREATE, 0640, &fd), EACCES);
    CHECK_EQ(spawn_end(&s), 0);
}

static void test_own_rights(void **state)
{
    (void)state;
    as_user(&b, ALICE, ask_beyond_own_rights, NULL);
    assert_non_null(strstr(said(&b), "\"reason\":\"kernel\""));
}

/* The policy of its user, where nothing names one. */
static void ask_by_environment(struct client_env *env)
{
    const struct spawn how = { .path = own_fobd, .envp = env->data, .type = SOCK_STREAM };
    struct spawned s = spawn(&b, &how);
    expect_content(APUE, s.sock, at(&b, "pub/b"), "pub b\n");
    CHECK_EQ(spawn_end(&s), 0);
}

static void test_own_policy(void **state)
{
    (void)state;
    const char *const *environment = own_environment("allow user:2001 read @/pub/**\n");
    as_user(&b, ALICE, ask_by_environment, (void *)(uintptr_t)environment);
}

/* ---- its end ---- */

/* From the end of the connection to that of the last process, the best of several: the machine may be busy.
 */
static void end_at_once(struct client_env *env)
{
    (void)env;
    int64_t best = INT64_MAX;
    for (int i = 0; i < 6; i++) {
        const struct spawn how = plain(types[i % 2]);
        struct spawned s = spawn(&b, &how);
        expect_content(NATIVE, s.sock, at(&b, "pub/b"), "pub b\n");
        int64_t begin = now_us();
        CHECK_EQ(spawn_end(&s), 0);
        best = now_us() - begin < best ? now_us() - begin : best;
    }
    CHECK(best < AT_ONCE_MS * 1000);
}

/* Also one that was never asked anything, or not by a whole request. */
static void end_early(struct client_env *env)
{
    (void)env;
    uint8_t out[512];
    for (int p = 0; p < PROTOCOLS; p++) {
        size_t len = request_bytes((enum protocol)p, out, sizeof out, at(&b, "al/f"));
        for (size_t part = 0; part < len; part += part < 6 ? 1 : 16) {
            const struct spawn how = plain(SOCK_STREAM);
            struct spawned s = spawn(&b, &how);
            if (part)
                put(s.sock, out, part);
            CHECK_EQ(spawn_end(&s), 0);
        }
    }
}

/* Requests that were sent are done though nobody waits for the answers. */
static void end_with_requests(struct client_env *env)
{
    (void)env;
    const struct spawn how = plain(SOCK_STREAM);
    struct spawned s = spawn(&b, &how);
    for (int i = 0; i < 20; i++)
        send_request(NATIVE, s.sock, at(&b, "pub/b"));
    CHECK_EQ(shutdown(s.sock, SHUT_WR), 0);
    int fd;
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(receive_reply(NATIVE, s.sock, &fd), 0);
        close(fd);
    }
    CHECK(is_closed(s.sock));
    CHECK_EQ(spawn_end(&s), 0);
}

static void test_124_end(void **state)
{
    (void)state;
    as_user(&b, 0, end_at_once, NULL);
    as_user(&b, ALICE, end_at_once, NULL);
    as_user(&b, ALICE, end_early, NULL);
    as_user(&b, ALICE, end_with_requests, NULL);
}

/* A child starts it, asks, and is killed; what it left behind is ours. */
static void kill_client(struct client_env *env)
{
    (void)env;
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    for (int i = 0; i < 4; i++) {
        stage->step = 0;
        pid_t client = fork();
        if (client == 0) {
            const struct spawn how = plain(types[i % 2]);
            struct spawned s = spawn(&b, &how);
            expect_content(NATIVE, s.sock, at(&b, "pub/b"), "pub b\n");
            for (int n = 0; n < i; n++)
                send_request(NATIVE, s.sock, at(&b, "pub/b")); /* a descriptor is on its way */
            stage->step = 1;
            pause();
        }
        stage_wait(1);
        CHECK_EQ(kill(client, SIGKILL), 0);
        CHECK_EQ(status_at_end(client), 128 + SIGKILL);
        expect_no_children();
    }
}

static void test_124_client_is_killed(void **state)
{
    (void)state;
    as_user(&b, 0, kill_client, NULL);
    as_user(&b, ALICE, kill_client, NULL);
}

/* ---- what is no request ---- */

static void send_garbage(struct client_env *env)
{
    (void)env;
    static const char *const garbage[] = { "xyz", "FOB2............", "GET / HTTP/1.1\r\n\r\n",
                                           "FOB1\377\377\377\377\1" };
    for (size_t t = 0; t < ARRAY_SIZE(types); t++)
        for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
            const struct spawn how = plain(types[t]);
            struct spawned s = spawn(&b, &how);
            char bytes[64] = "";
            memcpy(bytes, garbage[i], strlen(garbage[i]));
            put(s.sock, bytes, sizeof bytes);
            CHECK(is_closed(s.sock));
            CHECK_EQ(spawn_end(&s), 0);
        }
}

static void test_24_garbage(void **state)
{
    (void)state;
    as_user(&b, ALICE, send_garbage, NULL);
    as_user(&b, 0, send_garbage, NULL);
    assert_int_equal(audit_count(&b, "\"op\":\"open\"", NULL), 0);
}

/* The client's end in the hands of another user. */
static void lend(struct client_env *env)
{
    (void)env;
    const struct spawn how = plain(SOCK_STREAM);
    struct spawned s = spawn(&b, &how);
    expect_content(NATIVE, s.sock, at(&b, "pub/b"), "pub b\n");
    pid_t other = fork();
    if (other == 0) {
        CHECK_EQ(setresgid(BOB, BOB, BOB), 0);
        CHECK_EQ(setresuid(BOB, BOB, BOB), 0);
        expect_error(s.sock, at(&b, "pub/b"), EPERM);
        _exit(0);
    }
    CHECK_EQ(status_at_end(other), 0);
    expect_content(NATIVE, s.sock, at(&b, "pub/b"), "pub b\n");
    CHECK_EQ(spawn_end(&s), 0);
}

static void test_8_lent_to_another(void **state)
{
    (void)state;
    as_user(&b, 0, lend, NULL);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_requests_of_root, own_reset),
        cmocka_unit_test_setup(test_requests_of_a_user, own_reset),
        cmocka_unit_test_setup(test_own_rights, own_reset),
        cmocka_unit_test_setup(test_own_policy, own_reset),
        cmocka_unit_test_setup(test_124_end, own_reset),
        cmocka_unit_test_setup(test_124_client_is_killed, own_reset),
        cmocka_unit_test_setup(test_24_garbage, own_reset),
        cmocka_unit_test_setup(test_8_lent_to_another, own_reset),
    };
    return cmocka_run_group_tests_name("spawn", tests, own_setup, own_teardown);
}
