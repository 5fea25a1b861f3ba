/*
 * Connections are spread evenly over the workers, however they come; and none waits for a worker that hangs,
 * died or was replaced on its way there.
 */
#include "attacks.h"

#include <poll.h>
#include <sys/resource.h>

enum { MANY = 256, WORKERS_AT_MOST = 8, HURRIES = 10000, PER_USER = 64 };

static const char policy[] = "allow user:0,user:2001,user:2002 read @/pub/**\n";
static const char roomy[] = "stream-socket @/stream\nmax-connections-per-user 1000\n";

static void begin(struct broker *b, const char *workers)
{
    char config[256];
    broker_prepare(b);
    snprintf(config, sizeof config, "%s\n%s", workers, roomy);
    broker_start(b, policy, config);
}

/* ---- connections of this process ---- */

static int socks[MANY];

static int connect_to(const struct broker *b, int type)
{
    const struct timeval patience = { AT_ONCE_MS / 1000, 0 };
    int sock = sock_connect(type == SOCK_STREAM ? at(b, "stream") : b->socket, type);
    assert_true(sock >= 0);
    assert_int_equal(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    return sock;
}

static void open_range(const struct broker *b, int type, int from, int to, unsigned pause_us)
{
    for (int i = from; i < to; i++) {
        socks[i] = connect_to(b, type);
        usleep(pause_us);
    }
}

static void close_range_of(int from, int to)
{
    fd_close_many(socks + from, (size_t)(to - from));
}

static int open_at(const struct broker *b, int sock)
{
    int fd, error = raw_open(sock, at(b, "pub/a"), WIRE_READ, 0, &fd);
    if (fd >= 0)
        close(fd);
    return error;
}

/* Each of them, at once. */
static void expect_all_served(const struct broker *b, int from, int to)
{
    for (int i = from; i < to; i++) {
        int64_t start = now_us();
        assert_int_equal(open_at(b, socks[i]), 0);
        assert_true(now_us() - start < AT_ONCE_MS * 1000);
    }
}

/* ---- what fobctl status says of the workers ---- */

static int ask_numbers(const struct broker *b, unsigned *numbers)
{
    static char text[64 << 10];
    int n = 0;
    assert_int_equal(broker_control(b, "status\0json\0", text, sizeof text), 0);
    for (const char *at = text; (at = strstr(at, "{\"role\":\"worker\"")) && n < WORKERS_AT_MOST; n++) {
        at = strstr(at, "\"connections\":");
        assert_non_null(at);
        numbers[n] = (unsigned)atoi(at + strlen("\"connections\":"));
    }
    return n;
}

static bool is_even(const struct broker *b, unsigned total)
{
    unsigned numbers[WORKERS_AT_MOST], least = UINT32_MAX, most = 0, sum = 0;
    int n = ask_numbers(b, numbers);
    assert_true(n > 1);
    for (int i = 0; i < n; i++) {
        sum += numbers[i];
        least = numbers[i] < least ? numbers[i] : least;
        most = numbers[i] > most ? numbers[i] : most;
    }
    unsigned slack = least / 20 > 2 ? least / 20 : 2;
    return sum == total && most - least <= slack;
}

static void print_numbers(const struct broker *b)
{
    unsigned numbers[WORKERS_AT_MOST];
    int n = ask_numbers(b, numbers);
    for (int i = 0; i < n; i++)
        print_message("%s%u", i ? ", " : "connections: ", numbers[i]);
    print_message("\n");
}

static void expect_even(const struct broker *b, unsigned total)
{
    WAIT_FOR(is_even(b, total));
    if (!is_even(b, total)) {
        print_numbers(b);
        fail_msg("%u connections are not spread evenly", total);
    }
}

static unsigned number_of(const struct broker *b, unsigned index)
{
    unsigned numbers[WORKERS_AT_MOST];
    assert_true(ask_numbers(b, numbers) > (int)index);
    return numbers[index];
}

static unsigned total_of(const struct broker *b)
{
    unsigned numbers[WORKERS_AT_MOST], sum = 0;
    int n = ask_numbers(b, numbers);
    for (int i = 0; i < n; i++)
        sum += numbers[i];
    return sum;
}

/* ---- however they come ---- */

static void try_patterns(const char *workers, int type)
{
    struct broker b;
    begin(&b, workers);
    open_range(&b, type, 0, MANY, 0);
    expect_even(&b, MANY);
    expect_all_served(&b, 0, MANY);
    close_range_of(0, MANY);
    expect_even(&b, 0);
    for (int i = 0; i < 64; i++) { /* each alone, and it asks at once */
        open_range(&b, type, i, i + 1, 1000);
        assert_int_equal(open_at(&b, socks[i]), 0);
        expect_even(&b, (unsigned)i + 1);
    }
    close_range_of(0, 32); /* the older half, and as many new ones */
    open_range(&b, type, 0, 32, 0);
    expect_all_served(&b, 0, 64);
    expect_even(&b, 64);
    close_range_of(0, 64);
    broker_finish(&b);
}

static void test_patterns(void **state)
{
    (void)state;
    try_patterns("workers 2", SOCK_SEQPACKET);
    try_patterns("workers 5", SOCK_SEQPACKET);
}

static void test_patterns_stream(void **state)
{
    (void)state;
    try_patterns("workers 2", SOCK_STREAM);
}

static void hold_one(struct client_env *env)
{
    int fd, sock = raw_connect(env->broker);
    CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
    shared->served++;
    pause();
}

/* A process each. */
static void test_many_clients(void **state)
{
    (void)state;
    struct broker b;
    pid_t clients[64];
    begin(&b, "workers 2");
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
        clients[i] = client_begin(&b, i % 2 ? ALICE : BOB, hold_one, NULL);
    EXPECT_SOON(shared->served == ARRAY_SIZE(clients));
    expect_even(&b, ARRAY_SIZE(clients));
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
        client_kill(clients[i]);
    broker_finish(&b);
}

/* Which of 2 * half connections worker 0 has: those that are not answered while it is stopped. */
static void find_those_of_first(const struct broker *b, bool *is_of_first, int n)
{
    pid_t pids[2];
    assert_int_equal(broker_workers(b, pids, 2), 2);
    struct pollfd polled[MANY];
    kill(pids[0], SIGSTOP);
    for (int i = 0; i < n; i++) {
        struct wire_header header = { WIRE_HEADER_SIZE, WIRE_HELLO, 0, 7 };
        uint8_t out[WIRE_HEADER_SIZE];
        wire_encode_header(out, sizeof out, &header);
        assert_int_equal(msg_send(socks[i], out, sizeof out, NULL, 0, NULL, 0), 0);
        polled[i] = (struct pollfd){ .fd = socks[i], .events = POLLIN };
    }
    usleep(500000);
    assert_true(poll(polled, (nfds_t)n, 0) >= 0);
    kill(pids[0], SIGCONT);
    for (int i = 0; i < n; i++) {
        char reply[64];
        is_of_first[i] = !polled[i].revents;
        assert_true(recv(socks[i], reply, sizeof reply, 0) > 0);
    }
}

/* Half of those of the other go over, though nobody comes any more. */
static void test_one_worker_empties(void **state)
{
    (void)state;
    enum { N = 128 };
    struct broker b;
    bool is_of_first[N];
    unsigned first = 0;
    begin(&b, "workers 2");
    open_range(&b, SOCK_SEQPACKET, 0, N, 0);
    expect_even(&b, N);
    find_those_of_first(&b, is_of_first, N);
    for (int i = 0; i < N; i++)
        if (is_of_first[i]) {
            socks[i] = fd_close(socks[i]);
            first++;
        }
    assert_in_range(first, N / 2 - 3, N / 2 + 3);
    expect_even(&b, N - first);
    for (int i = 0; i < N; i++)
        if (!is_of_first[i])
            assert_int_equal(open_at(&b, socks[i]), 0);
    for (int i = 0; i < N; i++)
        if (is_of_first[i])
            open_range(&b, SOCK_SEQPACKET, i, i + 1, 0);
    expect_even(&b, N);
    expect_all_served(&b, 0, N);
    close_range_of(0, N);
    broker_finish(&b);
}

/* ---- workers that hang, die, are replaced ---- */

static void test_killed(void **state)
{
    (void)state;
    enum { N = 64 };
    struct broker b;
    pid_t pids[2], now[2];
    int kept = 0;
    begin(&b, "workers 2");
    open_range(&b, SOCK_SEQPACKET, 0, N, 0);
    expect_even(&b, N);
    assert_int_equal(broker_workers(&b, pids, 2), 2);
    kill(pids[0], SIGKILL);
    EXPECT_SOON(broker_workers(&b, now, 2) == 2 && now[0] != pids[0] && now[1] != pids[0]);
    for (int i = 0; i < N; i++)
        if (open_at(&b, socks[i]) == 0)
            socks[kept++] = socks[i];
        else
            close(socks[i]);
    assert_in_range(kept, N / 2 - 3, N / 2 + 3);
    expect_even(&b, (unsigned)kept);
    open_range(&b, SOCK_SEQPACKET, kept, MANY, 200);
    expect_all_served(&b, 0, MANY);
    expect_even(&b, MANY);
    close_range_of(0, MANY);
    broker_finish(&b);
}

/* It gets none, and the other serves all of them. Once it goes on it gets its part. */
static void test_hanging(void **state)
{
    (void)state;
    enum { N = 64 };
    struct broker b;
    pid_t pids[2];
    begin(&b, "workers 2");
    assert_int_equal(broker_workers(&b, pids, 2), 2);
    kill(pids[1], SIGSTOP);
    open_range(&b, SOCK_SEQPACKET, 0, N, 0);
    expect_all_served(&b, 0, N);
    open_range(&b, SOCK_STREAM, N, 2 * N, 10000); /* one by one, and some when it is asked again */
    expect_all_served(&b, N, 2 * N);
    assert_int_equal(number_of(&b, 1), 0);
    kill(pids[1], SIGCONT);
    expect_even(&b, 2 * N);
    expect_all_served(&b, 0, 2 * N);
    close_range_of(0, 2 * N);
    broker_finish(&b);
}

/* What was passed to it is not lost with it, and it had none of its own. */
static void test_killed_with_some_on_their_way(void **state)
{
    (void)state;
    enum { N = 64 };
    struct broker b;
    pid_t pids[2];
    begin(&b, "workers 2");
    for (int round = 0; round < 5; round++) {
        assert_int_equal(broker_workers(&b, pids, 2), 2);
        kill(pids[round % 2], SIGSTOP);
        open_range(&b, SOCK_SEQPACKET, 0, N, 0);
        usleep((unsigned)round * 5000);
        kill(pids[round % 2], SIGKILL);
        expect_all_served(&b, 0, N);
        close_range_of(0, N);
        EXPECT_SOON(broker_workers(&b, pids, 2) == 2 && workers_are_quiet(&b, 2) && total_of(&b) == 0);
    }
    broker_finish(&b);
}

/* The stopped one is killed for it, the other hands over also what it had passed to the stopped one. */
static void test_reload_with_some_on_their_way(void **state)
{
    (void)state;
    enum { N = 64 };
    struct broker b;
    pid_t pids[2];
    begin(&b, "workers 2");
    assert_int_equal(broker_workers(&b, pids, 2), 2);
    kill(pids[1], SIGSTOP);
    open_range(&b, SOCK_SEQPACKET, 0, N, 0);
    reload(&b);
    expect_all_served(&b, 0, N);
    open_range(&b, SOCK_SEQPACKET, N, 2 * N, 0);
    expect_even(&b, 2 * N);
    close_range_of(0, 2 * N);
    broker_finish(&b);
}

/* As many as can be, a request each, until it is over. */
static void come_and_go(struct client_env *env)
{
    while (!shared->over) {
        CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL), 0);
        shared->served++;
    }
}

