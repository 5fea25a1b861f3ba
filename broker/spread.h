/*
 * As many connections at one worker as at another. The kernel wakes whichever worker it likes for a new
 * connection, mostly the same one: that serves it at once, so who comes and goes is not slower for it. A
 * moment later it is looked who has more than others. Those that have less are nudged, and ask for some,
 * which are moved as they are: only who just asked is given any, and who hangs does not ask.
 *
 * What is moved lies in a queue of its new worker's that all workers of the generation can read. So nothing
 * is lost with a worker that dies meanwhile: whoever moved it looks after a while whether it was taken, and
 * takes it back otherwise. The kernel gives each to one reader only. Until it is taken its old worker's
 * quota is charged with it.
 */
#ifndef FOB_BROKER_SPREAD_H
#define FOB_BROKER_SPREAD_H

struct spread;
struct worker;

/* ---- the supervisor's side: the workers of one reign ---- */

/* Before the first is forked. NULL and errno on failure. */
struct spread *spread_new(unsigned workers);
void spread_free(struct spread *spread);
void spread_close_fds(const struct spread *spread);
/* It died, and its quotas are forgotten. Nothing goes to it until its successor is open. */
void spread_forget_worker(struct spread *spread, unsigned index);

/* ---- a worker's side; worker->setup->spread may be NULL: it is the only one ---- */

/* Before it is confined. 0 or a negative errno. */
int spread_prepare(struct spread *spread);
/* From now on it takes part. mark: of the events that spread_serve() is for. 0 or a negative errno. */
int spread_open(struct worker *worker, void *mark);
/* A connection has come or gone: in a moment it is looked whether they are even. Costs nothing when many do.
 */
void spread_look(struct worker *worker);
/* Takes what came, and does what is due. */
void spread_serve(struct worker *worker);
/* At the end of a turn, when no event of a connection is left: moves what was asked for. */
void spread_give(struct worker *worker);
/* The worker ends. Takes what is in any queue: what was moved to one that ended before is of somebody who
 * ends after it. */
void spread_end(struct worker *worker);

#endif
