/*
 * A worker: the process that reads client bytes and opens files. One epoll loop; one request of each ready
 * connection in a turn, so that nobody who sends much is served before who sends little; the audit written at
 * the end of the turn, after the replies.
 */
#ifndef FOB_BROKER_WORKER_H
#define FOB_BROKER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/wire.h"
#include "audit.h"
#include "board.h"
#include "busy_poll.h"
#include "client.h"
#include "config.h"
#include "confine.h"
#include "generation.h"
#include "handover.h"
#include "identity.h"
#include "jobs.h"
#include "listener.h"
#include "opener.h"
#include "park.h"
#include "quota.h"
#include "rate.h"
#include "sealer.h"
#include "spread.h"

/* What the supervisor gives to a new worker. Everything but the descriptors is shared by fork and only read.
 */
struct worker_setup {
    const struct config *config;
    const struct generation *generation;
    const struct confine_plan *plan;
    struct audit *audit;
    struct quota *quota;
    struct rate *rate;
    struct board *board;
    struct jobs *jobs;
    struct identity_channel *identity; /* or NULL: nothing is known but what a job says */
    struct sealer_channel *sealer;     /* or NULL: no directory can be sealed */
    struct spread *spread;             /* or NULL: it is the only worker */
    unsigned index;                    /* 0.. among those of its generation */
    unsigned slot;                     /* 0.. among all that can be alive at once: of quota and board */
    unsigned workers;                  /* of a generation */
    unsigned openers;                  /* slow openers of a generation, at most */
    void (*close_private)(
        void *supervisor,
        const struct generation *own); /* in a child: closes what is the supervisor's alone */
    void *supervisor;
    int courier;              /* where replies to datagrams go */
    int listeners[LISTENERS]; /* or -1 */
    bool single;              /* one connection is served, and nobody else: its end is the worker's */
    int client;               /* that connection, or -1: it comes from a predecessor */
    int control;              /* SEQPACKET to the supervisor; end of file means: finish and exit */
    bool waits;               /* ... until WORKER_GO: the last generation is in force yet */
    int slow_queue;           /* SEQPACKET to (in an opener: from) the other side of slow.h */
    const int *wakes;         /* eventfd(2) of each worker of the generation */
    int predecessor;          /* SEQPACKET from the worker whose connections come over, or -1 */
};

/* What the supervisor says: one byte. */
enum worker_order {
    WORKER_SEALER = 's',    /* with the channel of a new sealer */
    WORKER_IDENTITY = 'i',  /* with the channel of a new identity helper */
    WORKER_GO = 'g',        /* serve */
    WORKER_HAND_OVER = 'h', /* with a socket to the successor: all connections go there; then exit */
};

/* What the worker says: struct worker_ready once, then this, each time that a job goes to the slow openers,
 * with the client's socket (but of a datagram). */
struct worker_notice {
    uint32_t job, serial;
};

struct worker_ready {
    struct confine_state confinement;
};

struct connection;

enum { WORKER_LABEL_MAX = 256 };

/* One entry of a request, from decoding to the audit. */
struct exchange {
    struct wire_entry entry;
    struct opener_result result;
};

struct worker {
    const struct worker_setup *setup;
    struct board_counters *counters;
    struct clients clients;
    struct opener opener;
    struct connection *connections; /* all of them */
    struct identity identity;       /* of who asked the request at hand, if the policy needs it */
    char label[WORKER_LABEL_MAX];
    bool narrowed;                 /* identity is that of who asked the request at hand */
    struct policy_subject subject; /* the client's, and what narrows it now */
    struct parked_list parked;     /* of them, those that a slow opener works for */
    bool late; /* the request at hand waited long enough: what is slow of it is ETIMEDOUT */
    int job;   /* in a slow opener: the one at hand; else -1 */
    int epoll;
    struct busy_poll busy_poll;
    int reserve; /* a descriptor to give up when accept(2) says EMFILE */
    bool draining;
    int predecessor; /* setup's, until it has ended: -1 */
    int successor;   /* -1, or where all connections go */
    struct handover_pending pending;
    int audit_timer;
    bool audit_waits;    /* the timer is set */
    uint64_t audit_lost; /* as counted on the board */
    bool swept;          /* in this turn */
    unsigned in_flight;  /* descriptors sent and not taken yet */
    unsigned in_flight_max, in_flight_user_max;
    /* Buffers of the request at hand. */
    struct exchange exchanges[WIRE_MAX_ENTRIES];
    uint8_t in[WIRE_MAX_MESSAGE];
    uint8_t out[WIRE_MAX_MESSAGE];
    char real[WIRE_MAX_ENTRIES]
             [PATH_TEXT_MAX + 1]; /* 1 MB that is touched only where symlinks are followed */
};

/* A process that can serve requests: confined, and ready. NULL: said why. */
struct worker *worker_new(const struct worker_setup *setup, const char *name);
/* In a slow opener: the worker that has this slot is to look at its jobs. */
void worker_wake_other(const struct worker *worker, unsigned slot);

/* Confines itself, serves until told to finish; the exit status of the process: 0, or 1 when it could not be
 * confined. */
int worker_run(const struct worker_setup *setup);

#endif