static void test_reload_in_the_middle(void **state)
{
    (void)state;
    enum { N = 128, CLIENTS = 16 };
    struct broker b;
    pid_t clients[CLIENTS];
    begin(&b, "workers 2");
    open_range(&b, SOCK_SEQPACKET, 0, N, 0);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = client_begin(&b, i % 2 ? ALICE : BOB, come_and_go, NULL);
    for (int i = 0; i < 5; i++) {
        close_range_of(0, N / 4);
        open_range(&b, SOCK_SEQPACKET, 0, N / 4, 0);
        reload(&b);
    }
    shared->over = true;
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(child_end(clients[i]), 0);
    print_message("%u connections came and went\n", shared->served);
    expect_even(&b, N);
    expect_all_served(&b, 0, N);
    close_range_of(0, N);
    broker_finish(&b);
}

/* What was passed on when the broker is stopped is answered too. */
static void test_stop_in_the_middle(void **state)
{
    (void)state;
    enum { N = 64 };
    struct broker b;
    int fd;
    begin(&b, "workers 2");
    b.uncounted = true;
    open_range(&b, SOCK_SEQPACKET, 0, N, 0);
    for (int i = 0; i < N; i++) {
        struct wire_header header = { WIRE_HEADER_SIZE, WIRE_HELLO, 0, 7 };
        uint8_t out[WIRE_HEADER_SIZE];
        wire_encode_header(out, sizeof out, &header);
        assert_int_equal(msg_send(socks[i], out, sizeof out, NULL, 0, NULL, 0), 0);
    }
    stop_broker(&b);
    for (int i = 0; i < N; i++)
        assert_true(recv(socks[i], &fd, sizeof fd, 0) > 0);
    close_range_of(0, N);
    broker_end(&b);
}

