/*
 * As many connections at one worker as at another. The kernel wakes whichever worker it likes for a new
 * connection, mostly the same: who accepts one and has more than the worker with the fewest passes it on
 * there.
 *
 * What is passed lies in a queue of its worker's that all workers of the generation can read. So nothing in
 * it is lost with that worker, or waits for one that hangs: whoever passed it looks after a while whether it
 * was taken, and serves it otherwise. The kernel gives each to one reader only.
 */
#ifndef FOB_BROKER_SPREAD_H
#define FOB_BROKER_SPREAD_H

#include "frame.h"

struct spread;
struct worker;

/* ---- the supervisor's side: the workers of one reign ---- */

/* Before the first is forked. NULL and errno on failure. */
struct spread *spread_new(unsigned workers);
void spread_free(struct spread *spread);
void spread_close_fds(const struct spread *spread);
/* Nothing is passed to it until its successor is open. */
void spread_forget_worker(struct spread *spread, unsigned index);

/* ---- a worker's side; worker->setup->spread may be NULL: it is the only one ---- */

/* Before it is confined. 0 or a negative errno. */
int spread_prepare(struct spread *spread);
/* From now on it is passed to. `mark`: of the events that spread_serve() is for. 0 or a negative errno. */
int spread_open(struct worker *worker, void *mark);
/* The worker that has so few that the connection counted last should be its own, or -1. */
int spread_pick(struct worker *worker);
/* Passes a connection to the worker that was picked; the caller still has fd. 0, or a negative errno: it is
 * to be kept. */
int spread_pass(struct worker *worker, unsigned to, int fd, enum frame_kind kind);
/* Opens what was passed to this worker, and what others were passed by it and do not take. */
void spread_serve(struct worker *worker);
/* The worker ends. Opens whatever is in any queue: what was passed to those that ended before was passed by
 * somebody who ends after them. */
void spread_end(struct worker *worker);

#endif
