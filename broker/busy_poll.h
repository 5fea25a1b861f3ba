/*
 * busy-poll of fobd.conf(5): a wait that looks a while whether something is ready before it sleeps. Who
 * sleeps is woken late: on two cores that is most of the time that a request takes.
 *
 * It spins while that pays, and learns so from each time that it spun: a hit (something came within the time)
 * and it spins again; a miss, and the next waits sleep at once, twice as many after each miss up to
 * BUSY_POLL_PAUSE_MAX.
 */
#ifndef FOB_BROKER_BUSY_POLL_H
#define FOB_BROKER_BUSY_POLL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

enum {
    BUSY_POLL_MAX_US = 1000, /* waking takes 5 to 100: more would buy nothing */
    BUSY_POLL_PAUSE_MAX = 64,
};

struct busy_poll {
    unsigned microseconds; /* to spin, at most; 0: off */
    unsigned misses_pause; /* how many waits the last miss, if no hit came since, made sleep */
    unsigned pause;        /* how many of them are still to come */
};

/* Off, too, when this process may use one CPU alone: nobody could send anything while it spins. Before
 * confinement. */
void busy_poll_init(struct busy_poll *poll, unsigned microseconds);

/* Is the next wait to spin? Each call is one wait. */
bool busy_poll_begins(struct busy_poll *poll);
/* It did: has something come while it spun? */
void busy_poll_learn(struct busy_poll *poll, bool hit);

/* epoll_wait(2), and the same when off; a timeout can come later by the time to spin. */
int busy_poll_wait(struct busy_poll *poll, int epoll, struct epoll_event *events, int max, int timeout_ms);

#endif
