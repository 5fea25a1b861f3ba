/*
 * Moving connections between workers, step by step: the workers are this process, one after the other, so
 * that one can be stopped, or die, at any point.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/spread_parts.h"
#include "../../common/util.h"
#include "leak.h"

enum { WORKERS = 3, CLIENTS_MAX = 64, TURN_US = 1000 };

static struct {
    struct policy *policy;
    struct generation generation;
    struct quota *quota;
    struct board *board;
    struct spread *spread;
    struct worker_setup setups[WORKERS];
    struct worker *workers[WORKERS];
    struct spread spreads[WORKERS]; /* as fork(2) copies it */
    int clients[CLIENTS_MAX], n_clients;
} w;

/* ---- workers ---- */

static void worker_begin(unsigned index, bool with_spread)
{
    struct worker *worker = mem_zalloc(1, sizeof *worker);
    assert_non_null(worker);
    w.workers[index] = worker;
    w.spreads[index] = *w.spread;
    w.spreads[index].siblings = mem_zalloc(WORKERS, sizeof *w.spread->siblings);
    w.setups[index] = (struct worker_setup){
        .generation = &w.generation,
        .quota = w.quota,
        .spread = with_spread ? &w.spreads[index] : NULL,
        .index = index,
        .slot = WORKERS + index, /* of the second of two reigns */
        .workers = WORKERS,
        .listeners = { -1, -1, -1 },
    };
    worker->setup = &w.setups[index];
    worker->counters = board_counters(w.board, index);
    worker->clients.policy = w.policy;
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    assert_int_equal(spread_prepare(w.setups[index].spread), 0);
    assert_int_equal(spread_open(worker, &w), 0);
}

/* Killed: nothing is done any more, what it had open is closed. */
static void worker_dies(unsigned index)
{
    struct worker *worker = w.workers[index];
    struct connection *next;
    for (struct connection *c = worker->connections; c; c = next) {
        next = c->next;
        close(c->fd);
        client_unref(&worker->clients, c->client);
        free(c);
    }
    close(worker->epoll);
    close(w.spreads[index].timer);
    free(w.spreads[index].siblings);
    free(worker);
    w.workers[index] = NULL;
    quota_forget_worker(w.quota, WORKERS + index);
    spread_forget_worker(w.spread, index);
}

static int begin_three(void **state)
{
    struct policy_messages messages = { 0 };
    leak_setup(state);
    memset(&w, 0, sizeof w);
    assert_int_equal(policy_load_text(&w.policy, "t", "allow any read /srv/**\n", 23,
                                      &(struct policy_env){ 0 }, &messages),
                     0);
    policy_messages_deinit(&messages);
    w.generation.policy = w.policy;
    w.quota = quota_new(2 * WORKERS, 1000, 1000);
    w.board = board_new(WORKERS);
    w.spread = spread_new(WORKERS);
    assert_true(w.quota && w.board && w.spread);
    for (unsigned i = 0; i < WORKERS; i++)
        worker_begin(i, true);
    return 0;
}

static int end_all(void **state)
{
    for (unsigned i = 0; i < WORKERS; i++)
        if (w.workers[i])
            worker_dies(i);
    fd_close_many(w.clients, (size_t)w.n_clients);
    spread_free(w.spread);
    quota_free(w.quota);
    board_free(w.board);
    policy_free(w.policy);
    return leak_teardown(state);
}

static struct connection *connect_to(unsigned index)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    w.clients[w.n_clients++] = pair[0];
    struct connection *connection = connection_adopt(w.workers[index], pair[1], FRAME_PACKET);
    assert_non_null(connection);
    spread_look(w.workers[index]);
    return connection;
}

static void connect_many(unsigned index, int n)
{
    for (int i = 0; i < n; i++)
        connect_to(index);
}

