/*
 * How many entries a second a user may ask for, over all workers: the generic cell rate algorithm (ITU-T
 * I.371) in shared memory, one time stamp a user.
 */
#ifndef FOB_BROKER_RATE_H
#define FOB_BROKER_RATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct rate;

/* per_second 0: no limit. A second's worth may come at once. NULL: no memory. */
struct rate *rate_new(unsigned per_second);
void rate_free(struct rate *rate);
/* May uid have n more now (nanoseconds of CLOCK_MONOTONIC)? They are counted if so. */
bool rate_take(struct rate *rate, uid_t uid, unsigned n, uint64_t now_ns);

#endif
