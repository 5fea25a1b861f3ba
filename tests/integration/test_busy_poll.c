/*
 * Workers that spin before they sleep: every answer is right, processor time is used only while that pays,
 * and none where there is but one CPU.
 */
#include "attacks.h"

#include <sched.h>
#include <time.h>

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n";

#define SPIN_50 "busy-poll 50\n"
#define SPIN_1000 "workers 1\nbusy-poll 1000\n"

/* ---- processors ---- */

/* That this process may use; the first two of them in `cpus`. */
static int find_cpus(int cpus[2])
{
    cpu_set_t set;
    int n = 0;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set) && ++n <= 2)
            cpus[n - 1] = cpu;
    return n;
}

static void pin(pid_t pid, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(pid, sizeof set, &set);
}

static pid_t only_worker(const struct broker *b)
{
    pid_t pid;
    assert_int_equal(broker_workers(b, &pid, 1), 1);
    return pid;
}

/* Of all workers, in microseconds; /proc/PID/stat knows ticks of ten thousand only. */
static int64_t cpu_us(const struct broker *b)
{
    pid_t pids[8];
    int64_t sum = 0;
    for (int i = 0, n = broker_workers(b, pids, 8); i < n; i++) {
        clockid_t clock;
        struct timespec t;
        assert_int_equal(clock_getcpuclockid(pids[i], &clock), 0);
        assert_int_equal(clock_gettime(clock, &t), 0);
        sum += (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
    }
    return sum;
}

/* ---- clients ---- */

static void send_request(int sock, const char *path, uint32_t id)
{
    uint8_t out[512];
    size_t len = WIRE_HEADER_SIZE;
    len += wire_encode_entry(out + len, sizeof out - len, WIRE_READ, 0, path, strlen(path));
    wire_encode_header(out, sizeof out, &(struct wire_header){ (uint32_t)len, WIRE_OPEN, 1, id });
    CHECK_EQ(msg_send(sock, out, len, NULL, 0, NULL, 0), 0);
    count_requests(1);
}

static void expect_reply(int sock, uint32_t id)
{
    static struct msg_in message;
    struct wire_header header;
    uint8_t in[64];
    CHECK_EQ(msg_recv(sock, in, sizeof in, 0, &message), 1);
    CHECK_EQ(wire_decode_header(in, message.len, &header), 0);
    CHECK_EQ(header.id, id);
    CHECK_EQ(message.n_fds, 1);
    CHECK(fd_reads(message.fds[0], "pub b\n"));
    close(message.fds[0]);
}

struct load {
    int n, gap_us;
    int cpu;     /* or -1 */
    int spin_us; /* for an answer, before it sleeps */
};

/* One request after the answer to the other. */
static void ask_in_turn(struct client_env *env)
{
    const struct load *load = env->data;
    const char *path = at(env->broker, "pub/b");
    int sock = raw_connect(env->broker);
    if (load->cpu >= 0)
        pin(0, load->cpu);
    for (int i = 0; i < load->n; i++) {
        if (load->gap_us)
            usleep((useconds_t)load->gap_us);
        send_request(sock, path, (uint32_t)i);
        int64_t end = load->spin_us ? now_us() + load->spin_us : 0;
        while (end && recv(sock, &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && now_us() < end)
            ;
        expect_reply(sock, (uint32_t)i);
    }
}

/* What it cost the workers, in microseconds. */
static int64_t cost_of(const struct broker *b, struct load load)
{
    int64_t before = cpu_us(b);
    as_user(b, ALICE, ask_in_turn, &load);
    return cpu_us(b) - before;
}

enum { BURST = 40, BURSTS = 50 };

/* Many requests at once, then the answers to all of them. */
static void ask_in_bursts(struct client_env *env)
{
    const char *path = at(env->broker, "pub/b");
    int sock = raw_connect(env->broker);
    for (uint32_t burst = 0; burst < BURSTS; burst++) {
        for (uint32_t i = 0; i < BURST; i++)
            send_request(sock, path, burst * BURST + i);
        for (uint32_t i = 0; i < BURST; i++)
            expect_reply(sock, burst * BURST + i);
        usleep(burst % 10 * 20);
    }
}

static void ask_all_kinds(struct client_env *env)
{
    int fd, sock = raw_connect(env->broker);
    for (int i = 0; i < 200; i++) {
        CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
        CHECK(fd_reads(fd, "pub a\n"));
        close(fd);
        CHECK_EQ(raw_open(sock, at(env->broker, "secret/f"), WIRE_READ, 0, &fd), EACCES);
        CHECK_EQ(raw_open(sock, at(env->broker, "pub/none"), WIRE_READ, 0, &fd), ENOENT);
        CHECK_EQ(open_once(env->broker, at(env->broker, "pub/b"), WIRE_READ, NULL), 0);
    }
}

/* ---- tests ---- */

static void begin_with(struct broker *b, const char *config)
{
    broker_prepare(b);
    broker_start(b, policy, config);
}

static void ask_everything(const struct broker *b)
{
    pid_t bob = bob_begin(b);
    as_user(b, ALICE, ask_all_kinds, NULL);
    as_user(b, ALICE, ask_in_bursts, NULL);
    as_user(b, ALICE, ask_in_turn, &(struct load){ .n = 2000, .cpu = -1 });
    bob_end(bob, "beside workers that spin");
}

/* After load, too. */
static void expect_nothing_used(const struct broker *b)
{
    usleep(50000);
    int64_t before = cpu_us(b);
    sleep(1);
    assert_in_range(cpu_us(b) - before, 0, 50000);
}

static void test_answers_and_idleness(void **state)
{
    (void)state;
    struct broker b;
    begin_with(&b, "workers 2\n" SPIN_50);
    ask_everything(&b);
    expect_nothing_used(&b);
    broker_finish(&b);
}

/* Orders are heard by who spins. */
static void test_reload(void **state)
{
    (void)state;
    struct broker b;
    begin_with(&b, "workers 2\nbusy-poll 1000\n");
    pid_t alice = client_begin(&b, ALICE, ask_in_turn, &(struct load){ .n = 20000, .cpu = -1 });
    for (int i = 0; i < 5; i++)
        reload(&b);
    assert_int_equal(child_end(alice), 0);
    expect_nothing_used(&b);
    broker_finish(&b);
}

/* A worker that sleeps gives its CPU up for each request of a client in step; one that spins does not. */
static void expect_to_spin(const struct broker *b, const int cpus[2])
{
    enum { N = 2000, TRIES = 10 /* the machine may be busy */ };
    pid_t worker = only_worker(b);
    long slept = N;
    pin(worker, cpus[0]);
    for (int i = 0; i < TRIES && slept > N / 4; i++) {
        long before = atol(status_of(worker, "voluntary_ctxt_switches:"));
        as_user(b, ALICE, ask_in_turn, &(struct load){ .n = N, .cpu = cpus[1] });
        slept = atol(status_of(worker, "voluntary_ctxt_switches:")) - before;
    }
    print_message("%d requests: slept %ld times\n", N, slept);
    assert_in_range(slept, 0, N / 4);
}

static void test_spins(void **state)
{
    (void)state;
    int cpus[2];
    if (find_cpus(cpus) < 2)
        skip();
    struct broker b;
    begin_with(&b, SPIN_1000);
    expect_to_spin(&b, cpus);
    reload(&b);
    EXPECT_SOON(workers_are_quiet(&b, 1));
    expect_to_spin(&b, cpus);
    broker_finish(&b);
}

/* To spin for each of them would cost at least N ms. */
static void test_slow_client(void **state)
{
    (void)state;
    enum { N = 200 };
    struct broker b;
    begin_with(&b, SPIN_1000);
    int64_t us = cost_of(&b, (struct load){ .n = N, .gap_us = 5000, .cpu = -1 });
    print_message("%d requests, one each 5 ms: %lld us\n", N, (long long)us);
    assert_in_range(us, 0, N * 1000 / 2);
    broker_finish(&b);
}

/* One that spins, too: it can ask only when the worker sleeps. */
static void test_shared_cpu(void **state)
{
    (void)state;
    enum { N = 2000 };
    int cpus[2];
    if (find_cpus(cpus) < 2)
        skip();
    struct broker b;
    begin_with(&b, SPIN_1000);
    pin(only_worker(&b), cpus[0]);
    int64_t us = cost_of(&b, (struct load){ .n = N, .cpu = cpus[0], .spin_us = 1000 });
    print_message("%d requests on the worker's CPU: %lld us\n", N, (long long)us);
    assert_in_range(us, 0, N * 1000 / 2);
    broker_finish(&b);
}

/* The first misses of a worker that may spin come soon: of 20 waits 5, of a millisecond each. */
static int64_t cost_of_first(const char *config)
{
    struct broker b;
    begin_with(&b, config);
    int64_t us = cost_of(&b, (struct load){ .n = 20, .gap_us = 3000, .cpu = -1 });
    broker_finish(&b);
    return us;
}

static void test_one_cpu(void **state)
{
    (void)state;
    int64_t us = INT64_MAX;
    int cpus[2];
    cpu_set_t all;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    find_cpus(cpus);
    pin(0, cpus[0]);
    for (int i = 0; i < 3; i++) {
        int64_t tried = cost_of_first(SPIN_1000);
        us = tried < us ? tried : us;
    }
    sched_setaffinity(0, sizeof all, &all);
    print_message("20 requests with one CPU: %lld us\n", (long long)us);
    assert_in_range(us, 0, 4000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, shared_new, shared_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answers_and_idleness), TEST(test_reload),     TEST(test_spins),
        TEST(test_slow_client),          TEST(test_shared_cpu), TEST(test_one_cpu),
    };
    RUN_AS_ROOT();
    return cmocka_run_group_tests_name("busy_poll", tests, shared_setup, NULL);
}
