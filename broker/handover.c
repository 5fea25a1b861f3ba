#include "handover.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/peer.h"
#include "../common/util.h"
#include "connection.h"
#include "datagram.h"
#include "request.h"

/* What goes before the bytes of a request. */
struct handover {
    uint32_t in_flight;
    uint32_t unread, warned, ended;
    int64_t deadline;
    enum frame_kind kind;
    struct courier_address from; /* of a datagram, which has no socket of its own */
    bool whole;                  /* the bytes are a request; else the beginning of one */
    uint32_t len;                /* of the bytes */
    struct ucred sender;
};

/*
 * ETOOMANYREFS: too many descriptors of this user's are on their way (unix(7)); those of other connections
 * arrive in a moment, as successors wait for nobody.
 */
static int send_patiently(int sock, const void *bytes, size_t len, int fd)
{
    int err;
    while ((err = msg_send(sock, bytes, len, &fd, fd >= 0, NULL, 0)) == -ETOOMANYREFS)
        poll(NULL, 0, 1);
    return err;
}

/* Given back before it is taken over: nobody is over a quota meanwhile. */
static int send_one(struct worker *worker, struct connection *connection, int sock)
{
    static uint8_t bytes[sizeof(struct handover) + WIRE_MAX_MESSAGE];
    struct handover head = {
        .in_flight = connection->in_flight,
        .unread = connection->unread,
        .warned = connection->warned,
        .ended = connection->ended,
        .deadline = connection->deadline,
        .kind = connection->kind,
    };
    if (connection->from)
        head.from = *connection->from;
    if (worker->pending.connection == connection) {
        head.whole = true;
        head.len = (uint32_t)worker->pending.len;
        head.sender = worker->pending.sender;
        memcpy(bytes + sizeof head, worker->in, head.len);
    } else if (connection->part) {
        head.len = (uint32_t)connection->part->len;
        head.sender = connection->part->sender;
        memcpy(bytes + sizeof head, connection->part->bytes, head.len);
    }
    memcpy(bytes, &head, sizeof head);
    CLEANUP(fd_cleanup) int fd = connection->from ? -1 : fd_take(&connection->fd);
    connection_drop(worker, connection);
    return send_patiently(sock, bytes, sizeof head + head.len, fd);
}

void handover_send_all(struct worker *worker, int sock)
{
    /* Whose request is read already waits longest. */
    if (worker->pending.connection) {
        int err = send_one(worker, worker->pending.connection, sock);
        if (err < 0)
            log_warning("a request was lost: its new worker is gone: %s", strerror(-err));
        worker->pending.connection = NULL;
    }
    while (worker->connections) {
        if (!park_take_back(worker, worker->connections))
            continue; /* it is closed */
        int err = send_one(worker, worker->connections, sock);
        if (err < 0)
            log_warning("a connection was closed: its new worker is gone: %s", strerror(-err));
    }
}

/* A connection that its successor cannot hold is closed, as one that could not be accepted. */
static void take_over(struct worker *worker, const struct handover *head, const uint8_t *bytes, int taken)
{
    struct connection *connection = head->kind == FRAME_DATAGRAM
                                        ? datagram_adopt(worker, &head->from)
                                        : connection_adopt(worker, taken, head->kind);
    if (!connection)
        return;
    board_add(&worker->counters->handed_over, 1);
    connection_sent(worker, connection, 0, head->in_flight);
    connection->unread = head->unread;
    connection->warned = head->warned;
    connection->deadline = head->deadline;
    if (head->ended)
        connection_close(worker, connection);
    if (head->ended || head->len == 0)
        return;
    memcpy(worker->in, bytes, head->len);
    if (!head->whole)
        frame_resume(worker, connection, head->len, &head->sender);
    else if (connection_request(worker, connection, head->len, &head->sender)) {
        connection->deadline = 0;
        if (head->kind == FRAME_DATAGRAM)
            connection_close(worker, connection);
    }
}

int handover_receive(struct worker *worker, int sock)
{
    static uint8_t bytes[sizeof(struct handover) + WIRE_MAX_MESSAGE];
    static struct msg_in in;
    struct handover head;
    int got = msg_recv(sock, bytes, sizeof bytes, MSG_DONTWAIT, &in);
    if (got == -EAGAIN)
        return 0;
    if (got != 1)
        return got < 0 && got != -EMFILE ? got : got == 0 ? -EPIPE : 1;
    if (in.len < sizeof head) {
        fd_close_many(in.fds, in.n_fds);
        return -EPROTO;
    }
    memcpy(&head, bytes, sizeof head);
    if (head.len != in.len - sizeof head || in.n_fds != (head.kind != FRAME_DATAGRAM)) {
        fd_close_many(in.fds, in.n_fds);
        return -EPROTO;
    }
    take_over(worker, &head, bytes + sizeof head, in.n_fds ? in.fds[0] : -1);
    return 1;
}
