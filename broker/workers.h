/*
 * The supervisor's children: one worker a slot, and the sealer. What dies is started again, later and later
 * if it goes on dying.
 */
#ifndef FOB_BROKER_WORKERS_H
#define FOB_BROKER_WORKERS_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lent.h"
#include "restart.h"
#include "slow.h"
#include "worker.h"

enum { WORKERS_MAX = 256 };

struct workers_slot {
    pid_t pid;   /* 0: none */
    int control; /* our end, or -1 */
    bool ready;
    struct confine_state confinement; /* as it said, once ready */
    struct restart restart;
};

struct workers {
    struct worker_setup setup;
    unsigned n;
    struct workers_slot slots[WORKERS_MAX];
    struct sealer_channel channels[WORKERS_MAX + JOBS_MAX]; /* workers', then openers' */
    pid_t sealer;                                           /* 0: none */
    struct restart sealer_restart;
    pid_t identity; /* 0: none */
    struct restart identity_restart;
    struct identity_channel identities[WORKERS_MAX + JOBS_MAX]; /* workers', then openers' */
    struct slow_pool pool;                                      /* slow openers */
    struct lent lent;                                           /* sockets that openers work for */
    bool wants_opener;                                          /* a worker gave one something to do */
    struct spread *spread;                                      /* NULL with one worker */
    int predecessors[WORKERS_MAX]; /* sockets that a worker's connections come from, or -1 */
    bool started;                  /* all were ready once */
    bool failed;                   /* one could not start at all */
    bool finishing;                /* what ends is not started again */
    bool ended, died;          /* the worker of a single connection: its client has closed it; or it failed */
    struct worker_ready ready; /* what the last one said */
};

/*
 * Starts setup->workers workers in the slots from setup->slot on, and the sealer when the policy hands out
 * directories. predecessors: NULL, or a socket for each worker that the last generation's connections come
 * from, which are taken. 0 or a negative errno; then too workers_deinit() is due.
 */
int workers_start(struct workers *workers, const struct worker_setup *setup, const int *predecessors,
                  int64_t now);
/* After workers_start() with predecessors, once all are ready: they serve. */
void workers_go(struct workers *workers);
/* Tells worker i to hand its connections over to a socket, which is taken, and to end. */
void workers_hand_over(struct workers *workers, unsigned i, int successor);
/* Fills at most workers->n entries; how many. */
nfds_t workers_poll(const struct workers *workers, struct pollfd *polled);
/* Reads what became readable of them. */
void workers_receive(struct workers *workers, const struct pollfd *polled, nfds_t n);
bool workers_all_ready(const struct workers *workers);
/* Looks after the sockets that were lent to slow openers. */
void workers_sweep(struct workers *workers);
/* Starts slow openers, if some are wanted. */
void workers_start_openers(struct workers *workers);
/* A child has died: was it one of these? Says when it starts again. */
bool workers_reaped(struct workers *workers, pid_t pid, int status, int64_t now);
/* When the next restart is due, or INT64_MAX. */
int64_t workers_next_start(const struct workers *workers);
void workers_restart(struct workers *workers, int64_t now);
/* What ends from now on is not started again. */
void workers_stay_dead(struct workers *workers);
/* Tells all workers to finish what is in flight and exit; the sealer ends after them. */
void workers_finish(struct workers *workers);
bool workers_alive(const struct workers *workers);
void workers_kill(struct workers *workers);
/* In a forked child: closes what is open for these processes here, but for the channel of worker `keep` (or
 * -1). */
void workers_close_fds(struct workers *workers, int keep);
/* How many processes may ask the identity helper. */
unsigned workers_askers(const struct workers *workers);
void workers_deinit(struct workers *workers);

#endif
