/*
 * One client: asks at random on a few connections, by the protocol's bytes alone, and logs what it was
 * answered.
 */
#include "soak.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../../common/escape.h"
#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"

enum { ID_STEP = 7 };

static unsigned self;
static int seen_log;
static struct soak_seen seen_batch[BATCH_MAX + 1]; /* of one reply: written at once, a kill cuts none */
static unsigned seen_n;
static uint32_t generation, generation_life;
static uint8_t bytes[WIRE_MAX_MESSAGE + 8];
static struct msg_in in;

/* ---- the log ---- */

static uint8_t mask_since(uint32_t epoch)
{
    uint8_t mask = 0;
    for (uint32_t e = epoch; e <= shared->epoch && e < EPOCHS_MAX; e++)
        mask |= shared->masks[e];
    return mask;
}

static void log_flush(void)
{
    size_t len = seen_n * sizeof *seen_batch;
    SOAK_NEED(write(seen_log, seen_batch, len) == (ssize_t)len);
    seen_n = 0;
}

static void log_seen(struct soak_seen *seen, const struct soak_sent *sent)
{
    seen->client = (uint16_t)self;
    seen->received = soak_now();
    if (sent) {
        seen->sent = sent->time;
        seen->op = sent->op;
        seen->mask = mask_since(sent->epoch);
    }
    seen_batch[seen_n++] = *seen;
    if (seen_n == ARRAY_SIZE(seen_batch))
        log_flush();
}

static void log_unanswered(const struct soak_conn *conn)
{
    for (unsigned i = 0; i < conn->n; i++) {
        const struct soak_sent *sent = &conn->queue[(conn->head + i) % QUEUE];
        for (unsigned j = 0; j < sent->count; j++) {
            const struct soak_ask *ask = &sent->asks[j];
            struct soak_seen seen = {
                .entry = ask->entry, .flags = ask->flags, .mode = ask->mode, .unanswered = true
            };
            log_seen(&seen, sent);
        }
    }
    log_flush();
}

static void bad(const char *why, const struct soak_sent *sent)
{
    char shown[4 * 32 + 4];
    shared->bad++;
    escape_text(shown, sizeof shown, (const char *)bytes, in.len < 32 ? in.len : 32);
    soak_complain(
        "uid %u: a malformed reply: %s (operation %d, %u entries, at %lld): %zu bytes, %zu descriptors, %s",
        FIRST_UID + self, why, sent ? sent->op : 0, sent ? sent->count : 0u, (long long)soak_now(), in.len,
        in.n_fds, shown);
}

/* ---- connections ---- */

static void conn_close(struct soak_conn *conn)
{
    log_unanswered(conn);
    conn->n = 0;
    conn->fd = fd_close(conn->fd);
}

static bool conn_open(struct soak_conn *conn)
{
    uint32_t life = shared->life;
    *conn = (struct soak_conn){ .fd = sock_connect(soak_path("sock"), SOCK_SEQPACKET), .opened = soak_now() };
    conn->id = soak_random(1u << 30);
    shared->connections += conn->fd >= 0;
    if (conn->fd >= 0)
        return true;
    if (soak_was_down(life)) {
        shared->refused_while_down++;
    } else {
        shared->not_connected++;
        soak_complain("uid %u: no connection: %s", FIRST_UID + self, strerror(-conn->fd));
    }
    conn->fd = -1;
    soak_sleep_ms(20);
    return false;
}

/* The broker closed it. */
static void conn_ended(struct soak_conn *conn)
{
    if (!conn->poisoned) {
        struct soak_seen seen = { .sent = conn->opened, .op = SEEN_CUT_OFF };
        log_seen(&seen, NULL);
        shared->lost += conn->n;
    }
    conn_close(conn);
}

/* ---- replies ---- */

static int open_flags(uint32_t flags)
{
    if (flags & WIRE_PATH)
        return O_PATH;
    bool writes = flags & (WIRE_WRITE | WIRE_APPEND);
    int access = writes ? (flags & WIRE_READ ? O_RDWR : O_WRONLY) : O_RDONLY;
    return access | (flags & WIRE_APPEND ? O_APPEND : 0) | (flags & WIRE_NONBLOCK ? O_NONBLOCK : 0);
}

/* Its access is what was asked, no more; a directory, which never waits, has nothing above it. */
static const char *judge_fd(int fd, const struct soak_ask *ask, const struct stat *st)
{
    enum { LOOKED_AT = O_ACCMODE | O_APPEND | O_NONBLOCK | O_PATH };
    struct stat up;
    uint32_t flags = ask->flags & ~(uint32_t)(S_ISDIR(st->st_mode) ? WIRE_NONBLOCK : 0);
    if ((fcntl(fd, F_GETFL) & LOOKED_AT) != open_flags(flags))
        return "a descriptor with other flags than asked";
    if (S_ISDIR(st->st_mode) && fstatat(fd, "..", &up, 0) == 0 &&
        (up.st_ino != st->st_ino || up.st_dev != st->st_dev))
        return "a directory that leads upwards";
    return NULL;
}

