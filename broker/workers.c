#include "workers.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/util.h"
#include "workers_parts.h"

/* ---- children ---- */

unsigned workers_askers(const struct workers *workers)
{
    return workers->n + workers->pool.max;
}

static void close_identities(struct workers *workers, int keep)
{
    for (int i = 0; i < (int)workers_askers(workers); i++)
        if (i != keep)
            fd_close(workers->identities[i].sock);
}

void workers_close_fds(struct workers *workers, int keep)
{
    for (int i = 0; i < (int)workers->n; i++) {
        fd_close(workers->slots[i].control);
        if (i == keep)
            continue;
        fd_close(workers->predecessors[i]);
    }
    for (int i = 0; i < (int)workers_askers(workers); i++)
        if (i != keep)
            fd_close(workers->channels[i].sock);
    close_identities(workers, keep);
    lent_close(&workers->lent);
    if (keep >= 0)
        return;
    slow_pool_close_fds(&workers->pool);
    spread_close_fds(workers->spread);
}

/* What fork(2) copied and the child must not have: everybody else's channels, and what is the supervisor's
 * alone. */
static void run_child(struct workers *workers, unsigned index, int control)
{
    workers_close_fds(workers, (int)index);
    struct worker_setup setup = workers->setup;
    setup.close_private(setup.supervisor, setup.generation);
    setup.index = index;
    setup.slot += index;
    setup.control = control;
    setup.sealer = &workers->channels[index];
    setup.identity = &workers->identities[index];
    setup.predecessor = workers->predecessors[index];
    setup.slow_queue = workers->pool.queue[0];
    fd_close(workers->pool.queue[1]);
    for (unsigned i = 0; i < workers->pool.n_wakes; i++)
        if (i != index)
            fd_close(workers->pool.wakes[i]);
    _exit(worker_run(&setup));
}

/* ---- slow openers ---- */

/* Behind the slots of all workers come those of the openers of both generations. */
static unsigned opener_slot(const struct worker_setup *setup, unsigned index)
{
    return 2 * setup->workers + (setup->slot ? setup->openers : 0) + index;
}

static pid_t start_opener(void *data, unsigned index)
{
    struct workers *workers = data;
    workers->channels[workers->n + index].sequence += 1u << 16;
    pid_t pid = fork();
    if (pid != 0)
        return pid < 0 ? -errno : pid;
    for (unsigned i = 0; i < workers->n; i++) {
        fd_close(workers->slots[i].control);
        fd_close(workers->predecessors[i]);
    }
    for (unsigned i = 0; i < workers_askers(workers); i++)
        if (i != workers->n + index)
            fd_close(workers->channels[i].sock);
    close_identities(workers, (int)(workers->n + index));
    lent_close(&workers->lent);
    struct worker_setup setup = workers->setup;
    setup.close_private(setup.supervisor, setup.generation);
    fd_close_many(setup.listeners, LISTENERS);
    fd_close(setup.client);
    spread_close_fds(workers->spread);
    setup.spread = NULL;
    setup.index = setup.workers + index;
    setup.slot = opener_slot(&workers->setup, index);
    setup.control = setup.predecessor = -1;
    setup.sealer = &workers->channels[workers->n + index];
    setup.identity = &workers->identities[workers->n + index];
    setup.slow_queue = workers->pool.queue[1];
    fd_close(workers->pool.queue[0]);
    _exit(slow_run(&setup));
}

void workers_start_openers(struct workers *workers)
{
    if (!workers->wants_opener || workers->finishing)
        return;
    workers->wants_opener = false;
    slow_pool_top_up(&workers->pool, workers->setup.jobs, workers->setup.generation->number, start_opener,
                     workers);
}

/* ---- workers ---- */

