/*
 * threats.md, section B, against the stream socket. The number of a test is that of its row; every client
 * tries both protocols.
 */
#include "attacks.h"
#include "stream_client.h"

#include <sys/resource.h>

static const char policy[] = "allow user:2001,user:2002 read @/pub/**\n";

/* Nothing more comes from us; the broker closes without a word. */
static void expect_close(const struct broker *b, const void *bytes, size_t len)
{
    int sock = stream_connect(b);
    put(sock, bytes, len);
    shutdown(sock, SHUT_WR);
    CHECK(is_closed(sock));
    close(sock);
}

/* The same, though more could come. */
static void expect_close_at_once(const struct broker *b, const void *bytes, size_t len)
{
    int sock = stream_connect(b);
    CHECK(send(sock, bytes, len, MSG_NOSIGNAL) > 0); /* it may close before all of it is sent */
    CHECK(is_closed(sock));
    close(sock);
}

/* ---- 24: garbage ---- */

static void send_garbage(struct client_env *env)
{
    unsigned seed = (unsigned)getpid();
    fprintf(stderr, "garbage: seed %u\n", seed);
    uint8_t bytes[512], reply[4096];
    for (int i = 0; i < 10000; i++) {
        size_t len = 1 + (size_t)rand_r(&seed) % sizeof bytes;
        for (size_t j = 0; j < len; j++)
            bytes[j] = (uint8_t)rand_r(&seed);
        if (i % 4 == 1)
            memcpy(bytes, "o", 1);
        if (i % 4 == 2 && len >= 5)
            memcpy(bytes, "open ", 5);
        if (i % 4 == 3 && len >= 12) {
            memcpy(bytes, "FOB1", 4);
            memcpy(bytes + 4, &(uint32_t){ (uint32_t)len }, 4);
            memcpy(bytes + 8, &(uint32_t){ 0x00020001 }, 4);
        }
        int sock = stream_connect(env->broker);
        send(sock, bytes, len, MSG_NOSIGNAL);
        shutdown(sock, SHUT_WR);
        while (recv(sock, reply, sizeof reply, 0) > 0)
            ;
        close(sock);
    }
}

static void test_24_garbage(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    b.uncounted = true;
    as_user(&b, ALICE, send_garbage, NULL);
    broker_finish(&b);
}

/* ---- 25: lengths that lie, and requests cut off ---- */

static void send_lies(struct client_env *env)
{
    uint8_t good[512], bad[512];
    size_t len = native_open(good, sizeof good, 1, at(env->broker, "pub/a"));
    const uint32_t lengths[] = { 0, 1, WIRE_HEADER_SIZE - 1, 65537, 0x80000000u, 0xffffffffu };
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        memcpy(bad, good, len);
        memcpy(bad + 4, &lengths[i], 4);
        expect_close_at_once(env->broker, bad, len);
    }
    /* a whole message, and wrong within; the path's length beyond it; bytes behind */
    memcpy(bad, good, len);
    memcpy(bad + 4, &(uint32_t){ (uint32_t)len - 1 }, 4);
    expect_close_at_once(env->broker, bad, len);
    memcpy(bad, good, len);
    memcpy(bad + WIRE_HEADER_SIZE + 8, &(uint16_t){ 4000 }, 2);
    expect_close_at_once(env->broker, bad, len);
    memset(bad, 0, sizeof bad);
    memcpy(bad, good, len);
    memcpy(bad + 4, &(uint32_t){ (uint32_t)len + 4 }, 4);
    expect_close_at_once(env->broker, bad, len + 4);
    /* longer than what comes */
    expect_close(env->broker, bad, len + 3);
}

static unsigned count_malformed(const struct broker *b)
{
    return (unsigned)audit_count(b, "\"op\":\"message\"", "\"malformed\"");
}

static void send_cut(struct client_env *env)
{
    enum protocol p = *(enum protocol *)env->data;
    uint8_t bytes[512];
    size_t len = request_bytes(p, bytes, sizeof bytes, at(env->broker, "pub/a"));
    for (size_t cut = 1; cut < len; cut++)
        expect_close(env->broker, bytes, cut);
    shared->n = len - 1;
}

static void test_25_lengths_that_lie(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, send_lies, NULL);
    expect_records(&b, "\"op\":\"message\"", "\"malformed\"", 10);
    broker_finish(&b);
}

/* One record for each, with the true uid. */
static void test_25_cut_off(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    unsigned cut = 0;
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        as_user(&b, ALICE, send_cut, &p);
        cut += (unsigned)shared->n;
        WAIT_FOR(count_malformed(&b) >= cut);
        assert_int_equal(count_malformed(&b), cut);
    }
    assert_int_equal(audit_count(&b, "\"op\":\"message\"", "\"uid\":2001,\"gid\":2001,"), cut);
    broker_finish(&b);
}