static bool has_link(const struct soak_sent *sent)
{
    for (unsigned i = 0; i < sent->count; i++)
        if (soak_entries[sent->asks[i].entry].kind == KIND_LINK)
            return true;
    return false;
}

static bool has_effects(const struct soak_sent *sent)
{
    for (unsigned i = 0; i < sent->count; i++)
        if (sent->asks[i].flags & (WIRE_CREATE | WIRE_TRUNCATE))
            return true;
    return false;
}

static const char *take_result(const struct soak_sent *sent, const struct soak_ask *ask,
                               const struct wire_result *result, size_t *next_fd)
{
    struct soak_seen seen = {
        .entry = ask->entry,
        .flags = ask->flags,
        .mode = ask->mode,
        .error = result->error,
        .rule = result->rule,
        .got = result->fd_index != WIRE_NO_FD,
        .has_link = has_link(sent),
        .has_effects = has_effects(sent),
    };
    const char *why = NULL;
    if (seen.got) {
        struct stat st;
        if (result->fd_index != *next_fd || *next_fd >= in.n_fds)
            return "a descriptor's index";
        int fd = in.fds[(*next_fd)++];
        if (fstat(fd, &st) < 0)
            return "a descriptor that is none";
        why = judge_fd(fd, ask, &st);
        seen.dev = st.st_dev;
        seen.ino = st.st_ino;
    }
    if (seen.got != (result->error == 0 && sent->op == WIRE_OPEN))
        why = "error and descriptor";
    log_seen(&seen, sent);
    return why;
}

static const char *take_results(const struct soak_sent *sent)
{
    size_t next_fd = 0;
    if (in.len != WIRE_HEADER_SIZE + sent->count * (size_t)WIRE_RESULT_SIZE)
        return "length";
    for (unsigned i = 0; i < sent->count; i++) {
        struct wire_result result;
        const uint8_t *at = bytes + WIRE_HEADER_SIZE + i * WIRE_RESULT_SIZE;
        if (wire_decode_result(at, WIRE_RESULT_SIZE, &result) < 0)
            return "a result";
        const char *why = take_result(sent, &sent->asks[i], &result, &next_fd);
        if (why)
            return why;
    }
    return next_fd == in.n_fds ? NULL : "more descriptors than results have";
}

/* Generations never go back, but for a restart: no reply is of one that was replaced. */
static const char *take_hello(const struct soak_sent *sent)
{
    struct wire_hello hello;
    if (in.len != WIRE_HEADER_SIZE + WIRE_HELLO_SIZE || in.n_fds ||
        wire_decode_hello(bytes + WIRE_HEADER_SIZE, WIRE_HELLO_SIZE, &hello) < 0)
        return "hello";
    if (hello.version != WIRE_VERSION)
        return "hello's version";
    if (soak_was_down(sent->life))
        return NULL;
    if (sent->life == generation_life && hello.generation < sent->generation)
        return "an old generation";
    if (sent->life != generation_life || hello.generation > generation)
        generation = hello.generation;
    generation_life = sent->life;
    return NULL;
}

static const char *take_list(const struct soak_sent *sent)
{
    struct soak_seen seen = { .hash = soak_hash(SOAK_HASH_BEGIN, bytes + WIRE_HEADER_SIZE,
                                                in.len - WIRE_HEADER_SIZE) };
    log_seen(&seen, sent);
    return in.n_fds ? "a descriptor with a list" : NULL;
}

static const char *take_reply(const struct soak_sent *sent)
{
    struct wire_header header;
    if (wire_decode_header(bytes, in.len, &header) < 0)
        return "header";
    if (header.id != sent->id || header.type != (sent->op | WIRE_REPLY) || header.count != sent->count)
        return "not the answer to what was asked";
    if (sent->op == WIRE_HELLO)
        return take_hello(sent);
    return sent->op == WIRE_LIST ? take_list(sent) : take_results(sent);
}

/* Takes one message. False: there is none, or no more. flags: 0 or MSG_DONTWAIT. */
static bool receive(struct soak_conn *conn, int flags)
{
    int got = msg_recv(conn->fd, bytes, sizeof bytes, flags, &in);
    if (got == -ECONNRESET) /* said once, before what is left */
        got = msg_recv(conn->fd, bytes, sizeof bytes, flags, &in);
    if (got == -EAGAIN)
        return false;
    if (got != 1) {
        conn_ended(conn);
        return false;
    }
    const struct soak_sent *sent = conn->n ? &conn->queue[conn->head] : NULL;
    const char *why = sent ? take_reply(sent) : "nothing was asked";
    if (why)
        bad(why, sent);
    log_flush();
    if (sent) {
        conn->head = (conn->head + 1) % QUEUE;
        conn->n--;
    }
    fd_close_many(in.fds, in.n_fds);
    return true;
}

