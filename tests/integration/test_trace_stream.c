/*
 * fob trace on streams: both protocols through the real broker's stream socket; and a server that follows a
 * script, for what comes joined, in parts, and with descriptors in the midst.
 */
#include "trace_relay.h"

#include "../../client/trace/trace.h" /* here too: a test links what it includes */

/* ---- the real broker ---- */

static void ask_natively(struct client_env *env)
{
    uint8_t out[256], in[256];
    struct msg_in message;
    const char *path = at(env->broker, "pub/a");
    size_t size = WIRE_HEADER_SIZE + wire_encode_entry(out + WIRE_HEADER_SIZE, sizeof out - WIRE_HEADER_SIZE,
                                                       WIRE_READ, 0, path, strlen(path));
    wire_encode_header(out, sizeof out, &(struct wire_header){ (uint32_t)size, WIRE_OPEN, 1, 9 });
    alarm(CLIENT_SECONDS);
    int sock = sock_connect(env->broker->socket, SOCK_STREAM);
    CHECK(sock >= 0);
    CHECK_EQ(msg_send(sock, out, 5, NULL, 0, NULL, 0), 0); /* in two parts */
    WAIT_FOR(journal_has(env->data, " 5 bytes at 0\n"));
    CHECK_EQ(msg_send(sock, out + 5, size - 5, NULL, 0, NULL, 0), 0);
    count_requests(1);
    CHECK_EQ(msg_recv(sock, in, sizeof in, 0, &message), 1);
    CHECK_EQ(message.len, WIRE_HEADER_SIZE + WIRE_RESULT_SIZE);
    CHECK_EQ(message.n_fds, 1);
    CHECK(fd_reads(message.fds[0], "pub a\n"));
}

static void ask_as_apue(struct client_env *env)
{
    char request[128], reply[256];
    struct msg_in in;
    alarm(CLIENT_SECONDS);
    int sock = sock_connect(env->broker->socket, SOCK_STREAM);
    CHECK(sock >= 0);
    int len = snprintf(request, sizeof request, "open %s 0", at(env->broker, "pub/a"));
    CHECK_EQ(msg_send(sock, request, (size_t)len + 1, NULL, 0, NULL, 0), 0);
    CHECK_EQ(msg_recv(sock, reply, sizeof reply, 0, &in), 1);
    CHECK_EQ(in.len, 2);
    CHECK_EQ(in.n_fds, 1);
    CHECK(fd_reads(in.fds[0], "pub a\n"));
    len = snprintf(request, sizeof request, "open %s 0", at(env->broker, "secret/f"));
    CHECK_EQ(msg_send(sock, request, (size_t)len + 1, NULL, 0, NULL, 0), 0);
    CHECK_EQ(msg_recv(sock, reply, sizeof reply, 0, &in), 1);
    CHECK_EQ(in.n_fds, 0);
    CHECK_EQ(reply[in.len - 1], EACCES);
    count_requests(2);
}

static void test_the_broker_s_stream(void **state)
{
    (void)state;
    struct relay_test t;
    char line[256];
    broker_prepare(&t.broker);
    broker_start(&t.broker, "allow user:2001 read @/pub/**\n", "workers 2\nstream-socket @/stream\n");
    relay_start(&t, at(&t.broker, "stream"));
    expect_journal(&t, "relay (SOCK_STREAM), broker at ");
    as_user(&t.via, ALICE, ask_natively, &t);
    expect_journal(&t, "#1 client -> broker, 5 bytes at 0\n");
    expect_journal(&t, "    protocol: native\n    the message goes on: 5 bytes of it so far\n");
    expect_journal(&t, "    message of 56 bytes in 2 parts:\n    OPEN, id 9, count 1, length 56\n");
    expect_journal(&t, "    OPEN reply, id 9, count 1, length 32\n      [0] ok, rule 1, descriptor 0\n");
    as_user(&t.via, ALICE, ask_as_apue, NULL);
    snprintf(line, sizeof line, "    open, oflag 0 O_RDONLY, path %s\n", at(&t.broker, "pub/a"));
    expect_journal(&t, line);
    expect_journal(&t, "#2 broker -> client, 2 bytes at 0, 1 descriptor\n");
    expect_journal(&t, "    reply, status 0 ok\n");
    expect_journal(&t, "    reply, status 13 EACCES (Permission denied), text ");
    assert_null(strstr(read_journal(&t), "malformed"));
    relay_end(&t);
    broker_finish(&t.broker);
}

