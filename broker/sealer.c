#include "sealer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/path.h"
#include "../common/util.h"
#include "mounts.h"
#include "userns.h"

enum { CHANNELS_MAX = 512, REPLY_TIMEOUT_MS = 1000 };

struct seal_request {
    uint32_t sequence;
    uint32_t path_only;
};
struct seal_reply {
    uint32_t sequence;
    int32_t error; /* 0 or a negative errno */
};

/* ---- the process ---- */

struct sealer {
    bool privileged;
    int proc_self_fd;
    struct pollfd ends[CHANNELS_MAX];
    size_t n;
};

static int open_again(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = { .flags = flags | O_DIRECTORY | O_CLOEXEC, .resolve = resolve };
    long fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

static bool is_same(int a, int b)
{
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && S_ISDIR(x.st_mode) && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

/* In a namespace of our own the worker's directory is found again by its name, and must be the same one: a
 * mount of another namespace cannot be cloned. */
static int find_here(struct sealer *s, int dir)
{
    char name[16], path[PATH_TEXT_MAX + 1];
    snprintf(name, sizeof name, "%d", dir);
    ssize_t len = readlinkat(s->proc_self_fd, name, path, sizeof path);
    if (len < 0 || len == (ssize_t)sizeof path)
        return len < 0 ? -errno : -ENAMETOOLONG;
    path[len] = '\0';
    CLEANUP(fd_cleanup)
    int here = open_again(AT_FDCWD, path, O_PATH, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
    if (here < 0)
        return here;
    return is_same(here, dir) ? fd_take(&here) : -ESTALE;
}

static int seal(struct sealer *s, int dir, bool path_only)
{
    CLEANUP(fd_cleanup) int here = s->privileged ? -1 : find_here(s, dir);
    if (!s->privileged && here < 0)
        return here;
    CLEANUP(fd_cleanup) int tree = mounts_clone(s->privileged ? dir : here, true);
    if (tree < 0)
        return tree;
    return open_again(tree, ".", path_only ? O_PATH : O_RDONLY, RESOLVE_BENEATH);
}

/* False when the channel is done for. */
static bool serve(struct sealer *s, int sock)
{
    static struct msg_in in;
    struct seal_request request;
    int got = msg_recv(sock, &request, sizeof request, MSG_DONTWAIT, &in);
    if (got == -EAGAIN)
        return true;
    if (got != 1)
        return false;
    bool whole = in.len == sizeof request && in.n_fds == 1;
    CLEANUP(fd_cleanup) int fd = whole ? seal(s, in.fds[0], request.path_only) : -EPROTO;
    fd_close_many(in.fds, in.n_fds);
    struct seal_reply reply = { whole ? request.sequence : 0, fd < 0 ? fd : 0 };
    msg_send(sock, &reply, sizeof reply, &fd, fd >= 0, NULL, MSG_DONTWAIT);
    return whole;
}

static void serve_all(struct sealer *s)
{
    size_t open = s->n;
    while (open && (poll(s->ends, s->n, -1) >= 0 || errno == EINTR))
        for (size_t i = 0; i < s->n; i++) {
            if (!s->ends[i].revents || s->ends[i].fd < 0)
                continue;
            if (serve(s, s->ends[i].fd))
                continue;
            s->ends[i].fd = fd_close(s->ends[i].fd);
            open--;
        }
}

static int compare_fds(const void *a, const void *b)
{
    return ((const struct pollfd *)a)->fd - ((const struct pollfd *)b)->fd;
}

/* Everything but standard error and our ends: nothing that the supervisor had open is the sealer's business.
 */
static void close_others(struct sealer *s)
{
    unsigned from = STDERR_FILENO + 1;
    qsort(s->ends, s->n, sizeof *s->ends, compare_fds);
    for (size_t i = 0; i < s->n; i++) {
        unsigned keep = (unsigned)s->ends[i].fd;
        if (from < keep)
            close_range(from, keep - 1, 0);
        from = keep + 1;
    }
    close_range(from, ~0u, 0);
}

static int sealer_run(struct sealer *s, const struct confine_plan *plan)
{
    struct confine_state state;
    prctl(PR_SET_NAME, "fobd-sealer");
    static const int ignored[] = { SIGPIPE, SIGINT, SIGHUP, SIGTERM };
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        signal(ignored[i], SIG_IGN);
    close_others(s);
    int err = plan->privileged ? 0 : userns_enter();
    if (err == 0)
        err = confine_prepare();
    if (err == 0)
        err = confine_sealer(plan, &state);
    if (err < 0) {
        log_warning("directories cannot be sealed, and are refused: %s", strerror(-err));
        return 1;
    }
    s->privileged = plan->privileged;
    s->proc_self_fd = state.proc_self_fd;
    serve_all(s);
    return 0;
}

/* ---- the supervisor's side ---- */

static int make_channels(struct sealer_channel *channels, struct sealer *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
            return -errno;
        channels[i].sock = pair[0];
        s->ends[s->n++] = (struct pollfd){ .fd = pair[1], .events = POLLIN };
    }
    return 0;
}

pid_t sealer_start(struct sealer_channel *channels, size_t n, const struct confine_plan *plan)
{
    struct sealer s = { .proc_self_fd = -1 };
    if (n > CHANNELS_MAX)
        return -E2BIG;
    for (size_t i = 0; i < n; i++)
        channels[i].sock = -1;
    int err = make_channels(channels, &s, n);
    pid_t pid = err == 0 ? fork() : err;
    if (pid == 0)
        _exit(sealer_run(&s, plan));
    if (err == 0 && pid < 0)
        err = -errno;
    for (size_t i = 0; i < s.n; i++)
        fd_close(s.ends[i].fd);
    for (size_t i = 0; err < 0 && i < n; i++)
        channels[i].sock = fd_close(channels[i].sock);
    return err < 0 ? err : pid;
}

/* ---- the worker's side ---- */

/* The answer to this request: one that its predecessor in the slot did not wait for is passed over. */
static int receive_reply(struct sealer_channel *channel)
{
    static struct msg_in in;
    struct seal_reply reply;
    struct pollfd polled = { .fd = channel->sock, .events = POLLIN };
    for (;;) {
        int ready = poll(&polled, 1, REPLY_TIMEOUT_MS);
        if (ready == 0)
            return -ETIMEDOUT;
        if (ready < 0 && errno != EINTR)
            return -errno;
        int got = ready > 0 ? msg_recv(channel->sock, &reply, sizeof reply, MSG_DONTWAIT, &in) : -EAGAIN;
        if (got == -EAGAIN)
            continue;
        if (got != 1)
            return got < 0 ? got : -EPIPE;
        if (in.len == sizeof reply && reply.sequence == channel->sequence)
            break;
        fd_close_many(in.fds, in.n_fds);
    }
    if (reply.error == 0 && in.n_fds == 1)
        return in.fds[0];
    fd_close_many(in.fds, in.n_fds);
    return reply.error < 0 ? reply.error : -EPROTO;
}

int sealer_seal(struct sealer_channel *channel, int dir_fd, int path_only)
{
    struct seal_request request = { ++channel->sequence, path_only != 0 };
    if (channel->sock < 0)
        return -ENOTCONN;
    int err = msg_send(channel->sock, &request, sizeof request, &dir_fd, 1, NULL, MSG_DONTWAIT);
    return err < 0 ? err : receive_reply(channel);
}