/* ---- 26: too long ---- */

static void send_oversize(struct client_env *env)
{
    static uint8_t big[300000];
    int fd;
    memcpy(big, "FOB1", 4);
    memcpy(big + 4, &(uint32_t){ 200000 }, 4);
    expect_close_at_once(env->broker, big, 16);
    expect_close_at_once(env->broker, big, 100000);
    memset(big, 'o', sizeof big);
    expect_close(env->broker, big, sizeof big); /* no request without its end */
    int sock = stream_connect(env->broker);
    const size_t lengths[] = { 4351, 4352, 4353, 65535, 65536, 65537, sizeof big };
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        put(sock, big, lengths[i]);
        put(sock, "", 1);
        count_requests(1);
        CHECK_EQ(apue_receive(sock, &fd), EINVAL);
        CHECK_EQ(memcmp(apue_said, "usage: ", 7), 0);
        expect_text(APUE, sock, at(env->broker, "pub/a"), "pub a\n");
    }
}

static void test_26_oversize(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, send_oversize, NULL);
    expect_records(&b, "\"op\":\"message\"", "\"malformed\"", 3);
    broker_finish(&b);
}

/* ---- 28: what is no request; and another protocol ---- */

static void send_wrong_kinds(struct client_env *env)
{
    const struct broker *b = env->broker;
    uint8_t good[512], message[512];
    size_t len = native_open(good, sizeof good, 1, at(b, "pub/a"));
    const uint16_t types[] = { 0, 5, 6, 0x8001, 0x8002, 0x8004, 0xffff }, counts[] = { 0, 2, 254, 0xffff };
    for (size_t i = 0; i < ARRAY_SIZE(types) + ARRAY_SIZE(counts); i++) {
        memcpy(message, good, len);
        if (i < ARRAY_SIZE(types))
            memcpy(message + 8, &types[i], 2);
        else
            memcpy(message + 10, &counts[i - ARRAY_SIZE(types)], 2);
        expect_close_at_once(b, message, len);
    }
    memcpy(good, "FOB2", 4);
    expect_close_at_once(b, good, len);
    static const char *const others[] = { "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01 abcdefghijklmnopq",
                                          "Open /etc/shadow 0", " open /etc/shadow 0" };
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        expect_close_at_once(b, others[i], strlen(others[i]) + 1);
}

/* A connection speaks one protocol to its end. */
static void send_the_other(struct client_env *env)
{
    uint8_t message[512];
    size_t len = native_open(message, sizeof message, 1, at(env->broker, "pub/a"));
    int fd, sock = stream_connect(env->broker);
    expect_text(NATIVE, sock, at(env->broker, "pub/a"), "pub a\n");
    put(sock, "open /etc/hosts 0", 18);
    CHECK(is_closed(sock));
    sock = stream_connect(env->broker);
    expect_text(APUE, sock, at(env->broker, "pub/a"), "pub a\n");
    put(sock, message, len);
    for (size_t i = 0; i < len; i++)
        if (message[i] == 0) { /* each of them ends a request that is none */
            count_requests(1);
            CHECK_EQ(apue_next(sock, &fd), EINVAL);
            CHECK_EQ(memcmp(apue_said, "usage: ", 7), 0);
        }
    CHECK(is_silent(sock));
}

static void test_28_wrong_kinds(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, send_wrong_kinds, NULL);
    as_user(&b, ALICE, send_the_other, NULL);
    expect_records(&b, "\"op\":\"message\"", "\"malformed\"", 17);
    broker_finish(&b);
}

/* ---- 29: descriptors sent to the broker ---- */

static void smuggle(struct client_env *env)
{
    int fds[MSG_MAX_FDS], refused = 0;
    uint8_t message[512];
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = STDERR_FILENO;
    for (int i = 0; i < 10000; i++) {
        enum protocol p = i % 4 / 2;
        size_t len = request_bytes(p, message, sizeof message, at(env->broker, "pub/a"));
        size_t cut = i % 3 ? 0 : len / 2; /* with the beginning of a request, or with its rest */
        int sock = stream_connect(env->broker);
        if (cut)
            put(sock, message, cut);
        int err = msg_send(sock, message + cut, len - cut, fds, i % 2 ? MSG_MAX_FDS : 1, NULL, 0);
        refused += err == -EPERM;
        /* before Linux 6.16 they go out, and the broker closes them and the connection */
        CHECK(err == -EPERM || (err == 0 && is_closed(sock)));
        close(sock);
    }
    fprintf(stderr, "descriptors sent to the broker: %d of 10000 were refused to the sender by the kernel\n",
            refused);
}

