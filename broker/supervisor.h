/*
 * The supervisor: loads, binds, starts the sealer and the workers, replaces what dies, reloads, answers
 * admins, and stops them all. It reads no byte of a client's.
 */
#ifndef FOB_BROKER_SUPERVISOR_H
#define FOB_BROKER_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "control.h"
#include "courier.h"
#include "listener.h"
#include "mount_watch.h"
#include "reign.h"
#include "reload.h"

/* How it is to run. */
struct supervisor_start {
    bool privileged;
    int client; /* the one connection that is served, nobody else then; or -1 */
    int ready;  /* a byte is written there when it serves, and what it says goes to syslog from then on; or -1
                 */
};

struct supervisor {
    struct config *config;
    bool privileged;
    struct audit *audit;
    struct quota *quota;
    struct board *board;
    struct jobs *jobs;
    struct rate *rate;
    struct mount_watch mount_watch;
    struct listener listeners[LISTENERS];
    struct courier courier; /* with a datagram socket */
    struct reign *reign;    /* in force */
    unsigned workers;       /* of each reign: what all share has room for so many, whatever CPUs come later */
    struct reload reload;
    struct control control;
    int64_t hung_at; /* when it is looked again for openers that hang; INT64_MAX: none is at work */
    int64_t started; /* milliseconds of CLOCK_MONOTONIC */
    int signals;     /* signalfd(2) */
    bool stopping;   /* SIGTERM came */
    bool single;     /* one connection is served, and nobody else */
    bool detached;   /* from the terminal of who started it */
    struct supervisor_start start;
    int64_t stop_deadline; /* milliseconds; 0: not stopping yet */
};

/*
 * Runs the broker until SIGTERM or SIGINT, or until its only client has closed the connection. Takes the
 * descriptors. The exit status: 0, or 1 when it could not start (said on standard error).
 */
int supervisor_run(struct config *config, const struct supervisor_start *start);
/* What all workers are given, whatever their reign, in the slots from `slot` on. */
struct worker_setup supervisor_worker_setup(struct supervisor *s, unsigned slot);
/* How many workers a reign has. */
unsigned supervisor_workers(const struct supervisor *s);

#endif
