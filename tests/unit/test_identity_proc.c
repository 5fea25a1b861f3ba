/*
 * broker/identity_proc.c: real processes that would like to be taken for others. Numbers are rows
 * of threats.md, section A.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/identity.h"
#include "../../common/util.h"
#include "leak.h"

enum { FOBD = 64999 };

static char dir[] = "/tmp/fob-identity.XXXXXX";
static int proc_fd = -1;

/* ---- processes ---- */

struct process {
    pid_t pid;
    int pidfd;
};
typedef int prepare_fn(void); /* in the child, before it executes; not 0: it cannot */

static const char *in_dir(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % ARRAY_SIZE(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void copy_program(const char *name)
{
    char bytes[65536];
    ssize_t got;
    int from = open("/bin/sleep", O_RDONLY | O_CLOEXEC);
    int to = open(in_dir(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    assert_true(from >= 0 && to >= 0);
    while ((got = read(from, bytes, sizeof bytes)) > 0)
        assert_int_equal(fd_write_all(to, bytes, (size_t)got), 0);
    assert_int_equal(fchmod(to, 0755), 0);
    close(from);
    close(to);
}

static void run_program(const char *path, int memory, prepare_fn *prepare, int status)
{
    char *const arguments[] = { (char *)"sleep", (char *)"60", NULL };
    char *const environment[] = { NULL };
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!prepare || prepare() == 0) {
        if (memory >= 0)
            fexecve(memory, arguments, environment);
        else
            execve(path, arguments, environment);
    }
    (void)!write(status, "x", 1);
    _exit(1);
}

/* Has executed when this returns; pidfd -1: it could not be prepared. */
static struct process start_as(const char *path, int memory, prepare_fn *prepare)
{
    int pair[2];
    char byte;
    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0)
        run_program(path, memory, prepare, pair[1]);
    close(pair[1]);
    bool runs = read(pair[0], &byte, 1) == 0; /* closed by the execution */
    close(pair[0]);
    int pidfd = runs ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (!runs)
        waitpid(pid, NULL, 0);
    assert_true(pidfd >= 0 || !runs);
    return (struct process){ pid, pidfd };
}

static struct process start(const char *name)
{
    struct process process = start_as(in_dir(name), -1, NULL);
    assert_true(process.pidfd >= 0);
    return process;
}

static void stop(struct process *process)
{
    kill(process->pid, SIGKILL);
    waitpid(process->pid, NULL, 0);
    close(process->pidfd);
}

static struct identity identity;

static int look(const struct process *process)
{
    memset(&identity, 0xff, sizeof identity);
    return identity_read(proc_fd, NULL, process->pidfd, process->pid, &identity);
}

static void expect_exe(const struct process *process, const char *path)
{
    struct stat st;
    assert_int_equal(look(process), 0);
    assert_true(identity.has_exe);
    assert_string_equal(identity.exe, path);
    assert_int_equal(stat(path, &st), 0);
    assert_true(identity.exe_dev == st.st_dev && identity.exe_ino == st.st_ino);
}

static void expect_no_exe(const struct process *process)
{
    assert_int_equal(look(process), 0);
    assert_false(identity.has_exe);
    assert_string_equal(identity.exe, "");
    assert_true(identity.exe_dev == 0 && identity.exe_ino == 0);
}

/* ---- executables ---- */

static void test_exe(void **state)
{
    (void)state;
    copy_program("plain");
    struct process process = start("plain");
    expect_exe(&process, in_dir("plain"));
    stop(&process);
}

static void test_exe_through_symlink(void **state)
{
    (void)state;
    copy_program("target");
    assert_int_equal(symlink("target", in_dir("link")), 0);
    struct process process = start("link");
    expect_exe(&process, in_dir("target"));
    /* Its real path now leads through a symlink: whose name it is, is not asked. */
    assert_int_equal(rename(in_dir("target"), in_dir("elsewhere")), 0);
    expect_exe(&process, in_dir("elsewhere"));
    stop(&process);
}

static void test_exe_replaced(void **state)
{
    (void)state;
    copy_program("old");
    struct process process = start("old");
    copy_program("new");
    assert_int_equal(rename(in_dir("new"), in_dir("old")), 0); /* as an upgrade does */
    expect_no_exe(&process);
    stop(&process);
}

static void test_21_deleted(void **state)
{
    (void)state;
    copy_program("x");
    struct process process = start("x");
    assert_int_equal(unlink(in_dir("x")), 0);
    expect_no_exe(&process);
    copy_program("x (deleted)");
    expect_no_exe(&process); /* its link now names a file that exists */
    stop(&process);
    process = start("x (deleted)");
    expect_exe(&process, in_dir("x (deleted)"));
    stop(&process);
}

static void test_21_newline_is_as_it_is(void **state)
{
    (void)state;
    copy_program("plain\n0::x");
    struct process process = start("plain\n0::x");
    expect_exe(&process, in_dir("plain\n0::x"));
    stop(&process);
}

static void test_21_memfd(void **state)
{
    (void)state;
    char bytes[65536];
    ssize_t got;
    int memory = memfd_create("usr/bin/sleep", MFD_CLOEXEC), from = open("/bin/sleep", O_RDONLY | O_CLOEXEC);
    while ((got = read(from, bytes, sizeof bytes)) > 0)
        assert_int_equal(fd_write_all(memory, bytes, (size_t)got), 0);
    struct process process = start_as(NULL, memory, NULL);
    assert_true(process.pidfd >= 0);
    expect_no_exe(&process);
    stop(&process);
    close(from);
    close(memory);
}

static int bind_over(void)
{
    if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return -1;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -1;
    return mount(in_dir("evil"), in_dir("trusted"), NULL, MS_BIND, NULL);
}

static void test_20_bind_mount(void **state)
{
    (void)state;
    char link[40], text[128] = "";
    copy_program("trusted");
    copy_program("evil");
    struct process process = start_as(in_dir("trusted"), -1, bind_over);
    if (process.pidfd < 0) {
        print_message("skipped: no mount namespace to be had\n");
        skip();
    }
    snprintf(link, sizeof link, "/proc/%d/exe", (int)process.pid);
    assert_true(readlink(link, text, sizeof text - 1) > 0);
    assert_string_equal(text, in_dir("trusted")); /* that is the attack */
    expect_no_exe(&process);
    stop(&process);
    process = start("trusted");
    expect_exe(&process, in_dir("trusted"));
    stop(&process);
}

/* In a child and its own mounts. A FUSE that nobody serves: who looks anything up there waits for ever. */
static int look_into_hung_fuse(const struct process *process)
{
    char options[96];
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
    if (fd < 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("hung", in_dir("hung"), "fuse", MS_NOSUID | MS_NODEV, options) < 0)
        return 77;
    alarm(20);
    return look(process) == 0 && !identity.has_exe ? 0 : 1;
}

static void test_81_name_in_hung_fuse(void **state)
{
    (void)state;
    int status;
    assert_int_equal(mkdir(in_dir("hung"), 0755), 0);
    copy_program("hung/program");
    struct process process = start("hung/program");
    expect_exe(&process, in_dir("hung/program"));
    pid_t pid = fork();
    if (pid == 0)
        _exit(look_into_hung_fuse(&process));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    stop(&process);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("skipped: no FUSE to be had\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* ---- processes that are gone, and what is none ---- */

static void test_4_exited(void **state)
{
    (void)state;
    struct process process = start("plain");
    siginfo_t info;
    kill(process.pid, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)process.pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(poll(&(struct pollfd){ .fd = process.pidfd, .events = POLLIN }, 1, 0), 1);
    assert_int_equal(look(&process), -ESRCH); /* a zombie still has a cgroup */
    assert_false(identity.has_exe || identity.has_cgroup || identity.has_unit);
    assert_string_equal(identity.cgroup, "");
    assert_int_equal(waitpid(process.pid, NULL, 0), process.pid);
    assert_int_equal(look(&process), -ESRCH);
    process.pid = getpid(); /* as if the number had been given to another */
    assert_int_equal(look(&process), -ESRCH);
    assert_false(identity.has_exe || identity.has_cgroup || identity.has_unit);
    close(process.pidfd);
}

static void test_5_no_pidfd(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(pipe2(pair, O_CLOEXEC), 0); /* never readable: it would seem to live for ever */
    assert_int_equal(identity_read(proc_fd, NULL, pair[0], getpid(), &identity), -EBADF);
    assert_int_equal(identity_read(proc_fd, NULL, -1, getpid(), &identity), -EBADF);
    assert_false(identity.has_exe || identity.has_cgroup || identity.has_unit);
    close(pair[0]);
    close(pair[1]);
}

/* As a kernel does that has no such ioctl: ENOTTY before Linux 6.11, then EINVAL. */
static int refuse_ioctl(int error)
{
    const scmp_datum_t request = IDENTITY_PIDFD_GET_INFO;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int err = seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)error), SCMP_SYS(ioctl), 1,
                               SCMP_A1(SCMP_CMP_EQ, request));
    if (err == 0)
        err = seccomp_load(filter);
    seccomp_release(filter);
    return err;
}

/* In a child, confined as the helper is: the number of what went wrong. */
static int old_kernel(const struct process *process, int error)
{
    struct confine_plan plan = { .privileged = geteuid() == 0, .uid = FOBD, .gid = FOBD };
    struct confine_state state;
    struct process other = { getpid(), process->pidfd };
    int pair[2];
    if (refuse_ioctl(error) < 0 || pipe2(pair, O_CLOEXEC) < 0 || confine_identity(&plan, &state) < 0)
        return 1;
    if (look(process) < 0 || !identity.has_exe || strcmp(identity.exe, in_dir("plain")) != 0)
        return 2;
    if (look(&other) != -ESRCH || identity.has_cgroup)
        return 3;
    return identity_read(proc_fd, NULL, pair[0], process->pid, &identity) == -EBADF ? 0 : 4;
}

static void test_5_old_kernel(void **state)
{
    (void)state;
    static const int errors[] = { ENOTTY, EINVAL };
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        struct process process = start("plain");
        int status;
        pid_t pid = fork();
        if (pid == 0)
            _exit(old_kernel(&process, errors[i]));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        stop(&process);
    }
}

