#include "slow.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/peer.h"
#include "../common/util.h"
#include "connection.h"
#include "known.h"
#include "datagram.h"
#include "park.h"
#include "request.h"

/* ---- the process ---- */

/* The client's connection, borrowed: its worker keeps it, with all its counts. */
static void serve_client(struct worker *worker, const struct park_job *head, int fd)
{
    struct peer peer;
    struct courier_address from = head->from;
    bool is_datagram = head->kind == FRAME_DATAGRAM;
    if ((is_datagram ? datagram_peer(&peer, &head->sender) : peer_init(&peer, fd)) < 0)
        return;
    struct connection connection = {
        .from = is_datagram ? &from : NULL,
        .fd = fd,
        .kind = head->kind,
        .pid = peer.pid,
        .client = client_ref(&worker->clients, &peer),
    };
    if (connection.client) {
        request_serve(worker, &connection, head->len, &head->sender);
        worker->in_flight = 0;
        client_unref(&worker->clients, connection.client);
    }
    peer_deinit(&peer);
}

/* Not answered, for whatever reason: the worker is to close the connection. */
static void give_up(struct worker *worker)
{
    if (jobs_move(worker->setup->jobs, worker->job, JOB_PENDING, JOB_DIED))
        worker_wake_other(worker, jobs_worker_slot(worker->setup->jobs, worker->job));
}

static void serve_job(struct worker *worker, const struct park_job *head, const uint8_t *message, int fd)
{
    struct jobs *jobs = worker->setup->jobs;
    worker->job = (int)head->job;
    worker->identity = head->identity;
    jobs_begin(jobs, worker->job, getpid(), clock_ms());
    if (jobs_state(jobs, worker->job) == JOB_PENDING) {
        memcpy(worker->in, message, head->len);
        serve_client(worker, head, fd);
        give_up(worker);
    }
    audit_flush(worker->setup->audit);
    fd_close(fd);
    jobs_leave_opener(jobs, worker->job);
}

static int slow_loop(struct worker *worker)
{
    static uint8_t bytes[sizeof(struct park_job) + WIRE_MAX_MESSAGE];
    static struct msg_in in;
    struct park_job head;
    int got;
    while ((got = msg_recv(worker->setup->slow_queue, bytes, sizeof bytes, 0, &in)) == 1) {
        if (in.len < sizeof head || in.n_fds != 1) {
            fd_close_many(in.fds, in.n_fds);
            return 1;
        }
        memcpy(&head, bytes, sizeof head);
        if (head.job >= JOBS_MAX || head.len != in.len - sizeof head)
            return 1;
        serve_job(worker, &head, bytes + sizeof head, in.fds[0]);
    }
    return got < 0;
}

int slow_run(const struct worker_setup *setup)
{
    struct worker *worker = worker_new(setup, "fobd-opener");
    if (!worker)
        return 1;
    worker->opener.may_wait = true;
    known_free(worker->opener.known); /* it looks at every name: what it opens may take long in any case */
    worker->opener.known = NULL;
    return slow_loop(worker);
}

/* ---- the pool ---- */

int slow_pool_init(struct slow_pool *pool, unsigned max, unsigned workers)
{
    *pool = (struct slow_pool){ .max = max, .queue = { -1, -1 } };
    pool->wakes = mem_zalloc(workers, sizeof *pool->wakes);
    if (!pool->wakes)
        return -ENOMEM;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pool->queue) < 0)
        return -errno;
    for (; pool->n_wakes < workers; pool->n_wakes++) {
        pool->wakes[pool->n_wakes] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (pool->wakes[pool->n_wakes] < 0)
            return -errno;
    }
    return 0;
}

static unsigned count_alive(const struct slow_pool *pool)
{
    unsigned n = 0;
    for (unsigned i = 0; i < pool->max; i++)
        n += pool->pids[i] != 0;
    return n;
}

void slow_pool_renew(struct slow_pool *pool)
{
    for (unsigned i = 0; i < pool->max; i++)
        if (pool->pids[i])
            kill(pool->pids[i], SIGKILL);
}

static unsigned count_free(const struct slow_pool *pool, const struct jobs *jobs)
{
    unsigned at = 0, busy = 0;
    pid_t opener;
    while (jobs_next_hung(jobs, INT64_MAX, &at, &opener))
        for (unsigned i = 0; i < pool->max; i++)
            busy += pool->pids[i] == opener;
    return count_alive(pool) - busy;
}

void slow_pool_top_up(struct slow_pool *pool, const struct jobs *jobs, uint32_t generation,
                      slow_fork_fn *start, void *data)
{
    unsigned wanted = jobs_waiting(jobs, generation) + 1, idle = count_free(pool, jobs);
    for (unsigned i = 0; i < pool->max && idle < wanted && !pool->finishing; i++) {
        if (pool->pids[i])
            continue;
        pid_t pid = start(data, i);
        if (pid < 0) {
            log_warning("a slow opener cannot be started: %s", strerror(-(int)pid));
            return;
        }
        pool->pids[i] = pid;
        idle++;
    }
}

void slow_pool_wake(const struct slow_pool *pool)
{
    const uint64_t one = 1;
    for (unsigned i = 0; i < pool->n_wakes; i++)
        if (write(pool->wakes[i], &one, sizeof one) < 0 && errno != EAGAIN)
            log_debug("eventfd: %s", strerror(errno));
}

bool slow_pool_reaped(struct slow_pool *pool, struct jobs *jobs, pid_t pid, int status)
{
    for (unsigned i = 0; i < pool->max; i++) {
        if (pool->pids[i] != pid)
            continue;
        pool->pids[i] = 0;
        bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL; /* by us: it hung */
        if (!killed && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
            log_error("a slow opener (pid %d) ended unexpectedly (status %#x)", (int)pid, (unsigned)status);
        jobs_opener_died(jobs, pid);
        slow_pool_wake(pool);
        return true;
    }
    return false;
}

void slow_pool_close_fds(struct slow_pool *pool)
{
    if (!pool->wakes)
        return; /* not made: its descriptors are no descriptors */
    fd_close(pool->queue[0]);
    fd_close(pool->queue[1]);
    for (unsigned i = 0; i < pool->n_wakes; i++)
        fd_close(pool->wakes[i]);
}

static bool is_at_work(const struct jobs *jobs, pid_t pid)
{
    unsigned at = 0;
    pid_t opener;
    while (jobs_next_hung(jobs, INT64_MAX, &at, &opener))
        if (opener == pid)
            return true;
    return false;
}

bool slow_pool_is_gone(struct slow_pool *pool, const struct jobs *jobs)
{
    bool all = true;
    for (unsigned i = 0; i < pool->max; i++) {
        if (!pool->pids[i] || is_at_work(jobs, pool->pids[i]))
            continue;
        if (waitpid(pool->pids[i], NULL, WNOHANG) != 0)
            pool->pids[i] = 0;
        else
            all = false;
    }
    return all;
}

void slow_pool_deinit(struct slow_pool *pool)
{
    pool->finishing = true;
    for (unsigned i = 0; i < pool->max; i++)
        if (pool->pids[i])
            kill(pool->pids[i], SIGKILL);
    slow_pool_close_fds(pool);
    free(pool->wakes);
    pool->wakes = NULL;
    pool->n_wakes = 0;
    pool->queue[0] = pool->queue[1] = -1;
}
