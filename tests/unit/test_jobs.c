/*
 * Jobs of slow openers: who answers is settled once, whatever happens at the same time; places are had again
 * when nobody refers to them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/jobs.h"

static void count(const struct jobs *jobs, unsigned want_now, unsigned want_stuck)
{
    unsigned now, stuck;
    uint64_t timeouts;
    jobs_count(jobs, &now, &stuck, &timeouts);
    assert_int_equal(now, want_now);
    assert_int_equal(stuck, want_stuck);
}

static void test_limits(void **state)
{
    (void)state;
    struct jobs *jobs = jobs_new(4, 2);
    assert_int_equal(jobs_take(jobs, 7, 0, 1), 0);
    assert_int_equal(jobs_take(jobs, 7, 1, 1), 1);
    assert_int_equal(jobs_take(jobs, 7, 0, 1), -EAGAIN); /* of a user, over all workers */
    assert_int_equal(jobs_take(jobs, 8, 0, 1), 2);
    assert_int_equal(jobs_take(jobs, 9, 0, 1), 3);
    assert_int_equal(jobs_take(jobs, 10, 0, 1), -EAGAIN); /* in all */
    count(jobs, 4, 0);
    jobs_leave_worker(jobs, 0);
    count(jobs, 4, 1); /* its opener hangs still */
    assert_int_equal(jobs_take(jobs, 10, 0, 1), -EAGAIN);
    jobs_leave_opener(jobs, 0);
    count(jobs, 3, 0);
    assert_int_equal(jobs_take(jobs, 7, 0, 1), 0);
    jobs_free(jobs);
}

static void test_answered(void **state)
{
    (void)state;
    struct jobs *jobs = jobs_new(4, 4);
    int job = jobs_take(jobs, 7, 3, 1);
    assert_int_equal(jobs_waiting(jobs, 1), 1);
    assert_int_equal(jobs_waiting(jobs, 2), 0);
    jobs_begin(jobs, job, 4711, 1000);
    assert_int_equal(jobs_waiting(jobs, 1), 0);
    assert_int_equal(jobs_worker_slot(jobs, job), 3);
    assert_true(jobs_move(jobs, job, JOB_PENDING, JOB_ANSWERING));
    assert_true(jobs_is_answering(jobs, 1));
    assert_false(jobs_move(jobs, job, JOB_PENDING, JOB_TIMED_OUT)); /* too late to say so */
    jobs_answered(jobs, job, 5);
    assert_false(jobs_is_answering(jobs, 1));
    assert_int_equal(jobs_state(jobs, job), JOB_ANSWERED);
    assert_int_equal(jobs_sent(jobs, job), 5);
    jobs_free(jobs);
}

static void test_deaths(void **state)
{
    (void)state;
    struct jobs *jobs = jobs_new(8, 8);
    int pending = jobs_take(jobs, 7, 3, 1), late = jobs_take(jobs, 7, 3, 1), other = jobs_take(jobs, 7, 4, 1);
    jobs_begin(jobs, pending, 4711, 1);
    jobs_begin(jobs, late, 4712, 1);
    assert_true(jobs_move(jobs, late, JOB_PENDING, JOB_TIMED_OUT));
    jobs_leave_worker(jobs, late);
    assert_true(jobs_opener_died(jobs, 4711));
    assert_int_equal(jobs_state(jobs, pending), JOB_DIED);
    assert_false(jobs_opener_died(jobs, 4712));
    count(jobs, 2, 0);
    jobs_worker_died(jobs, 4);
    assert_int_equal(jobs_state(jobs, other), JOB_CANCELLED);
    count(jobs, 2, 1);
    jobs_forget_generation(jobs, 1); /* no opener will come for it */
    count(jobs, 1, 0);
    jobs_worker_died(jobs, 3);
    count(jobs, 0, 0);
    jobs_free(jobs);
}

static void test_who_hangs(void **state)
{
    (void)state;
    struct jobs *jobs = jobs_new(8, 8);
    unsigned at = 0;
    pid_t opener;
    jobs_begin(jobs, jobs_take(jobs, 7, 0, 1), 11, 100);
    jobs_begin(jobs, jobs_take(jobs, 7, 0, 1), 12, 200);
    jobs_take(jobs, 7, 0, 1);
    assert_false(jobs_next_hung(jobs, 99, &at, &opener));
    at = 0;
    assert_true(jobs_next_hung(jobs, 150, &at, &opener));
    assert_int_equal(opener, 11);
    assert_false(jobs_next_hung(jobs, 150, &at, &opener));
    at = 0;
    assert_true(jobs_next_hung(jobs, INT64_MAX, &at, &opener));
    assert_true(jobs_next_hung(jobs, INT64_MAX, &at, &opener));
    assert_int_equal(opener, 12);
    assert_false(jobs_next_hung(jobs, INT64_MAX, &at, &opener));
    jobs_free(jobs);
}

/* The opener and the worker's clock at the same moment: one of them answers, never both, never none. */
static void test_race(void **state)
{
    (void)state;
    enum { ROUNDS = 20000 };
    struct jobs *jobs = jobs_new(1, 1);
    struct {
        _Atomic int round, opener_done;
        unsigned char opener_won[ROUNDS];
    } *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    shared->round = -1;
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < ROUNDS; i++) {
            while (shared->round < i)
                ;
            shared->opener_won[i] = jobs_move(jobs, 0, JOB_PENDING, JOB_ANSWERING);
            shared->opener_done = i + 1;
        }
        _exit(0);
    }
    unsigned ours = 0, theirs = 0;
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(jobs_take(jobs, 7, 0, 1), 0);
        shared->round = i;
        bool won = jobs_move(jobs, 0, JOB_PENDING, JOB_TIMED_OUT);
        while (shared->opener_done <= i)
            ;
        assert_int_equal(won + shared->opener_won[i], 1);
        ours += won;
        theirs += shared->opener_won[i];
        jobs_leave_worker(jobs, 0);
        jobs_leave_opener(jobs, 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    printf("the worker was first %u times, the opener %u times\n", ours, theirs);
    munmap(shared, sizeof *shared);
    jobs_free(jobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),    cmocka_unit_test(test_answered), cmocka_unit_test(test_deaths),
        cmocka_unit_test(test_who_hangs), cmocka_unit_test(test_race),
    };
    return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
