/*
 * A connection of a worker: from accept(2) to close(2), and whether it may be read from.
 */
#ifndef FOB_BROKER_CONNECTION_H
#define FOB_BROKER_CONNECTION_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "courier.h"
#include "frame.h"
#include "worker.h"

struct connection {
    struct connection *next, *prev;
    struct client *client;
    int fd;
    enum frame_kind kind;
    pid_t pid;                    /* who connected: SO_PEERCRED */
    unsigned in_flight;           /* descriptors of replies that are not known to be taken */
    unsigned unread;              /* such replies: connection_sent() */
    struct courier_address *from; /* of a datagram: who is answered; or NULL */
    struct frame_part *part;      /* of the next request, on a stream; or NULL */
    bool paused;                  /* waits for its client to read: EPOLLOUT instead of EPOLLIN */
    int64_t deadline; /* of the request that a slow opener has, also when it goes to another worker; or 0 */
    struct parked *parked; /* a slow opener works for it: it is not read from; else NULL */
    bool lent;             /* another process may have the socket too: closing it does not end its events */
    bool warned;           /* it was said that somebody else uses it */
    bool ended;            /* it is not served any more: connection_close() */
};

/* Accepts what waits at a listening socket of the worker's, a few at most. */
void connection_accept(struct worker *worker, int listener);
/* Takes a connection over from another worker, whatever the quotas say: it was within them. Takes fd. NULL:
 * it had to be closed. */
struct connection *connection_adopt(struct worker *worker, int fd, enum frame_kind kind);
/* That of one datagram; it is not waited for. NULL: no memory. */
struct connection *connection_of_datagram(struct worker *worker, const struct peer *peer,
                                          const struct courier_address *from);
/* Answers the request of len bytes in worker->in. True if the connection still lives. */
bool connection_request(struct worker *worker, struct connection *connection, size_t len,
                        const struct ucred *sender);
/* Serves at most one request. True if there was one (and the connection still lives). */
bool connection_serve(struct worker *worker, struct connection *connection, unsigned events);
/* It is over for the client. Until that has taken its replies, or has closed its end, what is on its way to
 * it is counted still, and the connection is one of its user's. */
void connection_close(struct worker *worker, struct connection *connection);
/* Forgets it, whatever is on its way. */
void connection_drop(struct worker *worker, struct connection *connection);
/* Another worker has it now, and its charge. */
void connection_forget(struct worker *worker, struct connection *connection);

/* Events of its socket but its end are (not) waited for; the connection of a datagram ends. 0 or a negative
 * errno. */
int connection_ignore(struct worker *worker, struct connection *connection);
/* True if it still lives. */
bool connection_heed(struct worker *worker, struct connection *connection);

/* Room for n more descriptors in flight to this client? Counts anew, once in a turn, before it says no. */
bool connection_has_room(struct worker *worker, struct connection *connection, unsigned n);
/* A reply of len bytes went out, and n descriptors with it. */
void connection_sent(struct worker *worker, struct connection *connection, size_t len, unsigned n);

#endif