static void test_29_descriptors_for_the_broker(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, smuggle, NULL);
    broker_finish(&b);
}

/* ---- 30: a client without room for the descriptor ---- */

static void receive_without_room(struct client_env *env)
{
    static struct msg_in in;
    int socks[PROTOCOLS] = { stream_connect(env->broker), stream_connect(env->broker) };
    uint8_t reply[WIRE_HEADER_SIZE + WIRE_RESULT_SIZE];
    struct rlimit limit = { (rlim_t)socks[APUE] + 1, 4096 };
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < 100; i++)
        for (enum protocol p = 0; p < PROTOCOLS; p++) {
            ask_for(p, socks[p], at(env->broker, "pub/a"));
            CHECK_EQ(msg_recv(socks[p], reply, sizeof reply, 0, &in), -EMFILE);
        }
}

static void test_30_no_room_at_the_client(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, receive_without_room, NULL);
    assert_int_equal(audit_count(&b, "\"allowed\"", "/pub/a"), 200);
    broker_finish(&b);
}

/* ---- 31: requests without reading ---- */

/* As many as fit, on several connections; nobody reads, for a while. */
static void ask_and_never_read(struct client_env *env)
{
    enum { CONNECTIONS = 20 };
    static uint8_t out[1 << 17];
    int socks[CONNECTIONS], fd;
    unsigned sent[CONNECTIONS] = { 0 };
    for (int i = 0; i < CONNECTIONS; i++) {
        enum protocol p = i % PROTOCOLS;
        size_t one = request_bytes(p, out, sizeof out, at(env->broker, "pub/a")), len = one;
        while (len + one < sizeof out)
            memcpy(out + len, out, one), len += one;
        socks[i] = stream_connect(env->broker);
        ssize_t n = send(socks[i], out, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        CHECK(n > 0);
        sent[i] = (unsigned)((size_t)n / one);
    }
    usleep(200000);
    shared->step = 1;
    wait_for_step(2);
    for (int i = 0; i < CONNECTIONS; i++)
        for (unsigned j = 0; j < sent[i]; j++) {
            CHECK_EQ(answer(i % PROTOCOLS, socks[i], &fd), 0);
            CHECK(fd_reads(fd, "pub a\n"));
            close(fd);
        }
    for (int i = 0; i < CONNECTIONS; i++) {
        count_requests(sent[i]);
        CHECK(is_silent(socks[i]));
    }
}

static void test_31_pipelining(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    pid_t alice = client_begin(&b, ALICE, ask_and_never_read, NULL);
    EXPECT_STEP(1);
    /* What is unread at each holds the rest back; of APUE's protocol one reply. */
    expect_records(&b, "\"op\":\"open\"", NULL, 10 * UNREAD_MAX + 10);
    expect_idle(&b);
    pid_t bob = bob_begin(&b);
    usleep(300000);
    bob_end(bob, "while 20 connections do not read");
    shared->step = 2;
    assert_int_equal(child_wait(alice), 0);
    broker_finish(&b);
}

/* ---- 32: the client goes between request and reply ---- */

static void ask_and_go(struct client_env *env)
{
    uint8_t message[512];
    for (int i = 0; i < 1000; i++) {
        size_t len = request_bytes(i % PROTOCOLS, message, sizeof message, at(env->broker, "pub/a"));
        int sock = stream_connect(env->broker);
        put(sock, message, len - (i % 7 == 0));
        if (i % 3 == 0)
            shutdown(sock, SHUT_RD);
        if (i % 3 == 1)
            shutdown(sock, SHUT_RDWR);
        close(sock);
    }
}

static void test_32_client_goes(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    b.uncounted = true;
    as_user(&b, ALICE, ask_and_go, NULL);
    broker_finish(&b);
}

/* ---- 34: connections without a byte, or with one ---- */

static void churn(struct client_env *env)
{
    for (int i = 0; i < 50000; i++) {
        int sock = stream_connect(env->broker);
        if (i % 10 == 0)
            send(sock, i % 20 ? "o" : "F", 1, MSG_NOSIGNAL);
        close(sock);
    }
}

static void test_34_connect_and_close(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    b.uncounted = true;
    as_user(&b, ALICE, churn, NULL);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_24_garbage),
        ATTACK(test_25_lengths_that_lie),
        ATTACK(test_25_cut_off),
        ATTACK(test_26_oversize),
        ATTACK(test_28_wrong_kinds),
        ATTACK(test_29_descriptors_for_the_broker),
        ATTACK(test_30_no_room_at_the_client),
        ATTACK(test_31_pipelining),
        ATTACK(test_32_client_goes),
        ATTACK(test_34_connect_and_close),
    };
    return cmocka_run_group_tests_name("stream_attacks", tests, shared_setup, NULL);
}