/* fork(2), with room for its records. */
static pid_t fork_worker(const struct workers *workers, unsigned slot)
{
    const struct worker_setup *setup = &workers->setup;
    int err = audit_lend(setup->audit, setup->slot + slot, true);
    pid_t pid = err < 0 ? err : fork();
    if (pid < 0 && err == 0)
        pid = -errno;
    if (pid != 0)
        audit_lend(setup->audit, setup->slot + slot, false);
    return pid;
}

static int start_worker(struct workers *workers, unsigned slot, int64_t now)
{
    struct workers_slot *s = &workers->slots[slot];
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    /* A reply that its predecessor did not wait for must not look like an answer to the new worker. */
    workers->channels[slot].sequence += 1u << 16;
    pid_t pid = fork_worker(workers, slot);
    if (pid == 0) {
        fd_close(pair[0]);
        run_child(workers, slot, pair[1]);
    }
    fd_close(pair[1]);
    workers->predecessors[slot] = fd_close(workers->predecessors[slot]);
    if (pid < 0) {
        fd_close(pair[0]);
        return pid;
    }
    *s = (struct workers_slot){ .pid = pid, .control = pair[0], .restart = s->restart };
    restart_began(&s->restart, now);
    return 0;
}

/* Without it exe:, unit: and cgroup: are not known: allows do not match, denies do. */
static void start_identity(struct workers *workers, int64_t now)
{
    for (unsigned i = 0; i < workers_askers(workers); i++)
        workers->identities[i].sock = fd_close(workers->identities[i].sock);
    slow_pool_renew(&workers->pool); /* their channels have ended */
    restart_began(&workers->identity_restart, now);
    pid_t pid = identity_start(workers->identities, workers_askers(workers), workers->setup.plan);
    if (pid > 0)
        workers->identity = pid;
    else
        log_warning("executables and units of clients cannot be found out: %s", strerror(-(int)pid));
}

void workers_close_channels(struct workers *workers)
{
    for (unsigned i = 0; i < workers_askers(workers); i++)
        workers->channels[i].sock = fd_close(workers->channels[i].sock);
}

/* Without a sealer directories are refused; everything else goes on. */
static void start_sealer(struct workers *workers, int64_t now)
{
    workers_close_channels(workers);
    slow_pool_renew(&workers->pool); /* their channels have ended */
    restart_began(&workers->sealer_restart, now);
    pid_t pid = sealer_start(workers->channels, workers_askers(workers), workers->setup.plan);
    if (pid > 0) {
        workers->sealer = pid;
        return;
    }
    for (unsigned i = 0; i < workers_askers(workers); i++)
        workers->channels[i].sock = -1;
    log_warning("directories cannot be sealed and are refused: %s", strerror(-(int)pid));
}

/* fd: -1, or what goes with the order. */
static int send_order(struct workers *workers, unsigned slot, enum worker_order order, int fd)
{
    const uint8_t byte = (uint8_t)order;
    return msg_send(workers->slots[slot].control, &byte, sizeof byte, &fd, fd >= 0, NULL, MSG_DONTWAIT);
}

static void send_channel(struct workers *workers, unsigned slot)
{
    int err = send_order(workers, slot, WORKER_SEALER, workers->channels[slot].sock);
    if (err < 0)
        log_warning("worker %u did not get its new sealer: %s", slot, strerror(-err));
}

void workers_go(struct workers *workers)
{
    workers->setup.waits = false;
    for (unsigned i = 0; i < workers->n; i++)
        if (workers->slots[i].control >= 0 && send_order(workers, i, WORKER_GO, -1) < 0)
            kill(workers->slots[i].pid, SIGKILL); /* it is started anew, and serves then */
}

void workers_hand_over(struct workers *workers, unsigned i, int successor)
{
    struct workers_slot *slot = &workers->slots[i];
    if (slot->pid && slot->control >= 0 && send_order(workers, i, WORKER_HAND_OVER, successor) < 0)
        kill(slot->pid, SIGKILL);
    fd_close(successor);
}

