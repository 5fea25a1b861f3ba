#include "spread_parts.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/util.h"

enum {
    TICK_MS = 10,      /* who comes and goes is gone by then */
    PATIENCE_MS = 100, /* who took nothing for so long hangs */
};

void spread_count_down(_Atomic uint32_t *counter)
{
    for (uint32_t n = *counter; n && !atomic_compare_exchange_weak(counter, &n, n - 1);)
        ;
}

/* The timer is never read: each time that it goes off is an event, which must not come before tick_at. */
void spread_tick_soon(struct spread *spread)
{
    const struct itimerspec after = { .it_value.tv_nsec = TICK_MS * 1000000L };
    int64_t now = clock_ms();
    if (!spread->tick_at && timerfd_settime(spread->timer, 0, &after, NULL) == 0)
        spread->tick_at = now + TICK_MS;
}

/* ---- letters ---- */

int spread_write(struct worker *worker, unsigned to, struct letter *letter, int fd)
{
    struct spread *spread = worker->setup->spread;
    letter->from = worker->setup->index;
    letter->life = spread->places[letter->from].life;
    return msg_send(spread->queues[to].in, letter, sizeof *letter, &fd, fd >= 0, NULL, MSG_DONTWAIT);
}

/* Its charge comes over to this worker's quota. In between it counts twice, rather than not at all. */
static void adopt(struct worker *worker, const struct letter *letter, int fd)
{
    const struct worker_setup *setup = worker->setup;
    struct place *from = &setup->spread->places[letter->from];
    struct connection *connection = connection_adopt(worker, fd, letter->frame);
    if (letter->life == from->life) { /* else all its charges are forgotten */
        quota_release(setup->quota, setup->slot - setup->index + letter->from, letter->uid);
        spread_count_down(&from->moved);
    }
    if (!connection)
        return;
    connection_sent(worker, connection, 0, letter->in_flight);
    connection->unread = letter->unread;
    connection->warned = letter->warned;
}

/* Of another's queue nothing but connections is wanted: what else it is told will be told again. */
static void open_letter(struct worker *worker, unsigned index, const struct letter *letter,
                        const struct msg_in *in)
{
    struct spread *spread = worker->setup->spread;
    bool is_own = index == worker->setup->index;
    if (letter->kind == LETTER_CONNECTION) {
        spread_count_down(&spread->places[index].offered);
        spread->places[index].taken += is_own;
        adopt(worker, letter, in->n_fds ? in->fds[0] : -1);
    } else if (letter->kind == LETTER_NUDGE) {
        spread->is_nudged = spread->is_nudged || is_own;
        spread->places[index].nudged = false;
    } else if (letter->kind == LETTER_ACCEPT) {
        connection_accept(worker, worker->setup->listeners[LISTENER_PACKET]);
        connection_accept(worker, worker->setup->listeners[LISTENER_STREAM]);
    } else if (is_own) {
        spread->siblings[letter->from].wants = letter->wants;
        spread->is_asked = true;
    }
}

bool spread_take(struct worker *worker, unsigned index)
{
    static struct msg_in in;
    struct letter letter;
    int got = msg_recv(worker->setup->spread->queues[index].out, &letter, sizeof letter, MSG_DONTWAIT, &in);
    if (got == -EMFILE) { /* it is lost */
        spread_count_down(&worker->setup->spread->places[index].offered);
        log_warning("a connection was closed: no descriptor left (raise LimitNOFILE or lower "
                    "max-connections)");
    }
    if (got == 1)
        open_letter(worker, index, &letter, &in);
    return got == 1 || got == -EMFILE;
}

/* ---- moving ---- */

/* Not one that is more than its socket: such a state does not last long. */
bool spread_is_movable(const struct worker *worker, const struct connection *connection)
{
    return connection->kind != FRAME_DATAGRAM && !connection->parked && !connection->part &&
           !connection->deadline && !connection->ended && connection != worker->pending.connection;
}

/* Counted and owed first: it may be taken before this returns. The charge stays until then. */
int spread_move(struct worker *worker, struct connection *connection, unsigned to)
{
    struct place *places = worker->setup->spread->places;
    const unsigned own = worker->setup->index;
    struct letter letter = {
        .kind = LETTER_CONNECTION,
        .frame = connection->kind,
        .in_flight = connection->in_flight,
        .uid = connection->client->subject.uid,
        .unread = connection->unread,
        .warned = connection->warned,
    };
    spread_owe(worker->setup->spread, to);
    places[to].offered++;
    places[own].moved++;
    int err = spread_write(worker, to, &letter, connection->fd);
    if (err < 0) {
        spread_count_down(&places[to].offered);
        spread_count_down(&places[own].moved);
    } else {
        connection_forget(worker, connection);
    }
    return err;
}

/* ---- what was moved ---- */

void spread_owe(struct spread *spread, unsigned to)
{
    struct sibling *sibling = &spread->siblings[to];
    if (sibling->due)
        return;
    sibling->due = clock_ms() + PATIENCE_MS;
    sibling->taken = spread->places[to].taken;
    spread_tick_soon(spread);
}

/* Who hangs, or died, took nothing of it. */
static void take_back(struct worker *worker, unsigned index)
{
    struct place *place = &worker->setup->spread->places[index];
    uint32_t offered = place->offered;
    if (!spread_take(worker, index)) /* whoever moved or took it was killed before it was counted */
        atomic_compare_exchange_strong(&place->offered, &offered, 0);
    while (spread_take(worker, index))
        ;
}

/* True: it is due still. */
static bool collect_from(struct worker *worker, unsigned index, int64_t now)
{
    const struct place *place = &worker->setup->spread->places[index];
    struct sibling *sibling = &worker->setup->spread->siblings[index];
    bool took = place->taken != sibling->taken;
    if (took && place->offered) {
        sibling->due = now + PATIENCE_MS;
        sibling->taken = place->taken;
    } else if (took || now >= sibling->due) {
        sibling->due = 0;
        if (!took)
            take_back(worker, index);
    }
    return sibling->due;
}

bool spread_collect(struct worker *worker)
{
    const struct spread *spread = worker->setup->spread;
    int64_t now = clock_ms();
    bool is_due = false;
    for (unsigned i = 0; i < spread->n; i++)
        if (spread->siblings[i].due)
            is_due = collect_from(worker, i, now) || is_due;
    return is_due;
}
