/*
 * fob trace between real clients and a real, confined broker: files arrive, the journal says what went by,
 * one client does not disturb another, nobody else may use it, and nothing of it is left.
 */
#include "trace_relay.h"

#include "../../client/trace/trace.h" /* here too: a test links what it includes */

#include <sys/wait.h>

static const char policy[] = "allow user:2001 read @/pub/**\n";

/* ---- fob, through it ---- */

static int run_fob(const struct relay_test *t, const char *command, const char *path, const char *output)
{
    char program[512];
    const char *build = getenv("BUILD");
    snprintf(program, sizeof program, "%s/fob", build && *build ? build : "build");
    int fob = open(program, O_PATH | O_CLOEXEC); /* its folder may be closed to alice */
    assert_true(fob >= 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int out = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        char *arguments[] = { (char *)"fob",   (char *)"-s", (char *)(uintptr_t)t->via.socket,
                              (char *)command, (char *)path, NULL };
        if (dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0 || setgroups(0, NULL) ||
            setresgid(ALICE, ALICE, ALICE) || setresuid(ALICE, ALICE, ALICE))
            _exit(126);
        fexecve(fob, arguments, environ);
        _exit(127);
    }
    close(fob);
    return child_wait(pid);
}

static void test_a_file_arrives(void **state)
{
    (void)state;
    struct relay_test t;
    char text[256], line[256];
    struct stat st;
    relay_begin(&t, policy);
    assert_int_equal(stat(t.via.socket, &st), 0);
    assert_true(S_ISSOCK(st.st_mode) && (st.st_mode & 07777) == 0600 && st.st_uid == ALICE);

    count_requests(2);
    assert_int_equal(run_fob(&t, "cat", at(&t.broker, "pub/a"), at(&t.broker, "out")), 0);
    assert_true(file_read(at(&t.broker, "out"), text, sizeof text) > 0);
    assert_string_equal(text, "pub a\n");
    expect_journal(&t, "#1 client: closed\n");
    expect_journal(&t, "#1 client -> broker, ");
    expect_journal(&t, "    OPEN, id 1, count 1, length ");
    snprintf(line, sizeof line, "      [0] READ, mode 0000, path %s\n", at(&t.broker, "pub/a"));
    expect_journal(&t, line);
    expect_journal(&t, "#1 broker -> client, 32 bytes, 1 descriptor\n");
    expect_journal(&t, "    OPEN reply, id 1, count 1, length 32\n      [0] ok, rule 1, descriptor 0\n");
    assert_int_equal(stat(at(&t.broker, "pub/a"), &st), 0);
    snprintf(line, sizeof line, " inode %llu, size 6, mode 0600, uid 0, gid 0\n        O_RDONLY",
             (unsigned long long)st.st_ino);
    expect_journal(&t, line);
    expect_journal(&t, "    descriptor 0: here ");
    expect_journal(&t, ", uid 2001, gid 2001\n");
    expect_journal(&t, "    0000  46 4f 42 31 ");
    expect_journal(&t, "|FOB1");

    assert_int_equal(run_fob(&t, "cat", at(&t.broker, "secret/f"), at(&t.broker, "out")), 1);
    expect_journal(&t, "      [0] EACCES (Permission denied), rule 0 (default), no descriptor\n");
    assert_int_equal(run_fob(&t, "list", NULL, at(&t.broker, "out")), 0);
    snprintf(line, sizeof line, "      read %s/pub/**\n", t.broker.dir);
    expect_journal(&t, line);
    assert_int_equal(run_fob(&t, "ping", NULL, at(&t.broker, "out")), 0);
    expect_journal(&t, "      version 1, at most 65536 bytes and 253 entries, policy generation 1\n");
    assert_false(journal_has(&t, "malformed"));
    relay_end(&t);
    broker_finish(&t.broker);
}

/* ---- what breaks the protocol ---- */

static void send_descriptor(struct client_env *env)
{
    int sock = raw_connect(env->broker), fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct wire_header header = { WIRE_HEADER_SIZE, WIRE_HELLO, 0, 7 };
    uint8_t out[WIRE_HEADER_SIZE], in[64];
    wire_encode_header(out, sizeof out, &header);
    CHECK_EQ(msg_send(sock, out, sizeof out, &fd, 1, NULL, 0), 0);
    CHECK_EQ(recv(sock, in, sizeof in, 0), 0);
}

