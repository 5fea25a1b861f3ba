/*
 * From one generation to the next, in steps that the supervisor's loop takes as things happen:
 *
 *  starting   the new policy is compiled and its assertions hold, new workers start and are confined.
 * Whatever fails up to here leaves the old generation running untouched. quieting   the new generation is
 * announced (board.h): old workers begin nothing and answer nothing more; those that were answering are
 * waited for. retiring   the new workers serve: the new generation is in force. The old ones hand their
 * connections over and end.
 *
 * Who asked for the reload is told at the end, when no old worker is left that could answer anything.
 */
#ifndef FOB_BROKER_RELOAD_H
#define FOB_BROKER_RELOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct supervisor;
struct reign;

enum reload_step { RELOAD_IDLE, RELOAD_STARTING, RELOAD_QUIETING, RELOAD_RETIRING };

struct reload {
    enum reload_step step;
    struct reign *next;    /* starting, quieting */
    struct reign *old;     /* retiring */
    int *successors;       /* sockets to the new workers, one for each old one */
    unsigned slot;         /* where the workers in force have their slots */
    int64_t deadline;      /* of the step */
    bool renew;            /* mounts have changed: the same policy with new clones will do */
    bool again;            /* asked for meanwhile: what is on disk may be newer than what was read */
    uint64_t done, failed; /* reloads */
};

/* Asks for a reload: now, or once more after the one under way. */
void reload_request(struct supervisor *s);
/* Mounts have changed: new workers with new clones, and the policy as it is. */
void reload_renew(struct supervisor *s);
/* Takes the next step if it is time. */
void reload_step(struct supervisor *s);
/* When the next step is due at the latest, or INT64_MAX. */
int64_t reload_deadline(const struct reload *reload);
/* Before anything is in force: gives up. Afterwards: nothing (it is waited for). */
void reload_abort(struct supervisor *s);

#endif
