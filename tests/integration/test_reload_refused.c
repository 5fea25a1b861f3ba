/*
 * Reloads that must not happen: what is not fit, what cannot be started, and who may not ask. The old
 * generation goes on untouched. Numbers are rows of threats.md.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static const char allowing[] = "allow user:2001,user:2002 read,list @/pub/**\n"
                               "allow user:2001 read,write,create @/priv/**\n";
static const char denying[] = "allow user:2001,user:2002 read,list @/pub/**\n";

static char said[8192];

static int reload(const struct broker *b)
{
    return broker_control(b, "reload\0", said, sizeof said);
}

/* The limit below which so many numbers are free. */
static rlim_t limit_with_free(pid_t pid, int n_free)
{
    char path[64];
    rlim_t limit = 0;
    for (; n_free >= 0; limit++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%u", (int)pid, (unsigned)limit);
        char target[2];
        n_free -= readlink(path, target, sizeof target) < 0;
    }
    return limit - 1;
}

/* The check of descriptors at the end is against what the first policy needed. */
static void finish(struct broker *b)
{
    broker_write_policy(b, allowing);
    assert_int_equal(reload(b), 0);
    broker_finish(b);
}

/* ---- 87, 88: what is not fit changes nothing ---- */

static void expect_private(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "priv/f"), WIRE_READ, NULL), 0);
}

static void expect_no_private(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "priv/f"), WIRE_READ, NULL), EACCES);
}

static void expect_not_reloaded(const struct broker *b, const char *why)
{
    pid_t before[8], after[8];
    int n = broker_workers(b, before, 8);
    assert_int_equal(reload(b), 4);
    if (!strstr(said, why))
        fail_msg("does not say `%s`: %s", why, said);
    assert_non_null(strstr(said, "not reloaded"));
    assert_int_equal(broker_workers(b, after, 8), n);
    assert_memory_equal(before, after, (size_t)n * sizeof *before); /* the same processes */
    as_user(b, ALICE, expect_private, NULL);
}

static void test_87_88_what_is_not_fit(void **state)
{
    (void)state;
    struct broker b;
    char log[65536];
    broker_begin(&b, allowing);
    broker_write_policy(&b, "alow user:2001 read @/pub/**\nallow user:nobody-at-all read /x\n");
    expect_not_reloaded(&b, "did you mean `allow`?");
    assert_non_null(strstr(said, "unknown user `nobody-at-all`")); /* all errors at once */
    assert_true(file_read(at(&b, "fobd.log"), log, sizeof log) > 0);
    assert_non_null(strstr(log, "unknown user `nobody-at-all`"));
    broker_write_policy(&b, "allow user:2001 read @/pub/**\nassert allow user:2001 read @/priv/f\n");
    expect_not_reloaded(&b, "assertion does not hold");
    broker_write_policy(&b, denying);
    assert_int_equal(chmod(at(&b, "test.policy"), 0666), 0);
    expect_not_reloaded(&b, "others can write it");
    assert_int_equal(chmod(at(&b, "test.policy"), 0644), 0);
    assert_int_equal(chown(at(&b, "test.policy"), ALICE, ALICE), 0);
    expect_not_reloaded(&b, "belongs to uid 2001");
    assert_int_equal(unlink(at(&b, "test.policy")), 0);
    expect_not_reloaded(&b, "No such file or directory");
    assert_int_equal(mkfifo(at(&b, "test.policy"), 0600), 0);
    expect_not_reloaded(&b, "is not a regular file");
    assert_int_equal(unlink(at(&b, "test.policy")), 0);
    broker_write_policy(&b, denying);
    assert_int_equal(reload(&b), 0);
    as_user(&b, ALICE, expect_no_private, NULL);
    finish(&b);
}

