/*
 * Live connections from the workers of one generation to those of the next. A worker's Landlock domain and
 * policy cannot be changed, so a reload starts new workers, and each old one passes what it serves to its
 * successor: the socket (all that is known of a client can be asked of it anew), what of its last reply is
 * unread, and the request that had been read and not answered.
 */
#ifndef FOB_BROKER_HANDOVER_H
#define FOB_BROKER_HANDOVER_H

#include <stddef.h>
#include <sys/socket.h>

struct worker;
struct connection;

/* A request that the worker has read, and that its successor is to answer. */
struct handover_pending {
    struct connection *connection; /* NULL: none */
    size_t len;                    /* bytes of worker->in */
    struct ucred sender;
};

/* Passes all connections to the socket, and frees them. What cannot be passed is closed. */
void handover_send_all(struct worker *worker, int sock);
/* Takes over one connection, and answers the request that came with it. 1; 0: nothing there now; negative:
 * the predecessor has ended. */
int handover_receive(struct worker *worker, int sock);

#endif