static void await_one(struct soak_conn *conn)
{
    struct pollfd polled = { .fd = conn->fd, .events = POLLIN };
    if (poll(&polled, 1, REPLY_MS) == 1) {
        receive(conn, 0);
        return;
    }
    shared->unanswered++;
    soak_complain("uid %u: no answer within %d s (operation %d, %s)", FIRST_UID + self, REPLY_MS / 1000,
                  conn->n ? conn->queue[conn->head].op : 0, conn->poisoned ? "after garbage" : "awaited");
    conn_close(conn);
}

/* ---- requests ---- */

/* Queued before it is sent: who is killed in between may have been answered. */
static void send_one(struct soak_conn *conn)
{
    struct soak_sent *sent = &conn->queue[(conn->head + conn->n) % QUEUE];
    soak_ask_init(sent, self, conn->id += ID_STEP);
    size_t len = soak_ask_encode(sent, bytes, sizeof bytes);
    sent->epoch = shared->epoch;
    sent->life = shared->life;
    sent->generation = sent->life == generation_life ? generation : 0;
    sent->time = soak_now();
    conn->n++;
    int err = msg_send(conn->fd, bytes, len, NULL, 0, NULL, MSG_DONTWAIT);
    if (err == 0) {
        shared->messages++;
        shared->entries += sent->count;
        return;
    }
    conn->n--;
    while (conn->fd >= 0 && conn->n && receive(conn, MSG_DONTWAIT)) /* what was answered before the end */
        ;
    if (conn->fd >= 0 && err != -EAGAIN)
        conn_ended(conn);
}

/* The only one on its connection, and awaited at once: what a client waits. */
static void ask_and_wait(struct soak_conn *conn)
{
    int64_t begin = soak_now();
    send_one(conn);
    if (conn->fd < 0 || !conn->n)
        return;
    await_one(conn);
    if (conn->fd >= 0)
        soak_wait_note(soak_now() - begin);
}

static void send_garbage(struct soak_conn *conn)
{
    struct soak_sent sent = { .op = WIRE_OPEN, .count = 1 };
    sent.asks[0] = (struct soak_ask){ .entry = 0, .flags = WIRE_READ };
    size_t len = soak_ask_encode(&sent, bytes, sizeof bytes);
    if (!soak_ask_spoil(bytes, &len) || msg_send(conn->fd, bytes, len, NULL, 0, NULL, MSG_DONTWAIT) < 0)
        return;
    shared->garbage++;
    conn->poisoned = true;
    while (conn->fd >= 0)
        await_one(conn);
}

/* ---- the life of a client ---- */

static void step(struct soak_conn *conn)
{
    unsigned r = soak_random(1000);
    if (conn->fd < 0 && !conn_open(conn))
        return;
    if (conn->lazy_until > soak_now()) {
        if (conn->n < QUEUE && soak_chance(30))
            send_one(conn);
        return;
    }
    if (r < 5) {
        shared->hung_up++;
        conn_close(conn); /* whatever is on its way */
    } else if (r < 10) {
        send_garbage(conn);
    } else if (r < 20) {
        conn->lazy_until = soak_now() + 1000 * (int64_t)soak_random(800);
    } else if (conn->n == QUEUE || (conn->n && soak_chance(70))) {
        await_one(conn);
    } else if (conn->n == 0 && soak_chance(30)) {
        ask_and_wait(conn);
    } else {
        send_one(conn);
    }
}

static void finish(struct soak_conn *conn)
{
    while (conn->fd >= 0 && conn->n)
        await_one(conn);
    if (conn->fd >= 0)
        conn_close(conn);
}

/* A record that was cut when its writer was killed is taken away. */
static void log_open(unsigned client, const char *log)
{
    self = client;
    seen_log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    off_t len = seen_log >= 0 ? lseek(seen_log, 0, SEEK_END) : -1;
    SOAK_NEED(len >= 0 && ftruncate(seen_log, len - len % (off_t)sizeof(struct soak_seen)) == 0);
}

void soak_client_bury(unsigned client, const char *log)
{
    log_open(client, log);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        log_unanswered(&shared->conns[client][i]);
        shared->conns[client][i] = (struct soak_conn){ .fd = -1 };
    }
    seen_log = fd_close(seen_log);
}

void soak_client(unsigned client, const char *log)
{
    gid_t groups[4], gid = FIRST_UID + client;
    struct soak_conn *conns = shared->conns[client];
    log_open(client, log);
    SOAK_NEED(setgroups(soak_groups(client, groups), groups) == 0 && setresgid(gid, gid, gid) == 0 &&
              setresuid(gid, gid, gid) == 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of ids forgets it */
    for (unsigned i = 0; i < CONNECTIONS; i++)
        conns[i] = (struct soak_conn){ .fd = -1 };
    while (!shared->over) {
        step(&conns[soak_random(CONNECTIONS)]);
        if (soak_chance(50))
            soak_sleep_ms(soak_random(40));
    }
    for (unsigned i = 0; i < CONNECTIONS; i++)
        finish(&conns[i]);
    exit(0);
}
