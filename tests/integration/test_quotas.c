/*
 * threats.md, 75, 76 and 79: what one user may have, of connections, of descriptors in flight, of requests a
 * second; and that it is that user's part alone.
 */
#include "attacks.h"

#include <sys/resource.h>

static const char policy[] = "allow user:2001,user:2002,user:2003 read,list @/pub/**\n";

enum {
    CAROL = 2003,
    CONNECTS = 5000,
    PER_USER = 64,
    RATE = 100, /* a second, and at once */
    FLOODERS = 4,
};

/* ---- 76: connections ---- */

static int connects_possible(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_max > CONNECTS + 64 ? CONNECTS : (int)limit.rlim_max - 64;
}

static int count_open(const int *socks, int n)
{
    int open = 0;
    for (int i = 0; i < n; i++)
        open += recv(socks[i], &(char){ 0 }, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
    return open;
}

static void connect_and_keep(struct client_env *env)
{
    int n = connects_possible(), *socks = mem_zalloc((size_t)n, sizeof *socks), fd;
    CHECK(socks != NULL);
    for (int i = 0; i < n; i++)
        socks[i] = raw_connect(env->broker);
    WAIT_LONG(count_open(socks, n) <= PER_USER);
    CHECK_EQ(count_open(socks, n), PER_USER);
    for (int i = 0; i < n; i++)
        if (count_open(&socks[i], 1))
            CHECK_EQ(raw_open(socks[i], at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
    shared->refused = (unsigned)(n - PER_USER);
}

static void test_76_connection_flood(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    broker_start(&b, policy, "workers 2\nmax-connections-per-user 64"); /* PER_USER */
    pid_t bob = bob_begin(&b);
    as_user(&b, ALICE, connect_and_keep, NULL);
    expect_records(&b, "\"op\":\"connect\"", "\"reason\":\"quota\"", (int)shared->refused);
    bob_end(bob, "while alice connects 5,000 times");
    EXPECT_SOON(workers_are_quiet(&b, 2));
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

/* ---- 79: requests a second ---- */

/* Over the rate entries are answered, with EAGAIN, and nothing is closed. */
static void ask_too_often(struct client_env *env)
{
    int fd, sock = raw_connect(env->broker);
    while (!shared->over) {
        int error = raw_open(sock, at(env->broker, "pub/b"), WIRE_READ, 0, &fd);
        CHECK(error == 0 || error == EAGAIN);
        CHECK_EQ(fd >= 0, error == 0);
        fd_close(fd);
        shared->served += error == 0;
        shared->refused += error != 0;
    }
}

/* How many descriptors came, and the error that all have who did not get one. */
static size_t ask_in_a_batch(struct client_env *env, int sock, int want)
{
    static uint8_t out[WIRE_MAX_MESSAGE], in[WIRE_MAX_MESSAGE];
    static struct msg_in reply;
    const char *path = at(env->broker, "pub/a");
    size_t len = WIRE_HEADER_SIZE;
    for (int i = 0; i < WIRE_MAX_ENTRIES; i++)
        len += wire_encode_entry(out + len, sizeof out - len, WIRE_READ, 0, path, strlen(path));
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, WIRE_MAX_ENTRIES, 1 };
    wire_encode_header(out, sizeof out, &header);
    CHECK_EQ(msg_send(sock, out, len, NULL, 0, NULL, 0), 0);
    CHECK_EQ(msg_recv(sock, in, sizeof in, 0, &reply), 1);
    count_requests(WIRE_MAX_ENTRIES);
    for (size_t i = 0; i < WIRE_MAX_ENTRIES; i++) {
        struct wire_result result;
        CHECK_EQ(wire_decode_result(in + WIRE_HEADER_SIZE + i * WIRE_RESULT_SIZE, WIRE_RESULT_SIZE, &result),
                 0);
        CHECK_EQ(result.error, want);
    }
    fd_close_many(reply.fds, reply.n_fds);
    return reply.n_fds;
}

/* A batch counts as many as it has entries. Who has asked for nothing gets it though it is larger than a
 * second's worth, and pays for it: the next one would have to wait 2.5 seconds. */
static void ask_in_batches(struct client_env *env)
{
    int sock = raw_connect(env->broker);
    CHECK_EQ(ask_in_a_batch(env, sock, 0), WIRE_MAX_ENTRIES);
    CHECK_EQ(ask_in_a_batch(env, sock, EAGAIN), 0);
}

/* bob asks 100 times: his part is his own. All of alice's processes share hers. */
static void ask_at_leisure(struct client_env *env)
{
    for (int i = 0; i < 100; i++) {
        expect_served(env);
        usleep(10000);
    }
}

static void test_79_requests_per_second(void **state)
{
    (void)state;
    struct broker b;
    pid_t flooders[FLOODERS];
    broker_prepare(&b);
    broker_start(&b, policy, "workers 2\nmax-requests-per-second-per-user 100"); /* RATE */
    as_user(&b, CAROL, ask_in_batches, NULL);
    int64_t begin = now_us();
    for (int i = 0; i < FLOODERS; i++)
        flooders[i] = client_begin(&b, ALICE, ask_too_often, NULL);
    as_user(&b, BOB, ask_at_leisure, NULL);
    shared->over = true;
    for (int i = 0; i < FLOODERS; i++)
        assert_int_equal(child_wait(flooders[i]), 0);
    int most = (int)(RATE + RATE * (now_us() - begin) / 1000000 + 1);
    print_message("alice: %u served, at most %d; %u refused\n", shared->served, most, shared->refused);
    assert_in_range(shared->served, RATE / 2, most);
    assert_true(shared->refused > 0);
    expect_records(&b, "\"uid\":2001", "\"reason\":\"quota\"", (int)shared->refused);
    expect_records(&b, "\"uid\":2003", "\"reason\":\"quota\"", WIRE_MAX_ENTRIES);
    sleep(1);
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

/* ---- 75: the kernel refuses to send ---- */

/* A process of the workers' own user, only to bring about what the kernel does for any reason: it counts
 * descriptors in flight by user (unix(7), ETOOMANYREFS). */
static void fill_the_flight(struct client_env *env)
{
    (void)env;
    int pair[2], fds[WIRE_MAX_ENTRIES];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    for (int i = 0; i < WIRE_MAX_ENTRIES; i++)
        fds[i] = STDERR_FILENO;
    wait_for_step(1);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(msg_send(pair[0], "x", 1, fds, WIRE_MAX_ENTRIES, NULL, 0), 0);
    shared->step = 2;
    pause();
}

static void expect_too_many(struct client_env *env)
{
    int fd, sock = raw_connect(env->broker);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), EAGAIN);
    CHECK_EQ(raw_open(sock, at(env->broker, "priv/f"), WIRE_READ, 0, &fd), EACCES);
    shared->step = 3;
    wait_for_step(4);
    for (int i = 0; i < 2000 && raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd) == EAGAIN; i++)
        usleep(10000);
    CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0); /* the connection was kept */
}

/* The last test: without CAP_SYS_RESOURCE the limit cannot be raised again. */
static void test_75_too_many_references(void **state)
{
    (void)state;
    struct broker b;
    const uid_t uid = own_uid();
    pid_t hog = client_begin(NULL, uid, fill_the_flight, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 256, 256 }), 0);
    begin_as(&b, uid, policy, "workers 2\n");
    as_user(&b, ALICE, expect_served, NULL);
    shared->step = 1;
    EXPECT_STEP(2);
    pid_t alice = client_begin(&b, ALICE, expect_too_many, NULL);
    EXPECT_STEP(3);
    client_kill(hog);
    shared->step = 4;
    assert_int_equal(child_wait(alice), 0);
    EXPECT_SOON(audit_count(&b, "\"reason\":\"quota\"", "EAGAIN") >= 100);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_76_connection_flood),
        ATTACK(test_79_requests_per_second),
        ATTACK(test_75_too_many_references),
    };
    return cmocka_run_group_tests_name("quotas", tests, shared_setup, NULL);
}
