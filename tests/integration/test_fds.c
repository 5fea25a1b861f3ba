/*
 * threats.md, section E: what a client can do with the descriptor that it got. The number of a test is that
 * of its row.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "../../common/util.h"

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/** @/priv/**\n"
                             "allow user:2001 read,write,append,create @/al/**\n"
                             "allow user:2002 append @/al/log\n";

static char *proc_name(int fd)
{
    static char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    return name;
}

static bool same_file(int a, int b)
{
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* ---- 60: the way up from a directory ---- */

static void climb(int dir)
{
    int up = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(up < 0 || same_file(up, dir));
    fd_close(up);
    CHECK_EQ(openat(dir, "../../../etc/passwd", O_RDONLY | O_CLOEXEC), -1);
    CHECK_EQ(openat(dir, "../a", O_RDONLY | O_CLOEXEC), -1);
    CHECK_EQ(fchdir(dir), 0);
    CHECK_EQ(open("../../etc/passwd", O_RDONLY | O_CLOEXEC), -1);
    CHECK_EQ(open("../b", O_RDONLY | O_CLOEXEC), -1);
}

static void climb_from_directory(struct client_env *env)
{
    int dir;
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/sub"), WIRE_DIRECTORY, &dir), 0);
    CHECK_EQ(faccessat(dir, "c", F_OK, 0), 0);
    climb(dir);
}

static void climb_from_chroot(struct client_env *env)
{
    const struct broker *b = env->broker;
    int dir;
    CHECK_EQ(open_once(b, at(b, "pub/sub"), WIRE_DIRECTORY, &dir), 0);
    CHECK_EQ(chroot(at(b, "al")), 0);
    CHECK_EQ(chdir("/"), 0);
    climb(dir);
}

static void test_60_directories_lead_nowhere(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001,user:0 list @/pub/**\n");
    as_user(&b, ALICE, climb_from_directory, NULL);
    as_user(&b, 0, climb_from_directory, NULL);
    as_user(&b, 0, climb_from_chroot, NULL);
    broker_finish(&b);
}

/* ---- 62, 63, 64: what a read-only descriptor must not become ---- */

static void upgrade(struct client_env *env)
{
    const struct broker *b = env->broker;
    int fd;
    /* 0666 in a 0700 directory: its mode would let alice write, if she could reach it */
    CHECK_EQ(open_once(b, at(b, "priv/shared"), WIRE_READ, &fd), 0);
    CHECK(fd_reads(fd, "priv shared\n"));
    CHECK_EQ(open(proc_name(fd), O_RDWR | O_CLOEXEC), -1);
    CHECK_EQ(errno, EROFS);
    CHECK_EQ(open(proc_name(fd), O_WRONLY | O_TRUNC | O_CLOEXEC), -1);
    CHECK_EQ(truncate(proc_name(fd), 0), -1);
    CHECK_EQ(linkat(AT_FDCWD, proc_name(fd), AT_FDCWD, at(b, "al/out"), AT_SYMLINK_FOLLOW), -1);
    CHECK_EQ(errno, EXDEV);
    CHECK_EQ(fsetxattr(fd, "user.x", "y", 1, 0), -1);
    CHECK_EQ(errno, EROFS);
    CHECK_EQ(futimens(fd, NULL), -1);
    CHECK_EQ(errno, EROFS);
}

static void chmod_own(struct client_env *env)
{
    const struct broker *b = env->broker;
    int fd;
    CHECK_EQ(open_once(b, at(b, "priv/alices"), WIRE_READ, &fd), 0);
    CHECK_EQ(fchmod(fd, 0777), -1);
    CHECK_EQ(errno, EROFS);
}

static void test_62_63_64_read_only_stays_so(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    file_write(at(&b, "priv/alices"), "hers\n", 0600, ALICE);
    as_user(&b, ALICE, upgrade, NULL);
    as_user(&b, ALICE, chmod_own, NULL);
    broker_finish(&b);
}

/* The same attacks succeed on a plain descriptor: seal=no is what it says. */
static void upgrade_plain(struct client_env *env)
{
    int fd;
    CHECK_EQ(open_once(env->broker, at(env->broker, "priv/shared"), WIRE_READ, &fd), 0);
    CHECK(open(proc_name(fd), O_RDWR | O_CLOEXEC) >= 0);
    CHECK_EQ(futimens(fd, NULL), 0);
}

static void test_62_unsealed_can_be_upgraded(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001 read @/priv/** seal=no\n");
    as_user(&b, ALICE, upgrade_plain, NULL);
    assert_int_equal(audit_count(&b, "\"sealed\":false", "/priv/shared"), 1);
    broker_finish(&b);
}

/* ---- 65, 66: execution ---- */

static void execute(struct client_env *env)
{
    const struct broker *b = env->broker;
    int fd;
    CHECK_EQ(open_once(b, at(b, "pub/id"), WIRE_READ, &fd), 0);
    char *const arguments[] = { (char *)"id", NULL }, *const environment[] = { NULL };
    syscall(SYS_execveat, fd, "", arguments, environment, AT_EMPTY_PATH);
    CHECK_EQ(errno, EACCES);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED);
    CHECK_EQ(errno, EPERM);
}

static void test_65_66_no_execution(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    assert_int_equal(system("cp /usr/bin/id /tmp/fob-test-id") | rename("/tmp/fob-test-id", at(&b, "pub/id")),
                     0);
    assert_int_equal(chmod(at(&b, "pub/id"), 04755), 0);
    as_user(&b, ALICE, execute, NULL);
    broker_finish(&b);
}

/* ---- 67: append ---- */

static void misuse_append(struct client_env *env)
{
    const struct broker *b = env->broker;
    int fd;
    CHECK_EQ(open_once(b, at(b, "al/log"), WIRE_APPEND | WIRE_TRUNCATE, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "al/log"), WIRE_WRITE, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "al/log"), WIRE_APPEND, &fd), 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
    CHECK_EQ(pwrite(fd, "new\n", 4, 0), 4);
    /* Documented in fob(7): O_APPEND can be taken off by its holder. */
    CHECK_EQ(fcntl(fd, F_SETFL, 0), 0);
    CHECK_EQ(pwrite(fd, "OLD", 3, 0), 3);
}

