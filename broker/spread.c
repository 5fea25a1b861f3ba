#include "spread_parts.h"

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "../common/msg.h"
#include "../common/util.h"

enum {
    SLACK = 2,       /* so many more than another has are left where they are, or */
    SLACK_PART = 32, /* this part of what the other has */
    MOVED_AT_ONCE = 128,
    SEARCHED = 8, /* so many for each that is to be moved: some cannot be now */
    TAKEN_IN_A_TURN = 64,
    ASKED_IN_VAIN = 10,
    QUEUE_BYTES = 1 << 19, /* some 500 connections */
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
    spread->siblings = mem_zalloc(spread->n, sizeof *spread->siblings);
    for (unsigned i = 0; spread->queues && i < spread->n; i++)
        spread->queues[i] = (struct queue){ -1, -1 };
    return spread->places && spread->queues && spread->siblings;
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
    free(spread->siblings);
    free(spread);
}

/* The kernel wakes one worker for a new connection: it may have been this one. */
static void tell_to_accept(const struct spread *spread, unsigned but)
{
    const struct letter letter = { .kind = LETTER_ACCEPT };
    for (unsigned i = 0; i < spread->n; i++)
        if (i != but && spread->places[i].open)
            msg_send(spread->queues[i].in, &letter, sizeof letter, NULL, 0, NULL, MSG_DONTWAIT);
}

/* What is in its queue stays there, for whoever takes it. */
void spread_forget_worker(struct spread *spread, unsigned index)
{
    if (!spread)
        return;
    struct place *place = &spread->places[index];
    place->open = place->nudged = false;
    place->life++;
    place->moved = 0;
    tell_to_accept(spread, index);
}

/* ---- numbers ---- */

/* What a worker has, with what is on its way to it. */
static unsigned load_of(const struct worker *worker, unsigned index)
{
    const struct worker_setup *setup = worker->setup;
    const struct place *place = &setup->spread->places[index];
    unsigned total = quota_total(setup->quota, setup->slot - setup->index + index), moved = place->moved;
    return (total > moved ? total - moved : 0) + place->offered;
}

static bool is_uneven(unsigned more, unsigned fewer)
{
    return more > fewer && more - fewer > SLACK && more - fewer > fewer / SLACK_PART;
}

struct loads {
    unsigned most, most_load, least_load;
    unsigned mean; /* rounded down */
};

/* Of those that are open. False: there is none. */
static bool find_loads(const struct worker *worker, struct loads *loads)
{
    const struct spread *spread = worker->setup->spread;
    unsigned sum = 0, n = 0;
    *loads = (struct loads){ .least_load = UINT_MAX };
    for (unsigned i = 0; i < spread->n; i++) {
        if (!spread->places[i].open)
            continue;
        unsigned load = load_of(worker, i);
        if (n++ == 0 || load > loads->most_load) {
            loads->most = i;
            loads->most_load = load;
        }
        if (load < loads->least_load)
            loads->least_load = load;
        sum += load;
    }
    loads->mean = n ? sum / n : 0;
    return n;
}

/* ---- giving ---- */

static void give(struct worker *worker, unsigned to, unsigned n)
{
    struct spread *spread = worker->setup->spread;
    struct loads loads;
    unsigned own = load_of(worker, worker->setup->index);
    unsigned spare = find_loads(worker, &loads) && own > loads.mean ? own - loads.mean : 0;
    if (n > spare)
        n = spare;
    struct connection *next;
    unsigned left = SEARCHED * MOVED_AT_ONCE;
    for (struct connection *c = worker->connections; c && n && left--; c = next) {
        next = c->next;
        if (!spread_is_movable(worker, c))
            continue;
        if (spread->places[to].offered >= spread->offered_max || spread_move(worker, c, to) < 0)
            return;
        n--;
    }
}

void spread_give(struct worker *worker)
{
    struct spread *spread = worker->setup->spread;
    if (!spread || !spread->is_asked || worker->pending.connection)
        return;
    spread->is_asked = false;
    for (unsigned i = 0; i < spread->n; i++) {
        unsigned wants = spread->siblings[i].wants;
        spread->siblings[i].wants = 0;
        if (wants && spread->places[i].open)
            give(worker, i, wants);
    }
}

/* ---- asking ---- */

static void nudge(struct worker *worker, unsigned other)
{
    struct place *place = &worker->setup->spread->places[other];
    struct letter letter = { .kind = LETTER_NUDGE };
    if (!atomic_exchange(&place->nudged, true) && spread_write(worker, other, &letter, -1) < 0)
        place->nudged = false;
}

static void nudge_those_below(struct worker *worker, unsigned load)
{
    const struct spread *spread = worker->setup->spread;
    for (unsigned i = 0; i < spread->n; i++)
        if (i != worker->setup->index && spread->places[i].open && load_of(worker, i) < load)
            nudge(worker, i);
}

/* True: it is to be looked again. Who was asked in vain gave to others, or hangs, or has none that can be
 * moved: not for ever, before something changes. */
static bool ask(struct worker *worker, unsigned whom, unsigned wants)
{
    struct spread *spread = worker->setup->spread;
    uint32_t taken = spread->places[worker->setup->index].taken;
    struct letter letter = { .kind = LETTER_ASK, .wants = wants < MOVED_AT_ONCE ? wants : MOVED_AT_ONCE };
    spread->asked = taken == spread->had_taken ? spread->asked + 1 : 1;
    spread->had_taken = taken;
    spread_write(worker, whom, &letter, -1);
    if (spread->asked < ASKED_IN_VAIN)
        return true;
    spread->asked = 0;
    return false;
}

/* True: it is to be looked again. */
static bool level(struct worker *worker)
{
    struct loads loads;
    unsigned own = load_of(worker, worker->setup->index);
    worker->setup->spread->places[worker->setup->index].nudged = false;
    if (!find_loads(worker, &loads) || !is_uneven(loads.most_load, loads.least_load))
        return false;
    if (own < loads.mean || own == loads.least_load)
        return ask(worker, loads.most, own < loads.mean ? loads.mean - own : 1);
    nudge_those_below(worker, loads.mean > loads.least_load ? loads.mean : loads.mean + 1);
    return false;
}

static void tick(struct worker *worker)
{
    worker->setup->spread->tick_at = 0;
    bool again = spread_collect(worker);
    if (level(worker) || again)
        spread_tick_soon(worker->setup->spread);
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

/* What a predecessor that was killed had moved to others is this one's to look after. Others have connections
 * already, perhaps. */
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
            spread_owe(spread, i);
    spread->places[own].open = true;
    spread_tick_soon(spread);
    return 0;
}

void spread_look(struct worker *worker)
{
    struct spread *spread = worker->setup->spread;
    if (spread && !spread->tick_at && spread->places[worker->setup->index].open)
        spread_tick_soon(spread);
}

void spread_serve(struct worker *worker)
{
    struct spread *spread = worker->setup->spread;
    for (int i = 0; i < TAKEN_IN_A_TURN && spread_take(worker, worker->setup->index); i++)
        spread_look(worker);
    if (spread->is_nudged || (spread->tick_at && clock_ms() >= spread->tick_at))
        tick(worker);
    spread->is_nudged = false;
}

void spread_end(struct worker *worker)
{
    struct spread *spread = worker->setup->spread;
    if (!spread)
        return;
    spread->places[worker->setup->index].open = false;
    for (unsigned i = 0; i < spread->n; i++)
        while (spread_take(worker, i))
            ;
}