/* ---- quotas ---- */

static int count_alive(const int *held, int n)
{
    int alive = 0;
    for (int i = 0; i < n; i++)
        alive += recv(held[i], &(char){ 0 }, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
    return alive;
}

static void use_up_quota(struct client_env *env)
{
    enum { N = 4 * PER_USER };
    int held[N];
    for (int i = 0; i < N; i++)
        held[i] = raw_connect(env->broker);
    WAIT_LONG(count_alive(held, N) <= PER_USER);
    CHECK_EQ(count_alive(held, N), PER_USER);
    int closed = 0;
    for (int i = 0; i < N; i++) /* 10 of them go, and 10 of 50 new ones get their places */
        if (closed < 10 && count_alive(&held[i], 1)) {
            held[i] = fd_close(held[i]);
            closed++;
        }
    usleep(200000);
    int more[50];
    for (size_t i = 0; i < ARRAY_SIZE(more); i++)
        more[i] = raw_connect(env->broker);
    WAIT_LONG(count_alive(more, 50) <= 10);
    CHECK_EQ(count_alive(more, 50), 10);
    shared->step = 1;
    wait_for_step(2);
}

static void test_quota_of_a_user(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    broker_start(&b, policy, "workers 4\nmax-connections-per-user 64"); /* PER_USER */
    pid_t alice = client_begin(&b, ALICE, use_up_quota, NULL);
    EXPECT_STEP(1);
    expect_even(&b, PER_USER);
    as_user(&b, BOB, expect_served, NULL);
    shared->step = 2;
    assert_int_equal(child_end(alice), 0);
    broker_finish(&b);
}

/* ---- attacks ---- */

static void connect_and_close(struct client_env *env)
{
    for (int i = 0; i < HURRIES; i++)
        close(raw_connect(env->broker));
}

static void test_connect_and_close(void **state)
{
    (void)state;
    enum { N = 64 };
    struct broker b;
    begin(&b, "workers 2");
    pid_t bob = bob_begin(&b);
    open_range(&b, SOCK_SEQPACKET, 0, N / 2, 0);
    pid_t alice = client_begin(&b, ALICE, connect_and_close, NULL);
    open_range(&b, SOCK_SEQPACKET, N / 2, N, 5000);
    expect_all_served(&b, 0, N);
    assert_int_equal(child_end(alice), 0);
    bob_end(bob, "while alice connects and closes 10,000 times");
    expect_even(&b, N);
    close_range_of(0, N);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    struct rlimit limit = { 4096, 4096 };
    setrlimit(RLIMIT_NOFILE, &limit);
    const struct CMUnitTest tests[] = {
        ATTACK(test_patterns),
        ATTACK(test_patterns_stream),
        ATTACK(test_many_clients),
        ATTACK(test_one_worker_empties),
        ATTACK(test_killed),
        ATTACK(test_hanging),
        ATTACK(test_killed_with_some_on_their_way),
        ATTACK(test_reload_with_some_on_their_way),
        ATTACK(test_reload_in_the_middle),
        ATTACK(test_stop_in_the_middle),
        ATTACK(test_quota_of_a_user),
        ATTACK(test_connect_and_close),
    };
    return cmocka_run_group_tests_name("spread", tests, shared_setup, NULL);
}
