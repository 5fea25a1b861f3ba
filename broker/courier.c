#include "courier.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/util.h"
#include "../common/wire.h"

enum {
    OUTSTANDING_MAX = 4096, /* replies with descriptors that nobody has taken yet */
    OUTSTANDING_PER_USER = 64,
    SWEEP_MS = 100,
    END_MS = 200,
};

/* A reply whose descriptors are on their way: they count against the limit of all processes of this user
 * (unix(7), ETOOMANYREFS) until they are taken. Each has a socket of its own, which says so (SIOCOUTQ). */
struct outstanding {
    int sock;
    uid_t uid;
    unsigned fds;
};

struct post {
    int queue, listener;
    int proc; /* O_PATH of /proc */
    bool privileged;
    uid_t uid;
    gid_t gid;
    struct stat net, mnt, root; /* our own */
    struct board_counters *counters;
    unsigned max_fds, max_fds_per_user;
    struct outstanding outstanding[OUTSTANDING_MAX];
    unsigned n_outstanding, n_fds;
    unsigned n_fds_listener; /* sent from the listener since all that it sent was read */
};

/* ---- with the asker's rights ---- */

static int wear(const struct post *post, uid_t uid, gid_t gid)
{
    if (!post->privileged)
        return 0;
    return setresgid((gid_t)-1, gid, (gid_t)-1) < 0 || setresuid((uid_t)-1, uid, (uid_t)-1) < 0 ? -errno : 0;
}

static void take_off(const struct post *post)
{
    if (post->privileged &&
        (setresuid((uid_t)-1, post->uid, (uid_t)-1) < 0 || setresgid((gid_t)-1, post->gid, (gid_t)-1) < 0))
        _exit(1); /* it must not go on as somebody else */
}

/* ---- is it the same name? ---- */

static bool is_same(const struct post *post, pid_t pid, const char *what, const struct stat *own)
{
    char path[32];
    struct stat st;
    snprintf(path, sizeof path, "%d/%s", (int)pid, what);
    return fstatat(post->proc, path, &st, 0) == 0 && st.st_dev == own->st_dev && st.st_ino == own->st_ino;
}

/* The socket that the asker's path leads to, as O_PATH: one of the asker's own. Or a negative errno. */
static int open_socket(const struct post *post, const struct courier_address *to)
{
    char path[sizeof to->name.sun_path + 1];
    size_t len = to->len - offsetof(struct sockaddr_un, sun_path);
    struct stat st;
    memcpy(path, to->name.sun_path, len);
    path[len] = '\0';
    if (path[0] != '/' || !is_same(post, to->asker.pid, "ns/mnt", &post->mnt) ||
        !is_same(post, to->asker.pid, "root", &post->root))
        return -EREMOTE;
    CLEANUP(fd_cleanup) int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode) || st.st_uid != to->asker.uid)
        return -EACCES;
    return fd_take(&fd);
}

/* Where the asker is, as it is called here; *target is kept open until it is sent to. 0 or a negative errno.
 */
static int find_name(const struct post *post, const struct courier_address *to, struct sockaddr_un *name,
                     socklen_t *len, int *target)
{
    *name = to->name;
    *len = to->len;
    if (to->name.sun_path[0] == '\0')
        return is_same(post, to->asker.pid, "ns/net", &post->net) ? 0 : -EREMOTE;
    *target = open_socket(post, to);
    if (*target < 0)
        return *target;
    int n = snprintf(name->sun_path, sizeof name->sun_path, "/proc/self/fd/%d", *target);
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + 1);
    return 0;
}

/* ---- what nobody has taken yet ---- */

static void sweep(struct post *post)
{
    for (unsigned i = 0; i < post->n_outstanding;) {
        struct outstanding *o = &post->outstanding[i];
        if (msg_unread(o->sock) > 0) {
            i++;
            continue;
        }
        fd_close(o->sock);
        post->n_fds -= o->fds;
        *o = post->outstanding[--post->n_outstanding];
    }
}

static bool has_room(const struct post *post, uid_t uid, size_t n_fds)
{
    unsigned replies = 0, fds = 0;
    for (unsigned i = 0; i < post->n_outstanding; i++)
        if (post->outstanding[i].uid == uid) {
            replies++;
            fds += post->outstanding[i].fds;
        }
    return replies < OUTSTANDING_PER_USER && post->n_outstanding < OUTSTANDING_MAX &&
           fds + n_fds <= post->max_fds_per_user && post->n_fds + n_fds <= post->max_fds;
}

