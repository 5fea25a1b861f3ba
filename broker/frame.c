#include "frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../common/apue.h"
#include "../common/msg.h"
#include "../common/peer.h"
#include "../common/util.h"
#include "connection.h"
#include "datagram.h"
#include "worker.h"

enum {
    APUE_MODE = 0600, /* the protocol has none for what is created, nor a umask */
    PEEKS_IN_A_TURN = 4,
};

/* ---- what came so far ---- */

static size_t part_restore(struct worker *worker, struct connection *connection, struct ucred *sender)
{
    struct frame_part *part = connection->part;
    size_t len = part ? part->len : 0;
    if (part) {
        memcpy(worker->in, part->bytes, len);
        *sender = part->sender;
    }
    free(part);
    connection->part = NULL;
    return len;
}

/* -EAGAIN, or -ENOMEM. */
static int part_keep(struct worker *worker, struct connection *connection, size_t len,
                     const struct ucred *sender)
{
    if (len == 0)
        return -EAGAIN;
    connection->part = malloc(sizeof *connection->part + len);
    if (!connection->part)
        return -ENOMEM;
    *connection->part = (struct frame_part){ .len = len, .sender = *sender };
    memcpy(connection->part->bytes, worker->in, len);
    return -EAGAIN;
}

/*
 * The kernel never joins bytes of two senders; a request of both is of neither. Only a client that started
 * its broker may have begun when nobody asked for credentials yet.
 */
static void sender_join(const struct worker *worker, struct ucred *sender, size_t have,
                        const struct ucred *now)
{
    if (have == 0 || (worker->setup->single && peer_is_unsaid(sender)))
        *sender = *now;
    else if (sender->pid != now->pid || sender->uid != now->uid || sender->gid != now->gid)
        *sender = (struct ucred){ .uid = (uid_t)-1, .gid = (gid_t)-1 };
}

/* Receives until `want` bytes are there. 1, or as frame_receive(); then nothing of them is lost. */
static int receive_until(struct worker *worker, struct connection *connection, size_t *have, size_t want,
                         struct ucred *sender)
{
    while (*have < want) {
        size_t n;
        struct ucred now;
        int got = msg_recv_cred(connection->fd, worker->in + *have, want - *have, MSG_DONTWAIT, &n, &now);
        if (got == -EAGAIN)
            return part_keep(worker, connection, *have, sender);
        if (got != 1)
            return got == 0 && *have ? -EPROTO : got;
        sender_join(worker, sender, *have, &now);
        *have += n;
    }
    return 1;
}

/* ---- native ---- */

static int receive_native(struct worker *worker, struct connection *connection, size_t *len,
                          struct ucred *sender)
{
    size_t have = part_restore(worker, connection, sender);
    int got = receive_until(worker, connection, &have, WIRE_HEADER_SIZE, sender);
    if (got != 1)
        return got;
    int length = wire_message_length(worker->in);
    if (length < 0)
        return length;
    *len = (size_t)length;
    return receive_until(worker, connection, &have, *len, sender);
}

/* ---- APUE ---- */

/* As a message of one entry. What the protocol cannot say has flags that are refused, or no path. */
static size_t apue_to_native(struct worker *worker, size_t len, bool cut)
{
    struct apue_request request;
    struct wire_header header = { .type = WIRE_OPEN, .count = 1 };
    static char path[WIRE_MAX_PATH];
    apue_parse((const char *)worker->in, len, &request);
    int64_t flags = request.oflag < 0 ? -EINVAL : wire_flags_from_open(request.oflag);
    if (cut || request.path_len > sizeof path) /* what is left of it is only to be shown */
        flags = -EINVAL;
    if (request.path_len > sizeof path)
        request.path_len = sizeof path;
    if (request.path_len)
        memcpy(path, request.path, request.path_len);
    uint8_t *at = worker->in + WIRE_HEADER_SIZE;
    size_t size = wire_encode_entry(at, WIRE_MAX_MESSAGE - WIRE_HEADER_SIZE, flags < 0 ? 0 : (uint32_t)flags,
                                    flags > 0 && flags & WIRE_CREATE ? APUE_MODE : 0, path, request.path_len);
    if (size == 0) /* no path: an entry that is refused as malformed */
        memset(at, 0, size = WIRE_ENTRY_SIZE);
    header.length = (uint32_t)(WIRE_HEADER_SIZE + size);
    wire_encode_header(worker->in, WIRE_MAX_MESSAGE, &header);
    return header.length;
}

