/*
 * Opens that may hang, in shared memory: a worker has one done by a slow opener (slow.h) and goes on. Each
 * job is referred to by its worker and by its opener, and is free again when neither does any more; a dead
 * process's reference is dropped by the supervisor.
 *
 * Who answers the client is settled by one atomic step from JOB_PENDING: the opener, who then sends what it
 * opened, or the worker, who says ETIMEDOUT.
 */
#ifndef FOB_BROKER_JOBS_H
#define FOB_BROKER_JOBS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum job_state {
    JOB_PENDING,
    JOB_ANSWERING, /* the opener sends */
    JOB_ANSWERED,
    JOB_TIMED_OUT, /* the worker answered */
    JOB_CANCELLED, /* nobody is to answer: the client is gone, or its request is handed over */
    JOB_STALE,     /* the opener found that another generation is to answer */
    JOB_DIED,      /* the opener died */
    JOB_UNSENT,    /* the opener could not send: its record says what it would have been */
};

struct jobs;

/* max jobs in all (1..JOBS_MAX), max_per_user of one uid: hung ones count until their process is gone. NULL:
 * no memory. */
enum { JOBS_MAX = 256 };
struct jobs *jobs_new(unsigned max, unsigned max_per_user);
void jobs_free(struct jobs *jobs);

/* ---- worker ---- */

/* A new job of the worker in this slot: its index; -EAGAIN: the user, or all, have as many as allowed. */
int jobs_take(struct jobs *jobs, uid_t uid, unsigned worker_slot, uint32_t generation);
enum job_state jobs_state(const struct jobs *jobs, int job);
/* True if it was in `from`, and is in `to` now. */
bool jobs_move(struct jobs *jobs, int job, enum job_state from, enum job_state to);
/* How many descriptors an answered job sent. */
unsigned jobs_sent(const struct jobs *jobs, int job);
/* Which of all the jobs that ever had this index it is. */
uint32_t jobs_serial(const struct jobs *jobs, int job);
void jobs_leave_worker(struct jobs *jobs, int job);

/* ---- opener ---- */

/* Begins: from now on it is known who hangs. */
void jobs_begin(struct jobs *jobs, int job, pid_t opener, int64_t now_ms);
void jobs_answered(struct jobs *jobs, int job, unsigned sent);
unsigned jobs_worker_slot(const struct jobs *jobs, int job);
void jobs_leave_opener(struct jobs *jobs, int job);

/* ---- supervisor ---- */

/* A process has died: drops its references. Returns true if a job was pending: its worker is to be woken. */
bool jobs_opener_died(struct jobs *jobs, pid_t opener);
void jobs_worker_died(struct jobs *jobs, unsigned worker_slot);
/* Does a worker (NULL: any, else the one in this slot) wait for the job of this serial number? */
bool jobs_is_worked(const struct jobs *jobs, int job, uint32_t serial, const unsigned *worker_slot);
/* Jobs of this generation that no opener took, and none will. */
void jobs_forget_generation(struct jobs *jobs, uint32_t generation);
/* An opener that has been at a job since before `since_ms`, in *opener; walks on from *at (0 in the
 * beginning). */
bool jobs_next_hung(const struct jobs *jobs, int64_t since_ms, unsigned *at, pid_t *opener);
/* Jobs that no opener has begun, of this generation. */
unsigned jobs_waiting(const struct jobs *jobs, uint32_t generation);
/* Is an opener of this generation sending right now? */
bool jobs_is_answering(const struct jobs *jobs, uint32_t generation);
/* now: all that are not free; stuck: those whose worker has given up; timeouts: ever. */
void jobs_count(const struct jobs *jobs, unsigned *now, unsigned *stuck, uint64_t *timeouts);

#endif
