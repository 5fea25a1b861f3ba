/*
 * The lock-down from inside: a process confined as a worker is tries to break out. Each attack runs in a
 * process of its own, once confined and, where it shows that the attack is one, once not. Numbers are rows of
 * threats.md, section J.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
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
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/confine.h"

enum { UID = 64999, SUCCEEDED = 10, REFUSED = 11, NOT_CONFINED = 12 };
enum { UNCONFINED, WORKER, IDENTITY_HELPER };

static char dir[] = "/tmp/fob-confine.XXXXXX";
static struct policy *policy;
static struct mounts mounts;
static struct policy_needs needs;
static pid_t tester;

/* What an attack gets: descriptors that a worker has too. */
struct inside {
    int root; /* a read-only clone of the policy's directory */
    int slash;
    pid_t victim; /* another process of the same uid */
};
typedef bool attack_fn(const struct inside *inside); /* true: it got what it wanted */

/* ---- running them ---- */

static pid_t start_victim(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (setresgid(UID, UID, UID) || setresuid(UID, UID, UID))
            _exit(1);
        prctl(PR_SET_DUMPABLE, 1);
        for (;;)
            pause();
    }
    return pid;
}

static void become(int whom)
{
    struct confine_plan plan = {
        .privileged = true, .uid = UID, .gid = UID, .needs = needs, .mounts = &mounts, .required = true
    };
    struct confine_state state;
    if (whom == WORKER &&
        (confine_prepare() < 0 || confine_worker(&plan, &state) < 0 || state.done != CONFINE_ALL))
        _exit(NOT_CONFINED);
    if (whom == IDENTITY_HELPER && (confine_identity(&plan, &state) < 0 || state.errors[1]))
        _exit(NOT_CONFINED);
}

/* SUCCEEDED, REFUSED, or 128 + the signal that killed it. */
static int run(attack_fn *attack, int whom)
{
    struct inside inside = { mounts.roots[0].read_only, mounts.slash, start_victim() };
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        become(whom);
        _exit(attack(&inside) ? SUCCEEDED : REFUSED);
    }
    int status;
    waitpid(pid, &status, 0);
    kill(inside.victim, SIGKILL);
    waitpid(inside.victim, NULL, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void expect_killed(attack_fn *attack)
{
    assert_int_equal(run(attack, WORKER), 128 + SIGSYS);
}

static void expect_refused(attack_fn *attack)
{
    assert_int_equal(run(attack, UNCONFINED), SUCCEEDED);
    assert_int_equal(run(attack, WORKER), REFUSED);
}

/* ---- 102: files outside the policy's directories ---- */

static bool opens(int at, const char *path)
{
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC };
    return syscall(SYS_openat2, at, path, &how, sizeof how) >= 0;
}

static bool shadow_by_path(const struct inside *inside)
{
    (void)inside;
    return opens(AT_FDCWD, "/etc/shadow");
}

static bool shadow_from_slash(const struct inside *inside)
{
    return opens(inside->slash, "etc/shadow");
}

static bool shadow_from_root(const struct inside *inside)
{
    return opens(inside->root, "../../etc/shadow") || opens(inside->root, "../../../../../etc/shadow");
}

static bool neighbour_from_slash(const struct inside *inside)
{
    char path[64];
    snprintf(path, sizeof path, "%s/outside", dir + 1);
    return opens(inside->slash, path);
}

static bool own_file(const struct inside *inside)
{
    return opens(inside->root, "file");
}

static bool write_own_file(const struct inside *inside)
{
    struct open_how how = { .flags = O_WRONLY | O_CLOEXEC };
    return syscall(SYS_openat2, inside->root, "file", &how, sizeof how) >= 0;
}

static void test_102_files(void **state)
{
    (void)state;
    expect_refused(shadow_by_path);
    expect_refused(shadow_from_slash);
    expect_refused(neighbour_from_slash);
    assert_int_equal(run(shadow_from_root, WORKER),
                     REFUSED); /* the clone is a top: refused without confinement too */
    assert_int_equal(run(shadow_from_root, UNCONFINED), REFUSED);
    assert_int_equal(run(own_file, WORKER), SUCCEEDED);
    assert_int_equal(run(write_own_file, WORKER), REFUSED);
}

/* ---- 103: forged handles ("shocker") ---- */

static bool forged_handle(const struct inside *inside)
{
    struct {
        struct file_handle head;
        unsigned char bytes[8];
    } handle = { .head = { .handle_bytes = 8, .handle_type = 1 } };
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC };
    long mount_fd = syscall(SYS_openat2, inside->root, "file", &how, sizeof how);
    handle.bytes[0] = 2; /* the root directory of an ext4 */
    return syscall(SYS_open_by_handle_at, mount_fd, &handle, O_RDONLY) >= 0;
}

