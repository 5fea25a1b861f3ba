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

#include "worker.h"

enum { WORKERS_MAX = 256, WORKERS_PRIVATE_FDS = 8 };

/* When a child that died may be started again. */
struct restart {
    int64_t started; /* milliseconds of CLOCK_MONOTONIC */
    int64_t at;      /* INT64_MAX: it runs, or is not wanted */
    int64_t delay;   /* 0: the next restart is at once */
};

struct workers_slot {
    pid_t pid;   /* 0: none */
    int control; /* our end, or -1 */
    bool ready;
    struct restart restart;
};

struct workers {
    struct worker_setup setup;
    unsigned n;
    struct workers_slot slots[WORKERS_MAX];
    struct sealer_channel channels[WORKERS_MAX];
    pid_t sealer; /* 0: none */
    struct restart sealer_restart;
    int private_fds[WORKERS_PRIVATE_FDS]; /* the supervisor's own: closed in children */
    size_t n_private_fds;
    bool started;              /* all were ready once */
    bool failed;               /* one could not start at all */
    struct worker_ready ready; /* what the last one said */
};

/* Starts setup->workers workers, and the sealer when the policy hands out directories. 0 or a negative errno.
 */
int workers_start(struct workers *workers, const struct worker_setup *setup, const int *private_fds, size_t n,
                  int64_t now);
/* Fills at most workers->n entries; how many. */
nfds_t workers_poll(const struct workers *workers, struct pollfd *polled);
/* Reads what became readable of them. */
void workers_receive(struct workers *workers, const struct pollfd *polled, nfds_t n);
bool workers_all_ready(const struct workers *workers);
/* Reaps what died and says when it starts again. */
void workers_reap(struct workers *workers, int64_t now);
/* When the next restart is due, or INT64_MAX. */
int64_t workers_next_start(const struct workers *workers);
void workers_restart(struct workers *workers, int64_t now);
/* Tells all workers to finish what is in flight and exit; the sealer ends after them. */
void workers_finish(struct workers *workers);
bool workers_alive(const struct workers *workers);
void workers_kill(struct workers *workers);
void workers_deinit(struct workers *workers);

#endif
