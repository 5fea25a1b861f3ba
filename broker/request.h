/*
 * A request's way: decode, decide, open, reply, audit.
 */
#ifndef FOB_BROKER_REQUEST_H
#define FOB_BROKER_REQUEST_H

#include <stddef.h>
#include <sys/socket.h>

struct worker;
struct connection;

/* Serves the message of len bytes in worker->in. 0; -ESTALE: another generation is to answer it, nothing was
 * done; another negative errno: the connection is to be closed. */
int request_serve(struct worker *worker, struct connection *connection, size_t len,
                  const struct ucred *sender);
/* Audits a message that could not even be decoded; its connection is to be closed. */
void request_malformed(struct worker *worker, struct connection *connection, int error);

#endif
