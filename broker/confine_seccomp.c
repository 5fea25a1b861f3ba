/*
 * The system calls that are left. What stands here is what the code does; io_uring, open_by_handle_at,
 * ptrace, exec, socket, mount and all others are not on the lists, and kill: a process that tries them is not
 * ours any more.
 *
 * open_by_handle_at above all: with CAP_DAC_READ_SEARCH a forged handle opens any inode of a file system,
 * through chroot and, on a detached mount, through Landlock ("shocker", 2014).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/util.h"
#include "confine_steps.h"
#include "identity.h"

/* Memory, time, signals of one's own, the end. */
static const int basic[] = {
    SCMP_SYS(brk),          SCMP_SYS(munmap),          SCMP_SYS(mremap),
    SCMP_SYS(madvise),      SCMP_SYS(futex),           SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday), SCMP_SYS(rt_sigprocmask),  SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),     SCMP_SYS(getpid),
    SCMP_SYS(gettid),       SCMP_SYS(getuid),          SCMP_SYS(geteuid),
    SCMP_SYS(getgid),       SCMP_SYS(getegid),         SCMP_SYS(getrandom),
    SCMP_SYS(rseq),         SCMP_SYS(set_robust_list), SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),         SCMP_SYS(exit_group),      SCMP_SYS(close),
    SCMP_SYS(write),        SCMP_SYS(recvmsg),         SCMP_SYS(sendmsg),
    SCMP_SYS(poll),         SCMP_SYS(ppoll),           SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),   SCMP_SYS(readlinkat),
};

/* Its flags stand in memory, where a filter cannot look at them: not for who may open places only. */
static const int opening[] = { SCMP_SYS(openat2) };

static const int of_worker[] = {
    SCMP_SYS(epoll_wait),      SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl), SCMP_SYS(accept4),
    SCMP_SYS(recvfrom),        SCMP_SYS(sendto),      SCMP_SYS(shutdown),  SCMP_SYS(statx),
    SCMP_SYS(fstatfs),         SCMP_SYS(ftruncate),   SCMP_SYS(writev),    SCMP_SYS(getgroups),
    SCMP_SYS(timerfd_settime),
};

/* as=caller, as=user:, and files that are their creator's. */
static const int of_identity[] = { SCMP_SYS(setgroups), SCMP_SYS(setfsuid), SCMP_SYS(setfsgid),
                                   SCMP_SYS(capset), SCMP_SYS(capget) };

/* It has children, with an alarm each. */
static const int of_courier[] = { SCMP_SYS(setresuid), SCMP_SYS(setresgid), SCMP_SYS(connect),
                                  SCMP_SYS(fork),      SCMP_SYS(wait4),     SCMP_SYS(alarm),
                                  SCMP_SYS(setitimer) };
static const int of_sealer[] = { SCMP_SYS(open_tree), SCMP_SYS(mount_setattr), SCMP_SYS(read) };

/* With CAP_SYS_PTRACE ptrace, pidfd_getfd and process_vm_readv would be other processes' memory and files. */
static const int of_identity_helper[] = { SCMP_SYS(statx), SCMP_SYS(read) };

#ifdef FOB_SANITIZE
/* What the sanitizers' run time does in a process that is well, and to report one that is not. */
static const int of_sanitizer[] = {
    SCMP_SYS(sched_yield), SCMP_SYS(prlimit64), SCMP_SYS(readlink),          SCMP_SYS(openat),
    SCMP_SYS(lseek),       SCMP_SYS(read),      SCMP_SYS(sched_getaffinity), SCMP_SYS(sysinfo),
    SCMP_SYS(getppid),     SCMP_SYS(prctl),     SCMP_SYS(mprotect),          SCMP_SYS(mmap),
    SCMP_SYS(ioctl),       SCMP_SYS(tgkill),
};
#endif

static int allow_all(scmp_filter_ctx filter, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
        if (err < 0 && err != -EDOM) /* a call that this architecture does not have */
            return err;
    }
    return 0;
}