/* ---- a server that follows a script ---- */

static void put(int sock, const char *bytes, size_t len, const int *fds, size_t n_fds)
{
    CHECK_EQ(msg_send(sock, bytes, len, fds, n_fds, NULL, 0), 0);
}

static void get(int sock, const char *bytes, size_t len)
{
    char in[256];
    CHECK_EQ(recv(sock, in, len, MSG_WAITALL), len);
    CHECK(memcmp(in, bytes, len) == 0);
}

/* For each connection the same; sends everything at once, so that only the place says whose the descriptor
 * is. */
static void serve_stream(struct client_env *env)
{
    static const char first[] = "open /none 0", second[] = "open /dev/null 577";
    static const char refusal[] = "can't open /none: No such file or directory\n\0\2";
    int listener = *(const int *)env->data, null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (;;) {
        int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        char byte;
        if (recv(sock, &byte, 1, MSG_PEEK) != 1) { /* trace looks what type it is */
            close(sock);
            continue;
        }
        get(sock, first, sizeof first);
        get(sock, second, sizeof second);
        put(sock, refusal, 10, NULL, 0);
        put(sock, refusal + 10, sizeof refusal - 1 - 10, NULL, 0);
        put(sock, "\0\0", 2, &null, 1);
        close(sock);
    }
}

static void ask_stream(struct client_env *env)
{
    struct msg_in in;
    struct stat got, null;
    char byte;
    alarm(CLIENT_SECONDS);
    int sock = sock_connect(env->broker->socket, SOCK_STREAM), with = -1;
    CHECK(sock >= 0);
    put(sock, "open /no", 8, NULL, 0);
    WAIT_FOR(journal_has(env->data, " 8 bytes at 0\n"));
    put(sock, "ne 0\0open /dev/null 577", 24, NULL, 0);
    CHECK_EQ(shutdown(sock, SHUT_WR), 0);
    for (int i = 0; msg_recv(sock, &byte, 1, 0, &in) == 1; i++) {
        if (in.n_fds == 0)
            continue;
        CHECK_EQ(in.n_fds, 1);
        CHECK_EQ(with, -1);
        with = i;
        CHECK_EQ(fstat(in.fds[0], &got), 0);
        CHECK_EQ(stat("/dev/null", &null), 0);
        CHECK_EQ(got.st_rdev, null.st_rdev);
    }
    CHECK_EQ(with, 46); /* the byte after the refusal */
}

static void test_one_that_follows_a_script(void **state)
{
    (void)state;
    struct relay_test t = { .pid = 0 };
    struct sock_name name;
    const struct sock_listen_options options = {
        .type = SOCK_STREAM, .mode = 0666, .gid = (gid_t)-1, .backlog = 8
    };
    broker_prepare(&t.broker);
    int listener = sock_listen(at(&t.broker, "stream"), &options, &name);
    assert_true(listener >= 0);
    pid_t server = fork();
    assert_true(server >= 0);
    if (server == 0) {
        struct client_env env = { &t.broker, &listener };
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve_stream(&env);
    }
    relay_start(&t, at(&t.broker, "stream"));
    expect_journal(&t, "relay (SOCK_STREAM), broker at ");
    as_user(&t.via, ALICE, ask_stream, &t);
    expect_journal(&t, "#1 client -> broker, 8 bytes at 0\n");
    expect_journal(&t, "    protocol: APUE\n    the message goes on: 8 bytes of it so far\n");
    expect_journal(&t, "#1 client -> broker, 24 bytes at 8\n");
    expect_journal(&t, "    message of 13 bytes in 2 parts:\n    open, oflag 0 O_RDONLY, path /none\n"
                       "    open, oflag 577 O_WRONLY|O_CREAT|O_TRUNC, path /dev/null\n");
    expect_journal(&t, "    reply, status 2 ENOENT (No such file or directory), text can't open /none: ");
    expect_journal(&t, "    reply, status 0 ok\n");
    expect_journal(&t, "character device 1:3");
    expect_journal(&t, "#1 client: closed its writing side\n");
    relay_end(&t);
    assert_int_equal(kill(server, SIGKILL), 0);
    assert_int_equal(child_wait(server), 128 + SIGKILL);
    sock_unlisten(&name);
    close(listener);
    broker_end(&t.broker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_broker_s_stream),
        cmocka_unit_test(test_one_that_follows_a_script),
    };
    RUN_AS_ROOT();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
