#include "identity.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/util.h"

enum { CHANNELS_MAX = 512, REPLY_TIMEOUT_MS = 1000 };

/* nonce: of one worker. An answer that its predecessor in the slot did not wait for, about another client,
 * never looks like its own, however many questions that one had asked. */
struct question {
    uint32_t sequence, nonce;
    int32_t pid;
};

enum { HAS_EXE = 1 << 0, HAS_CGROUP = 1 << 1, HAS_UNIT = 1 << 2 };
struct answer {
    uint32_t sequence, nonce;
    int32_t error; /* 0 or a negative errno */
    uint32_t has;
    uint64_t exe_dev, exe_ino;
    char exe[IDENTITY_PATH], cgroup[IDENTITY_PATH], unit[IDENTITY_UNIT];
};

/* ---- the process ---- */

struct helper {
    int proc_fd;
    const struct mounts *mounts;
    struct pollfd ends[CHANNELS_MAX];
    size_t n;
};

static void fill(struct answer *answer, const struct identity *identity)
{
    answer->has = (identity->has_exe ? HAS_EXE : 0u) | (identity->has_cgroup ? HAS_CGROUP : 0u) |
                  (identity->has_unit ? HAS_UNIT : 0u);
    answer->exe_dev = identity->exe_dev;
    answer->exe_ino = identity->exe_ino;
    memcpy(answer->exe, identity->exe, sizeof answer->exe);
    memcpy(answer->cgroup, identity->cgroup, sizeof answer->cgroup);
    memcpy(answer->unit, identity->unit, sizeof answer->unit);
}

/* False when the channel is done for. */
static bool serve(struct helper *h, int sock)
{
    static struct msg_in in;
    static struct identity identity;
    static struct answer answer;
    struct question question;
    int got = msg_recv(sock, &question, sizeof question, MSG_DONTWAIT, &in);
    if (got == -EAGAIN)
        return true;
    if (got != 1)
        return false;
    bool whole = in.len == sizeof question && in.n_fds == 1;
    if (whole) {
        answer.sequence = question.sequence;
        answer.nonce = question.nonce;
        answer.error = identity_read(h->proc_fd, h->mounts, in.fds[0], question.pid, &identity);
        fill(&answer, &identity);
        msg_send(sock, &answer, sizeof answer, NULL, 0, NULL, MSG_DONTWAIT);
    }
    fd_close_many(in.fds, in.n_fds);
    return whole;
}

static void serve_all(struct helper *h)
{
    size_t open = h->n;
    while (open && (poll(h->ends, h->n, -1) >= 0 || errno == EINTR))
        for (size_t i = 0; i < h->n; i++) {
            if (!h->ends[i].revents || h->ends[i].fd < 0)
                continue;
            if (serve(h, h->ends[i].fd))
                continue;
            h->ends[i].fd = fd_close(h->ends[i].fd);
            open--;
        }
}

static int compare_fds(const void *a, const void *b)
{
    return ((const struct pollfd *)a)->fd - ((const struct pollfd *)b)->fd;
}

/* Everything but standard error and our ends: nothing that the supervisor had open is the helper's business.
 */
static void close_others(struct helper *h)
{
    unsigned from = STDERR_FILENO + 1;
    qsort(h->ends, h->n, sizeof *h->ends, compare_fds);
    for (size_t i = 0; i < h->n; i++) {
        unsigned keep = (unsigned)h->ends[i].fd;
        if (from < keep)
            close_range(from, keep - 1, 0);
        from = keep + 1;
    }
    close_range(from, ~0u, 0);
}

/* A /proc of another pid namespace would have others under our clients' numbers. */
static int open_proc(struct helper *h)
{
    char self[16], own[16];
    h->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (h->proc_fd < 0)
        return -errno;
    ssize_t len = readlinkat(h->proc_fd, "self", self, sizeof self - 1);
    if (len < 0)
        return -errno;
    self[len] = '\0';
    snprintf(own, sizeof own, "%d", (int)getpid());
    return strcmp(self, own) == 0 ? 0 : -EREMOTE;
}

static int helper_run(struct helper *h, const struct confine_plan *plan)
{
    struct confine_state state = { 0 };
    prctl(PR_SET_NAME, "fobd-identity");
    static const int ignored[] = { SIGPIPE, SIGINT, SIGHUP, SIGTERM };
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        signal(ignored[i], SIG_IGN);
    close_others(h);
    int err = open_proc(h);
    if (err == 0)
        err = confine_identity(plan, &state);
    if (err < 0) {
        log_warning("exe:, unit: and cgroup: are not known of any client: %s", strerror(-err));
        return 1;
    }
    if (plan->privileged && state.errors[__builtin_ctz(CONFINE_CAPABILITIES)])
        log_warning("executables are not known: no CAP_SYS_PTRACE (give it to fobd, or use no exe: terms)");
    serve_all(h);
    return 0;
}

