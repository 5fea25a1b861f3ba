/*
 * busy-poll of fobd.conf(5): a wait that looks a while whether something is ready before it sleeps. On two
 * cores, waking who sleeps is most of the time that a request takes.
 *
 * It spins while that pays, and learns whether it does from the times that it spun: after a hit (something
 * came in time) the next wait spins too; after a miss the next one sleeps at once, after each further miss
 * twice as many do, and a hit forgives them all. How long a sleep took tells nothing: where the client needs
 * the worker's own core all sleeps are short, and spinning only keeps it from asking (6 times slower, if it
 * spins as well).
 */
#ifndef FOB_BROKER_BUSY_POLL_H
#define FOB_BROKER_BUSY_POLL_H

#include <stdbool.h>
#include <sys/epoll.h>

enum {
    BUSY_POLL_MAX_US = 1000,  /* to wake a process takes 5 to 100: more would buy nothing */
    BUSY_POLL_PAUSE_MAX = 64, /* so 50 us in vain cost less than 1 for each request */
};

struct busy_poll {
    unsigned microseconds; /* to spin, at most; 0: off */
    unsigned pause;        /* waits that are still to sleep at once */
    unsigned last_pause;   /* how many the last miss made do so; 0: it was a hit */
};

/* Off, too, when this process may use one CPU alone: nobody could ask while it spins. To be called before
 * confinement. */
void busy_poll_init(struct busy_poll *poll, unsigned microseconds);

/* Is the next wait to spin? To be asked once for each. */
bool busy_poll_begins(struct busy_poll *poll);
/* It did; has anything come in time? */
void busy_poll_learn(struct busy_poll *poll, bool hit);

/* As epoll_wait(2); a timeout can be late by the time to spin. When it is off, no more than that call. */
int busy_poll_wait(struct busy_poll *poll, int epoll, struct epoll_event *events, int max, int timeout_ms);

#endif
