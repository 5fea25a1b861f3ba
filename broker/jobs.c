#include "jobs.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#include "../common/util.h"

enum { OF_WORKER = 1, OF_OPENER = 2 };

struct job {
    _Atomic unsigned refs; /* OF_WORKER | OF_OPENER; 0: free */
    _Atomic int state;     /* enum job_state */
    _Atomic int opener;    /* 0: not begun */
    _Atomic int64_t since; /* milliseconds, when it was begun */
    _Atomic unsigned sent;
    _Atomic uint32_t uid, generation;
    _Atomic unsigned worker_slot;
    _Atomic uint32_t serial;
};

struct shared {
    _Atomic uint64_t timeouts;
    struct job all[JOBS_MAX];
};

struct jobs {
    unsigned max, max_per_user;
    struct shared *shared;
};

struct jobs *jobs_new(unsigned max, unsigned max_per_user)
{
    struct jobs *jobs = mem_zalloc(1, sizeof *jobs);
    if (!jobs)
        return NULL;
    void *memory =
        mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        free(jobs);
        return NULL;
    }
    *jobs = (struct jobs){ max < JOBS_MAX ? max : JOBS_MAX, max_per_user, memory };
    return jobs;
}

void jobs_free(struct jobs *jobs)
{
    if (!jobs)
        return;
    munmap(jobs->shared, sizeof *jobs->shared);
    free(jobs);
}

/* ---- worker ---- */

static unsigned count_of(const struct jobs *jobs, uid_t uid)
{
    unsigned n = 0;
    for (unsigned i = 0; i < jobs->max; i++)
        n += jobs->shared->all[i].refs && jobs->shared->all[i].uid == uid;
    return n;
}

int jobs_take(struct jobs *jobs, uid_t uid, unsigned worker_slot, uint32_t generation)
{
    if (count_of(jobs, uid) >= jobs->max_per_user)
        return -EAGAIN;
    for (unsigned i = 0; i < jobs->max; i++) {
        struct job *job = &jobs->shared->all[i];
        unsigned unused = 0;
        if (!atomic_compare_exchange_strong(&job->refs, &unused, OF_WORKER | OF_OPENER))
            continue;
        job->serial++;
        job->uid = uid;
        job->worker_slot = worker_slot;
        job->generation = generation;
        job->opener = 0;
        job->sent = 0;
        job->state = JOB_PENDING;
        return (int)i;
    }
    return -EAGAIN;
}

enum job_state jobs_state(const struct jobs *jobs, int job)
{
    return (enum job_state)jobs->shared->all[job].state;
}

bool jobs_move(struct jobs *jobs, int job, enum job_state from, enum job_state to)
{
    int expected = (int)from;
    bool moved = atomic_compare_exchange_strong(&jobs->shared->all[job].state, &expected, (int)to);
    if (moved && to == JOB_TIMED_OUT)
        jobs->shared->timeouts++;
    return moved;
}

unsigned jobs_sent(const struct jobs *jobs, int job)
{
    return jobs->shared->all[job].sent;
}

void jobs_leave_worker(struct jobs *jobs, int job)
{
    atomic_fetch_and(&jobs->shared->all[job].refs, ~(unsigned)OF_WORKER);
}

/* ---- opener ---- */

void jobs_begin(struct jobs *jobs, int job, pid_t opener, int64_t now_ms)
{
    jobs->shared->all[job].since = now_ms;
    jobs->shared->all[job].opener = opener;
}

void jobs_answered(struct jobs *jobs, int job, unsigned sent)
{
    jobs->shared->all[job].sent = sent;
    jobs_move(jobs, job, JOB_ANSWERING, JOB_ANSWERED);
}

unsigned jobs_worker_slot(const struct jobs *jobs, int job)
{
    return jobs->shared->all[job].worker_slot;
}

void jobs_leave_opener(struct jobs *jobs, int job)
{
    jobs->shared->all[job].opener = 0;
    atomic_fetch_and(&jobs->shared->all[job].refs, ~(unsigned)OF_OPENER);
}

/* ---- supervisor ---- */

bool jobs_opener_died(struct jobs *jobs, pid_t opener)
{
    bool pending = false;
    for (unsigned i = 0; i < jobs->max; i++) {
        struct job *job = &jobs->shared->all[i];
        if (!(job->refs & OF_OPENER) || job->opener != opener)
            continue;
        /* Whether it had sent when it died in the middle of it, nobody knows: the connection is closed. */
        pending |= jobs_move(jobs, (int)i, JOB_PENDING, JOB_DIED) ||
                   jobs_move(jobs, (int)i, JOB_ANSWERING, JOB_DIED);
        jobs_leave_opener(jobs, (int)i);
    }
    return pending;
}

uint32_t jobs_serial(const struct jobs *jobs, int job)
{
    return jobs->shared->all[job].serial;
}

bool jobs_is_worked(const struct jobs *jobs, int job, uint32_t serial, const unsigned *worker_slot)
{
    const struct job *j = &jobs->shared->all[job];
    return j->refs & OF_WORKER && j->serial == serial && (!worker_slot || j->worker_slot == *worker_slot);
}

void jobs_worker_died(struct jobs *jobs, unsigned worker_slot)
{
    for (unsigned i = 0; i < jobs->max; i++) {
        struct job *job = &jobs->shared->all[i];
        if (!(job->refs & OF_WORKER) || job->worker_slot != worker_slot)
            continue;
        jobs_move(jobs, (int)i, JOB_PENDING, JOB_CANCELLED);
        jobs_leave_worker(jobs, (int)i);
    }
}

void jobs_forget_generation(struct jobs *jobs, uint32_t generation)
{
    for (unsigned i = 0; i < jobs->max; i++) {
        struct job *job = &jobs->shared->all[i];
        if (job->refs & OF_OPENER && job->generation == generation && job->opener == 0)
            jobs_leave_opener(jobs, (int)i);
    }
}

bool jobs_next_hung(const struct jobs *jobs, int64_t since_ms, unsigned *at, pid_t *opener)
{
    for (; *at < jobs->max; ++*at) {
        const struct job *job = &jobs->shared->all[*at];
        if (!(job->refs & OF_OPENER) || job->opener == 0 || job->since > since_ms)
            continue;
        *opener = job->opener;
        ++*at;
        return true;
    }
    return false;
}

unsigned jobs_waiting(const struct jobs *jobs, uint32_t generation)
{
    unsigned n = 0;
    for (unsigned i = 0; i < jobs->max; i++) {
        const struct job *job = &jobs->shared->all[i];
        n += job->refs & OF_OPENER && job->generation == generation && job->opener == 0;
    }
    return n;
}

bool jobs_is_answering(const struct jobs *jobs, uint32_t generation)
{
    for (unsigned i = 0; i < jobs->max; i++) {
        const struct job *job = &jobs->shared->all[i];
        if (job->refs & OF_OPENER && job->generation == generation && job->state == JOB_ANSWERING)
            return true;
    }
    return false;
}

void jobs_count(const struct jobs *jobs, unsigned *now, unsigned *stuck, uint64_t *timeouts)
{
    *now = *stuck = 0;
    *timeouts = jobs->shared->timeouts;
    for (unsigned i = 0; i < jobs->max; i++) {
        unsigned refs = jobs->shared->all[i].refs;
        *now += refs != 0;
        *stuck += refs == OF_OPENER;
    }
}