/* No descriptor left for the sockets to new workers. */
static void test_no_descriptors(void **state)
{
    (void)state;
    struct broker b;
    struct rlimit few, before;
    broker_begin(&b, allowing);
    assert_int_equal(prlimit(b.pid, RLIMIT_NOFILE, NULL, &before), 0);
    few = before;
    few.rlim_cur = limit_with_free(b.pid, 2); /* one is for the control connection */
    assert_int_equal(prlimit(b.pid, RLIMIT_NOFILE, &few, NULL), 0);
    assert_int_equal(reload(&b), 4);
    as_user(&b, ALICE, expect_private, NULL);
    assert_int_equal(prlimit(b.pid, RLIMIT_NOFILE, &before, NULL), 0);
    assert_int_equal(reload(&b), 0);
    finish(&b);
}

/* Whatever is new among the workers is killed at once. */
static void kill_new_workers(const struct broker *b, const pid_t *old, int n_old)
{
    for (;;) {
        pid_t now[16];
        int n = broker_workers(b, now, 16);
        for (int i = 0; i < n; i++) {
            bool is_old = false;
            for (int j = 0; j < n_old; j++)
                is_old = is_old || now[i] == old[j];
            if (!is_old)
                kill(now[i], SIGKILL);
        }
    }
}

static void test_new_workers_die(void **state)
{
    (void)state;
    struct broker b;
    pid_t old[16];
    int n_old, status = 0;
    broker_begin(&b, allowing);
    n_old = broker_workers(&b, old, 16);
    fflush(NULL);
    pid_t killer = fork();
    if (killer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        kill_new_workers(&b, old, n_old);
    }
    for (int i = 0; i < 40 && status != 4; i++) {
        status = reload(&b);
        if (status != 4) { /* it was too late: the new ones are the old ones now */
            kill(killer, SIGKILL);
            child_wait(killer);
            n_old = broker_workers(&b, old, 16);
            if ((killer = fork()) == 0)
                kill_new_workers(&b, old, n_old);
        }
    }
    kill(killer, SIGKILL);
    child_wait(killer);
    assert_int_equal(status, 4);
    if (!strstr(said, "a new worker could not start"))
        fail_msg("%s", said);
    as_user(&b, ALICE, expect_private, NULL);
    assert_int_equal(reload(&b), 0);
    finish(&b);
}

/* ---- who may, and when ---- */

static void try_to_reload(struct client_env *env)
{
    CHECK(kill(env->broker->pid, SIGHUP) < 0 && errno == EPERM);
    CHECK_EQ(broker_control(env->broker, "reload\0", said, sizeof said), -1);
    CHECK_EQ(errno, EACCES);
}

static void try_by_open_door(struct client_env *env)
{
    CHECK_EQ(broker_control(env->broker, "reload\0", said, sizeof said), 1);
    CHECK(strstr(said, "Permission denied"));
}

static void reload_as_admin(struct client_env *env)
{
    CHECK_EQ(broker_control(env->broker, "reload\0", said, sizeof said), 0);
}

static void test_94_reload_by_others(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, allowing);
    as_user(&b, ALICE, try_to_reload, NULL);
    assert_int_equal(chmod(at(&b, "sock.control"), 0666), 0); /* who got past the mode is asked for */
    as_user(&b, ALICE, try_by_open_door, NULL);
    assert_int_equal(broker_control(&b, "status\0json\0", said, sizeof said), 0);
    assert_non_null(strstr(said, "\"generation\":1,"));
    finish(&b);
}

static void test_control_group(void **state)
{
    (void)state;
    struct broker b;
    const gid_t admins[] = { 2900 };
    struct stat st;
    broker_prepare(&b);
    broker_start(&b, allowing, "workers 2\ncontrol-group 2900");
    assert_int_equal(stat(at(&b, "sock.control"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    assert_int_equal(st.st_gid, 2900);
    assert_int_equal(as_user_groups(&b, BOB, BOB, admins, 1, reload_as_admin, NULL), 0);
    as_user(&b, ALICE, try_to_reload, NULL);
    finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_87_88_what_is_not_fit), cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_new_workers_die),       cmocka_unit_test(test_94_reload_by_others),
        cmocka_unit_test(test_control_group),
    };
    return cmocka_run_group_tests_name("reload refused", tests, NULL, NULL);
}
