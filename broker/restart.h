/*
 * When a process that died is started again: at once if it had lived, else later and later.
 */
#ifndef FOB_BROKER_RESTART_H
#define FOB_BROKER_RESTART_H

#include <stdint.h>

struct restart {
    int64_t started; /* milliseconds of CLOCK_MONOTONIC */
    int64_t at;      /* INT64_MAX: it runs, or is not wanted */
    int64_t delay;   /* 0: the next restart is at once */
};

/* It has been started. */
void restart_began(struct restart *restart, int64_t now);
/* It has died, or could not be started. */
void restart_plan(struct restart *restart, int64_t now);

#endif