static void send_nonsense(struct client_env *env)
{
    static char large[WIRE_MAX_MESSAGE + 1] = "FOB1";
    char in[64];
    int sock = raw_connect(env->broker);
    CHECK_EQ(send(sock, "nonsense\x1b[2J", 12, 0), 12);
    CHECK(recv(sock, in, sizeof in, 0) <= 0);
    close(sock);
    sock = raw_connect(env->broker);
    CHECK_EQ(send(sock, large, sizeof large, 0), sizeof large);
    CHECK(recv(sock, in, sizeof in, 0) <= 0);
    close(sock);
    sock = raw_connect(env->broker);
    CHECK_EQ(send(sock, "", 0, 0), 0);
    CHECK(recv(sock, in, sizeof in, 0) <= 0);
}

static void test_violations_are_seen(void **state)
{
    (void)state;
    struct relay_test t;
    relay_begin(&t, policy);
    as_user(&t.via, ALICE, send_descriptor, NULL);
    expect_journal(&t, "#1 client -> broker, 16 bytes, 1 descriptor\n");
    expect_journal(&t, "character device 1:3");
    expect_journal(&t, "    malformed: descriptor 0: nothing in the message names it\n");
    /* Linux 6.16 and later; before that the broker takes it, and closes. */
    WAIT_FOR(journal_has(&t, "EPERM (Operation not permitted)") || journal_has(&t, "#1 broker: closed"));
    assert_true(journal_has(&t, "#1 broker: takes it not, the connection is closed: EPERM (") ||
                journal_has(&t, "#1 broker: closed"));
    as_user(&t.via, ALICE, send_nonsense, NULL);
    expect_journal(&t, "    malformed: 12 bytes are no header, which has 16\n");
    expect_journal(&t, "|nonsense.[2J|\n");
    expect_journal(&t, "#3 client -> broker, 65537 bytes\n");
    expect_journal(&t, "    malformed: the header says 0 bytes, the message has 65537\n");
    expect_journal(&t, "    malformed: an empty packet, which reads as the end of the connection\n");
    assert_null(strchr(read_journal(&t), '\x1b'));
    relay_end(&t);
    broker_finish(&t.broker);
}

/* ---- several at once ---- */

static void open_a(struct client_env *env)
{
    int fd;
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, &fd), 0);
    CHECK(fd_reads(fd, "pub a\n"));
}

/* Asks until nobody takes it any more, and waits: then reads all. The number of answers is that of the
 * questions. */
static void flood(struct client_env *env)
{
    uint8_t out[256], in[4096];
    static struct msg_in message;
    const int *pipes = env->data;
    const char *path = at(env->broker, "pub/a");
    int sock = raw_connect(env->broker), asked = 0, answered = 0;
    size_t size = WIRE_HEADER_SIZE + wire_encode_entry(out + WIRE_HEADER_SIZE, sizeof out - WIRE_HEADER_SIZE,
                                                       WIRE_READ, 0, path, strlen(path));
    char byte = 0;
    alarm(CLIENT_SECONDS);
    for (int tries = 0; tries < 20;) {
        struct wire_header header = { (uint32_t)size, WIRE_OPEN, 1, (uint32_t)asked };
        wire_encode_header(out, sizeof out, &header);
        if (msg_send(sock, out, size, NULL, 0, NULL, MSG_DONTWAIT) < 0) {
            tries++;
            usleep(10000);
        } else {
            asked++;
        }
    }
    count_requests((unsigned)asked);
    CHECK_EQ(write(pipes[1], &byte, 1), 1); /* it is stuck */
    CHECK_EQ(read(pipes[2], &byte, 1), 1);
    for (; answered < asked; answered++) {
        struct wire_header header;
        CHECK_EQ(msg_recv(sock, in, sizeof in, 0, &message), 1);
        CHECK_EQ(wire_decode_header(in, message.len, &header), 0);
        CHECK_EQ(header.id, answered);
        fd_close_many(message.fds, message.n_fds);
    }
}

