/*
 * threats.md, section G, against the stream socket: connections, bytes without an end, clients that say next
 * to nothing. The number of a test is that of its row.
 */
#include "attacks.h"
#include "stream_client.h"

static const char policy[] = "allow user:2001,user:2002 read @/pub/**\n";

enum { PER_USER = 8, FLOODERS = 4, STEP_END = 9 };

/* ---- 76: connections of both sockets ---- */

/* Whatever socket they came by, they are as many as allowed in all. */
static void connect_to_both(struct client_env *env)
{
    const struct broker *b = env->broker;
    int socks[PER_USER], fd;
    for (int first = 0; first <= PER_USER; first += PER_USER / 2) {
        for (int i = 0; i < PER_USER; i++) {
            socks[i] = i < first ? raw_connect(b) : stream_connect(b);
            int error = i < first ? raw_open(socks[i], at(b, "pub/a"), WIRE_READ, 0, &fd)
                                  : ask_both(i % PROTOCOLS, socks[i], at(b, "pub/a"), &fd);
            CHECK_EQ(error, 0);
            close(fd);
        }
        for (int i = 0; i < 10; i++) {
            int over = i % 2 ? raw_connect(b) : stream_connect(b);
            CHECK(is_closed(over));
            close(over);
        }
        for (int i = 0; i < PER_USER; i++)
            close(socks[i]);
        usleep(500000); /* until that is noticed */
    }
}

