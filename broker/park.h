/*
 * Requests that a slow opener does: their connections are parked meanwhile, and nobody else notices.
 */
#ifndef FOB_BROKER_PARK_H
#define FOB_BROKER_PARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "courier.h"
#include "frame.h"
#include "identity.h"

struct worker;
struct connection;

/* A connection that waits for its job: in the order in which they will time out. */
struct parked {
    struct parked *next, *prev;
    struct connection *connection;
    int job;
    int64_t deadline; /* milliseconds of CLOCK_MONOTONIC */
    struct ucred sender;
    size_t len;
    uint8_t message[];
};

struct parked_list {
    struct parked *first, *last;
};

/* What a worker sends to an opener, before the bytes of the request; with it goes the client's socket. */
struct park_job {
    uint32_t job;
    uint32_t len;
    enum frame_kind kind;
    struct courier_address from; /* of a datagram */
    struct ucred sender;
    struct identity identity; /* if the policy needs it */
};

/*
 * Gives the request of len bytes in worker->in to a slow opener. 0; -EAGAIN: the user, or all, have as many
 * as allowed under way; -ENOMEM.
 */
int park(struct worker *worker, struct connection *connection, size_t len, const struct ucred *sender);
/* Takes up those that are answered, and answers those whose time is over. */
void park_serve(struct worker *worker);
/* Milliseconds until the next deadline, or -1. */
int park_timeout(const struct worker *worker);
/* The connection is closed: nobody is to answer it. */
void park_cancel(struct worker *worker, struct connection *connection);
/*
 * The connection goes to another worker. If its request is not answered yet it becomes worker->pending, to be
 * done anew there; one that may have left something behind in the file system is answered ETIMEDOUT: what
 * became of it is not known. False: the connection had to be closed.
 */
bool park_take_back(struct worker *worker, struct connection *connection);

#endif