static int allow_if(scmp_filter_ctx filter, int call, struct scmp_arg_cmp condition)
{
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, condition);
}

/* Calls that are harmless with some arguments only. No memory becomes executable; abort(3) may kill this very
 * process. */
static int allow_conditional(scmp_filter_ctx filter)
{
    static const unsigned long commands[] = { F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC };
    int err = allow_if(filter, SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (err == 0)
        err = allow_if(filter, SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (err == 0)
        err = allow_if(filter, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, SIOCOUTQ));
    if (err == 0)
        err = allow_if(filter, SCMP_SYS(getsockopt), SCMP_A1(SCMP_CMP_EQ, SOL_SOCKET));
    if (err == 0)
        err = allow_if(filter, SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    for (size_t i = 0; err == 0 && i < ARRAY_SIZE(commands); i++)
        err = allow_if(filter, SCMP_SYS(fcntl), SCMP_A1(SCMP_CMP_EQ, commands[i]));
    return err;
}

static int add_basic(scmp_filter_ctx filter)
{
    int err = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (err == 0)
        err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE,
                               2); /* a binary tree: every call is as near as another */
    if (err == 0)
        err = allow_all(filter, basic, ARRAY_SIZE(basic));
    if (err == 0)
        err = allow_conditional(filter);
#ifdef FOB_SANITIZE
    if (err == 0)
        err = allow_all(filter, of_sanitizer, ARRAY_SIZE(of_sanitizer));
#endif
    return err;
}

/* Read back from the kernel: mode 2 is a filter. prctl itself is gone behind it, so it is asked of a process
 * without it: the load's own result has to do. */
static int load(scmp_filter_ctx filter, int err)
{
    if (err == 0)
        err = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    return err;
}

/* Begins a filter with what every process needs, and `own`. 0 and *filter, or a negative errno with which
 * load() ends it. */
static int begin(scmp_filter_ctx *filter, const int *own, size_t n)
{
    *filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int err = *filter ? add_basic(*filter) : -ENOMEM;
    return err == 0 ? allow_all(*filter, own, n) : err;
}

int confine_seccomp_worker(bool identity)
{
    scmp_filter_ctx filter;
    int err = begin(&filter, of_worker, ARRAY_SIZE(of_worker));
    if (err == 0)
        err = allow_all(filter, opening, ARRAY_SIZE(opening));
    if (err == 0)
        err = allow_all(filter, of_identity, identity ? ARRAY_SIZE(of_identity) : 0);
    if (err == 0 && !identity) /* assume_new() looks at the capabilities once */
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(capget), 0);
    return load(filter, err);
}

int confine_seccomp_sealer(void)
{
    scmp_filter_ctx filter;
    int err = begin(&filter, of_sealer, ARRAY_SIZE(of_sealer));
    if (err == 0)
        err = allow_all(filter, opening, ARRAY_SIZE(opening));
    return load(filter, err);
}

int confine_seccomp_identity(void)
{
    const scmp_datum_t get_info = IDENTITY_PIDFD_GET_INFO;
    scmp_filter_ctx filter;
    int err = begin(&filter, of_identity_helper, ARRAY_SIZE(of_identity_helper));
    if (err == 0)
        err = allow_all(filter, opening, ARRAY_SIZE(opening));
    if (err == 0)
        err = allow_if(filter, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, get_info));
    return load(filter, err);
}

int confine_seccomp_courier(void)
{
    const scmp_datum_t like_fork = CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    scmp_filter_ctx filter;
    int err = begin(&filter, of_courier, ARRAY_SIZE(of_courier));
    if (err == 0) /* a process, in the same namespaces: what fork(3) asks for */
        err = allow_if(filter, SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, ~like_fork, SIGCHLD));
    if (err == 0)
        err = allow_if(filter, SCMP_SYS(socket), SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
    if (err == 0)
        err = allow_if(filter, SCMP_SYS(openat), SCMP_A2(SCMP_CMP_MASKED_EQ, O_PATH, O_PATH));
    return load(filter, err);
}