/* ---- 104, 105, 106: system calls ---- */

static bool call_execve(const struct inside *inside)
{
    (void)inside;
    char *const arguments[] = { (char *)"true", NULL };
    return execve("/bin/true", arguments, arguments + 1) == 0;
}

static bool call_socket(const struct inside *inside)
{
    (void)inside;
    return socket(AF_UNIX, SOCK_STREAM, 0) >= 0;
}

static bool call_ptrace(const struct inside *inside)
{
    return ptrace(PTRACE_ATTACH, inside->victim, NULL, NULL) == 0;
}

static bool call_kill(const struct inside *inside)
{
    return kill(inside->victim, 0) == 0;
}

static bool call_tgkill(const struct inside *inside)
{
    return syscall(SYS_tgkill, inside->victim, inside->victim, SIGTERM) == 0;
}

static bool call_process_vm_readv(const struct inside *inside)
{
    return syscall(SYS_process_vm_readv, inside->victim, NULL, 0, NULL, 0, 0) >= 0;
}

static bool call_pidfd_open(const struct inside *inside)
{
    return syscall(SYS_pidfd_open, inside->victim, 0) >= 0;
}

static bool call_mount(const struct inside *inside)
{
    (void)inside;
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static bool call_open_tree(const struct inside *inside)
{
    return syscall(SYS_open_tree, inside->slash, "", 0x1000 | 1) >= 0;
}

static bool call_unshare(const struct inside *inside)
{
    (void)inside;
    return unshare(CLONE_NEWUSER) == 0;
}

static bool call_fork(const struct inside *inside)
{
    (void)inside;
    return fork() >= 0;
}

static bool call_setuid(const struct inside *inside)
{
    (void)inside;
    return setresuid(0, 0, 0) == 0;
}

static bool call_io_uring(const struct inside *inside)
{
    (void)inside;
    return syscall(SYS_io_uring_setup, 4, NULL) >= 0;
}

static bool call_bpf(const struct inside *inside)
{
    (void)inside;
    return syscall(SYS_bpf, 0, NULL, 0) >= 0;
}

static bool call_prctl(const struct inside *inside)
{
    (void)inside;
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
}

static bool call_landlock(const struct inside *inside)
{
    (void)inside;
    return syscall(444, NULL, 0, 1) >= 0;
}

static bool call_chmod(const struct inside *inside)
{
    return fchmodat(inside->root, "file", 0777, 0) == 0;
}

static bool call_unlink(const struct inside *inside)
{
    return unlinkat(inside->root, "file", 0) == 0;
}

static bool call_rename(const struct inside *inside)
{
    return renameat(inside->root, "file", inside->root, "other") == 0;
}

static bool call_mknod(const struct inside *inside)
{
    return mknodat(inside->root, "device", S_IFCHR | 0600, 0x103) == 0;
}

static bool call_exec_memory(const struct inside *inside)
{
    (void)inside;
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static bool call_ioctl(const struct inside *inside)
{
    int n;
    return syscall(SYS_ioctl, inside->root, 0x5413 /* TIOCGWINSZ */, &n) == 0;
}

static bool call_setsockopt(const struct inside *inside)
{
    (void)inside;
    return setsockopt(0, SOL_SOCKET, SO_PASSCRED, &(int){ 0 }, sizeof(int)) == 0;
}

static bool call_setfsuid(const struct inside *inside)
{
    (void)inside;
    return syscall(SYS_setfsuid, 0) >= 0;
}

static void test_103_104_system_calls_kill(void **state)
{
    (void)state;
    static attack_fn *const attacks[] = {
        forged_handle,   call_execve,     call_socket,   call_ptrace, call_kill,     call_process_vm_readv,
        call_mount,      call_unshare,    call_fork,     call_setuid, call_io_uring, call_bpf,
        call_pidfd_open, call_chmod,      call_unlink,   call_rename, call_mknod,    call_landlock,
        call_open_tree,  call_setsockopt, call_setfsuid,
    };
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++)
        expect_killed(attacks[i]);
#ifndef FOB_SANITIZE /* its run time needs these */
    expect_killed(call_prctl);
    expect_killed(call_tgkill);
    expect_killed(call_exec_memory);
    expect_killed(call_ioctl);
#endif
}

/* The attack that all this is for: without confinement it opens the whole file system. */
static void test_103_forged_handle_is_an_attack(void **state)
{
    (void)state;
    if (run(forged_handle, UNCONFINED) != SUCCEEDED) {
        puts("skipped: no handle can be forged on this file system");
        skip();
    }
    expect_killed(forged_handle);
}

static bool call_pidfd_getfd(const struct inside *inside)
{
    return syscall(SYS_pidfd_getfd, inside->slash, 0, 0) >= 0;
}

static bool memory_of_another(const struct inside *inside)
{
    char path[32];
    (void)inside;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)tester);
    return opens(AT_FDCWD, path);
}

