#include "connection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/peer.h"
#include "../common/util.h"
#include "request.h"
#include "spread.h"

enum {
    ACCEPTS_IN_A_TURN = 16,
    /* Replies that a client may leave unread, and descriptors that may wait in them, before its next request
     * waits until it has read them. */
    UNREAD_MAX = 16,
    UNREAD_FDS_MAX = 16,
    /* Of a reply that counts as one; a longer one is waited for. Each of APUE's is: its client takes what it
     * reads at once for one reply. */
    UNREAD_LENGTH = 4096,
};

/* ---- opening and closing ---- */

static void audit_refused_connection(struct worker *worker, const struct peer *peer, int error,
                                     const char *reason)
{
    struct audit_record record = {
        .error = error,
        .reason = reason,
        .op = "connect",
        .generation = worker->setup->generation->number,
        .uid = peer->uid,
        .gid = peer->gid,
        .pid = peer->pid,
    };
    audit_add(worker->setup->audit, &record);
}

static int connection_watch(struct worker *worker, struct connection *connection, int op, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = connection };
    return epoll_ctl(worker->epoll, op, connection->fd, &event) < 0 ? -errno : 0;
}

static struct connection *connection_new(struct worker *worker, int fd, enum frame_kind kind,
                                         const struct peer *peer)
{
    struct connection *connection = mem_zalloc(1, sizeof *connection);
    if (!connection)
        return NULL;
    *connection = (struct connection){
        .fd = fd,
        .kind = kind,
        .pid = peer->pid,
        .client = client_ref(&worker->clients, peer),
    };
    if (!connection->client ||
        (kind != FRAME_DATAGRAM && connection_watch(worker, connection, EPOLL_CTL_ADD, EPOLLIN) < 0)) {
        if (connection->client)
            client_unref(&worker->clients, connection->client);
        free(connection);
        return NULL;
    }
    connection->client->user->connections++;
    connection->next = worker->connections;
    if (connection->next)
        connection->next->prev = connection;
    return worker->connections = connection;
}

struct connection *connection_of_datagram(struct worker *worker, const struct peer *peer,
                                          const struct courier_address *from)
{
    struct courier_address *kept = malloc(sizeof *kept);
    struct connection *connection =
        kept ? connection_new(worker, worker->setup->courier, FRAME_DATAGRAM, peer) : NULL;
    if (!connection) {
        free(kept);
        return NULL;
    }
    *kept = *from;
    connection->from = kept;
    return connection;
}

static void connection_settle(struct worker *worker, struct connection *connection)
{
    worker->in_flight -= connection->in_flight;
    connection->client->user->in_flight -= connection->in_flight;
    connection->in_flight = 0;
    connection->unread = 0;
}

static void connection_free(struct worker *worker, struct connection *connection)
{
    connection_settle(worker, connection);
    connection->client->user->connections--;
    client_unref(&worker->clients, connection->client);
    if (connection->next)
        connection->next->prev = connection->prev;
    if (connection->prev)
        connection->prev->next = connection->next;
    else
        worker->connections = connection->next;
    if (connection->kind != FRAME_DATAGRAM)
        spread_look(worker);
    free(connection->part);
    free(connection->from);
    free(connection);
}

void connection_drop(struct worker *worker, struct connection *connection)
{
    park_cancel(worker, connection);
    if (connection->kind != FRAME_DATAGRAM)
        quota_give(worker->setup->quota, worker->setup->slot, connection->client->subject.uid);
    if (connection->kind == FRAME_DATAGRAM)
        connection->fd = -1; /* the courier's, which all have */
    if (connection->lent && connection->fd >= 0) {
        epoll_ctl(worker->epoll, EPOLL_CTL_DEL, connection->fd, NULL);
        shutdown(connection->fd,
                 SHUT_RDWR); /* who holds it too, and hangs, must not keep its client waiting */
    }
    fd_close(connection->fd);
    connection_free(worker, connection);
}

/* Closing alone would not end its events: it is open there. */
void connection_forget(struct worker *worker, struct connection *connection)
{
    epoll_ctl(worker->epoll, EPOLL_CTL_DEL, connection->fd, NULL);
    fd_close(connection->fd);
    connection_free(worker, connection);
}

/*
 * Has it ended, with replies that its client has not taken? Their descriptors stay on their way when our end
 * is closed, and the kernel counts them for all clients together (unix(7), ETOOMANYREFS). Not where the
 * client started the broker, which is to end with it and may have few on their way.
 */
