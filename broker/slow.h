/*
 * Slow openers: processes confined as workers are, that do one request after the other for them, each of
 * which may hang in a file system (a FUSE or network request cannot be killed; what hangs, hangs alone). One
 * that hangs too long is killed and never waited for.
 */
#ifndef FOB_BROKER_SLOW_H
#define FOB_BROKER_SLOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jobs.h"
#include "worker.h"

/* In the process: serves until the queue ends; its exit status. */
int slow_run(const struct worker_setup *setup);

/* ---- the supervisor's side: the openers of one reign ---- */

struct slow_pool {
    pid_t pids[JOBS_MAX]; /* 0: none */
    unsigned max;
    int queue[2]; /* what workers write to, what openers read from */
    int *wakes;   /* eventfd(2) of each worker */
    unsigned n_wakes;
    bool finishing;
};

/* Makes queue and wakes, starts nobody. 0 or a negative errno; slow_pool_deinit() is due in any case. */
int slow_pool_init(struct slow_pool *pool, unsigned max, unsigned workers);
/* Starts openers so that one is free beside those that are wanted now. */
typedef pid_t slow_fork_fn(void *data, unsigned index);
void slow_pool_top_up(struct slow_pool *pool, const struct jobs *jobs, uint32_t generation,
                      slow_fork_fn *start, void *data);
/* Was it one of these? */
bool slow_pool_reaped(struct slow_pool *pool, struct jobs *jobs, pid_t pid, int status);
/* All are killed, and others take their place: what they were at is answered by a closed connection. */
void slow_pool_renew(struct slow_pool *pool);
/* All workers look after their jobs. */
void slow_pool_wake(const struct slow_pool *pool);
void slow_pool_close_fds(struct slow_pool *pool);
/* After slow_pool_deinit(): are all gone but those that are at something, and may hang? Reaps. */
bool slow_pool_is_gone(struct slow_pool *pool, const struct jobs *jobs);
/* Kills all; who hangs is left behind. */
void slow_pool_deinit(struct slow_pool *pool);

#endif
