#include "restart.h"

enum {
    STEADY_MS = 10000, /* who lived that long starts again at once */
    DELAY_MIN_MS = 100,
    DELAY_MAX_MS = 10000,
};

void restart_began(struct restart *restart, int64_t now)
{
    restart->started = now;
    restart->at = INT64_MAX;
}

void restart_plan(struct restart *restart, int64_t now)
{
    if (now - restart->started >= STEADY_MS)
        restart->delay = 0;
    restart->at = now + restart->delay;
    int64_t next = restart->delay ? restart->delay * 2 : DELAY_MIN_MS;
    restart->delay = next > DELAY_MAX_MS ? DELAY_MAX_MS : next;
}