/* How many bytes to take now, so that none of the next request is among them; *whole: with the NUL. */
static ssize_t apue_peek(struct worker *worker, const struct connection *connection, size_t have, bool *whole)
{
    ssize_t n;
    do
        n = recv(connection->fd, worker->in + have, APUE_MAX_REQUEST, MSG_PEEK | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    const uint8_t *end = n > 0 ? memchr(worker->in + have, '\0', (size_t)n) : NULL;
    *whole = end;
    return end ? end - (worker->in + have) + 1 : n;
}

/* Of what is longer than any request the first part is kept, and its end waited for. */
static int receive_apue(struct worker *worker, struct connection *connection, size_t *len,
                        struct ucred *sender)
{
    size_t have = part_restore(worker, connection, sender);
    bool whole = false, cut = false;
    for (int i = 0; !whole && i < PEEKS_IN_A_TURN; i++) {
        ssize_t n = apue_peek(worker, connection, have, &whole);
        if (n == -EAGAIN)
            return part_keep(worker, connection, have, sender);
        if (n <= 0)
            return n == 0 && have ? -EPROTO : (int)n;
        size_t end = have + (size_t)n;
        int got = receive_until(worker, connection, &have, end, sender);
        if (got != 1)
            return got;
        cut = have > APUE_MAX_REQUEST;
        have = cut ? APUE_MAX_REQUEST : have;
    }
    if (!whole) /* it goes on and on: others have their turn */
        return part_keep(worker, connection, have, sender);
    *len = apue_to_native(worker, have - 1, cut);
    return 1;
}

static int send_apue(struct worker *worker, const struct connection *connection, const int *fds, size_t n_fds)
{
    static uint8_t text[APUE_MAX_REPLY];
    const struct exchange *exchange = &worker->exchanges[0];
    if (n_fds)
        return msg_send(connection->fd, apue_success, sizeof apue_success, fds, n_fds, NULL, MSG_DONTWAIT);
    size_t len =
        apue_encode_error(text, exchange->entry.path, exchange->entry.path_len, exchange->result.error);
    return msg_send(connection->fd, text, len, NULL, 0, NULL, MSG_DONTWAIT);
}

/* ---- all ---- */

static int receive_first(struct worker *worker, struct connection *connection, size_t *len,
                         struct ucred *sender)
{
    char first;
    ssize_t n = recv(connection->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 ? -errno : 0;
    connection->kind = first == APUE_FIRST_BYTE ? FRAME_APUE : FRAME_NATIVE;
    return frame_receive(worker, connection, len, sender);
}

int frame_receive(struct worker *worker, struct connection *connection, size_t *len, struct ucred *sender)
{
    switch (connection->kind) {
    case FRAME_FRESH:
        return receive_first(worker, connection, len, sender);
    case FRAME_NATIVE:
        return receive_native(worker, connection, len, sender);
    case FRAME_APUE:
        return receive_apue(worker, connection, len, sender);
    case FRAME_PACKET:
    case FRAME_DATAGRAM: /* never asked: datagram.h */
    default:
        return msg_recv_cred(connection->fd, worker->in, sizeof worker->in, MSG_DONTWAIT, len, sender);
    }
}

void frame_resume(struct worker *worker, struct connection *connection, size_t len,
                  const struct ucred *sender)
{
    if (part_keep(worker, connection, len, sender) == -ENOMEM)
        connection_close(worker, connection);
}

int frame_send(struct worker *worker, const struct connection *connection, size_t len, const int *fds,
               size_t n_fds)
{
    if (connection->kind == FRAME_APUE)
        return send_apue(worker, connection, fds, n_fds);
    if (connection->kind == FRAME_DATAGRAM)
        return datagram_reply(worker, connection, len, fds, n_fds);
    return msg_send(connection->fd, worker->out, len, fds, n_fds, NULL, MSG_DONTWAIT);
}