/* ---- the supervisor's side ---- */

static int make_channels(struct identity_channel *channels, struct helper *h, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
            return -errno;
        channels[i].sock = pair[0];
        h->ends[h->n++] = (struct pollfd){ .fd = pair[1], .events = POLLIN };
    }
    return 0;
}

pid_t identity_start(struct identity_channel *channels, size_t n, const struct confine_plan *plan)
{
    struct helper h = { .proc_fd = -1, .mounts = plan->mounts };
    if (n > CHANNELS_MAX)
        return -E2BIG;
    for (size_t i = 0; i < n; i++)
        channels[i].sock = -1;
    int err = make_channels(channels, &h, n);
    pid_t pid = err == 0 ? fork() : err;
    if (pid == 0)
        _exit(helper_run(&h, plan));
    if (err == 0 && pid < 0)
        err = -errno;
    for (size_t i = 0; i < h.n; i++)
        fd_close(h.ends[i].fd);
    for (size_t i = 0; err < 0 && i < n; i++)
        channels[i].sock = fd_close(channels[i].sock);
    return err < 0 ? err : pid;
}

/* ---- the worker's side ---- */

static int receive_one(int sock, struct answer *answer, size_t *len)
{
    static struct msg_in in;
    int got = msg_recv(sock, answer, sizeof *answer, MSG_DONTWAIT, &in);
    if (got < 0)
        return got;
    fd_close_many(in.fds, got > 0 ? in.n_fds : 0);
    *len = in.len;
    return got > 0 ? 0 : -EPIPE;
}

/* The answer to this question; others' are passed over. */
static int receive_answer(int sock, const struct question *question, struct answer *answer)
{
    int64_t deadline = clock_ms() + REPLY_TIMEOUT_MS;
    struct pollfd polled = { .fd = sock, .events = POLLIN };
    size_t len;
    for (;;) {
        int64_t left = deadline - clock_ms();
        int ready = left > 0 ? poll(&polled, 1, (int)left) : 0;
        if (ready == 0)
            return -ETIMEDOUT;
        if (ready < 0 && errno != EINTR)
            return -errno;
        int err = ready > 0 ? receive_one(sock, answer, &len) : -EAGAIN;
        if (err == -EAGAIN)
            continue;
        if (err < 0)
            return err;
        if (len == sizeof *answer && answer->sequence == question->sequence &&
            answer->nonce == question->nonce)
            return answer->error <= 0 ? answer->error : -EPROTO;
    }
}

/* A text that does not end, of a helper that is not ours any more, is none. */
static bool copy_text(char *out, const char *text, size_t size, bool has)
{
    if (!has || !memchr(text, '\0', size))
        return false;
    memcpy(out, text, size);
    return true;
}

static void take(const struct answer *answer, struct identity *out)
{
    out->has_exe = copy_text(out->exe, answer->exe, sizeof out->exe, answer->has & HAS_EXE);
    out->has_cgroup = copy_text(out->cgroup, answer->cgroup, sizeof out->cgroup, answer->has & HAS_CGROUP);
    out->has_unit = copy_text(out->unit, answer->unit, sizeof out->unit, answer->has & HAS_UNIT);
    if (out->has_exe) {
        out->exe_dev = (dev_t)answer->exe_dev;
        out->exe_ino = (ino_t)answer->exe_ino;
    }
}

/* Another one in every process: a child does not go on with its parent's. */
static int get_nonce(uint32_t *out)
{
    static uint32_t nonce;
    static pid_t owner;
    if (owner != getpid() && getrandom(&nonce, sizeof nonce, 0) != sizeof nonce)
        return -EIO;
    owner = getpid();
    *out = nonce;
    return 0;
}

int identity_ask(struct identity_channel *channel, int pidfd, pid_t pid, struct identity *out)
{
    static struct answer answer;
    struct question question = { .sequence = ++channel->sequence, .pid = pid };
    *out = (struct identity){ 0 };
    if (channel->sock < 0)
        return -ENOTCONN;
    int err = get_nonce(&question.nonce);
    if (err == 0)
        err = msg_send(channel->sock, &question, sizeof question, &pidfd, 1, NULL, MSG_DONTWAIT);
    if (err == 0)
        err = receive_answer(channel->sock, &question, &answer);
    if (err == 0)
        take(&answer, out);
    return err;
}
