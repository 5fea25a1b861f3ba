#include "courier.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/util.h"
#include "../common/wire.h"
#include "courier_parts.h"
#include "unix_diag.h"

enum {
    SWEEP_US = 100000,
    END_MS = 2000,    /* it is waited for */
    END_US = 1500000, /* it waits for those who may hang */
};

/* ---- one reply ---- */

void letter_withdraw(struct post *post, struct letter *letter)
{
    struct wire_result result;
    for (size_t at = WIRE_HEADER_SIZE; at + WIRE_RESULT_SIZE <= letter->len; at += WIRE_RESULT_SIZE)
        if (wire_decode_result(letter->bytes + at, WIRE_RESULT_SIZE, &result) == 0 &&
            result.fd_index != WIRE_NO_FD) {
            result.error = EAGAIN;
            result.fd_index = WIRE_NO_FD;
            wire_encode_result(letter->bytes + at, WIRE_RESULT_SIZE, &result);
        }
    board_add(&post->counters->over_quota, letter->n_sent);
    letter->n_sent = 0;
}

static int send_once(const struct letter *letter, int sock, const struct sockaddr_un *name,
                     socklen_t name_len)
{
    return name ? msg_send_to(sock, name, name_len, letter->bytes, letter->len, letter->fds, letter->n_sent)
                : msg_send(sock, letter->bytes, letter->len, letter->fds, letter->n_sent, NULL, MSG_DONTWAIT);
}

int letter_send(struct post *post, struct letter *letter, int sock, const struct sockaddr_un *name,
                socklen_t name_len)
{
    int err = send_once(letter, sock, name, name_len);
    if (err != -ETOOMANYREFS)
        return err;
    letter_withdraw(post, letter);
    return send_once(letter, sock, name, name_len);
}

/* An abstract name: nothing that could hang. */
static int send_at_once(struct post *post, struct letter *letter)
{
    uid_t uid = letter->to.asker.uid;
    CLEANUP(fd_cleanup) int sock = own_socket();
    int err = sock < 0 ? sock : address_connect(post, &letter->to, sock);
    if (err < 0)
        return err;
    if (!own_has_room(post, uid, letter->n_sent))
        letter_withdraw(post, letter);
    err = letter_send(post, letter, sock, NULL, 0);
    if (err == 0 && letter->n_sent)
        own_add(post, fd_take(&sock), uid, letter->n_sent, false);
    return err;
}

static int deliver(struct post *post, struct letter *letter)
{
    if (letter->to.name.sun_path[0])
        return letters_add(post, letter, LETTER_TO_PATH);
    int err = send_at_once(post, letter);
    return err == -EPERM ? letters_add(post, letter, LETTER_TO_CONNECTED) : err;
}

/* A worker that somebody has taken over is not to send what it likes to whom it likes: replies, to a name. */
static bool is_sound(const struct letter *letter)
{
    struct wire_header header;
    const struct courier_address *to = &letter->to;
    return to->len > offsetof(struct sockaddr_un, sun_path) && to->len <= sizeof to->name &&
           to->name.sun_family == AF_UNIX && to->asker.pid > 0 &&
           wire_decode_header(letter->bytes, letter->len, &header) == 0 && header.type & WIRE_REPLY;
}

static void serve_slow(struct post *post, struct letter *letter)
{
    queue_took(letter->to.asker.uid, letter->n_sent);
    int err = is_sound(letter) ? letters_add_slow(post, letter) : -EPROTO;
    if (err == 0)
        return;
    slow_discard(post);
    board_add(&post->counters->undelivered, 1);
}

static int serve_letter(struct post *post, uint8_t *bytes, struct msg_in *in)
{
    static struct letter letter;
    struct courier_head head;
    if (in->len <= sizeof head)
        return -EPROTO;
    memcpy(&head, bytes, sizeof head);
    letter.to = head.to;
    letter.bytes = bytes + sizeof head;
    letter.len = in->len - sizeof head;
    letter.n_fds = letter.n_sent = in->n_fds;
    memcpy(letter.fds, in->fds, in->n_fds * sizeof *in->fds);
    queue_took(letter.to.asker.uid, in->n_fds);
    int err = is_sound(&letter) ? deliver(post, &letter) : -EPROTO;
    in->n_fds = letter.n_fds; /* 0: those that wait have them */
    return err;
}