/* Every result that had a descriptor says EAGAIN instead. */
static void withdraw(uint8_t *reply, size_t len)
{
    struct wire_result result;
    for (size_t at = WIRE_HEADER_SIZE; at + WIRE_RESULT_SIZE <= len; at += WIRE_RESULT_SIZE)
        if (wire_decode_result(reply + at, WIRE_RESULT_SIZE, &result) == 0 && result.fd_index != WIRE_NO_FD) {
            result.error = EAGAIN;
            result.fd_index = WIRE_NO_FD;
            wire_encode_result(reply + at, WIRE_RESULT_SIZE, &result);
        }
}

/* ---- one reply ---- */

/*
 * An asker that has connected its socket takes datagrams from where it is connected to alone: the socket of
 * all. What is unread there is known of all together only, so that few descriptors go that way.
 */
static int send_from_listener(struct post *post, const struct sockaddr_un *name, socklen_t name_len,
                              uint8_t *reply, size_t len, const int *fds, size_t n_fds)
{
    if (msg_unread(post->listener) == 0)
        post->n_fds_listener = 0;
    if (post->n_fds_listener + n_fds > post->max_fds_per_user) {
        withdraw(reply, len);
        board_add(&post->counters->over_quota, n_fds);
        n_fds = 0;
    }
    int err = msg_send_to(post->listener, name, name_len, reply, len, fds, n_fds);
    post->n_fds_listener += err == 0 ? (unsigned)n_fds : 0;
    return err;
}

static int send_reply(struct post *post, const struct courier_address *to, uint8_t *reply, size_t len,
                      const int *fds, size_t n_fds)
{
    struct sockaddr_un name;
    socklen_t name_len = 0;
    CLEANUP(fd_cleanup) int target = -1;
    CLEANUP(fd_cleanup) int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int err = sock < 0 ? -errno : find_name(post, to, &name, &name_len, &target);
    if (err == 0)
        err = msg_send_to(sock, &name, name_len, reply, len, fds, n_fds);
    if (err == -EPERM)
        return send_from_listener(post, &name, name_len, reply, len, fds, n_fds);
    if (err < 0 || n_fds == 0)
        return err;
    post->outstanding[post->n_outstanding++] =
        (struct outstanding){ fd_take(&sock), to->asker.uid, (unsigned)n_fds };
    post->n_fds += (unsigned)n_fds;
    return 0;
}

static int deliver(struct post *post, const struct courier_address *to, uint8_t *reply, size_t len,
                   const int *fds, size_t n_fds)
{
    if (n_fds && !has_room(post, to->asker.uid, n_fds))
        sweep(post);
    if (n_fds && !has_room(post, to->asker.uid, n_fds)) {
        withdraw(reply, len);
        board_add(&post->counters->over_quota, n_fds);
        n_fds = 0;
    }
    int err = wear(post, to->asker.uid, to->asker.gid);
    if (err == 0)
        err = send_reply(post, to, reply, len, fds, n_fds);
    take_off(post);
    return err;
}

/* A worker that somebody has taken over is not to send what it likes to whom it likes: replies, to a name. */
static bool is_sound(const struct courier_address *to, const uint8_t *reply, size_t len)
{
    struct wire_header header;
    return to->len > offsetof(struct sockaddr_un, sun_path) && to->len <= sizeof to->name &&
           to->name.sun_family == AF_UNIX && to->asker.pid > 0 &&
           wire_decode_header(reply, len, &header) == 0 && header.type & WIRE_REPLY;
}

/* False: the queue has ended. */
static bool serve_one(struct post *post)
{
    static uint8_t bytes[sizeof(struct courier_address) + WIRE_MAX_MESSAGE];
    static struct msg_in in;
    struct courier_address to;
    int got = msg_recv(post->queue, bytes, sizeof bytes, 0, &in);
    if (got == 0 || (got < 0 && got != -EMFILE && got != -EMSGSIZE && got != -EPROTO))
        return false;
    int err = got == 1 && in.len > sizeof to ? 0 : -EPROTO;
    if (err == 0) {
        memcpy(&to, bytes, sizeof to);
        uint8_t *reply = bytes + sizeof to;
        size_t len = in.len - sizeof to;
        err = is_sound(&to, reply, len) ? deliver(post, &to, reply, len, in.fds, in.n_fds) : -EPROTO;
    }
    if (got == 1)
        fd_close_many(in.fds, in.n_fds);
    if (err < 0)
        board_add(&post->counters->undelivered, 1);
    return true;
}

