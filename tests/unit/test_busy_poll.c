/*
 * When a worker spins, when it sleeps, and what that costs: with a clock and an epoll that the tests make.
 *
 * Link: -Wl,--wrap=epoll_wait,--wrap=clock_us,--wrap=sched_getaffinity
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../broker/busy_poll.h"
#include "../../common/util.h"

enum { BUDGET = 50, EPOLL = 7, MAX = 64, FAILS = -1, NEVER = 1 << 30 };

/* ---- the machine ---- */

static struct {
    int64_t now;   /* microseconds; a look takes one */
    int64_t ready; /* when something comes; FAILS: epoll_wait() fails */
    int clock_reads, looks, sleeps;
    int timeout; /* of the last call */
    int cpus;    /* that the process may use; FAILS: more than a set holds */
} fake;

static struct epoll_event events[MAX];

int __wrap_epoll_wait(int epoll, struct epoll_event *out, int max, int timeout_ms);
int64_t __wrap_clock_us(void);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);

int __wrap_epoll_wait(int epoll, struct epoll_event *out, int max, int timeout_ms)
{
    assert_true(epoll == EPOLL && out == events && max == MAX);
    *(timeout_ms == 0 ? &fake.looks : &fake.sleeps) += 1;
    fake.timeout = timeout_ms;
    if (fake.ready == FAILS) {
        errno = EBADF;
        return -1;
    }
    if (timeout_ms == 0)
        fake.now++;
    else if (timeout_ms > 0 && fake.now + timeout_ms * 1000 < fake.ready)
        fake.now += timeout_ms * 1000;
    else if (fake.now < fake.ready)
        fake.now = fake.ready;
    return fake.now >= fake.ready;
}

int64_t __wrap_clock_us(void)
{
    fake.clock_reads++;
    return fake.now;
}

int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    assert_true(pid == 0 && size == sizeof *set);
    CPU_ZERO(set);
    for (int i = 0; i < fake.cpus; i++)
        CPU_SET(3 * i, set);
    errno = EINVAL;
    return fake.cpus == FAILS ? -1 : 0;
}

static struct busy_poll begin(unsigned microseconds, int cpus)
{
    struct busy_poll poll;
    memset(&poll, 0xff, sizeof poll);
    memset(&fake, 0, sizeof fake);
    fake.now = 1000000;
    fake.cpus = cpus;
    busy_poll_init(&poll, microseconds);
    return poll;
}

/* Something comes so many microseconds from now. */
static int wait_for(struct busy_poll *poll, int64_t microseconds, int timeout_ms)
{
    fake.ready = microseconds == FAILS ? FAILS : fake.now + microseconds;
    fake.looks = fake.sleeps = fake.clock_reads = 0;
    return busy_poll_wait(poll, EPOLL, events, MAX, timeout_ms);
}

/* ---- off ---- */

static void expect_plain(struct busy_poll *poll)
{
    static const int timeouts[] = { -1, 0, 1, 5000 };
    for (int i = 0; i < 100; i++)
        for (size_t t = 0; t < ARRAY_SIZE(timeouts); t++) {
            wait_for(poll, i % 60, timeouts[t]);
            assert_int_equal(fake.looks + fake.sleeps, 1);
            assert_int_equal(fake.timeout, timeouts[t]);
            assert_int_equal(fake.clock_reads, 0);
        }
}

static void test_off(void **state)
{
    (void)state;
    struct busy_poll poll = begin(0, 8);
    expect_plain(&poll);
}

static void test_one_cpu(void **state)
{
    (void)state;
    struct busy_poll poll = begin(BUDGET, 1);
    expect_plain(&poll);
}

static void test_more_cpus(void **state)
{
    (void)state;
    static const int cpus[] = { 2, 300, FAILS };
    for (size_t i = 0; i < ARRAY_SIZE(cpus); i++) {
        struct busy_poll poll = begin(BUDGET, cpus[i]);
        assert_int_equal(wait_for(&poll, 10, -1), 1);
        assert_int_equal(fake.sleeps, 0);
    }
}

/* ---- one wait ---- */

static void test_within_the_time(void **state)
{
    (void)state;
    for (int us = 0; us < BUDGET; us++) {
        struct busy_poll poll = begin(BUDGET, 2);
        int64_t came = fake.now + us;
        assert_int_equal(wait_for(&poll, us, -1), 1);
        assert_int_equal(fake.sleeps, 0);
        assert_in_range(fake.now - came, 0, 1);
    }
}

/* It sleeps, and as long as it was told to: no timeout is late by more than the time to spin. */
static void test_after_the_time(void **state)
{
    (void)state;
    static const int timeouts[] = { -1, 1, 5000 };
    for (size_t t = 0; t < ARRAY_SIZE(timeouts); t++) {
        struct busy_poll poll = begin(BUDGET, 2);
        int64_t before = fake.now;
        assert_int_equal(wait_for(&poll, timeouts[t] < 0 ? 60 : NEVER, timeouts[t]), timeouts[t] < 0);
        assert_int_equal(fake.sleeps, 1);
        assert_int_equal(fake.timeout, timeouts[t]);
        int64_t due = timeouts[t] < 0 ? 60 : timeouts[t] * 1000;
        assert_in_range(fake.now - before, due, due + BUDGET + 2);
        assert_in_range(fake.looks, BUDGET, BUDGET + 2);
    }
}

