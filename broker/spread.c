#include "spread.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/util.h"
#include "connection.h"
#include "worker.h"

enum {
    SLACK = 2,             /* how many more than the fewest are left where they are, or */
    SLACK_PART = 32,       /* this part of the fewest: below that nobody notices, and it costs */
    QUEUE_BYTES = 1 << 19, /* some 500 connections */
    TAKEN_IN_A_TURN = 64,
    PATIENCE_MS = 100, /* who took nothing for so long hangs */
    AVOID_MS = 2000,   /* ... and is asked again after this */
};

/* What all know of a worker. On a cache line of its own. */
struct place {
    _Alignas(64) _Atomic bool open;
    _Atomic uint32_t offered; /* passed to it, and not taken yet */
    _Atomic uint32_t taken;   /* ever, by itself */
    _Atomic int64_t avoided;  /* until then: it hung; 0: it does not */
};

/* What this worker passed to another, and answers for. */
struct debt {
    int64_t due; /* when it is looked whether it was taken; 0: nothing was passed */
    uint32_t taken;
};

struct queue {
    int out, in;
};

struct spread {
    unsigned n;
    struct place *places; /* shared memory */
    struct queue *queues;
    /* Of a worker alone: */
    struct debt *debts;
    unsigned offered_max; /* who has so many to take is passed no more */
    int timer;            /* for what is due */
    int64_t tick_at;      /* when it goes off; 0: it does not */
};

/* ---- the supervisor ---- */

static int open_queues(struct spread *spread)
{
    const int bytes = QUEUE_BYTES;
    for (unsigned i = 0; i < spread->n; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
            return -errno;
        spread->queues[i] = (struct queue){ pair[0], pair[1] };
        setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes); /* what the system allows of it */
    }
    return 0;
}

