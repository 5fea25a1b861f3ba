#include "datagram.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../common/msg.h"
#include "../common/peer.h"
#include "../common/util.h"
#include "request.h"

enum {
    DATAGRAMS_IN_A_TURN = 16,
    COURIER_MS = 2, /* so long it is waited for when it has much to do: who waits for connections waits too */
};

/* The groups of who sent a datagram are told nowhere. */
int datagram_peer(struct peer *peer, const struct ucred *sender)
{
    *peer =
        (struct peer){ .pid = sender->pid, .uid = sender->uid, .gid = sender->gid, .groups_unknown = true };
    return sender->pid <= 0 || sender->uid == PEER_OVERFLOW_ID || sender->uid == (uid_t)-1 ? -EPERM : 0;
}

struct connection *datagram_adopt(struct worker *worker, const struct courier_address *from)
{
    struct peer peer;
    if (datagram_peer(&peer, &from->asker) < 0)
        return NULL;
    struct connection *connection = connection_of_datagram(worker, &peer, from);
    return connection;
}

/* A name at all? One that has none cannot be answered, and is not served. */
static bool has_name(const struct courier_address *from)
{
    return from->len > offsetof(struct sockaddr_un, sun_path) && from->len <= sizeof from->name;
}

static void serve_message(struct worker *worker, const struct courier_address *from, size_t len)
{
    struct connection *connection = has_name(from) ? datagram_adopt(worker, from) : NULL;
    if (!connection) {
        board_add(&worker->counters->undelivered, 1);
        return;
    }
    if (connection_request(worker, connection, len, &from->asker))
        connection_close(worker, connection);
}

int datagram_reply(struct worker *worker, const struct connection *connection, size_t len, const int *fds,
                   size_t n_fds)
{
    const struct worker_setup *setup = worker->setup;
    int err = worker->job < 0
                  ? courier_post(setup->courier, connection->from, worker->out, len, fds, n_fds)
                  : courier_post_slow(setup->courier, connection->from, worker->out, len, fds, n_fds);
    if (err < 0 && err != -ETOOMANYREFS)
        board_add(&worker->counters->undelivered, 1);
    return err;
}

/* While more than a quarter of its queue is full it is waited for, a moment: what does not fit there is lost.
 */
static bool courier_is_ready(const struct worker *worker)
{
    struct pollfd polled = { .fd = worker->setup->courier, .events = POLLOUT };
    return poll(&polled, 1, COURIER_MS) == 1;
}

bool datagram_serve(struct worker *worker)
{
    struct courier_address from;
    size_t len;
    bool ready = true;
    for (int i = 0; i < DATAGRAMS_IN_A_TURN && ready && !worker->pending.connection; i++) {
        ready = courier_is_ready(worker);
        from = (struct courier_address){ .len = sizeof from.name };
        int got = msg_recv_cred_from(worker->setup->listeners[LISTENER_DATAGRAM], worker->in,
                                     sizeof worker->in, &len, &from.asker, &from.name, &from.len);
        if (got == 1)
            serve_message(worker, &from, len);
        else if (got == 0 || got == -EMSGSIZE || got == -EPROTO)
            board_add(&worker->counters->malformed, 1);
        else
            return false;
    }
    return !worker->pending.connection;
}
