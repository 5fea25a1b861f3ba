#include "spin.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "../common/util.h"

enum { LONG_WAITS = 8 }; /* after so many the pause grows no more */

/* ---- on and off ---- */

static bool is_alone(void)
{
    cpu_set_t set;
    /* If it fails, there are more CPUs than fit into the set. */
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) < 2;
}

void spin_set(struct spin *spin, unsigned microseconds)
{
    *spin = (struct spin){ 0 };
    if (microseconds && !is_alone())
        spin->budget = microseconds * INT64_C(1000);
}

unsigned spin_wanted(void)
{
    const char *text = secure_getenv("FOB_BUSY_POLL");
    uint64_t value;
    return text && parse_u64(text, SPIN_MAX_US, &value) == 0 ? (unsigned)value : 0;
}

/* ---- is it worth it? ---- */

/*
 * A wait is most like the one before it, so that one alone is asked. An average would remember one answer of
 * a stuck file system for thousands of quick ones.
 *
 * After a wait that was spun through in vain the next one is slept through, and twice as many after each
 * further such wait: a broker that is always slow costs the budget in one wait of 256. The first wait that
 * was short enough ends this. Without those trials it might never end: a wait that is slept through includes
 * being woken, and may be too long only because of that.
 */
bool spin_begin(struct spin *spin)
{
    if (spin->pause == 0)
        return true;
    spin->pause--;
    return false;
}

void spin_end(struct spin *spin, bool spun, int64_t took)
{
    if (took <= spin->budget) {
        spin->long_waits = spin->pause = 0;
    } else if (spun) {
        spin->long_waits += spin->long_waits < LONG_WAITS;
        spin->pause = (1U << spin->long_waits) - 1;
    }
}

/* ---- receiving ---- */

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int spin_recv(struct spin *spin, int sock, void *buf, size_t size, struct msg_in *in)
{
    if (spin->budget == 0)
        return msg_recv(sock, buf, size, 0, in);
    int64_t begin = clock_ns(), took = 0;
    bool spun = spin_begin(spin);
    int got = -EAGAIN;
    while (spun && got == -EAGAIN && took <= spin->budget) {
        got = msg_recv(sock, buf, size, MSG_DONTWAIT, in);
        took = clock_ns() - begin;
    }
    if (got == -EAGAIN) {
        got = msg_recv(sock, buf, size, 0, in);
        took = clock_ns() - begin;
    }
    spin_end(spin, spun, took);
    return got;
}
