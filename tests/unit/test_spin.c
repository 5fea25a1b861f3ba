/*
 * Busy polling in libfob: when it spins and when it sleeps, with a clock and a socket of the test's own; and
 * that nothing of it costs a system call when it is off.
 *
 * Link: -Wl,--wrap=clock_gettime,--wrap=recvmsg,--wrap=secure_getenv,--wrap=sched_getaffinity
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../client/connection.h"
#include "../../common/util.h"
#include "fake_broker.h"
#include "leak.h"

/* ---- what the kernel says ---- */

static struct {
    bool on;             /* else the real ones are called */
    int64_t clock, tick; /* each look at the clock takes a tick */
    int64_t reply_at;    /* when there is something to receive */
    unsigned looks, clock_reads, sleeps, affinities;
    int cpus; /* 0: the real number; -1: too many for the set */
    bool set_user_id;
} kernel;

int __real_clock_gettime(clockid_t id, struct timespec *now);
int __wrap_clock_gettime(clockid_t id, struct timespec *now);
int __wrap_clock_gettime(clockid_t id, struct timespec *now)
{
    kernel.clock_reads++;
    if (!kernel.on)
        return __real_clock_gettime(id, now);
    assert_int_equal(id, CLOCK_MONOTONIC);
    kernel.clock += kernel.tick;
    now->tv_sec = kernel.clock / 1000000000;
    now->tv_nsec = kernel.clock % 1000000000;
    return 0;
}

ssize_t __real_recvmsg(int sock, struct msghdr *header, int flags);
ssize_t __wrap_recvmsg(int sock, struct msghdr *header, int flags);
ssize_t __wrap_recvmsg(int sock, struct msghdr *header, int flags)
{
    *(flags & MSG_DONTWAIT ? &kernel.looks : &kernel.sleeps) += 1;
    if (!kernel.on)
        return __real_recvmsg(sock, header, flags);
    if (kernel.clock < kernel.reply_at && flags & MSG_DONTWAIT) {
        errno = EAGAIN;
        return -1;
    }
    kernel.clock = kernel.clock < kernel.reply_at ? kernel.reply_at : kernel.clock;
    header->msg_controllen = 0;
    header->msg_flags = 0;
    return 1;
}

char *__real_secure_getenv(const char *name);
char *__wrap_secure_getenv(const char *name);
char *__wrap_secure_getenv(const char *name)
{
    return kernel.set_user_id ? NULL : __real_secure_getenv(name);
}

int __real_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    kernel.affinities++;
    if (kernel.cpus == 0)
        return __real_sched_getaffinity(pid, size, set);
    assert_int_equal(pid, 0);
    memset(set, 0, size);
    for (int i = 0; i < kernel.cpus; i++)
        CPU_SET((size_t)i * 3, set);
    errno = EINVAL;
    return kernel.cpus < 0 ? -1 : 0;
}

static int begin(void **state)
{
    memset(&kernel, 0, sizeof kernel);
    kernel.cpus = 2;
    unsetenv("FOB_BUSY_POLL");
    return leak_setup(state);
}

static int end(void **state)
{
    kernel.on = false;
    unsetenv("FOB_BUSY_POLL");
    return leak_teardown(state);
}

static struct spin spin_of(unsigned microseconds)
{
    struct spin spin = { 7, { 7, 7 }, 7, 7 };
    spin_set(&spin, microseconds);
    return spin;
}

/* ---- on and off ---- */

static void test_one_cpu(void **state)
{
    (void)state;
    static const struct {
        int cpus;
        unsigned wanted;
        int64_t budget;
    } cases[] = {
        { 2, 50, 50000 }, { 2, 0, 0 }, { 1, 50, 0 }, { 64, 10000, 10000000 }, { -1, 1, 1000 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        kernel.cpus = cases[i].cpus;
        struct spin spin = spin_of(cases[i].wanted);
        assert_int_equal(spin.budget, cases[i].budget);
        assert_int_equal(spin.waits, 0);
    }
    assert_int_equal(kernel.affinities, ARRAY_SIZE(cases) - 1); /* who switches it off does not ask */
}

static void test_environment(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned wanted;
    } cases[] = {
        { "50", 50 },
        { "0", 0 },
        { "1", 1 },
        { "10000", 10000 },
        { "10001", 0 },
        { "", 0 },
        { " 50", 0 },
        { "50us", 0 },
        { "-1", 0 },
        { "+5", 0 },
        { "0x10", 0 },
        { "5e1", 0 },
        { "007", 7 },
        { "50.5", 0 },
        { "yes", 0 },
        { "4294967346", 0 },           /* 2^32 + 50 */
        { "18446744073709551666", 0 }, /* 2^64 + 50 */
    };
    assert_int_equal(spin_wanted(), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        setenv("FOB_BUSY_POLL", cases[i].text, 1);
        assert_int_equal(spin_wanted(), cases[i].wanted);
    }
    setenv("FOB_BUSY_POLL", "50", 1);
    kernel.set_user_id = true;
    assert_int_equal(spin_wanted(), 0);
}

