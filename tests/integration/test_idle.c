/*
 * What a connection costs that asks nothing: the memory of all of fobd's processes. No times are measured
 * here.
 */
#include "attacks.h"

#include <sys/resource.h>

enum { USERS = 20, EACH = 100, BYTES = 256, FIRST_UID = 5000 };

static const char policy[] = "allow any read @/pub/**\n";

#ifndef FOB_SANITIZE

/* What processes share, for each its part: proc_pid_smaps(5). Files are not memory that it costs. */
static long memory_kb(const struct broker *b)
{
    struct process all[PROCESSES_MAX];
    long sum = 0;
    int n = find_processes(b, all);
    for (int i = 0; i < n; i++) {
        char path[64], text[4096];
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)all[i].pid);
        if (file_read(path, text, sizeof text) <= 0)
            continue;
        const char *anonymous = strstr(text, "\nPss_Anon:"), *shared_memory = strstr(text, "\nPss_Shmem:");
        assert_true(anonymous && shared_memory);
        sum += atol(anonymous + strlen("\nPss_Anon:")) + atol(shared_memory + strlen("\nPss_Shmem:"));
    }
    return sum;
}

static void ask_once_each(struct client_env *env)
{
    int fd;
    for (int i = 0; i < EACH; i++) {
        CHECK_EQ(raw_open(raw_connect(env->broker), at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
        close(fd);
    }
    shared->step++;
    pause();
}

static void begin_users(const struct broker *b, pid_t *pids, int n)
{
    for (int i = 0; i < n; i++)
        pids[i] = client_begin(b, (uid_t)(FIRST_UID + i), ask_once_each, NULL);
    EXPECT_STEP(n);
    usleep(200000); /* until they are spread */
}

static void end_users(const struct broker *b, const pid_t *pids, int n)
{
    for (int i = 0; i < n; i++)
        client_kill(pids[i]);
    EXPECT_SOON(workers_are_quiet(b, 2));
    shared->step = 0;
}

/* Some came and went before: what is kept for good is there. */
static void test_memory(void **state)
{
    (void)state;
    struct broker b;
    pid_t pids[USERS];
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < 4 * USERS * EACH) {
        print_message("skipped: so many connections need more descriptors (ulimit -Hn)\n");
        skip();
    }
    broker_prepare(&b);
    broker_start(&b, policy, "workers 2\nmax-connections-per-user 1000");
    begin_users(&b, pids, 1);
    end_users(&b, pids, 1);
    long before = memory_kb(&b);
    begin_users(&b, pids, USERS);
    double bytes = (double)(memory_kb(&b) - before) * 1024 / (USERS * EACH);
    print_message("%d connections of %d users: %.0f bytes each\n", USERS * EACH, USERS, bytes);
    assert_true(bytes > 0);
    assert_true(bytes <= BYTES);
    end_users(&b, pids, USERS);
    broker_finish(&b);
}

#else

static void test_memory(void **state)
{
    (void)state;
    print_message("skipped: a sanitizer's allocator is measured, not fobd\n");
    skip();
}

#endif

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_memory),
    };
    return cmocka_run_group_tests_name("idle", tests, shared_setup, NULL);
}