static bool is_owed(struct worker *worker, struct connection *connection)
{
    if (connection->kind == FRAME_DATAGRAM || worker->setup->single ||
        (!connection->in_flight && !connection->lent))
        return false;
    if (connection->lent) /* a slow opener may be about to send */
        shutdown(connection->fd, SHUT_RDWR);
    if (msg_unread(connection->fd) <= 0)
        return false;
    shutdown(connection->fd, SHUT_RDWR);
    return true;
}

void connection_close(struct worker *worker, struct connection *connection)
{
    park_cancel(worker, connection);
    bool owed = is_owed(worker, connection);
    if (owed && !connection->ended) /* it is heard of each time that something is taken, or thrown away */
        owed = connection_watch(worker, connection, EPOLL_CTL_MOD, EPOLLOUT | EPOLLET) == 0;
    connection->ended = owed;
    if (!owed)
        connection_drop(worker, connection);
}

struct connection *connection_adopt(struct worker *worker, int taken, enum frame_kind kind)
{
    CLEANUP(fd_cleanup) int fd = taken;
    struct peer peer;
    if (peer_init(&peer, fd) < 0)
        return NULL;
    struct connection *connection = NULL;
    if (quota_adopt(worker->setup->quota, worker->setup->slot, peer.uid) == 0) {
        connection = connection_new(worker, fd, kind, &peer);
        if (connection) {
            fd_take(&fd);
            connection->lent = true;
        } else
            quota_give(worker->setup->quota, worker->setup->slot, peer.uid);
    }
    if (!connection)
        log_warning("a connection of uid %u was closed: out of memory", (unsigned)peer.uid);
    peer_deinit(&peer);
    return connection;
}

/* Takes fd. */
static void connection_open(struct worker *worker, int accepted, enum frame_kind kind)
{
    CLEANUP(fd_cleanup) int fd = accepted;
    struct peer peer = { .uid = PEER_OVERFLOW_ID, .gid = PEER_OVERFLOW_ID };
    int err = peer_init(&peer, fd);
    if (err < 0) {
        audit_refused_connection(worker, &peer, -err, "credentials");
        return;
    }
    err = quota_take(worker->setup->quota, worker->setup->slot, peer.uid);
    if (err < 0) {
        audit_refused_connection(worker, &peer, EAGAIN, "quota");
        board_add(&worker->counters->over_quota, 1);
    } else if (connection_new(worker, fd, kind, &peer)) {
        fd_take(&fd);
        board_add(&worker->counters->accepted, 1);
        spread_look(worker);
    } else {
        quota_give(worker->setup->quota, worker->setup->slot, peer.uid);
        log_warning("a connection of uid %u was closed: out of memory", (unsigned)peer.uid);
    }
    peer_deinit(&peer);
}

/*
 * No descriptor left for accept(2): the connection would stay in the queue and epoll would report it for
 * ever. The reserve is given up to accept and close it: its client sees the end of the connection and may try
 * again.
 */
static void accept_and_drop(struct worker *worker, int listener)
{
    worker->reserve = fd_close(worker->reserve);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    fd_close(fd);
    worker->reserve = fcntl(worker->epoll, F_DUPFD_CLOEXEC, 0);
    log_warning("a connection was closed: no descriptor left (raise LimitNOFILE or lower max-connections)");
}

