/*
 * How many connections there are, by user and in all, over all workers: counters in shared memory. Each
 * worker writes its own part only, so a worker that dies takes its counts with it (quota_forget_worker()).
 */
#ifndef FOB_BROKER_QUOTA_H
#define FOB_BROKER_QUOTA_H

#include <stdbool.h>
#include <sys/types.h>

struct quota;

/* Before the first worker is forked. NULL and errno on failure. */
struct quota *quota_new(unsigned workers, unsigned max_connections, unsigned max_per_user);
void quota_free(struct quota *quota);

/* Counts one more connection of uid at this worker: 0; -EAGAIN: the user has as many as allowed; -ENFILE: all
 * users together have. */
int quota_take(struct quota *quota, unsigned worker, uid_t uid);
/* Counts one that another worker served until now, whatever the limits. 0 or -ENFILE (no slot). */
int quota_adopt(struct quota *quota, unsigned worker, uid_t uid);
/* What another worker has counted (and does not own any more) is not counted at that worker now. */
void quota_release(struct quota *quota, unsigned worker, uid_t uid);
void quota_give(struct quota *quota, unsigned worker, uid_t uid);
/* All connections of a worker. */
unsigned quota_total(const struct quota *quota, unsigned worker);
void quota_forget_worker(struct quota *quota, unsigned worker);

/* Calls fn for each uid that has connections, with their number, until it returns false. */
typedef bool quota_fn(uid_t uid, unsigned connections, void *data);
void quota_each(const struct quota *quota, quota_fn *fn, void *data);

#endif
