#include "invoke.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/peer.h"
#include "../common/sock.h"
#include "../common/util.h"

enum {
    MIN_DESCRIPTORS = 256,
    MIN_STACK = 1 << 20,
    DESCRIPTORS = 65536, /* a lower limit is raised, where that is allowed */
};

/* ---- with whose rights ---- */

static bool has_capabilities(void)
{
    cap_t have = cap_get_proc(), none = cap_init();
    bool some = have && none && cap_compare(have, none) != 0;
    cap_free(have);
    cap_free(none);
    return some;
}

/* Installed to have more rights than who starts it? */
static bool is_installed_elevated(void)
{
    struct stat st;
    char value[64];
    int fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    bool marked =
        fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)) && st.st_uid != getuid();
    fd_close(fd);
    return marked || getxattr("/proc/self/exe", "security.capability", value, sizeof value) > 0;
}

enum invoke_rights invoke_rights(void)
{
    bool differs = geteuid() != getuid() || getegid() != getgid();
    if (getuid() == 0 && !differs)
        return INVOKE_OWN;
    if (geteuid() == 0 || (has_capabilities() && getauxval(AT_SECURE)))
        return INVOKE_ELEVATED;
    return differs || getauxval(AT_SECURE) || is_installed_elevated() ? INVOKE_DENIED : INVOKE_OWN;
}

/* ---- what the caller set ---- */

/* Of the kernel: libc keeps two of them from its users. EINVAL for SIGKILL and SIGSTOP. */
static void set_signal(int number, void (*handler)(int))
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } action = { .handler = handler };
    syscall(SYS_rt_sigaction, number, &action, NULL, sizeof action.mask);
}

/* What is pending or blocked, handled or ignored, and every timer that lives through execve(2). */
static int clean_signals(void)
{
    static const struct itimerval off;
    sigset_t none;
    sigemptyset(&none);
    for (int i = 1; i < NSIG; i++) /* to be ignored takes away what is pending */
        set_signal(i, SIG_IGN);
    for (int i = 1; i < NSIG; i++)
        set_signal(i, SIG_DFL);
    setitimer(ITIMER_REAL, &off, NULL);
    setitimer(ITIMER_VIRTUAL, &off, NULL);
    setitimer(ITIMER_PROF, &off, NULL);
    return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

/* Lifts a limit; one that is lower than `least` all the same is an error. */
static int lift_limit(int resource, rlim_t least, const char *name)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) < 0)
        return -errno;
    struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
    if (resource == RLIMIT_NOFILE && limit.rlim_max < DESCRIPTORS) {
        all.rlim_cur = all.rlim_max = DESCRIPTORS;
        if (setrlimit(resource, &all) == 0)
            return 0;
    }
    if (resource == RLIMIT_NOFILE || setrlimit(resource, &all) < 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(resource, &limit) < 0)
            return -errno;
        if (limit.rlim_cur < least) {
            log_error("resource limit %s: it is lower than fobd needs, and cannot be lifted (see ulimit in "
                      "your shell)",
                      name);
            return -EPERM;
        }
    }
    return 0;
}

/* Those that would end it in the middle of something, or cut the audit short. */
static int lift_limits(void)
{
    int err = lift_limit(RLIMIT_FSIZE, RLIM_INFINITY, "FSIZE");
    if (err == 0)
        err = lift_limit(RLIMIT_CPU, RLIM_INFINITY, "CPU");
    if (err == 0)
        err = lift_limit(RLIMIT_STACK, MIN_STACK, "STACK");
    if (err == 0)
        err = lift_limit(RLIMIT_NOFILE, MIN_DESCRIPTORS, "NOFILE");
    if (err == 0)
        err = lift_limit(RLIMIT_AS, RLIM_INFINITY, "AS");
    if (err == 0)
        err = lift_limit(RLIMIT_DATA, RLIM_INFINITY, "DATA");
    return err;
}

/*
 * The strings too, which /proc/PID/environ shows, and those that ld.so has taken out: all between the last
 * argument and the program's name behind them (execve(2), getauxval(3)).
 */
static void clean_environment(char *last_argument)
{
    char *end = (char *)getauxval(AT_EXECFN); /* NOLINT(performance-no-int-to-ptr) */
    char *begin = last_argument ? last_argument + strlen(last_argument) + 1 : end;
    if (begin < end)
        explicit_bzero(begin, (size_t)(end - begin));
    clearenv();
}

/* Into the group of a child that lives for a moment. */
static void leave_group(void)
{
    int pair[2];
    char byte;
    if (pipe2(pair, O_CLOEXEC) < 0)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        fd_close(pair[1]);
        _exit(read(pair[0], &byte, 1) != 0); /* until its parent has joined it */
    }
    if (pid > 0 && setpgid(pid, pid) == 0)
        setpgid(0, pid);
    fd_close_many(pair, ARRAY_SIZE(pair));
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/*
 * No terminal of the caller's. The leader of a process group, as every job of a shell is, cannot make a
 * session; and should it leave the group first and make one then, its new group would have the old one's
 * number, by which the terminal knows whom its keys are for. What keys send is ignored besides, and a reader
 * of standard error that is gone.
 */
static void leave_terminal(void)
{
    static const int keys[] = { SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGPIPE };
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        signal(keys[i], SIG_IGN);
    if (setsid() >= 0 || getsid(0) == getpid())
        return; /* who leads the session would take the terminal from all of it */
    leave_group();
    CLEANUP(fd_cleanup) int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (terminal >= 0)
        ioctl(terminal, TIOCNOTTY);
}

