/*
 * Busy polling: looking for a reply again and again for a while, before sleeping until it comes. To fall
 * asleep and be woken takes longer than all that the broker does for one open.
 */
#ifndef FOB_CLIENT_SPIN_H
#define FOB_CLIENT_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/msg.h"

enum { SPIN_MAX_US = 10000 };

/* All zero: off. */
struct spin {
    int64_t budget;   /* nanoseconds of a wait at most; 0: off */
    int64_t usual[2]; /* what a wait takes, slept through and spun through: means of the last ones */
    unsigned waits;   /* since the way that seems worse was tried */
    unsigned interval;
};

/* At most SPIN_MAX_US; 0: off. It stays off where this thread may run on one CPU only: the broker would wait
 * for that CPU. */
void spin_set(struct spin *spin, unsigned microseconds);
/* $FOB_BUSY_POLL; 0 if there is none, it is no number or above SPIN_MAX_US, or in a set-user-ID program. */
unsigned spin_wanted(void);

/* msg_recv() of a message that is waited for. */
int spin_recv(struct spin *spin, int sock, void *buf, size_t size, struct msg_in *in);

/* ---- what it decides, for spin_recv() ---- */

/* Shall the wait that begins now be spun through? */
bool spin_begin(struct spin *spin);
/* It took that many nanoseconds. */
void spin_end(struct spin *spin, bool spun, int64_t took);

#endif