static void test_no_time_to_wait(void **state)
{
    (void)state;
    struct busy_poll poll = begin(BUDGET, 2);
    assert_int_equal(wait_for(&poll, 10, 0), 0);
    assert_true(fake.looks == 1 && fake.clock_reads == 0);
}

/* A worker that always has something to do pays nothing, and learns nothing. */
static void test_there_already(void **state)
{
    (void)state;
    struct busy_poll poll = begin(BUDGET, 2);
    assert_int_equal(wait_for(&poll, 100, -1), 1); /* a miss */
    assert_int_equal(wait_for(&poll, 100, -1), 1); /* the pause after it */
    const struct busy_poll before = poll;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(wait_for(&poll, 0, -1), 1);
        assert_true(fake.looks == 1 && fake.sleeps == 0 && fake.clock_reads == 0);
    }
    assert_memory_equal(&before, &poll, sizeof poll);
}

static void test_failure(void **state)
{
    (void)state;
    struct busy_poll poll = begin(BUDGET, 2);
    assert_int_equal(wait_for(&poll, FAILS, -1), -1);
    assert_int_equal(errno, EBADF);
    assert_int_equal(fake.looks + fake.sleeps, 1);
}

/* ---- many ---- */

/* What comes of each time that it spins (h: a hit, m: a miss), and what the waits are (S: one that spins, -:
 * one that sleeps at once). */
static void test_decisions(void **state)
{
    (void)state;
    static const struct {
        const char *outcomes, *waits;
    } cases[] = {
        { "hhhhhh", "SSSSSS" },
        { "hhmhhh", "SSS-SSS" },       /* one that is late costs one wait */
        { "mmmm", "S-S--S----S---" },  /* less and less */
        { "mmmhmm", "S-S--S----SS-S" } /* a hit forgives all */
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct busy_poll poll = begin(BUDGET, 2);
        const char *outcome = cases[i].outcomes;
        for (const char *wait = cases[i].waits; *wait; wait++) {
            bool spins = busy_poll_begins(&poll);
            assert_int_equal(spins ? 'S' : '-', *wait);
            if (spins)
                busy_poll_learn(&poll, *outcome++ == 'h');
        }
        assert_int_equal(*outcome, '\0');
    }
}

/* Microseconds of n waits that were spent looking, when something comes each `gap` microseconds. */
static int64_t time_spun(struct busy_poll *poll, int n, int64_t gap)
{
    int64_t looks = 0;
    for (int i = 0; i < n; i++) {
        assert_int_equal(wait_for(poll, gap, -1), 1);
        looks += fake.looks;
    }
    return looks;
}

static void test_slow_and_steady(void **state)
{
    (void)state;
    struct busy_poll poll = begin(BUDGET, 2);
    int64_t first = time_spun(&poll, 1000, 1000), next = time_spun(&poll, 10000, 1000);
    assert_in_range(first, BUDGET, 22 * BUDGET); /* 7 on the way, and then... */
    assert_in_range(next, 10000 / 66 * BUDGET, 10000 / 64 * (BUDGET + 2));
}

/* Who becomes quick is noticed soon, and then each wait spins. */
static void test_quick_again(void **state)
{
    (void)state;
    struct busy_poll poll = begin(BUDGET, 2);
    time_spun(&poll, 1000, 1000);
    time_spun(&poll, BUSY_POLL_PAUSE_MAX + 1, 5);
    for (int i = 0; i < 1000; i++) {
        wait_for(&poll, 5, -1);
        assert_int_equal(fake.sleeps, 0);
    }
}

/* One in a hundred is late: one of those after it sleeps. */
static void test_sometimes_late(void **state)
{
    (void)state;
    struct busy_poll poll = begin(BUDGET, 2);
    int sleeps = 0;
    for (int i = 0; i < 10000; i++) {
        wait_for(&poll, i % 100 ? 5 : 5000, -1);
        sleeps += fake.sleeps;
    }
    assert_int_equal(sleeps, 2 * 100);
}

/* Who needs the worker's own CPU comes only after it sleeps, and then soon. */
static void test_shared_cpu(void **state)
{
    (void)state;
    enum { WAITS = 10000 };
    struct busy_poll poll = begin(BUDGET, 2);
    int64_t looks = 0;
    for (int i = 0; i < WAITS; i++) {
        const struct busy_poll before = poll;
        wait_for(&poll, before.pause ? 4 : BUDGET + 4, -1);
        looks += fake.looks;
    }
    assert_in_range(looks, BUDGET, WAITS); /* less than a microsecond each */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_one_cpu),
        cmocka_unit_test(test_more_cpus),
        cmocka_unit_test(test_within_the_time),
        cmocka_unit_test(test_after_the_time),
        cmocka_unit_test(test_no_time_to_wait),
        cmocka_unit_test(test_there_already),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_slow_and_steady),
        cmocka_unit_test(test_quick_again),
        cmocka_unit_test(test_sometimes_late),
        cmocka_unit_test(test_shared_cpu),
    };
    return cmocka_run_group_tests_name("busy_poll", tests, NULL, NULL);
}