static void test_76_connections(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 1\nmax-connections-per-user 8"); /* PER_USER */
    pid_t bob = bob_begin(&b);
    as_user(&b, ALICE, connect_to_both, NULL);
    bob_end(bob, "while alice connects too often");
    expect_records(&b, "\"op\":\"connect\"", "\"reason\":\"quota\"", 30);
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

/* ---- 78: the beginning of a request ---- */

static void say_little(struct client_env *env)
{
    static uint8_t bytes[65536] = "FOB1";
    int socks[PER_USER];
    uint8_t small[512];
    memcpy(bytes + 4, &(uint32_t){ sizeof bytes }, 4);
    for (int i = 0; i < PER_USER; i++)
        socks[i] = stream_connect(env->broker);
    put(socks[1], "F", 1);
    put(socks[2], "o", 1);
    put(socks[3], "FOB1", 4);
    put(socks[4], bytes, 16);
    put(socks[5], bytes, 65535);
    put(socks[6], "open ", 5);
    size_t len = request_bytes(APUE, small, sizeof small, at(env->broker, "pub/a"));
    put(socks[7], small, len - 1);
    int over = stream_connect(env->broker);
    CHECK(is_closed(over));
    shared->step = 1;
    for (size_t i = 0; shared->step < 2 && i < len - 1; i++) { /* and a byte now and then */
        usleep(5000);
        put(socks[0], small + i, 1);
    }
    wait_for_step(2);
    for (int i = 0; i < PER_USER; i++)
        CHECK(is_silent(socks[i]));
    int fd;
    put(socks[7], "", 1); /* who was slow is served as ever */
    count_requests(1);
    CHECK_EQ(apue_receive(socks[7], &fd), 0);
    CHECK(fd_reads(fd, "pub a\n"));
    put(socks[5], bytes, 1);
    CHECK(is_closed(socks[5]));
}

static void test_78_slow_requests(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 1\nmax-connections-per-user 8"); /* PER_USER */
    pid_t alice = client_begin(&b, ALICE, say_little, NULL);
    EXPECT_STEP(1);
    pid_t bob = bob_begin(&b);
    usleep(500000);
    bob_end(bob, "while 8 requests have only begun");
    sleep(1);
    expect_idle(&b);
    shared->step = 2;
    assert_int_equal(child_wait(alice), 0);
    /* seven were closed in the middle: the record of each */
    expect_records(&b, "\"reason\":\"malformed\"", "\"op\":\"message\"", 7);
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

/* ---- 79: bytes without an end ---- */

/* A request of APUE's that never ends; and requests that do, as many as can be. */
static void send_without_end(struct client_env *env)
{
    static uint8_t bytes[1 << 16];
    bool ends = *(const bool *)env->data;
    memset(bytes, 'o', sizeof bytes);
    for (size_t i = 4000; ends && i < sizeof bytes; i += 4001)
        bytes[i] = '\0';
    int sock = stream_connect(env->broker), unread = ends;
    uint8_t reply[4096];
    if (!ends && (fork() == 0 || fork() == 0)) /* several of them, so that something is always there */
        alarm(CLIENT_SECONDS);
    while (shared->step < STEP_END) {
        ssize_t n = send(sock, bytes, sizeof bytes, MSG_NOSIGNAL | (unread ? MSG_DONTWAIT : 0));
        if (n < 0 && errno != EAGAIN)
            break; /* it is stopped */
        while (unread && recv(sock, reply, sizeof reply, MSG_DONTWAIT) > 0)
            ;
    }
}

static void flood(bool ends)
{
    struct broker b;
    pid_t flooders[FLOODERS];
    stream_begin(&b, policy, "workers 2");
    b.uncounted = true;
    pid_t bob = bob_begin(&b);
    for (int i = 0; i < FLOODERS; i++)
        flooders[i] = client_begin(&b, ALICE, send_without_end, &ends);
    sleep(1);
    reload(&b);
    sleep(1);
    bob_end(bob, ends ? "while alice sends nonsense" : "while alice sends what never ends");
    int64_t begin = now_us();
    reload(&b); /* and with nobody else there */
    assert_in_range(now_us() - begin, 0, AT_ONCE_MS * 1000);
    shared->step = STEP_END;
    for (int i = 0; i < FLOODERS; i++)
        client_kill(flooders[i]);
    broker_finish(&b);
}

static void test_79_request_without_end(void **state)
{
    (void)state;
    flood(false);
}

static void test_79_nonsense(void **state)
{
    (void)state;
    flood(true);
}

/* Stopped meanwhile. */
static void test_79_stopped_meanwhile(void **state)
{
    (void)state;
    struct broker b;
    int status = -1;
    stream_begin(&b, policy, "workers 1");
    bool ends = false;
    pid_t flooder = client_begin(&b, ALICE, send_without_end, &ends);
    sleep(1);
    assert_int_equal(kill(b.pid, SIGTERM), 0);
    for (int ms = 0; ms < AT_ONCE_MS && waitpid(b.pid, &status, WNOHANG) == 0; ms++)
        usleep(1000);
    client_kill(flooder);
    assert_int_equal(status, 0);
    b.pid = 0;
    broker_end(&b);
}

/* ---- 80: memory ---- */

/* As much as may be kept of requests that have begun: of each connection one. */
static void keep_much(struct client_env *env)
{
    enum { CONNECTIONS = 200 };
    static uint8_t bytes[65536] = "FOB1";
    static int socks[CONNECTIONS];
    memcpy(bytes + 4, &(uint32_t){ sizeof bytes }, 4);
    for (int i = 0; i < CONNECTIONS; i++) {
        bool apue = i % 2;
        socks[i] = stream_connect(env->broker);
        if (apue)
            memset(bytes, 'o', sizeof bytes);
        else
            memcpy(bytes, "FOB1", 4), memcpy(bytes + 4, &(uint32_t){ sizeof bytes }, 4);
        put(socks[i], bytes, sizeof bytes - 1);
    }
    usleep(200000);
    shared->step = 1;
    wait_for_step(2);
}

static void test_80_memory(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    b.uncounted = true;
    as_user(&b, ALICE, expect_served, NULL);
    long before = resident_kb(&b);
    for (int i = 0; i < 5; i++) {
        shared->step = 0;
        pid_t alice = client_begin(&b, ALICE, keep_much, NULL);
        EXPECT_STEP(1);
        long much = resident_kb(&b) - before;
        print_message("200 requests that have begun: %ld kB more\n", much);
#ifndef FOB_SANITIZE /* it keeps what is freed, for a while */
        assert_in_range(much < 0 ? 0 : much, 0, 200 * 64 + 4096);
#endif
        shared->step = 2;
        assert_int_equal(child_wait(alice), 0);
    }
    EXPECT_SOON(workers_are_quiet(&b, 2));
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_76_connections), ATTACK(test_78_slow_requests),     ATTACK(test_79_request_without_end),
        ATTACK(test_79_nonsense),    ATTACK(test_79_stopped_meanwhile), ATTACK(test_80_memory),
    };
    return cmocka_run_group_tests_name("stream_floods", tests, shared_setup, NULL);
}
