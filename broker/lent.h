/*
 * Copies of the sockets that slow openers work for, kept by the supervisor: when the worker that they belong
 * to dies, and the opener hangs with the only other copy, their clients are hung up on and need not wait for
 * the file system.
 */
#ifndef FOB_BROKER_LENT_H
#define FOB_BROKER_LENT_H

#include <stdint.h>

#include "jobs.h"

struct lent {
    bool made; /* lent_init() */
    int socks[JOBS_MAX];
    uint32_t serials[JOBS_MAX]; /* of the job that a socket belongs to */
};

void lent_init(struct lent *lent);
/* Takes sock. */
void lent_keep(struct lent *lent, unsigned job, uint32_t serial, int sock);
/* Closes those whose worker has its answer. */
void lent_sweep(struct lent *lent, const struct jobs *jobs);
/* The worker in this slot is dead: ends the connections it had lent. Before jobs_worker_died(). */
void lent_hang_up(struct lent *lent, const struct jobs *jobs, unsigned worker_slot);
void lent_close(struct lent *lent);

#endif