void connection_accept(struct worker *worker, int listener)
{
    enum frame_kind kind = listener == worker->setup->listeners[LISTENER_STREAM] ? FRAME_FRESH : FRAME_PACKET;
    for (int i = 0; i < ACCEPTS_IN_A_TURN; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            connection_open(worker, fd, kind);
        else if (errno == EMFILE || errno == ENFILE)
            accept_and_drop(worker, listener);
        else if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

/* ---- descriptors in flight ---- */

static bool has_room(const struct worker *worker, const struct connection *connection, unsigned n)
{
    return worker->in_flight + n <= worker->in_flight_max &&
           connection->client->user->in_flight + n <= worker->in_flight_user_max;
}

/* A client that took its reply but asks nothing more is counted still: ask the kernel. */
static void sweep(struct worker *worker)
{
    if (worker->swept)
        return;
    worker->swept = true;
    for (struct connection *c = worker->connections; c; c = c->next)
        if (c->in_flight && msg_unread(c->fd) <= 0)
            connection_settle(worker, c);
}

bool connection_has_room(struct worker *worker, struct connection *connection, unsigned n)
{
    if (has_room(worker, connection, n))
        return true;
    sweep(worker);
    return has_room(worker, connection, n);
}

void connection_sent(struct worker *worker, struct connection *connection, size_t len, unsigned n)
{
    if (connection->kind == FRAME_DATAGRAM)
        return; /* the courier counts */
    bool counts_as_one = len <= UNREAD_LENGTH && connection->kind != FRAME_APUE;
    connection->unread += counts_as_one ? 1 : UNREAD_MAX;
    connection->in_flight += n;
    connection->client->user->in_flight += n;
    worker->in_flight += n;
}

/* ---- reading ---- */

/*
 * Its last reply is unread: wait for the client, not with it. EPOLLOUT edge-triggered fires whenever the
 * client takes a message, though the socket is writable all the time.
 */
static void connection_pause(struct worker *worker, struct connection *connection)
{
    if (connection->paused)
        return;
    connection->paused = true;
    if (connection_watch(worker, connection, EPOLL_CTL_MOD, EPOLLOUT | EPOLLET) < 0)
        connection_close(worker, connection);
}

int connection_ignore(struct worker *worker, struct connection *connection)
{
    return connection->kind == FRAME_DATAGRAM ? 0 : connection_watch(worker, connection, EPOLL_CTL_MOD, 0);
}

/* Closed when that fails: it would never be heard again. */
bool connection_heed(struct worker *worker, struct connection *connection)
{
    connection->paused = false;
    if (connection->kind != FRAME_DATAGRAM &&
        connection_watch(worker, connection, EPOLL_CTL_MOD, EPOLLIN) == 0)
        return true;
    connection_close(worker, connection);
    return false;
}

/*
 * To ask the kernel at each request costs as much as the decision, and who sends one request after the other
 * has always read: so a few replies may be unread, as long as little enough waits for all clients together.
 */
static bool may_leave_unread(const struct worker *worker, const struct connection *connection)
{
    return connection->unread < UNREAD_MAX && connection->in_flight < UNREAD_FDS_MAX &&
           worker->in_flight < worker->in_flight_max / 2 &&
           connection->client->user->in_flight < worker->in_flight_user_max / 2;
}

/* May the next request be read? If not, the connection may be gone. */
static bool connection_is_ready(struct worker *worker, struct connection *connection)
{
    if (connection->parked)
        return false;
    if (connection->unread && (connection->paused || !may_leave_unread(worker, connection))) {
        if (msg_unread(connection->fd) > 0) {
            connection_pause(worker, connection);
            return false;
        }
        connection_settle(worker, connection);
    }
    if (!connection->paused)
        return true;
    return connection_heed(worker, connection);
}

/* A closed peer is not waited for, whatever it has not read. */
static bool connection_is_gone(struct worker *worker, struct connection *connection, unsigned events)
{
    if (!(events & (EPOLLHUP | EPOLLERR)) || (events & EPOLLIN && !connection->paused))
        return false;
    connection_close(worker, connection);
    return true;
}

/* What another generation is to answer stays where it was read: all connections go over soon. */
static void keep_for_successor(struct worker *worker, struct connection *connection, size_t len,
                               const struct ucred *sender)
{
    worker->pending = (struct handover_pending){ connection, len, *sender };
}

bool connection_request(struct worker *worker, struct connection *connection, size_t len,
                        const struct ucred *sender)
{
    int err = request_serve(worker, connection, len, sender);
    if (err == -ESTALE)
        keep_for_successor(worker, connection, len, sender);
    else if (err < 0 && err != -EINPROGRESS)
        connection_close(worker, connection);
    return err == 0;
}

bool connection_serve(struct worker *worker, struct connection *connection, unsigned events)
{
    if (connection->ended) {
        connection_close(worker, connection);
        return false;
    }
    if (connection->kind == FRAME_DATAGRAM || connection_is_gone(worker, connection, events) ||
        !connection_is_ready(worker, connection))
        return false;
    size_t len;
    struct ucred sender;
    int got = frame_receive(worker, connection, &len, &sender);
    if (got == -EAGAIN || got == -EINTR)
        return false;
    if (got > 0)
        return connection_request(worker, connection, len, &sender);
    if (got == -EMSGSIZE || got == -EPROTO)
        request_malformed(worker, connection, -got);
    connection_close(worker, connection);
    return false;
}
