#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/util.h"
#include "connection.h"
#include "datagram.h"
#include "known.h"

enum {
    EVENTS_IN_A_TURN = 64,
    DRAIN_REQUESTS = 256,  /* of one connection, at the end */
    DRAIN_DATAGRAMS = 256, /* turns of them, at the end */
    AUDIT_NS = 2000000,    /* how long a record waits for others at most */
};

/* ---- setting up ---- */

/* Stopping comes from the supervisor alone: a service manager signals the whole group, and requests in flight
 * would be lost. */
static void ignore_signals(void)
{
    static const int ignored[] = { SIGPIPE, SIGINT, SIGHUP, SIGTERM };
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Brokers that users start run as the same user as the system's: what is on its way from all of them together
 * stays below what theirs may have. Its own descriptors, one reply's, and some.
 */
static void lower_own_limit(const struct worker *worker)
{
    const rlim_t enough = (rlim_t)worker->reserve + WIRE_MAX_ENTRIES + 64;
    const struct rlimit limit = { enough, enough };
    setrlimit(RLIMIT_NOFILE, &limit); /* EPERM: it is lower already */
}

/*
 * The kernel counts descriptors in flight by sending user, over all workers, against the RLIMIT_NOFILE of the
 * sender (unix(7), ETOOMANYREFS): half of it is for all workers together, and a quarter of a worker's part
 * the most for one user.
 */
static void set_flight_limits(struct worker *worker)
{
    if (worker->setup->single)
        lower_own_limit(worker);
    struct rlimit limit = { 1024, 1024 };
    getrlimit(RLIMIT_NOFILE, &limit);
    unsigned part = (unsigned)(limit.rlim_cur / 2 / worker->setup->workers);
    worker->in_flight_max = part > WIRE_MAX_ENTRIES ? part : WIRE_MAX_ENTRIES;
    worker->in_flight_user_max = part / 4 > WIRE_MAX_ENTRIES ? part / 4 : WIRE_MAX_ENTRIES;
}

static int watch(struct worker *worker, int fd, uint32_t events, void *mark)
{
    struct epoll_event event = { .events = events, .data.ptr = mark };
    return epoll_ctl(worker->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Descriptors and memory are had before confinement, where that can be: what the loop needs later is little.
 */
static int worker_init(struct worker *worker, const struct worker_setup *setup)
{
    worker->setup = setup;
    worker->job = -1;
    worker->successor = -1;
    worker->predecessor = setup->predecessor;
    worker->counters = board_counters(setup->board, setup->slot);
    worker->clients.policy = setup->generation->policy;
    worker->clients.narrow = setup->generation->needs.narrow;
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (worker->epoll < 0)
        return -errno;
    worker->reserve = fcntl(worker->epoll, F_DUPFD_CLOEXEC, 0);
    worker->audit_timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    worker->opener = (struct opener){
        .generation = setup->generation,
        .scratch = policy_scratch_new(setup->generation->policy),
        .sealer = setup->sealer,
        .known = known_new(),
    };
    if (worker->reserve < 0 || worker->audit_timer < 0 || !worker->opener.scratch || !worker->opener.known)
        return -ENOMEM;
    set_flight_limits(worker);
    busy_poll_init(&worker->busy_poll, setup->config->busy_poll_us);
    audit_tell(setup->audit, setup->board, setup->slot);
    int err = spread_prepare(setup->spread);
    if (err == 0) /* edge-triggered: it is never read, setting it anew clears it */
        err = watch(worker, worker->audit_timer, EPOLLIN | EPOLLET, &worker->audit_timer);
    return err < 0 || setup->control < 0 ? err
                                         : watch(worker, setup->control, EPOLLIN, (void *)&setup->control);
}

/* Not before it serves: the kernel would wake it for connections that others could take at once. */
static int watch_clients(struct worker *worker)
{
    const struct worker_setup *setup = worker->setup;
    int err = 0;
    for (int i = 0; i < LISTENERS && err == 0; i++)
        if (setup->listeners[i] >= 0)
            err = watch(worker, setup->listeners[i], EPOLLIN | EPOLLEXCLUSIVE, (void *)&setup->listeners[i]);
    if (err == 0) /* edge-triggered: it is never read, each write is an event */
        err = watch(worker, setup->wakes[setup->index], EPOLLIN | EPOLLET, (void *)&setup->wakes);
    if (err == 0 && worker->predecessor >= 0)
        err = watch(worker, worker->predecessor, EPOLLIN, &worker->predecessor);
    return err < 0 ? err : spread_open(worker, (void *)&setup->spread);
}

static int worker_confine(struct worker *worker, struct worker_ready *ready)
{
    int err = confine_worker(worker->setup->plan, &ready->confinement);
    if (err < 0)
        return err;
    worker->opener.proc_self_fd = ready->confinement.proc_self_fd;
    bool can_switch = worker->setup->plan->privileged && worker->setup->plan->needs.identity;
    worker->opener.assume = assume_new(can_switch);
    return worker->opener.assume ? 0 : -ENOMEM;
}

/* ---- serving ---- */

/* The next order of the supervisor's: its byte, 0 when there is none now, or the end. flags: MSG_DONTWAIT. */
static int control_receive(struct worker *worker, int flags)
{
    uint8_t order = 0;
    static struct msg_in in;
    int got = msg_recv(worker->setup->control, &order, sizeof order, flags, &in);
    if (got == -EAGAIN)
        return 0;
    int *slot = order == WORKER_SEALER     ? &worker->setup->sealer->sock
                : order == WORKER_IDENTITY ? &worker->setup->identity->sock
                                           : &worker->successor;
    if (got != 1 || in.n_fds != (order != WORKER_GO)) {
        fd_close_many(in.fds, got == 1 ? in.n_fds : 0);
        worker->draining = true;
        return 0;
    }
    if (in.n_fds) {
        fd_close(*slot);
        *slot = in.fds[0];
    }
    return order;
}

static void wait_for(struct worker *worker, int order)
{
    while (!worker->draining && control_receive(worker, 0) != order)
        ;
}

static void receive_connections(struct worker *worker)
{
    for (int i = 0; i < EVENTS_IN_A_TURN; i++) {
        int got = handover_receive(worker, worker->predecessor);
        if (got < 0) /* it has handed all over; epoll forgets what is closed */
            worker->predecessor = fd_close(worker->predecessor);
        if (got <= 0 || worker->pending.connection)
            return;
    }
}

static void flush_audit(struct worker *worker)
{
    audit_flush(worker->setup->audit);
    uint64_t lost = audit_lost(worker->setup->audit);
    if (lost != worker->audit_lost)
        board_add(&worker->counters->audit_lost, lost - worker->audit_lost);
    worker->audit_lost = lost;
}

/*
 * Records wait for others, on a timer that is set once for all of them: a write(2) costs as much as half an
 * open. Not where nothing may be granted that cannot be recorded: the next request must know how the last
 * record's write went. Nor where the client started the broker: who may kill one of its processes may kill
 * them all, and nobody would be left who writes.
 */
static void settle_audit(struct worker *worker)
{
    static const struct itimerspec soon = { .it_value = { 0, AUDIT_NS } };
    const struct worker_setup *setup = worker->setup;
    const struct audit *audit = setup->audit;
    bool waits = !setup->config->audit_required && !setup->single && !audit_is_full(audit);
    if (waits && !worker->audit_waits && audit_is_pending(audit))
        waits = worker->audit_waits = timerfd_settime(worker->audit_timer, 0, &soon, NULL) == 0;
    if (!waits)
        flush_audit(worker);
}

static void audit_due(struct worker *worker)
{
    worker->audit_waits = false;
    flush_audit(worker);
}

static void worker_turn(struct worker *worker, struct epoll_event *events, int n)
{
    worker->swept = false;
    for (int i = 0; i < n && !worker->pending.connection; i++) {
        void *mark = events[i].data.ptr;
        if (mark == &worker->setup->control)
            control_receive(worker, MSG_DONTWAIT);
        else if (mark == &worker->setup->listeners[LISTENER_PACKET] ||
                 mark == &worker->setup->listeners[LISTENER_STREAM])
            connection_accept(worker, *(const int *)mark);
        else if (mark == &worker->setup->listeners[LISTENER_DATAGRAM])
            datagram_serve(worker);
        else if (mark == &worker->predecessor)
            receive_connections(worker);
        else if (mark == &worker->setup->spread)
            spread_serve(worker);
        else if (mark == &worker->setup->wakes)
            continue; /* park_serve() is next */
        else if (mark == &worker->audit_timer)
            audit_due(worker);
        else
            connection_serve(worker, mark, events[i].events);
    }
    if (worker->parked.first)
        park_serve(worker);
    spread_give(worker);
    settle_audit(worker);
}

/* Slow openers have their time, even now. */
static void worker_await_parked(struct worker *worker)
{
    struct epoll_event event;
    epoll_ctl(worker->epoll, EPOLL_CTL_DEL, worker->setup->control,
              NULL); /* it has ended, and says so for ever */
    while (worker->parked.first) {
        epoll_wait(worker->epoll, &event, 1, park_timeout(worker));
        park_serve(worker);
        audit_flush(worker->setup->audit);
    }
}

/* What was sent before the end is answered, as far as its senders read their answers. */
static void worker_drain(struct worker *worker)
{
    spread_end(worker);
    connection_accept(worker, worker->setup->listeners[LISTENER_PACKET]);
    connection_accept(worker, worker->setup->listeners[LISTENER_STREAM]);
    bool more = true;
    for (int i = 0; i < DRAIN_DATAGRAMS && more; i++) {
        more = datagram_serve(worker);
        audit_flush(worker->setup->audit);
    }
    struct connection *next;
    for (struct connection *c = worker->connections; c; c = next) {
        next = c->next;
        for (int i = 0; i < DRAIN_REQUESTS; i++)
            if (!connection_serve(worker, c, EPOLLIN))
                break;
        audit_flush(worker->setup->audit);
    }
    worker_await_parked(worker);
    while (worker->connections)
        connection_drop(worker, worker->connections);
}

/* Those that come over from a predecessor of its own still go on to the successor. */
static void worker_hand_over(struct worker *worker)
{
    spread_end(worker);
    handover_send_all(worker, worker->successor);
    if (worker->predecessor >= 0)
        while (handover_receive(worker, worker->predecessor) > 0)
            handover_send_all(worker, worker->successor);
    audit_flush(worker->setup->audit);
}

/* The client that is the only one: of a stream socket or one of packets. */
static int adopt_client(struct worker *worker)
{
    int type = 0, fd = worker->setup->client;
    socklen_t len = sizeof type;
    if (fd < 0)
        return 0;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
        return -errno;
    return connection_adopt(worker, fd, type == SOCK_STREAM ? FRAME_FRESH : FRAME_PACKET) ? 0 : -ENOMEM;
}

/* The only client has gone; one that is still to come over from a predecessor has not. */
static bool is_forsaken(const struct worker *worker)
{
    return worker->setup->single && !worker->connections && worker->predecessor < 0;
}

static int worker_loop(struct worker *worker)
{
    struct epoll_event events[EVENTS_IN_A_TURN];
    while (!worker->draining && worker->successor < 0 && !is_forsaken(worker)) {
        int n = busy_poll_wait(&worker->busy_poll, worker->epoll, events, ARRAY_SIZE(events),
                               park_timeout(worker));
        if (n < 0 && errno != EINTR) {
            log_error("epoll_wait: %s: this worker ends", strerror(errno));
            return 1;
        }
        worker_turn(worker, events, n);
        if (worker->pending.connection && worker->successor < 0)
            wait_for(worker, WORKER_HAND_OVER);
    }
    if (worker->successor >= 0)
        worker_hand_over(worker);
    else
        worker_drain(worker);
    return 0;
}

void worker_wake_other(const struct worker *worker, unsigned slot)
{
    const uint64_t one = 1;
    int fd = worker->setup->wakes[slot % worker->setup->workers];
    ssize_t n;
    do
        n = write(fd, &one, sizeof one);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN)
        log_error("a worker cannot be woken: %s", strerror(errno));
}

struct worker *worker_new(const struct worker_setup *setup, const char *name)
{
    struct worker *worker = mem_zalloc(1, sizeof *worker);
    struct worker_ready ready = { .confinement = { .proc_self_fd = -1 } };
    if (!worker)
        return NULL;
    ignore_signals();
    umask(0);
    prctl(PR_SET_NAME, name);
    int err = worker_init(worker, setup);
    if (err == 0)
        err = worker_confine(worker, &ready);
    if (err == 0 && setup->control >= 0)
        err = msg_send(setup->control, &ready, sizeof ready, NULL, 0, NULL, 0);
    if (err == 0)
        return worker;
    log_error("%s cannot start: %s", name, strerror(-err));
    free(worker);
    return NULL;
}

int worker_run(const struct worker_setup *setup)
{
    struct worker *worker = worker_new(setup, "fobd-worker");
    if (!worker)
        return 1;
    if (setup->waits)
        wait_for(worker, WORKER_GO);
    int err = watch_clients(worker);
    if (err == 0)
        err = adopt_client(worker);
    if (err < 0) {
        log_error("a worker cannot start: %s", strerror(-err));
        return 1;
    }
    return worker_loop(worker);
}
