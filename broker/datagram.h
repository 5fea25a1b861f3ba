/*
 * Requests that come as datagrams: each authenticated by its own credentials (SCM_CREDENTIALS, unix(7)), as
 * nobody has connected, and answered to the name that it came from. There is a connection for each, which
 * lives until it is answered.
 */
#ifndef FOB_BROKER_DATAGRAM_H
#define FOB_BROKER_DATAGRAM_H

#include "connection.h"
#include "courier.h"

/* Serves what waits at the worker's datagram socket, a few at most. False: nothing is left there, or what was
 * read is another generation's. */
bool datagram_serve(struct worker *worker);
/* Sends worker->out to who asked, by the courier. 0 or a negative errno: then it is counted as undelivered,
 * but for -ETOOMANYREFS: it is to be sent again without descriptors. */
int datagram_reply(struct worker *worker, const struct connection *connection, size_t len, const int *fds,
                   size_t n_fds);
/* The connection of a datagram that another worker received. NULL: no memory. */
struct connection *datagram_adopt(struct worker *worker, const struct courier_address *from);
/* Who sent it. On success peer_deinit() is owed. 0 or -EPERM: it cannot be named. */
int datagram_peer(struct peer *peer, const struct ucred *sender);

#endif