static void serve_all(struct post *post)
{
    struct pollfd polled = { .fd = post->queue, .events = POLLIN };
    for (;;) {
        int ready = poll(&polled, 1, post->n_outstanding ? SWEEP_MS : -1);
        if (ready == 0)
            sweep(post);
        else if (ready < 0 ? errno != EINTR : !serve_one(post))
            return;
    }
}

/* ---- the process ---- */

static void keep_only(int a, int b)
{
    unsigned low = (unsigned)(a < b ? a : b), high = (unsigned)(a < b ? b : a);
    if (low > STDERR_FILENO + 1)
        close_range(STDERR_FILENO + 1, low - 1, 0);
    if (high > low + 1)
        close_range(low + 1, high - 1, 0);
    close_range(high + 1, ~0u, 0);
}

static int look_at_own(struct post *post)
{
    post->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (post->proc < 0 || fstatat(post->proc, "self/ns/net", &post->net, 0) < 0 ||
        fstatat(post->proc, "self/ns/mnt", &post->mnt, 0) < 0 || stat("/", &post->root) < 0)
        return -errno;
    return 0;
}

static int post_run(struct post *post, const struct confine_plan *plan)
{
    struct confine_state state = { 0 };
    static const int ignored[] = { SIGPIPE, SIGINT, SIGHUP, SIGTERM };
    prctl(PR_SET_NAME, "fobd-courier");
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        signal(ignored[i], SIG_IGN);
    keep_only(post->queue, post->listener);
    post->privileged = plan->privileged;
    post->uid = plan->uid;
    post->gid = plan->gid;
    int err = look_at_own(post);
    if (err == 0)
        err = confine_courier(plan, &state);
    if (err < 0) {
        log_warning("datagrams are not answered: %s", strerror(-err));
        return 1;
    }
    serve_all(post);
    return 0;
}

/* ---- the supervisor's side ---- */

void courier_init(struct courier *courier)
{
    *courier = (struct courier){ .queue = { -1, -1 }, .restart.at = INT64_MAX };
}

int courier_open(struct courier *courier)
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, courier->queue) < 0 ? -errno : 0;
}

void courier_start(struct courier *courier, const struct confine_plan *plan, struct board *board,
                   unsigned slot, int listener, unsigned max_fds, int64_t now)
{
    restart_began(&courier->restart, now);
    pid_t pid = fork();
    if (pid == 0) {
        static struct post post;
        post.queue = courier->queue[1];
        post.listener = listener;
        post.counters = board_counters(board, slot);
        post.max_fds = max_fds;
        post.max_fds_per_user = max_fds / 4 > WIRE_MAX_ENTRIES ? max_fds / 4 : WIRE_MAX_ENTRIES;
        _exit(post_run(&post, plan));
    }
    courier->pid = pid > 0 ? pid : 0;
    if (pid > 0)
        return;
    log_warning("datagrams are not answered: %s (it is tried again)", strerror(errno));
    restart_plan(&courier->restart, now);
}

bool courier_reaped(struct courier *courier, pid_t pid, int status, int64_t now)
{
    if (pid != courier->pid)
        return false;
    log_error("the courier (pid %d) ended (status %#x): replies to datagrams are lost meanwhile", (int)pid,
              (unsigned)status);
    courier->pid = 0;
    restart_plan(&courier->restart, now);
    return true;
}

void courier_deinit(struct courier *courier)
{
    fd_close_many(courier->queue, ARRAY_SIZE(courier->queue));
    for (int i = 0; courier->pid && i < END_MS && waitpid(courier->pid, NULL, WNOHANG) == 0; i++) {
        if (i == END_MS - 1)
            kill(courier->pid, SIGKILL);
        poll(NULL, 0, 1);
    }
    courier->pid = 0;
}

/* ---- the worker's side ---- */

int courier_post(int queue, const struct courier_address *to, const void *reply, size_t len, const int *fds,
                 size_t n_fds)
{
    static uint8_t bytes[sizeof *to + WIRE_MAX_MESSAGE];
    memcpy(bytes, to, sizeof *to);
    memcpy(bytes + sizeof *to, reply, len);
    return msg_send(queue, bytes, sizeof *to + len, fds, n_fds, NULL, MSG_DONTWAIT);
}
