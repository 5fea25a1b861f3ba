#include "spin.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "../common/util.h"

enum { FIRST_INTERVAL = 8, LAST_INTERVAL = 256 };

/* ---- on and off ---- */

static bool is_alone(void)
{
    cpu_set_t set;
    /* If it fails, there are more CPUs than fit into the set. */
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) < 2;
}

void spin_set(struct spin *spin, unsigned microseconds)
{
    *spin = (struct spin){ .interval = FIRST_INTERVAL };
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
 * Nobody tells where the broker runs, nor how long it will take: so both ways are measured, and waits are
 * spun through only while that is clearly the shorter way. It is not where the two share a CPU, nor with a
 * broker that takes longer than the budget; and a wait counts as twice that at most, so that one answer of a
 * stuck file system is not remembered for thousands of quick ones. What one wait takes says little: it may
 * include being woken, or the turn of somebody else. Hence the mean.
 *
 * The other way is tried again now and then, less and less often while nothing changes: a broker that is
 * always slow costs the budget in one wait of 256.
 */
static bool is_better(const struct spin *spin)
{
    return 4 * spin->usual[true] < 3 * spin->usual[false];
}

bool spin_begin(struct spin *spin)
{
    if (++spin->waits < spin->interval)
        return is_better(spin);
    spin->waits = 0;
    spin->interval *= spin->interval < LAST_INTERVAL ? 2 : 1;
    return !is_better(spin);
}

void spin_end(struct spin *spin, bool spun, int64_t took)
{
    bool before = is_better(spin);
    int64_t counted = took < 2 * spin->budget ? took : 2 * spin->budget;
    spin->usual[spun] += (counted - spin->usual[spun]) / 8;
    if (is_better(spin) != before)
        spin->interval = FIRST_INTERVAL;
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