/* How much of the machine it gets, and whether it goes first when memory is short: what it cannot have stays.
 */
static void clean_shares(void)
{
    const struct sched_param ordinary = { .sched_priority = 0 };
    cpu_set_t all;
    memset(&all, 0xff, sizeof all);
    sched_setscheduler(0, SCHED_OTHER, &ordinary);
    sched_setaffinity(0, sizeof all, &all);
    setpriority(PRIO_PROCESS, 0, 0);
    syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, 0);
    CLEANUP(fd_cleanup) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "0", 1) != 1)
        log_debug("oom_score_adj: %s", strerror(errno));
}

int invoke_clean(int keep, char *last_argument)
{
    clean_environment(last_argument);
    if (keep > STDERR_FILENO + 1)
        close_range(STDERR_FILENO + 1, (unsigned)keep - 1, 0);
    close_range(keep > STDERR_FILENO ? (unsigned)keep + 1 : STDERR_FILENO + 1, ~0u, 0);
    umask(022);
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_PDEATHSIG, 0);
    int err = clean_signals();
    leave_terminal();
    clean_shares();
    if (err == 0)
        err = lift_limits();
    return chdir("/") < 0 ? -errno : err;
}

int invoke_open_standard(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0)
        return -errno;
    fd_close(fd);
    return 0;
}

/* ---- changing them ---- */

static int raise_effective(void)
{
    cap_t caps = cap_get_proc();
    int err = caps ? 0 : -errno;
    for (cap_value_t cap = 0; err == 0 && cap <= CAP_LAST_CAP; cap++) {
        cap_flag_value_t held = CAP_CLEAR;
        if (cap_get_flag(caps, cap, CAP_PERMITTED, &held) == 0 && held == CAP_SET)
            cap_set_flag(caps, CAP_EFFECTIVE, 1, &cap, CAP_SET);
    }
    if (err == 0 && cap_set_proc(caps) < 0)
        err = -errno;
    cap_free(caps);
    return err;
}

int invoke_become_root(void)
{
    int err = raise_effective();
    if (err == 0 && (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
        err = -errno;
    if (err < 0)
        log_error("cannot take the rights that it is installed with: %s (set-user-ID root, or the file "
                  "capabilities of "
                  "fobd(8))",
                  strerror(-err));
    return err;
}

int invoke_become_caller(void)
{
    uid_t uid = getuid();
    gid_t gid = getgid();
    cap_t none = cap_init();
    int err = setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0 ? -errno : 0;
    if (err == 0 && uid != 0 && (!none || cap_set_proc(none) < 0))
        err = -errno;
    cap_free(none);
    return err;
}

/* ---- the client ---- */

static int option_of(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -1 : value;
}

bool invoke_has_client(void)
{
    struct sockaddr_un addr;
    socklen_t len = sizeof addr;
    int type = option_of(STDIN_FILENO, SO_TYPE);
    return option_of(STDIN_FILENO, SO_DOMAIN) == AF_UNIX && (type == SOCK_STREAM || type == SOCK_SEQPACKET) &&
           getpeername(STDIN_FILENO, (struct sockaddr *)&addr, &len) == 0;
}

static bool has_same_groups(const struct peer *peer)
{
    int n = getgroups(0, NULL);
    CLEANUP(free_cleanup) gid_t *groups = n >= 0 ? mem_zalloc((size_t)n + 1, sizeof *groups) : NULL;
    if (!groups || getgroups(n, groups) != n)
        return false;
    sort_ids(groups, (size_t)n);
    return (size_t)n == peer->n_groups &&
           (n == 0 || memcmp(groups, peer->groups, (size_t)n * sizeof *groups) == 0);
}

int invoke_check_client(void)
{
    struct peer peer;
    int err = sock_set_receive_options(STDIN_FILENO);
    if (err == 0)
        err = peer_init(&peer, STDIN_FILENO);
    if (err < 0) {
        log_error("standard input: whose socket it is cannot be found out: %s", strerror(-err));
        return err;
    }
    if (peer.uid != getuid() || peer.gid != getgid() || !has_same_groups(&peer)) {
        log_error("standard input: its socket was connected by uid %u, gid %u, and fobd was started by uid "
                  "%u, gid %u "
                  "(who starts it has to make the socket, in the same groups)",
                  (unsigned)peer.uid, (unsigned)peer.gid, (unsigned)getuid(), (unsigned)getgid());
        err = -EPERM;
    }
    peer_deinit(&peer);
    return err;
}

int invoke_take_client(void)
{
    struct stat client, st;
    CLEANUP(fd_cleanup) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CLEANUP(fd_cleanup) int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (null < 0 || fd < 0 || fstat(fd, &client) < 0)
        return -errno;
    for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
        if (fstat(i, &st) == 0 && st.st_dev == client.st_dev && st.st_ino == client.st_ino &&
            dup2(null, i) < 0)
            return -errno;
    return fd_take(&fd);
}

int invoke_make_pair(int *own, int *served)
{
    uid_t euid = geteuid();
    gid_t egid = getegid();
    int pair[2], err = 0;
    if (setegid(getgid()) < 0 || seteuid(getuid()) < 0)
        return -errno;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        err = -errno;
    if (seteuid(euid) < 0 || setegid(egid) < 0)
        err = -errno;
    if (err == 0)
        err = sock_set_receive_options(pair[1]);
    if (err < 0)
        return err;
    *own = pair[0];
    *served = pair[1];
    return 0;
}