static void test_one_that_does_not_read(void **state)
{
    (void)state;
    struct relay_test t;
    int pipes[4];
    char byte = 0;
    relay_begin(&t, policy);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(pipe2(pipes + 2, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        as_user(&t.via, ALICE, flood, pipes);
        _exit(0);
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    int64_t begin = now_us();
    as_user(&t.via, ALICE, open_a, NULL);
    assert_true(now_us() - begin < 5000000);
    assert_int_equal(write(pipes[3], &byte, 1), 1);
    assert_int_equal(child_wait(pid), 0);
    relay_end(&t);
    for (int i = 0; i < 4; i++)
        close(pipes[i]);
    broker_finish(&t.broker);
}

static void test_many_at_once(void **state)
{
    (void)state;
    enum { CLIENTS = 80, TURNS = 5 }; /* more than it relays at once */
    struct relay_test t;
    pid_t pids[CLIENTS];
    relay_begin(&t, policy);
    for (int i = 0; i < CLIENTS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        for (int turn = 0; pids[i] == 0 && turn < TURNS; turn++)
            as_user(&t.via, ALICE, open_a, NULL);
        if (pids[i] == 0)
            _exit(0);
    }
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(child_wait(pids[i]), 0);
    relay_end(&t);
    broker_finish(&t.broker);
}

/* ---- who may use it, and where it may stand ---- */

static void cannot_connect(struct client_env *env)
{
    CHECK_EQ(sock_connect(env->broker->socket, SOCK_SEQPACKET), -EACCES);
}

static void is_closed(struct client_env *env)
{
    char byte;
    int sock = raw_connect(env->broker);
    CHECK(recv(sock, &byte, 1, 0) <= 0);
}

static void test_nobody_else(void **state)
{
    (void)state;
    struct relay_test t;
    relay_begin(&t, policy);
    as_user(&t.via, BOB, cannot_connect, NULL);
    relay_end(&t);
    /* an abstract name has no mode */
    snprintf(t.via.socket, sizeof t.via.socket, "@%s/relay", t.broker.dir);
    t.pid = start_as(ALICE, at(&t.broker, "journal"), t.via.socket, t.broker.socket);
    expect_journal(&t, "listening on @");
    t.fds = count_open(t.pid);
    as_user(&t.via, BOB, is_closed, NULL);
    expect_journal(&t, "#1 client: closed: another user");
    as_user(&t.via, ALICE, open_a, NULL);
    relay_end(&t);
    broker_finish(&t.broker);
}

static void expect_refusal(struct relay_test *t, const char *listen_path, const char *upstream, int status,
                           const char *message)
{
    pid_t pid = start_as(ALICE, at(&t->broker, "journal"), listen_path, upstream);
    assert_int_equal(child_wait(pid), status);
    expect_journal(t, message);
}

static void test_refusals(void **state)
{
    (void)state;
    struct relay_test t;
    char text[64];
    relay_begin(&t, policy);
    const struct broker *b = &t.broker;
    file_write(at(b, "al/file"), "kept\n", 0644, ALICE);
    expect_refusal(&t, at(b, "al/file"), b->socket, 1, "file: File exists (it is no socket: ");
    assert_int_equal(file_read(at(b, "al/file"), text, sizeof text), 5);
    expect_refusal(&t, t.via.socket, b->socket, 1, "relay: Address already in use (");
    as_user(&t.via, ALICE, open_a, NULL); /* the first is not disturbed */
    expect_refusal(&t, at(b, "pub/x"), b->socket, 1, "pub/x: Permission denied");
    expect_refusal(&t, at(b, "al/x"), at(b, "none"), 3, "none: No such file or directory (is fobd running?)");
    expect_refusal(&t, at(b, "al/x"), at(b, "al/file"), 3, "file: Connection refused (is fobd running?)");
    assert_int_equal(access(at(b, "al/x"), F_OK), -1);
    /* one that was killed leaves its name, which the next one takes */
    assert_int_equal(kill(t.pid, SIGKILL), 0);
    assert_int_equal(child_wait(t.pid), 128 + SIGKILL);
    assert_int_equal(access(t.via.socket, F_OK), 0);
    relay_start(&t, b->socket);
    as_user(&t.via, ALICE, open_a, NULL);
    relay_end(&t);
    broker_finish(&t.broker);
}

static void test_output_that_fails(void **state)
{
    (void)state;
    struct relay_test t;
    broker_begin(&t.broker, policy);
    pid_t pid = start_as(ALICE, "/dev/full", at(&t.broker, "al/relay"), t.broker.socket);
    assert_int_equal(child_wait(pid), 1);
    assert_int_equal(access(at(&t.broker, "al/relay"), F_OK), -1);
    broker_finish(&t.broker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_arrives),
        cmocka_unit_test(test_violations_are_seen),
        cmocka_unit_test(test_one_that_does_not_read),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_nobody_else),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_output_that_fails),
    };
    RUN_AS_ROOT();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