/* CAP_SYS_PTRACE without these is a right to read links. */
static void test_104_identity_helper(void **state)
{
    (void)state;
    static attack_fn *const attacks[] = {
        call_ptrace,    call_pidfd_getfd, call_process_vm_readv, call_kill,    call_execve,     call_socket,
        call_fork,      call_mount,       call_setuid,           call_unshare, call_pidfd_open, call_bpf,
        call_open_tree, call_io_uring,    call_setsockopt,       call_chmod,   call_unlink,     forged_handle
    };
    static attack_fn *const reads[] = { shadow_by_path, shadow_from_slash, own_file, memory_of_another };
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++)
        assert_int_equal(run(attacks[i], IDENTITY_HELPER), 128 + SIGSYS);
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
        assert_int_equal(run(reads[i], UNCONFINED), SUCCEEDED);
        assert_int_equal(run(reads[i], IDENTITY_HELPER), REFUSED);
    }
}

#ifdef __x86_64__
static bool call_x32(const struct inside *inside)
{
    (void)inside;
    return syscall(0x40000000 | SYS_getpid) > 0;
}

static bool call_int80(const struct inside *inside)
{
    long result = 20; /* getpid of i386 */
    (void)inside;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    return result > 0;
}

static void test_106_other_call_tables(void **state)
{
    (void)state;
    assert_int_equal(run(call_x32, WORKER), 128 + SIGSYS);
    int status = run(call_int80, WORKER);
    assert_true(status == 128 + SIGSYS ||
                status == 128 + SIGSEGV); /* a kernel without IA32 emulation faults */
}
#endif

/* ---- 107: a step that fails ---- */

static int confine_with(const struct confine_plan *plan)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct confine_state state;
        int err = confine_prepare();
        if (err == 0)
            err = confine_worker(plan, &state);
        _exit(err < 0 ? REFUSED : SUCCEEDED);
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void test_107_never_uid_0(void **state)
{
    (void)state;
    struct confine_plan plan = {
        .privileged = true, .uid = 0, .gid = UID, .needs = needs, .mounts = &mounts
    };
    assert_int_equal(confine_with(&plan), REFUSED);
}

static void test_107_required_means_all(void **state)
{
    (void)state;
    struct mounts unsealed = mounts;
    unsealed.sealed = false;
    unsealed.error = -EPERM;
    struct confine_plan plan = {
        .privileged = true, .uid = UID, .gid = UID, .needs = needs, .mounts = &unsealed
    };
    assert_int_equal(confine_with(&plan), SUCCEEDED);
    plan.required = true;
    assert_int_equal(confine_with(&plan), REFUSED);
}

static void test_text(void **state)
{
    (void)state;
    char text[CONFINE_TEXT];
    assert_string_equal(confine_text(text, 0), "");
    assert_string_equal(confine_text(text, CONFINE_UID | CONFINE_SECCOMP), "uid seccomp");
    assert_true(strlen(confine_text(text, CONFINE_ALL)) < sizeof text);
}

/* ---- the policy and its directory ---- */

static int setup(void **state)
{
    (void)state;
    char text[128], path[64];
    struct policy_messages messages = { 0 };
    tester = getpid();
    if (!mkdtemp(dir) || chmod(dir, 0755) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/inside", dir);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/inside/file", dir);
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    snprintf(path, sizeof path, "%s/outside", dir);
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    int len = snprintf(text, sizeof text, "allow any read %s/inside/**\n", dir);
    if (policy_load_text(&policy, "t", text, (size_t)len, &(struct policy_env){ 0 }, &messages) < 0)
        return -1;
    policy_get_needs(policy, &needs);
    return mounts_open(&mounts, policy) < 0 || !mounts.sealed ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[64];
    mounts_close(&mounts);
    policy_free(policy);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    if (geteuid() != 0) {
        puts("skipped: needs root");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_102_files),
        cmocka_unit_test(test_103_104_system_calls_kill),
        cmocka_unit_test(test_103_forged_handle_is_an_attack),
        cmocka_unit_test(test_104_identity_helper),
#ifdef __x86_64__
        cmocka_unit_test(test_106_other_call_tables),
#endif
        cmocka_unit_test(test_107_never_uid_0),
        cmocka_unit_test(test_107_required_means_all),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests_name("confine", tests, setup, teardown);
}
