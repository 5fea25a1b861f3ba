/*
 * What the parts of request.c share.
 */
#ifndef FOB_BROKER_REQUEST_PARTS_H
#define FOB_BROKER_REQUEST_PARTS_H

#include <stdbool.h>
#include <time.h>

#include "worker.h"

/* What is the same for all entries of one message. */
struct request {
    struct wire_header header;
    struct timespec begin; /* CLOCK_MONOTONIC */
    time_t now;            /* for until= */
    bool entered;          /* board_enter(): it is finished, whatever is announced now */
    int error;             /* nothing is opened: this is the answer for all entries */
    const char *reason;
};

/* After the reply: a record for each entry whose rule wants one, and the counters. */
void request_audit(struct worker *worker, const struct connection *connection, const struct request *request);

#endif
