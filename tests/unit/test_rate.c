/*
 * So many entries a second: against a count that is kept the slow way, over uids, batches and processes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/rate.h"

#define SECOND UINT64_C(1000000000)

static void test_no_limit(void **state)
{
    (void)state;
    struct rate *rate = rate_new(0);
    assert_non_null(rate);
    for (int i = 0; i < 100000; i++)
        assert_true(rate_take(rate, 7, 253, 1));
    rate_free(rate);
}

static void test_a_second_at_once(void **state)
{
    (void)state;
    struct rate *rate = rate_new(100);
    uint64_t now = 5 * SECOND;
    unsigned got = 0;
    for (int i = 0; i < 1000; i++)
        got += rate_take(rate, 7, 1, now);
    assert_int_equal(got, 100);
    assert_true(rate_take(rate, 8, 1, now)); /* another user */
    assert_false(rate_take(rate, 7, 1, now + SECOND / 200));
    assert_true(rate_take(rate, 7, 1, now + SECOND / 100 + 1)); /* one more every 10 ms */
    assert_false(rate_take(rate, 7, 1, now + SECOND / 100 + 2));
    got = 0;
    for (int i = 0; i < 1000; i++)
        got += rate_take(rate, 7, 1, now + 10 * SECOND);
    assert_int_equal(got, 100); /* what was not used is not saved up */
    rate_free(rate);
}

/* In any second no more than two seconds' worth, in the long run the rate. */
static void test_long_run(void **state)
{
    (void)state;
    enum { RATE = 1000, SECONDS = 50 };
    struct rate *rate = rate_new(RATE);
    unsigned long got = 0;
    srand(1);
    for (uint64_t now = SECOND; now < (SECONDS + 1) * SECOND; now += (uint64_t)(rand() % 200000))
        got += rate_take(rate, 7, 1, now);
    assert_in_range(got, RATE * SECONDS * 98 / 100, RATE * (SECONDS + 1));
    rate_free(rate);
}

/* A batch that is larger than a second's worth can be had, by who has asked for nothing else. */
static void test_batches(void **state)
{
    (void)state;
    struct rate *rate = rate_new(10);
    assert_true(rate_take(rate, 7, 253, SECOND));
    assert_false(rate_take(rate, 7, 1, SECOND + 1));
    assert_false(rate_take(rate, 7, 253, 20 * SECOND));
    assert_true(rate_take(rate, 7, 1, 26 * SECOND + SECOND / 2));
    rate_free(rate);
}

static void test_many_users(void **state)
{
    (void)state;
    struct rate *rate = rate_new(1);
    for (uid_t uid = 0; uid < 100000; uid++)
        assert_true(rate_take(rate, uid, 1, SECOND)); /* who finds no place is not held back */
    for (uid_t uid = 0; uid < 1000; uid++) {
        assert_true(rate_take(rate, uid, 1, 100 * SECOND)); /* places are had again */
        assert_false(rate_take(rate, uid, 1, 100 * SECOND + 1));
    }
    rate_free(rate);
}

static void test_processes(void **state)
{
    (void)state;
    enum { PROCESSES = 8, RATE = 20000 };
    struct rate *rate = rate_new(RATE);
    int pipes[2];
    unsigned total = 0, one;
    assert_int_equal(pipe(pipes), 0);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0) {
            one = 0;
            for (int n = 0; n < 50000; n++)
                one += rate_take(rate, 7, 1, SECOND);
            _exit(write(pipes[1], &one, sizeof one) != sizeof one);
        }
    for (int i = 0; i < PROCESSES; i++) {
        assert_int_equal(read(pipes[0], &one, sizeof one), sizeof one);
        total += one;
    }
    while (wait(NULL) > 0)
        ;
    assert_int_equal(total, RATE);
    close(pipes[0]), close(pipes[1]);
    rate_free(rate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_limit),   cmocka_unit_test(test_a_second_at_once),
        cmocka_unit_test(test_long_run),   cmocka_unit_test(test_batches),
        cmocka_unit_test(test_many_users), cmocka_unit_test(test_processes),
    };
    return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