/* So many turns of those that are at work (a bit for each), a millisecond each. */
static void turn(unsigned at_work, int ms)
{
    for (int turns = 0; turns < ms; turns++) {
        for (unsigned i = 0; i < WORKERS; i++)
            if (at_work >> i & 1) {
                spread_serve(w.workers[i]);
                spread_give(w.workers[i]);
            }
        usleep(TURN_US);
    }
}

static unsigned count(unsigned index)
{
    unsigned n = 0;
    for (const struct connection *c = w.workers[index]->connections; c; c = c->next)
        n++;
    return n;
}

/* Connections, and what the quotas say. */
static void expect(unsigned index, unsigned n)
{
    assert_int_equal(count(index), n);
    assert_int_equal(quota_total(w.quota, WORKERS + index), n);
    assert_int_equal(w.spread->places[index].offered, 0);
    assert_int_equal(w.spread->places[index].moved, 0);
}

static bool add_up(uid_t uid, unsigned connections, void *data)
{
    (void)uid;
    *(unsigned *)data += connections;
    return true;
}

static void expect_charged(unsigned n)
{
    unsigned sum = 0;
    quota_each(w.quota, add_up, &sum);
    assert_int_equal(sum, n);
}

/* Each client's other end is open, and exactly once. */
static void expect_all_open(void)
{
    for (int i = 0; i < w.n_clients; i++)
        assert_true(recv(w.clients[i], &(char){ 0 }, 1, MSG_DONTWAIT) < 0);
}

/* ---- nothing happens to anybody ---- */

static void test_even(void **state)
{
    (void)state;
    connect_many(0, 30);
    turn(7, 200);
    expect(0, 10);
    expect(1, 10);
    expect(2, 10);
    expect_charged(30);
    expect_all_open();
    struct connection *next;
    for (struct connection *c = w.workers[1]->connections; c; c = next) {
        next = c->next;
        connection_close(w.workers[1], c);
    }
    turn(7, 200);
    assert_in_range(count(1), 5, 8);
    expect_charged(20);
}

/* Few more, or a small part more, stay. */
static void test_slack(void **state)
{
    (void)state;
    connect_many(1, 2);
    turn(7, 50);
    expect(1, 2);
    assert_int_equal(w.spreads[0].tick_at | w.spreads[1].tick_at | w.spreads[2].tick_at, 0);
}

static bool has(unsigned index, const struct connection *connection)
{
    const struct connection *c = w.workers[index]->connections;
    while (c && c != connection)
        c = c->next;
    return c;
}

/* What belongs to a connection goes with it; one that is more than its socket stays, though the newest go. */
static void test_state_goes_along(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct connection *c = connect_to(0);
        connection_sent(w.workers[0], c, 1, 3);
        c->warned = true;
    }
    struct connection *part = connect_to(0), *late = connect_to(0);
    part->part = mem_zalloc(1, sizeof *part->part);
    late->deadline = 1;
    turn(3, 100); /* worker 2 hangs */
    expect(0, 4);
    expect(1, 2);
    assert_true(has(0, part) && has(0, late));
    assert_int_equal(w.workers[0]->in_flight, 6);
    assert_int_equal(w.workers[1]->in_flight, 6);
    for (const struct connection *c = w.workers[1]->connections; c; c = c->next)
        assert_true(c->in_flight == 3 && c->unread == 1 && c->warned && c->lent);
    free(part->part);
    part->part = NULL;
}

static void test_alone(void **state)
{
    (void)state;
    worker_dies(2);
    worker_begin(2, false);
    spread_look(w.workers[2]);
    spread_give(w.workers[2]);
    spread_end(w.workers[2]);
    spread_free(NULL);
    spread_close_fds(NULL);
    spread_forget_worker(NULL, 0);
    assert_int_equal(spread_prepare(NULL), 0);
    w.spreads[2].timer = -1;
}

/* ---- somebody hangs or dies ---- */

