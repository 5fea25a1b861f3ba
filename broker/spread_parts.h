/*
 * What the parts of spread.h share: who has how many (spread.c), and how one goes over (spread_move.c).
 */
#ifndef FOB_BROKER_SPREAD_PARTS_H
#define FOB_BROKER_SPREAD_PARTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "connection.h"
#include "spread.h"
#include "worker.h"

/* What all know of a worker; on a cache line of its own. */
struct place {
    _Alignas(64) _Atomic bool open;
    _Atomic bool nudged;      /* it was told, and has not looked yet */
    _Atomic uint32_t life;    /* how often one died here */
    _Atomic uint32_t offered; /* connections in its queue */
    _Atomic uint32_t moved;   /* connections of its own that are in others' queues */
    _Atomic uint32_t taken;   /* ever, by itself from its queue */
};

/* What this worker knows of another. */
struct sibling {
    unsigned wants; /* so many, of this worker */
    int64_t due;    /* when it is looked whether it took what was moved to it; 0: nothing was */
    uint32_t taken; /* until then */
};

struct queue {
    int out, in;
};

struct spread {
    unsigned n;
    struct place *places; /* shared memory */
    struct queue *queues;
    /* Of a worker alone: */
    struct sibling *siblings;
    unsigned offered_max; /* for one worker */
    bool is_nudged;
    bool is_asked;      /* a sibling wants some */
    unsigned asked;     /* so often, since anything came */
    uint32_t had_taken; /* when it asked */
    int timer;
    int64_t tick_at; /* 0: nothing is due */
};

enum letter_kind {
    LETTER_NUDGE,      /* you have few: ask */
    LETTER_ASK,        /* I have few */
    LETTER_ACCEPT,     /* who was woken for a new connection may have died before it accepted it */
    LETTER_CONNECTION, /* it is yours; its socket comes with it */
};

struct letter {
    enum letter_kind kind;
    uint32_t from, life;
    uint32_t wants; /* LETTER_ASK */
    /* LETTER_CONNECTION: */
    enum frame_kind frame;
    uint32_t in_flight, unread;
    uid_t uid;
    bool warned;
};

/* Nobody's number goes below 0: one that was killed may have been counted, or not. */
void spread_count_down(_Atomic uint32_t *counter);
/* Something is to be done in a moment. */
void spread_tick_soon(struct spread *spread);

/* fd: -1, or that of the connection. 0 or a negative errno. */
int spread_write(struct worker *worker, unsigned to, struct letter *letter, int fd);
/* Takes one letter from a worker's queue, whoever's it is. False: there is none. */
bool spread_take(struct worker *worker, unsigned index);

bool spread_is_movable(const struct worker *worker, const struct connection *connection);
/* The connection is gone from here. 0, or a negative errno: it is not. */
int spread_move(struct worker *worker, struct connection *connection, unsigned to);
/* What was moved to another and may still be in its queue is this worker's to look after. */
void spread_owe(struct spread *spread, unsigned to);
/* Takes back what was not taken. True: something is due still. */
bool spread_collect(struct worker *worker);

#endif
