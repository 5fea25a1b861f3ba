/*
 * Counting connections: against a table that is counted the slow way, and over processes.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/quota.h"

static void test_limit_of_a_user(void **state)
{
    (void)state;
    struct quota *quota = quota_new(2, 100, 3);
    assert_non_null(quota);
    assert_int_equal(quota_take(quota, 0, 7), 0);
    assert_int_equal(quota_take(quota, 1, 7), 0);
    assert_int_equal(quota_take(quota, 0, 7), 0);
    assert_int_equal(quota_take(quota, 1, 7), -EAGAIN); /* over both workers */
    assert_int_equal(quota_take(quota, 1, 8), 0);
    quota_give(quota, 0, 7);
    assert_int_equal(quota_take(quota, 1, 7), 0);
    quota_free(quota);
}

static void test_limit_of_all(void **state)
{
    (void)state;
    struct quota *quota = quota_new(3, 10, 5);
    for (uid_t uid = 0; uid < 10; uid++)
        assert_int_equal(quota_take(quota, uid % 3, uid), 0);
    assert_int_equal(quota_take(quota, 0, 99), -ENFILE);
    quota_give(quota, 0, 3);
    assert_int_equal(quota_take(quota, 2, 99), 0);
    quota_free(quota);
}

/* Giving what was never taken, or of who is not there, changes nothing. */
static void test_give_without_take(void **state)
{
    (void)state;
    struct quota *quota = quota_new(1, 2, 1);
    quota_give(quota, 0, 5);
    assert_int_equal(quota_take(quota, 0, 5), 0);
    quota_give(quota, 0, 5);
    quota_give(quota, 0, 5);
    assert_int_equal(quota_take(quota, 0, 5), 0);
    assert_int_equal(quota_take(quota, 0, 5), -EAGAIN);
    quota_free(quota);
}

static void test_a_worker_that_died(void **state)
{
    (void)state;
    struct quota *quota = quota_new(2, 4, 2);
    pid_t child = fork();
    if (child == 0)
        _exit(quota_take(quota, 1, 7) || quota_take(quota, 1, 7));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(quota_take(quota, 0, 7), -EAGAIN);
    quota_forget_worker(quota, 1);
    assert_int_equal(quota_take(quota, 0, 7), 0);
    quota_free(quota);
}

/* Users come and go for ever: the table does not fill up with those that are gone, nor lose those that are
 * there. */
static void test_against_counting(void **state)
{
    (void)state;
    enum { USERS = 5000, WORKERS = 3, MAX = 200, PER_USER = 4, STEPS = 200000 };
    static unsigned counts[WORKERS][USERS], of_user[USERS], total;
    struct quota *quota = quota_new(WORKERS, MAX, PER_USER);
    unsigned seed = 1;
    for (int i = 0; i < STEPS; i++) {
        uid_t uid = (uid_t)rand_r(&seed) % USERS;
        unsigned worker = (unsigned)rand_r(&seed) % WORKERS;
        if (rand_r(&seed) % 2) {
            int expected = of_user[uid] >= PER_USER ? -EAGAIN : total >= MAX ? -ENFILE : 0;
            assert_int_equal(quota_take(quota, worker, uid), expected);
            if (expected == 0)
                counts[worker][uid]++, of_user[uid]++, total++;
        } else if (counts[worker][uid]) {
            quota_give(quota, worker, uid);
            counts[worker][uid]--, of_user[uid]--, total--;
        }
        if (total >= MAX)
            for (uid_t u = 0; u < USERS; u++)
                for (unsigned w = 0; w < WORKERS; w++)
                    while (counts[w][u] && u % 2) {
                        quota_give(quota, w, u);
                        counts[w][u]--, of_user[u]--, total--;
                    }
    }
    quota_free(quota);
}

/* Four workers want what is enough for three. `held` counts what they were given. */
static void test_never_more_at_once(void **state)
{
    (void)state;
    enum { WORKERS = 4, LIMIT = 3, STEPS = 50000 };
    struct quota *quota = quota_new(WORKERS, 100, LIMIT);
    _Atomic int *held = mmap(NULL, sizeof *held, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(held, MAP_FAILED);
    for (unsigned worker = 0; worker < WORKERS; worker++)
        if (fork() == 0) {
            int given = 0, most = 0;
            for (int i = 0; i < STEPS || given == 0; i++) {
                if (quota_take(quota, worker, 7) < 0)
                    continue;
                int now = ++*held;
                most = now > most ? now : most;
                given++;
                --*held;
                quota_give(quota, worker, 7);
            }
            _exit(most > LIMIT);
        }
    for (unsigned worker = 0; worker < WORKERS; worker++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    munmap((void *)(uintptr_t)held, sizeof *held);
    quota_free(quota);
}

/* ---- memory ---- */

static long shared_kb(void)
{
    FILE *in = fopen("/proc/self/status", "re");
    char line[256];
    long kb = -1;
    while (in && kb < 0 && fgets(line, sizeof line, in))
        if (strncmp(line, "RssShmem:", 9) == 0)
            kb = atol(line + 9);
    if (in)
        fclose(in);
    assert_true(kb >= 0);
    return kb;
}

static bool count_users(uid_t uid, unsigned connections, void *data)
{
    (void)uid, (void)connections;
    ++*(int *)data;
    return true;
}

/* The table is made for half a million connections; a thousand users of a machine, at each of four workers,
 * are a few pages, and asking for all of them is no more. */
static void test_few_users_are_little_memory(void **state)
{
    (void)state;
    enum { USERS = 1000, WORKERS = 4, KB = 200 };
    long before = shared_kb();
    struct quota *quota = quota_new(WORKERS, 500000, 100);
    assert_non_null(quota);
    for (uid_t uid = 1000; uid < 1000 + USERS; uid++)
        for (unsigned worker = 0; worker < WORKERS; worker++)
            assert_int_equal(quota_take(quota, worker, uid), 0);
    int users = 0;
    quota_each(quota, count_users, &users);
    assert_int_equal(users, USERS);
    for (unsigned worker = 0; worker < WORKERS; worker++)
        quota_forget_worker(quota, worker);
    quota_each(quota, count_users, &users);
    assert_int_equal(users, USERS);
    assert_in_range(shared_kb() - before, 1, KB);
    quota_free(quota);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_of_a_user),
        cmocka_unit_test(test_limit_of_all),
        cmocka_unit_test(test_give_without_take),
        cmocka_unit_test(test_a_worker_that_died),
        cmocka_unit_test(test_against_counting),
        cmocka_unit_test(test_never_more_at_once),
        cmocka_unit_test(test_few_users_are_little_memory),
    };
    return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