static bool spread_init(struct spread *spread)
{
    void *memory = mmap(NULL, spread->n * sizeof *spread->places, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    spread->places = memory == MAP_FAILED ? NULL : memory;
    spread->queues = mem_zalloc(spread->n, sizeof *spread->queues);
    spread->debts = mem_zalloc(spread->n, sizeof *spread->debts);
    for (unsigned i = 0; spread->queues && i < spread->n; i++)
        spread->queues[i] = (struct queue){ -1, -1 };
    return spread->places && spread->queues && spread->debts;
}

struct spread *spread_new(unsigned workers)
{
    struct spread *spread = mem_zalloc(1, sizeof *spread);
    if (!spread)
        return NULL;
    *spread = (struct spread){ .n = workers, .timer = -1 };
    int err = spread_init(spread) ? open_queues(spread) : -ENOMEM;
    if (err == 0)
        return spread;
    spread_free(spread);
    errno = -err;
    return NULL;
}

void spread_close_fds(const struct spread *spread)
{
    for (unsigned i = 0; spread && i < spread->n; i++) {
        fd_close(spread->queues[i].out);
        fd_close(spread->queues[i].in);
    }
}

void spread_free(struct spread *spread)
{
    if (!spread)
        return;
    if (spread->queues)
        spread_close_fds(spread);
    if (spread->places)
        munmap(spread->places, spread->n * sizeof *spread->places);
    free(spread->queues);
    free(spread->debts);
    free(spread);
}

void spread_forget_worker(struct spread *spread, unsigned index)
{
    if (spread)
        spread->places[index].open = false;
}

/* ---- what is due ---- */

/* It is never read: each time that it goes off is an event. */
static void tick(struct spread *spread, int64_t now)
{
    const struct itimerspec after = { .it_value.tv_nsec = PATIENCE_MS * 1000000L };
    spread->tick_at = timerfd_settime(spread->timer, 0, &after, NULL) == 0 ? now + PATIENCE_MS : 0;
}

static void owe(struct spread *spread, unsigned to)
{
    struct debt *debt = &spread->debts[to];
    if (debt->due)
        return;
    int64_t now = clock_ms();
    *debt = (struct debt){ now + PATIENCE_MS, spread->places[to].taken };
    if (!spread->tick_at)
        tick(spread, now);
}

/* Takes one from a worker's queue, whoever's it is. False: there is none. */
static bool take_from(struct worker *worker, unsigned index)
{
    static struct msg_in in;
    struct spread *spread = worker->setup->spread;
    _Atomic uint32_t *offered = &spread->places[index].offered;
    uint8_t kind;
    int got = msg_recv(spread->queues[index].out, &kind, sizeof kind, MSG_DONTWAIT, &in);
    if (got <= 0 && got != -EMFILE)
        return false;
    for (uint32_t n = *offered; n && !atomic_compare_exchange_weak(offered, &n, n - 1);)
        ;
    if (got == 1 && in.n_fds == 1)
        connection_open(worker, in.fds[0], (enum frame_kind)kind, true);
    else
        log_warning("a connection was closed: no descriptor left (raise LimitNOFILE or lower "
                    "max-connections)");
    return true;
}

/* Who hangs, or died, took nothing of it. */
static void redeem(struct worker *worker, unsigned index, int64_t now)
{
    struct place *place = &worker->setup->spread->places[index];
    uint32_t offered = place->offered;
    unsigned n = 0;
    while (take_from(worker, index))
        n++;
    if (n)
        place->avoided = now + AVOID_MS;
    else /* it is not there: whoever passed or took it was killed before it was counted */
        atomic_compare_exchange_strong(&place->offered, &offered, 0);
}

static void collect_debts(struct worker *worker, int64_t now)
{
    struct spread *spread = worker->setup->spread;
    bool owes = false;
    for (unsigned i = 0; i < spread->n; i++) {
        struct debt *debt = &spread->debts[i];
        if (debt->due && now >= debt->due) {
            bool hangs = debt->taken == spread->places[i].taken;
            debt->due = 0;
            if (hangs)
                redeem(worker, i, now);
            else if (spread->places[i].offered)
                *debt = (struct debt){ now + PATIENCE_MS, spread->places[i].taken };
        }
        owes = owes || debt->due;
    }
    spread->tick_at = 0;
    if (owes)
        tick(spread, now);
}

/* ---- a worker ---- */

/* Of the descriptors that may be on their way (set_flight_limits()) a quarter is for these. */
int spread_prepare(struct spread *spread)
{
    struct rlimit limit = { 1024, 1024 };
    if (!spread)
        return 0;
    getrlimit(RLIMIT_NOFILE, &limit);
    spread->offered_max = (unsigned)(limit.rlim_cur / 4 / spread->n);
    spread->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return spread->timer < 0 ? -errno : 0;
}

/* What a predecessor that was killed had passed to others is this one's to look after. */
int spread_open(struct worker *worker, void *mark)
{
    struct spread *spread = worker->setup->spread;
    const unsigned own = worker->setup->index;
    if (!spread)
        return 0;
    struct epoll_event queue = { .events = EPOLLIN, .data.ptr = mark },
                       timer = { .events = EPOLLIN | EPOLLET, .data.ptr = mark };
    if (epoll_ctl(worker->epoll, EPOLL_CTL_ADD, spread->queues[own].out, &queue) < 0 ||
        epoll_ctl(worker->epoll, EPOLL_CTL_ADD, spread->timer, &timer) < 0)
        return -errno;
    for (unsigned i = 0; i < spread->n; i++)
        if (i != own && spread->places[i].offered)
            owe(spread, i);
    spread->places[own].avoided = 0;
    spread->places[own].open = true;
    return 0;
}

static unsigned load_of(const struct worker *worker, unsigned index)
{
    const struct worker_setup *setup = worker->setup;
    return quota_total(setup->quota, setup->slot - setup->index + index) +
           setup->spread->places[index].offered;
}

static bool may_pass_to(const struct spread *spread, unsigned index)
{
    const struct place *place = &spread->places[index];
    return place->open && place->offered < spread->offered_max &&
           (!place->avoided || clock_ms() >= place->avoided);
}

/* Whoever comes after this one first, of those with equally few: not always the same. */
int spread_pick(struct worker *worker)
{
    struct spread *spread = worker->setup->spread;
    const unsigned own = worker->setup->index;
    if (!spread || !spread->places[own].open)
        return -1;
    if (spread->places[own].avoided) /* it accepts: it does not hang */
        spread->places[own].avoided = 0;
    unsigned own_load = load_of(worker, own), least = own_load;
    int picked = -1;
    for (unsigned i = 1; i < spread->n && own_load > SLACK; i++) {
        unsigned other = (own + i) % spread->n, load = load_of(worker, other);
        if (load < least && may_pass_to(spread, other)) {
            least = load;
            picked = (int)other;
        }
    }
    return own_load - least > SLACK && own_load - least > least / SLACK_PART ? picked : -1;
}

/* Counted first, and owed: it may be taken before this returns. */
int spread_pass(struct worker *worker, unsigned to, int fd, enum frame_kind kind)
{
    struct spread *spread = worker->setup->spread;
    const uint8_t byte = (uint8_t)kind;
    owe(spread, to);
    atomic_fetch_add(&spread->places[to].offered, 1);
    int err = msg_send(spread->queues[to].in, &byte, sizeof byte, &fd, 1, NULL, MSG_DONTWAIT);
    if (err < 0)
        atomic_fetch_sub(&spread->places[to].offered, 1);
    return err;
}

void spread_serve(struct worker *worker)
{
    struct spread *spread = worker->setup->spread;
    struct place *place = &spread->places[worker->setup->index];
    for (int i = 0; i < TAKEN_IN_A_TURN && take_from(worker, worker->setup->index); i++)
        place->taken++;
    place->avoided = 0;
    int64_t now = spread->tick_at ? clock_ms() : 0;
    if (spread->tick_at && now >= spread->tick_at)
        collect_debts(worker, now);
}

void spread_end(struct worker *worker)
{
    struct spread *spread = worker->setup->spread;
    if (!spread)
        return;
    spread->places[worker->setup->index].open = false;
    for (unsigned i = 0; i < spread->n; i++)
        while (take_from(worker, i))
            ;
}
