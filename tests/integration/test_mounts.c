/*
 * Mounts that come and go under a running broker: served without a reload by hand, and without a lost
 * request.
 */
#include "harness.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "../../common/util.h"

static const char policy[] = "allow user:2001,user:2002 read @/pub/**\n";

static char said[16384];

struct shared {
    _Atomic bool over;
    _Atomic unsigned long asked, wrong;
};

/* A namespace of the test's own: what fobd does not see does not concern it, and nothing is left behind. */
static bool enter_namespace(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static void mount_over(const struct broker *b, const char *dir)
{
    char file[256];
    assert_int_equal(mount("fob-test", at(b, dir), "tmpfs", 0, "mode=0755"), 0);
    snprintf(file, sizeof file, "%s/new", dir);
    file_write(at(b, file), "new\n", 0600, 0);
}

static unsigned generation_of(const struct broker *b)
{
    if (broker_control(b, "status\0json\0", said, sizeof said) != 0)
        return 0;
    const char *number = strstr(said, "\"generation\":");
    return number ? (unsigned)strtoul(number + strlen("\"generation\":"), NULL, 10) : 0;
}

static void wait_for_generation(const struct broker *b, unsigned number)
{
    for (int i = 0; i < 500 && generation_of(b) < number; i++)
        usleep(10000);
    assert_int_equal(generation_of(b), number);
}

static void expect_new(struct client_env *env)
{
    int fd;
    CHECK_EQ(open_once(env->broker, at(env->broker, env->data), WIRE_READ, &fd), 0);
    CHECK(fd_reads(fd, "new\n"));
}

static void expect_none(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, env->data), WIRE_READ, NULL), ENOENT);
}

static void hammer(struct client_env *env)
{
    struct shared *shared = env->data;
    char path[128];
    int fd, sock = raw_connect(env->broker);
    snprintf(path, sizeof path, "%s", at(env->broker, "pub/a"));
    while (!shared->over) {
        int error = raw_open(sock, path, WIRE_READ, 0, &fd);
        shared->wrong += error != 0 || !fd_reads(fd, "pub a\n");
        shared->asked++;
        fd_close(fd);
    }
}

static void test_mounts_come_and_go(void **state)
{
    (void)state;
    struct broker b;
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[4];
    broker_prepare(&b);
    assert_int_equal(mkdir(at(&b, "pub/m"), 0755), 0);
    broker_start(&b, policy, "workers 2");
    fflush(NULL);
    for (int i = 0; i < 4; i++)
        if ((pids[i] = fork()) == 0)
            _exit(as_user_groups(&b, ALICE, ALICE, NULL, 0, hammer, shared));
    as_user(&b, BOB, expect_none, (void *)"pub/m/new");
    mount_over(&b, "pub/m");
    wait_for_generation(&b, 2);
    as_user(&b, BOB, expect_new, (void *)"pub/m/new");
    assert_int_equal(umount(at(&b, "pub/m")), 0);
    wait_for_generation(&b, 3);
    as_user(&b, BOB, expect_none, (void *)"pub/m/new");
    shared->over = true;
    for (int i = 0; i < 4; i++)
        assert_int_equal(child_wait(pids[i]), 0);
    printf("%lu opens meanwhile, %lu wrong\n", shared->asked, shared->wrong);
    assert_true(shared->asked > 100);
    assert_int_equal(shared->wrong, 0);
    munmap(shared, sizeof *shared);
    broker_finish(&b);
}

/* 47: mounted over a root itself, and a root that is another directory now. */
static void test_47_over_a_root(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    mount_over(&b, "pub");
    wait_for_generation(&b, 2);
    as_user(&b, BOB, expect_new, (void *)"pub/new");
    assert_int_equal(umount(at(&b, "pub")), 0);
    wait_for_generation(&b, 3);
    as_user(&b, BOB, expect_none, (void *)"pub/new");
    broker_finish(&b);
}

/* The policy on disk is put in force by who says so. */
static void test_only_mounts_are_renewed(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    assert_int_equal(mkdir(at(&b, "pub/m"), 0755), 0);
    broker_start(&b, policy, "workers 2");
    broker_write_policy(&b, "no policy at all\n");
    mount_over(&b, "pub/m");
    wait_for_generation(&b, 2);
    as_user(&b, BOB, expect_new, (void *)"pub/m/new");
    assert_int_equal(broker_control(&b, "reload\0", said, sizeof said), 4);
    as_user(&b, BOB, expect_new, (void *)"pub/m/new");
    assert_int_equal(umount(at(&b, "pub/m")), 0);
    wait_for_generation(&b, 3);
    broker_finish(&b);
}

static void test_elsewhere(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    mount_over(&b, "secret");
    usleep(400000);
    assert_int_equal(generation_of(&b), 1);
    assert_int_equal(umount(at(&b, "secret")), 0);
    usleep(400000);
    assert_int_equal(generation_of(&b), 1);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    if (!enter_namespace()) {
        printf("skipped: no mount namespace of its own: %s\n0 passed, 0 failed, 1 skipped\n",
               strerror(errno));
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mounts_come_and_go),
        cmocka_unit_test(test_47_over_a_root),
        cmocka_unit_test(test_only_mounts_are_renewed),
        cmocka_unit_test(test_elsewhere),
    };
    return cmocka_run_group_tests_name("mounts", tests, NULL, NULL);
}
