/*
 * One connection of a client, and that to the broker made for it.
 */
#ifndef FOB_TRACE_RELAY_H
#define FOB_TRACE_RELAY_H

#include <time.h>

#include "framer.h"
#include "packet.h"

/* Where to print, and since when. */
struct journal {
    FILE *out;
    struct timespec begin;
};
/* "  0.000123 #1 ...": begins a line of a connection (number 0: of none). */
void journal_begin(const struct journal *journal, unsigned number);

/* What goes one way. While a packet waits to be passed on nothing more is read from its side. */
struct half {
    bool ended;     /* nothing comes any more, or nobody takes it */
    bool was_reset; /* it was said that the other side closed without having read all */
    bool later;     /* no poll(2) event will say when to try again */
    size_t offset;  /* bytes that came */
    struct framer framer;
    struct packet packet;
};

struct relay {
    unsigned number;
    int type; /* SOCK_SEQPACKET or SOCK_STREAM */
    enum protocol protocol;
    const struct journal *journal;
    int socks[2];         /* by enum side */
    struct half halves[2]; /* by the side that it comes from */
};

/* Takes the client's socket, connects to the broker. NULL when that is not to be: it was said why, and the client is closed. */
struct relay *relay_new(const struct journal *journal, unsigned number, int client, const char *upstream, int type);
void relay_free(struct relay *relay);
/* The poll(2) events that a side waits for; 0: none, do not poll it (it would say POLLHUP for ever). */
short relay_events(const struct relay *relay, enum side side);
/* Must it be tried again after a moment? */
bool relay_is_waiting(const struct relay *relay);
/* Does what can be done. False: it is over. */
bool relay_turn(struct relay *relay, const short revents[2]);

/* A socket to path that does not wait, or a negative errno. */
int relay_connect(const char *path, int type);
/* So that nothing is refused or lost that is to be seen: credentials and descriptors are received. 0 or a negative errno. */
int relay_set_options(int sock);

#endif