int workers_start(struct workers *workers, const struct worker_setup *setup, const int *predecessors,
                  int64_t now)
{
    workers->setup = *setup;
    lent_init(&workers->lent);
    workers->n = setup->workers < WORKERS_MAX ? setup->workers : WORKERS_MAX;
    workers->sealer_restart.at = workers->identity_restart.at = INT64_MAX;
    workers->setup.waits = predecessors;
    workers->wants_opener = true; /* one is to be there before it is needed */
    for (unsigned i = 0; i < workers->n; i++) {
        workers->predecessors[i] = predecessors ? predecessors[i] : -1;
        workers->slots[i].control = -1;
        workers->slots[i].restart.at = INT64_MAX;
    }
    int err = slow_pool_init(&workers->pool, setup->openers, workers->n);
    if (err == 0 && workers->n > 1 && !(workers->spread = spread_new(workers->n)))
        err = -errno;
    workers->setup.spread = workers->spread;
    for (unsigned i = 0; i < workers_askers(workers); i++)
        workers->identities[i].sock = workers->channels[i].sock = -1;
    workers->setup.wakes = workers->pool.wakes;
    if (err < 0)
        return err;
    if (setup->generation->needs.list)
        start_sealer(workers, now);
    if (setup->generation->needs.narrow)
        start_identity(workers, now);
    for (unsigned i = 0; i < workers->n; i++) {
        err = start_worker(workers, i, now);
        if (err < 0)
            return err;
    }
    return 0;
}

/* ---- hearing of them ---- */

nfds_t workers_poll(const struct workers *workers, struct pollfd *polled)
{
    nfds_t n = 0;
    for (unsigned i = 0; i < workers->n; i++)
        if (workers->slots[i].control >= 0)
            polled[n++] = (struct pollfd){ .fd = workers->slots[i].control, .events = POLLIN };
    return n;
}

static struct workers_slot *slot_of_control(struct workers *workers, int fd)
{
    for (unsigned i = 0; i < workers->n; i++)
        if (workers->slots[i].control == fd)
            return &workers->slots[i];
    return NULL;
}

/* False: nothing there, or the end: the worker is gone, or going; waitpid(2) will tell. */
static bool receive_from(struct workers *workers, struct workers_slot *slot)
{
    static struct msg_in in;
    struct worker_ready ready;
    struct worker_notice notice;
    int got = msg_recv(slot->control, &ready, sizeof ready, MSG_DONTWAIT, &in);
    if (got == 1 && in.len == sizeof ready) {
        slot->ready = true;
        slot->confinement = ready.confinement;
        workers->ready = ready;
    } else if (got == 1 && in.len == sizeof notice) {
        memcpy(&notice, &ready, sizeof notice);
        workers->wants_opener = true;
        lent_sweep(&workers->lent, workers->setup.jobs);
        if (in.n_fds == 1)
            lent_keep(&workers->lent, notice.job, notice.serial, in.fds[0]);
    } else if (got >= 0) {
        slot->control = fd_close(slot->control);
    }
    return got == 1;
}

void workers_receive(struct workers *workers, const struct pollfd *polled, nfds_t n)
{
    for (nfds_t i = 0; i < n; i++) {
        struct workers_slot *slot = polled[i].revents ? slot_of_control(workers, polled[i].fd) : NULL;
        if (slot)
            receive_from(workers, slot);
    }
    workers->started = workers->started || workers_all_ready(workers);
}

void workers_sweep(struct workers *workers)
{
    lent_sweep(&workers->lent, workers->setup.jobs);
}

bool workers_all_ready(const struct workers *workers)
{
    for (unsigned i = 0; i < workers->n; i++)
        if (!workers->slots[i].ready)
            return false;
    return true;
}