/* False: the queue has ended. */
static bool serve_one(struct post *post)
{
    static uint8_t bytes[sizeof(struct courier_head) + WIRE_MAX_MESSAGE];
    static struct msg_in in;
    static struct letter slow;
    if (slow_is_next(post, &slow)) {
        serve_slow(post, &slow);
        return true;
    }
    int got = msg_recv(post->queue, bytes, sizeof bytes, 0, &in);
    if (got == 0 || (got < 0 && got != -EMFILE && got != -EMSGSIZE && got != -EPROTO))
        return false;
    int err = got == 1 ? serve_letter(post, bytes, &in) : -EPROTO;
    if (got == 1)
        fd_close_many(in.fds, in.n_fds);
    if (err < 0)
        board_add(&post->counters->undelivered, 1);
    return true;
}

/* ---- all ---- */

/* Waits for the queue (unless it has ended), and no longer than what is kept has time. As poll(2); a child
 * that ends is EINTR. */
static int wait_for_more(const struct post *post, bool has_ended)
{
    struct pollfd polled = { .fd = post->queue, .events = POLLIN };
    int64_t us = letters_wait_us(post);
    sigset_t none;
    sigemptyset(&none);
    if (post->n_own || queue_is_counted() || has_ended)
        us = us < 0 || us > SWEEP_US ? SWEEP_US : us;
    struct timespec patience = { us / 1000000, us % 1000000 * 1000 };
    return ppoll(&polled, !has_ended, us < 0 ? NULL : &patience, &none);
}

static void serve_all(struct post *post)
{
    for (;;) {
        int ready = wait_for_more(post, false);
        if (ready < 0 && errno != EINTR)
            return;
        if (ready > 0 && !serve_one(post))
            return;
        if (ready == 0) {
            own_sweep(post);
            queue_forget();
        }
        letters_step(post);
    }
}

static void finish(struct post *post)
{
    int64_t end = clock_us() + END_US;
    while (post->letters && clock_us() < end) {
        wait_for_more(post, true);
        letters_step(post);
    }
    letters_drop(post);
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
    struct stat st;
    int room;
    post->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (post->proc < 0 || fstatat(post->proc, "self/ns/net", &post->net, 0) < 0 ||
        fstatat(post->proc, "self/ns/mnt", &post->mnt, 0) < 0 || stat("/", &post->root) < 0 ||
        fstat(post->listener, &st) < 0 ||
        getsockopt(post->listener, SOL_SOCKET, SO_SNDBUF, &room, &(socklen_t){ sizeof room }) < 0)
        return -errno;
    post->listener_ino = (uint32_t)st.st_ino;
    post->listener_room = (size_t)room;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, post->taken) < 0)
        return -errno;
    post->diag = unix_diag_open();
    if (post->diag < 0)
        log_warning("datagrams are answered to paths only, and to nobody who is connected: sock_diag(7): %s",
                    strerror(-post->diag));
    return 0;
}

static void on_child(int number)
{
    (void)number;
}

/* A child's end is heard while it is waited for the queue, and at no other time. */
static void set_signals(void)
{
    static const int ignored[] = { SIGPIPE, SIGINT, SIGHUP, SIGTERM };
    struct sigaction action = { .sa_handler = on_child };
    sigset_t child;
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    sigaction(SIGCHLD, &action, NULL);
}

static int post_run(struct post *post, const struct confine_plan *plan)
{
    struct confine_state state = { 0 };
    prctl(PR_SET_NAME, "fobd-courier");
    set_signals();
    keep_only(post->queue, post->listener);
    post->privileged = plan->privileged;
    int err = look_at_own(post);
    if (err == 0)
        err = confine_courier(plan, &state);
    if (err < 0) {
        log_warning("datagrams are not answered: %s", strerror(-err));
        return 1;
    }
    serve_all(post);
    finish(post);
    return 0;
}

/* ---- the supervisor's side ---- */

void courier_init(struct courier *courier)
{
    *courier = (struct courier){ .queue = { -1, -1 }, .restart.at = INT64_MAX };
}

int courier_open(struct courier *courier)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, courier->queue) < 0)
        return -errno;
    return queue_open();
}

void courier_start(struct courier *courier, const struct confine_plan *plan, struct board *board,
                   unsigned slot, int listener, unsigned max_fds, int64_t now)
{
    restart_began(&courier->restart, now);
    queue_limit(max_fds);
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
    queue_close();
}