/* ---- cgroups ---- */

static void test_23_cgroup(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int result;
        const char *path;
    } cases[] = {
        { "0::/\n", 0, "/" },
        { "0::/a/b.service\n", 0, "/a/b.service" },
        { "0::/a b/c:d\n", 0, "/a b/c:d" },
        { "4:memory:/m\n1:name=systemd:/s\n0::/u\n", 0, "/u" },
        { "0::/u\n4:memory:/m\n", 0, "/u" },
        { "4:memory:/m\n1:name=0:/s\n", -ENOENT, NULL },
        { "10::/u\n", -ENOENT, NULL },
        { "", -ENOENT, NULL },
        { "0::/../other\n", -EXDEV, NULL },
        { "0::/..\n", -EXDEV, NULL },
        { "0::/..a\n", 0, "/..a" },
        { "0::/allowed/../other\n", -EBADMSG, NULL },
        { "0::/a/./b\n", -EBADMSG, NULL },
        { "0::/a//b\n", -EBADMSG, NULL },
        { "0::/a/\n", -EBADMSG, NULL },
        { "0::a\n", -EBADMSG, NULL },
        { "0::\n", -EBADMSG, NULL },
        { "0::/a (deleted)\n", -EBADMSG, NULL },
        { "0::/a", -EBADMSG, NULL },
        { "0::/a\n0::/b\n", -EBADMSG, NULL },
        { "0::/../a\n0::/b\n", -EBADMSG, NULL },
    };
    char path[IDENTITY_PATH];
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int result = identity_cgroup_of(cases[i].text, strlen(cases[i].text), path);
        if (result != cases[i].result)
            fail_msg("%s: %d", cases[i].text, result);
        if (cases[i].path)
            assert_string_equal(path, cases[i].path);
    }
}

