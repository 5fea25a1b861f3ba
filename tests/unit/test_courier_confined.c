/*
 * The courier's lock-down from inside: a process confined as it is tries what a courier taken over would.
 * Each attack runs in a process of its own. It needs no privilege but for what privileges are for.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/confine.h"
#include "../../common/util.h"

enum { UID = 64999, ALICE = 2001, SUCCEEDED = 10, REFUSED = 11, NOT_CONFINED = 12, KILLED = 128 + SIGSYS };
typedef bool attack_fn(void);

static pid_t tester;

static int run(attack_fn *attack)
{
    struct confine_plan plan = { .privileged = geteuid() == 0, .uid = UID, .gid = UID };
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct confine_state state;
        if (confine_courier(&plan, &state) < 0)
            _exit(NOT_CONFINED);
        _exit(attack() ? SUCCEEDED : REFUSED);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- files ---- */

static bool reads_by_openat(void)
{
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0;
}

/* Whether it asks for O_PATH stands in memory, which a filter cannot look at. */
static bool reads_by_openat2(void)
{
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC };
    return syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", &how, sizeof how) >= 0;
}

static bool creates(void)
{
    return open("/tmp", O_TMPFILE | O_RDWR, 0600) >= 0;
}

static bool maps_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED;
}

static bool unlinks(void)
{
    return unlink("/tmp/fob-none") == 0;
}

static bool opens_by_handle(void)
{
    return syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, O_RDONLY) >= 0;
}

static bool mounts(void)
{
    return mount("none", "/tmp", "tmpfs", 0, NULL) == 0;
}

static bool changes_root(void)
{
    return chroot("/") == 0;
}

/* ---- other processes ---- */

static bool executes(void)
{
    return execl("/bin/true", "true", (char *)NULL) == 0;
}

/* It has children, but they stay where it is. */
static bool makes_a_namespace(void)
{
    return syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL) > 0;
}

static bool shares_its_memory(void)
{
    return syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, NULL) > 0;
}

static bool traces(void)
{
    return ptrace(PTRACE_ATTACH, tester, 0, 0) == 0;
}

static bool reads_memory(void)
{
    char byte;
    struct iovec here = { &byte, 1 }, there = { &byte, 1 };
    return process_vm_readv(tester, &here, 1, &there, 1, 0) == 1;
}

static bool takes_descriptors(void)
{
    return syscall(SYS_pidfd_open, tester, 0) >= 0;
}

static bool kills(void)
{
    return kill(tester, 0) == 0;
}

static bool sets_limits(void)
{
    return setpriority(PRIO_PROCESS, (id_t)tester, 5) == 0;
}

/* ---- more ---- */

static bool talks_to_the_net(void)
{
    return socket(AF_INET, SOCK_DGRAM, 0) >= 0;
}

static bool listens(void)
{
    return listen(STDIN_FILENO, 1) == 0;
}

static bool joins_groups(void)
{
    return setgroups(0, NULL) == 0;
}

static bool unshares(void)
{
    return unshare(CLONE_NEWUSER) == 0;
}

static bool enters(void)
{
    return setns(STDIN_FILENO, 0) == 0;
}

static bool uses_io_uring(void)
{
    return syscall(SYS_io_uring_setup, 1, NULL) >= 0;
}

static attack_fn *const attacks[] = {
    reads_by_openat2, unlinks,          opens_by_handle,   mounts,
    changes_root,     executes,         makes_a_namespace, shares_its_memory,
    traces,           reads_memory,     takes_descriptors, kills,
    sets_limits,      enters,           listens,           unshares,
    joins_groups,     talks_to_the_net, uses_io_uring,
};

/* What the sanitizers' run time does too. */
static attack_fn *const unsanitized[] = { reads_by_openat, creates, maps_code };

static void expect_killed(attack_fn *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int status = run(list[i]);
        if (status != KILLED)
            fail_msg("attack %zu: %d", i, status);
    }
}

static void test_killed(void **state)
{
    (void)state;
    expect_killed(attacks, ARRAY_SIZE(attacks));
}

static void test_killed_unsanitized(void **state)
{
    (void)state;
#ifdef FOB_SANITIZE
    skip();
#endif
    expect_killed(unsanitized, ARRAY_SIZE(unsanitized));
}

/* ---- what its capabilities are for ---- */

/* At names with alice's rights, and at whose namespace is which. */
static bool looks_as_alice(void)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)tester);
    return setresuid((uid_t)-1, ALICE, (uid_t)-1) == 0 && geteuid() == ALICE &&
           open("/tmp", O_PATH | O_CLOEXEC) >= 0 && fstatat(AT_FDCWD, path, &st, 0) == 0 &&
           setresuid((uid_t)-1, UID, (uid_t)-1) == 0 && geteuid() == UID;
}

static bool reads_as_root(void)
{
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC };
    return setresuid((uid_t)-1, 0, (uid_t)-1) == 0 &&
           syscall(SYS_openat2, AT_FDCWD, "/etc/shadow", &how, sizeof how) >= 0;
}

static void test_privileged(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(run(looks_as_alice), SUCCEEDED);
    assert_int_equal(run(reads_as_root), KILLED);
}

int main(void)
{
    tester = getpid();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_killed_unsanitized),
        cmocka_unit_test(test_privileged),
    };
    return cmocka_run_group_tests_name("courier, confined", tests, NULL, NULL);
}