static void test_of_a_connection(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(HONEST);
    assert_int_equal(fob->spin.budget, 0);
    assert_int_equal(fob_set_busy_poll(fob, 10001), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(fob_set_busy_poll(fob, 4294967295U), -1);
    assert_int_equal(fob->spin.budget, 0);
    assert_int_equal(fob_set_busy_poll(fob, 10000), 0);
    assert_int_equal(fob->spin.budget, 10000000);
    for (int i = 0; i < 16; i++)
        assert_int_equal(fob_check(fob, "/x", O_RDONLY), 0);
    assert_true(kernel.looks > 0);
    kernel.cpus = 1;
    assert_int_equal(fob_set_busy_poll(fob, 50), 0); /* no error, and nothing of it */
    assert_int_equal(fob->spin.budget, 0);
    kernel.cpus = 2;
    setenv("FOB_BUSY_POLL", "70", 1);
    struct fob *other = fob_connect(fake_path);
    assert_int_equal(other->spin.budget, 70000);
    assert_int_equal(fob_set_busy_poll(other, 0), 0);
    assert_int_equal(other->spin.budget, 0);
    fob_close(other);
    fake_finish(fob);
}

/* No clock is read, no CPUs are counted, and the first look is the one that sleeps. */
static void test_off_costs_nothing(void **state)
{
    (void)state;
    static struct fob_request requests[600];
    struct fob *fob = fake_begin(HONEST);
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
        requests[i] = (struct fob_request){ .path = "/x" };
    memset(&kernel, 0, sizeof kernel);
    assert_int_equal(fob_open_many(fob, requests, ARRAY_SIZE(requests)), ARRAY_SIZE(requests));
    assert_int_equal(fob_check(fob, "/x", O_RDONLY), 0);
    assert_int_equal(kernel.looks | kernel.clock_reads | kernel.affinities, 0);
    assert_int_equal(kernel.sleeps, 4);
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
        close(requests[i].fd);
    fake_finish(fob);
}

/* ---- when it spins ---- */

/* A world in which waits take so many microseconds, slept through and spun through. */
struct world {
    int slept, spun;
};
static const struct world quick = { 55, 13 }, slow = { 5000, 5000 };

/* How many of n waits are spun through there. */
static unsigned live(struct spin *spin, struct world world, unsigned n)
{
    unsigned n_spun = 0;
    for (unsigned i = 0; i < n; i++) {
        bool spun = spin_begin(spin);
        spin_end(spin, spun, (spun ? world.spun : world.slept) * INT64_C(1000));
        n_spun += spun;
    }
    return n_spun;
}

static void test_what_is_learnt(void **state)
{
    (void)state;
    static const struct {
        struct world world;
        unsigned budget;
        bool spins;
    } cases[] = {
        { { 55, 13 }, 50, true },  /* a CPU for each */
        { { 300, 13 }, 20, true }, /* being woken takes longer than the budget */
        { { 55, 24 }, 50, true },  /* a broker that sleeps */
        { { 30, 24 }, 50, false }, /* not clearly better */
        { { 20, 35 }, 50, false }, /* one CPU for both */
        { { 20, 20 }, 50, false }, /* or as good as one */
        { { 55, 55 }, 50, false }, /* in vain: a budget that is too small, */
        { { 55, 56 }, 20, false },
        { { 5000, 5000 }, 50, false },          /* a slow file system, */
        { { 5000000, 5000010 }, 10000, false }, /* a very slow one */
    };
    enum { WAITS = 100000 };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct spin spin = spin_of(cases[i].budget);
        unsigned spun = live(&spin, cases[i].world, WAITS);
        unsigned right = cases[i].spins ? spun : WAITS - spun;
        assert_in_range(right, WAITS - WAITS / 256 - 40, WAITS);
    }
}