static void test_67_append(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    file_write(at(&b, "al/log"), "old\n", 0644, ALICE);
    as_user(&b, BOB, misuse_append, NULL);
    char text[32];
    assert_int_equal(file_read(at(&b, "al/log"), text, sizeof text), 8);
    assert_string_equal(text, "OLD\nnew\n");
    broker_finish(&b);
}

/* Where nothing but append is granted beneath a root, not even ftruncate(2) works: the right travels with the
 * descriptor (landlock(7)). */
static void truncate_append(struct client_env *env)
{
    int fd;
    CHECK_EQ(open_once(env->broker, at(env->broker, "al/log"), WIRE_APPEND, &fd), 0);
    CHECK_EQ(ftruncate(fd, 0), -1);
    CHECK_EQ(errno, EACCES);
}

static void test_67_append_cannot_truncate(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2002 append @/al/log\n");
    file_write(at(&b, "al/log"), "old\n", 0644, ALICE);
    static char log[8192];
    bool landlocked = file_read(at(&b, "fobd.log"), log, sizeof log) > 0 && strstr(log, "landlock");
    if (landlocked)
        as_user(&b, BOB, truncate_append, NULL);
    else
        puts("skipped: Landlock is not in force here");
    broker_finish(&b);
}

/* ---- 68: flock (documented: it cannot be prevented) ---- */

static void lock_shared(struct client_env *env)
{
    int fd;
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/b"), WIRE_READ, &fd), 0);
    CHECK_EQ(flock(fd, LOCK_EX | LOCK_NB), 0);
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/b"), WIRE_READ, NULL),
             0); /* the broker does not lock */
}

static void test_68_flock(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, lock_shared, NULL);
    broker_finish(&b);
}

/* ---- 70: the descriptor's flags ---- */

static void look_at_flags(struct client_env *env)
{
    const struct broker *b = env->broker;
    static const struct {
        uint32_t asked;
        int flags;
    } cases[] = {
        { WIRE_READ, O_RDONLY },
        { WIRE_WRITE, O_WRONLY },
        { WIRE_READ | WIRE_WRITE, O_RDWR },
        { WIRE_APPEND, O_WRONLY | O_APPEND },
        { WIRE_READ | WIRE_APPEND, O_RDWR | O_APPEND },
        { WIRE_READ | WIRE_NONBLOCK, O_RDONLY | O_NONBLOCK },
        { WIRE_APPEND | WIRE_NONBLOCK, O_WRONLY | O_APPEND | O_NONBLOCK },
        { WIRE_WRITE | WIRE_SYNC, O_WRONLY | O_SYNC },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int fd;
        CHECK_EQ(open_once(b, at(b, "al/f"), cases[i].asked, &fd), 0);
        CHECK_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_PATH), cases[i].flags);
        CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
        close(fd);
    }
}

static void test_70_descriptor_flags(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    file_write(at(&b, "al/f"), "f\n", 0644, ALICE);
    as_user(&b, ALICE, look_at_flags, NULL);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_60_directories_lead_nowhere),
        cmocka_unit_test(test_62_63_64_read_only_stays_so),
        cmocka_unit_test(test_62_unsealed_can_be_upgraded),
        cmocka_unit_test(test_65_66_no_execution),
        cmocka_unit_test(test_67_append),
        cmocka_unit_test(test_67_append_cannot_truncate),
        cmocka_unit_test(test_68_flock),
        cmocka_unit_test(test_70_descriptor_flags),
    };
    return cmocka_run_group_tests_name("fds", tests, NULL, NULL);
}