static void test_23_long_cgroup(void **state)
{
    (void)state;
    char path[IDENTITY_PATH], text[IDENTITY_PATH + 16] = "0::/";
    memset(text + 4, 'a', IDENTITY_PATH - 2);
    memcpy(text + 3 + IDENTITY_PATH - 1, "\n", 2);
    assert_int_equal(identity_cgroup_of(text, strlen(text), path), 0);
    assert_int_equal(strlen(path), IDENTITY_PATH - 1);
    memcpy(text + 3 + IDENTITY_PATH - 1, "a\n", 3);
    assert_int_equal(identity_cgroup_of(text, strlen(text), path), -ENAMETOOLONG);
}

static void test_unit(void **state)
{
    (void)state;
    static const struct {
        const char *cgroup, *unit;
    } cases[] = {
        { "/", NULL },
        { "/system.slice/report.service", "report.service" },
        { "/system.slice/report.service/worker", "report.service" },
        { "/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service" },
        { "/system.slice/dev-disk-by\\x2dlabel-a.mount", "dev-disk-by\\x2dlabel-a.mount" },
        { "/system.slice/ssh.socket", "ssh.socket" },
        { "/init.scope", "init.scope" },
        { "/report.service", "report.service" },
        { "/user.slice/user-1000.slice/session-3.scope", "session-3.scope" },
        { "/user.slice/user-1000.slice", "user-1000.slice" },
        { "/a.slice/b/c.service", "a.slice" },
        /* Another user's manager, a container, a service that may delegate: names of their choice. */
        { "/user.slice/user-1001.slice/user@1001.service/app.slice/report.service", "user@1001.service" },
        { "/system.slice/docker-12ab.scope/system.slice/report.service", "docker-12ab.scope" },
        { "/system.slice/other.service/report.service", "other.service" },
        { "/docker/12ab/report.service", NULL },
        /* The manager of whose broker this is. */
        { "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service", "a.service" },
        { "/user.slice/user-1000.slice/user@1000.service/app.slice/b.scope/c.service", "b.scope" },
        { "/user.slice/user-1000.slice/user@1000.service/app.slice", "user@1000.service" },
        { "/user.slice/user-1000.slice/user@1000.service", "user@1000.service" },
        /* No units. */
        { "/system.slice/.service", "system.slice" },
        { "/report.service.d", NULL },
        { "/report service.service", NULL },
        { "/report.Service", NULL },
        { "/report\xc3\xa9.service", NULL },
    };
    char unit[IDENTITY_UNIT];
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int result = identity_unit_of(cases[i].cgroup, 1000, unit);
        if (result != (cases[i].unit ? 0 : -ENOENT) || (cases[i].unit && strcmp(unit, cases[i].unit) != 0))
            fail_msg("%s: %d %s", cases[i].cgroup, result, result ? "" : unit);
    }
    char cgroup[IDENTITY_UNIT + 8] = "/";
    memset(cgroup + 1, 'a', IDENTITY_UNIT);
    memcpy(cgroup + IDENTITY_UNIT - 6, ".scope", 7);
    assert_int_equal(identity_unit_of(cgroup, 1000, unit), 0); /* 255 bytes */
    memcpy(cgroup + IDENTITY_UNIT - 6, "a.scope", 8);
    assert_int_equal(identity_unit_of(cgroup, 1000, unit), -ENOENT);
}

/* ---- all ---- */

static int setup(void **state)
{
    (void)state;
    proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return proc_fd < 0 || !mkdtemp(dir) || chmod(dir, 0755) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    close(proc_fd);
    return system(command);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, leak_setup, leak_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_exe),
        TEST(test_exe_through_symlink),
        TEST(test_exe_replaced),
        TEST(test_21_deleted),
        TEST(test_21_newline_is_as_it_is),
        TEST(test_21_memfd),
        TEST(test_20_bind_mount),
        TEST(test_81_name_in_hung_fuse),
        TEST(test_4_exited),
        TEST(test_5_no_pidfd),
        TEST(test_5_old_kernel),
        TEST(test_23_cgroup),
        TEST(test_23_long_cgroup),
        TEST(test_unit),
    };
    return cmocka_run_group_tests_name("identity_proc", tests, setup, teardown);
}