/* Until worker 1 has asked and worker 0 has moved what it wants: it lies in the queue. */
static void move_to_queue(int n)
{
    connect_many(0, n);
    for (int i = 0; i < 1000 && !w.spread->places[1].offered; i++) {
        turn(1, 1);
        if (!w.spread->places[1].offered && w.spread->places[1].nudged) {
            spread_serve(w.workers[1]);
            turn(1, 1);
        }
    }
    expect_charged((unsigned)n);
    assert_int_equal(count(0) + w.spread->places[1].offered, n);
}

static void move_some(int n)
{
    move_to_queue(n);
    assert_in_range(w.spread->places[1].offered, 3, n - 1);
}

/* Nobody asks on its behalf, and what was moved to it comes back. */
static void test_hangs(void **state)
{
    (void)state;
    move_some(12);
    turn(1, 300);
    expect(0, 12);
    expect_charged(12);
    expect_all_open();
    turn(1, 50);
    assert_int_equal(w.spread->places[1].offered, 0);
    turn(7, 200); /* it goes on */
    expect(0, 4);
    expect(1, 4);
    expect(2, 4);
}

static void test_never_asks(void **state)
{
    (void)state;
    connect_many(0, 12);
    turn(1, 300);
    expect(0, 12);
    turn(5, 200);
    expect(0, 8);
    expect(2, 4);
}

static void test_dies_before_it_takes(void **state)
{
    (void)state;
    move_some(12);
    worker_dies(1);
    turn(1, 300);
    expect(0, 12);
    expect_charged(12);
    expect_all_open();
}

static void test_dies_and_its_successor_takes(void **state)
{
    (void)state;
    move_some(12);
    worker_dies(1);
    worker_begin(1, true);
    turn(2, 20);
    expect_charged(12);
    expect(1, count(1));
    assert_in_range(count(1), 3, 11);
    turn(7, 200);
    expect(0, 4);
    expect(1, 4);
    expect(2, 4);
    expect_all_open();
}

/* What it had moved lives; the charges of its successor are not taken for its own. */
static void test_who_moved_dies(void **state)
{
    (void)state;
    move_some(12);
    unsigned moved = w.spread->places[1].offered;
    worker_dies(0);
    worker_begin(0, true);
    connect_many(0, 2);
    turn(2, 5);
    expect(0, 2);
    expect(1, moved);
    expect_charged(2 + moved);
}

/* Both: the successor of who moved looks after it. */
static void test_who_moved_dies_and_who_should_take_hangs(void **state)
{
    (void)state;
    move_some(12);
    unsigned moved = w.spread->places[1].offered;
    worker_dies(0);
    worker_begin(0, true);
    turn(1, 300);
    expect(0, moved);
    expect_charged(moved);
}

/* Worker 1 ended first, and had taken nothing. */
static void test_end(void **state)
{
    (void)state;
    move_some(12);
    w.spread->places[1].open = false;
    spread_end(w.workers[0]);
    expect(0, 12);
    spread_end(w.workers[1]);
    expect(1, 0);
    expect_all_open();
    turn(4, 100);
    expect(2, 0);
}

/* Not more than may be on their way. */
static void test_bounded(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WORKERS; i++)
        w.spreads[i].offered_max = 2;
    move_to_queue(30);
    assert_int_equal(w.spread->places[1].offered, 2);
    turn(7, 500);
    expect_charged(30);
    assert_in_range(count(1), 8, 12);
    assert_in_range(count(2), 8, 12);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_three, end_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_even),
        TEST(test_slack),
        TEST(test_state_goes_along),
        TEST(test_alone),
        TEST(test_hangs),
        TEST(test_never_asks),
        TEST(test_dies_before_it_takes),
        TEST(test_dies_and_its_successor_takes),
        TEST(test_who_moved_dies),
        TEST(test_who_moved_dies_and_who_should_take_hangs),
        TEST(test_end),
        TEST(test_bounded),
    };
    return cmocka_run_group_tests_name("spread", tests, NULL, NULL);
}