static void log_death(const char *what, pid_t pid, int status)
{
    if (WIFSIGNALED(status))
        log_error("%s (pid %d) was killed by signal %d (%s)", what, (int)pid, WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    else
        log_error("%s (pid %d) ended with status %d", what, (int)pid, WEXITSTATUS(status));
}

void workers_salvage_audit(const struct workers *workers, unsigned slot)
{
    const struct worker_setup *setup = &workers->setup;
    uint64_t lost = audit_salvage(setup->audit, setup->board, setup->slot + slot);
    if (lost)
        board_add(&board_counters(setup->board, setup->slot + slot)->audit_lost, lost);
}

static void worker_died(struct workers *workers, unsigned slot, int status, int64_t now)
{
    struct workers_slot *s = &workers->slots[slot];
    bool finished = (s->control < 0 || workers->finishing || workers->setup.single) && WIFEXITED(status) &&
                    WEXITSTATUS(status) == 0;
    if (!finished)
        log_death("a worker", s->pid, status);
    if (workers->setup.waits || (!s->ready && !workers->started))
        workers->failed = true;
    quota_forget_worker(workers->setup.quota, workers->setup.slot + slot);
    board_leave(workers->setup.board, workers->setup.slot + slot);
    workers_salvage_audit(workers, slot);
    spread_forget_worker(workers->spread, slot);
    while (s->control >= 0 && receive_from(workers, s))
        ;
    lent_hang_up(&workers->lent, workers->setup.jobs, workers->setup.slot + slot);
    jobs_worker_died(workers->setup.jobs, workers->setup.slot + slot);
    s->control = fd_close(s->control);
    s->pid = 0;
    s->ready = false;
    if (workers->setup.single && !workers->finishing) {
        workers->ended = true;
        workers->died = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    } else if (!workers->finishing)
        restart_plan(&s->restart, now);
}

/* pid: where it stands. */
static void helper_died(const struct workers *workers, const char *what, pid_t *pid, int status,
                        struct restart *restart, int64_t now)
{
    if (!workers->finishing) {
        log_death(what, *pid, status);
        restart_plan(restart, now);
    }
    *pid = 0;
}

bool workers_reaped(struct workers *workers, pid_t pid, int status, int64_t now)
{
    if (pid == workers->sealer) {
        helper_died(workers, "the sealer", &workers->sealer, status, &workers->sealer_restart, now);
        return true;
    }
    if (pid == workers->identity) {
        helper_died(workers, "the identity helper", &workers->identity, status, &workers->identity_restart,
                    now);
        return true;
    }
    if (slow_pool_reaped(&workers->pool, workers->setup.jobs, pid, status)) {
        workers->wants_opener = true;
        return true;
    }
    for (unsigned i = 0; i < workers->n; i++)
        if (workers->slots[i].pid == pid) {
            worker_died(workers, i, status, now);
            return true;
        }
    return false;
}

/* ---- again ---- */

int64_t workers_next_start(const struct workers *workers)
{
    int64_t next = workers->sealer_restart.at;
    if (workers->identity_restart.at < next)
        next = workers->identity_restart.at;
    for (unsigned i = 0; i < workers->n; i++)
        if (workers->slots[i].restart.at < next)
            next = workers->slots[i].restart.at;
    return next;
}

void workers_restart(struct workers *workers, int64_t now)
{
    if (workers->sealer_restart.at <= now) {
        start_sealer(workers, now);
        for (unsigned i = 0; i < workers->n; i++)
            if (workers->channels[i].sock >= 0 && workers->slots[i].control >= 0)
                send_channel(workers, i);
    }
    if (workers->identity_restart.at <= now) {
        start_identity(workers, now);
        for (unsigned i = 0; i < workers->n; i++)
            if (workers->identities[i].sock >= 0 && workers->slots[i].control >= 0)
                send_order(workers, i, WORKER_IDENTITY, workers->identities[i].sock);
    }
    for (unsigned i = 0; i < workers->n; i++) {
        struct restart *restart = &workers->slots[i].restart;
        if (restart->at > now)
            continue;
        int err = start_worker(workers, i, now);
        if (err < 0) {
            log_error("a worker cannot be started: %s (it is tried again)", strerror(-err));
            restart_plan(restart, now);
        }
    }
}