/* It notices when things change, soon enough, and burns little until then. */
static void test_worlds_change(void **state)
{
    (void)state;
    struct spin spin = spin_of(50);
    assert_in_range(live(&spin, slow, 1000), 1, 30);
    for (int i = 0; i < 3; i++) {
        live(&spin, quick, 3000);
        assert_in_range(live(&spin, quick, 1000), 990, 1000);
        assert_in_range(live(&spin, slow, 1000), 1, 40);
    }
}

/* One answer of a stuck file system among quick ones changes nothing, however long it took. */
static void test_one_long_wait(void **state)
{
    (void)state;
    struct spin spin = spin_of(50);
    live(&spin, quick, 1000);
    for (int i = 0; i < 20; i++) {
        live(&spin, (struct world){ 60000000, 60000000 }, 1);
        assert_in_range(live(&spin, quick, 100), 98, 100);
    }
}

static void test_how_it_receives(void **state)
{
    (void)state;
    struct msg_in in;
    struct spin spin = spin_of(50);
    char byte;
    kernel.on = true;
    kernel.tick = 1000;
    spin.usual[false] = 100000;
    /* there already: one look, and the time before and after */
    assert_int_equal(spin_recv(&spin, -1, &byte, 1, &in), 1);
    assert_int_equal(kernel.looks, 1);
    assert_int_equal(kernel.clock_reads, 2);
    /* comes in time */
    kernel.reply_at = kernel.clock + 20000;
    assert_int_equal(spin_recv(&spin, -1, &byte, 1, &in), 1);
    assert_in_range(kernel.looks, 15, 25);
    assert_int_equal(kernel.sleeps, 0);
    /* does not: after the budget it sleeps, once */
    kernel.reply_at = kernel.clock + 1000000;
    kernel.looks = 0;
    assert_int_equal(spin_recv(&spin, -1, &byte, 1, &in), 1);
    assert_in_range(kernel.looks, 45, 55);
    assert_int_equal(kernel.sleeps, 1);
    /* never does: it sleeps at once */
    spin.usual[true] = spin.usual[false];
    kernel.reply_at = kernel.clock + 1000000;
    kernel.looks = kernel.clock_reads = 0;
    assert_int_equal(spin_recv(&spin, -1, &byte, 1, &in), 1);
    assert_int_equal(kernel.looks, 0);
    assert_int_equal(kernel.clock_reads, 2);
    assert_int_equal(kernel.sleeps, 2);
}

/* An error is no reason to look again, nor is the end. */
static void test_errors_end_it(void **state)
{
    (void)state;
    struct msg_in in;
    struct spin spin = spin_of(10000);
    char byte;
    int pair[2];
    spin.usual[false] = 100000;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    close(pair[1]);
    assert_int_equal(spin_recv(&spin, pair[0], &byte, 1, &in), 0);
    close(pair[0]);
    assert_int_equal(spin_recv(&spin, -1, &byte, 1, &in), -EBADF);
    assert_int_equal(kernel.looks, 2);
    assert_int_equal(kernel.sleeps, 0);
}

/* A broker that takes its time for every answer: without learning, 100 waits would cost 200 ms of a CPU. */
static void test_late_answers_burn_little(void **state)
{
    (void)state;
    enum { ASKED = 100, BUDGET_US = 2000 };
    struct rusage before, after;
    struct fob *fob = fake_begin(LATE);
    assert_int_equal(fob_set_busy_poll(fob, BUDGET_US), 0);
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < ASKED; i++)
        assert_int_equal(fob_check(fob, "/x", O_RDONLY), 0);
    getrusage(RUSAGE_SELF, &after);
    int64_t used = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
                   (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 + after.ru_utime.tv_usec -
                   before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec;
    assert_true(used < ASKED * BUDGET_US / 2);
    assert_true(kernel.looks > 0);
    assert_int_equal(kernel.sleeps, ASKED);
    fake_finish(fob);
}

#define spin_test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        spin_test(test_one_cpu),         spin_test(test_environment),
        spin_test(test_of_a_connection), spin_test(test_off_costs_nothing),
        spin_test(test_what_is_learnt),  spin_test(test_worlds_change),
        spin_test(test_one_long_wait),   spin_test(test_how_it_receives),
        spin_test(test_errors_end_it),   spin_test(test_late_answers_burn_little),
    };
    return cmocka_run_group_tests_name("spin", tests, fake_setup, fake_teardown);
}
