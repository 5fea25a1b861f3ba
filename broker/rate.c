#include "rate.h"

#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#include "../common/util.h"

enum { SLOTS = 4096, PROBES = 32 };
#define SECOND UINT64_C(1000000000)

/* `due`: when all that was granted would have been used up at the allowed rate. Before now: the slot is as
 * good as new, for whomever. */
struct slot {
    _Atomic uint64_t key; /* uid + 1 */
    _Atomic uint64_t due;
};

struct rate {
    uint64_t interval; /* nanoseconds for each; 0: no limit */
    struct slot *slots;
};

struct rate *rate_new(unsigned per_second)
{
    struct rate *rate = mem_zalloc(1, sizeof *rate);
    if (!rate)
        return NULL;
    void *memory =
        mmap(NULL, SLOTS * sizeof *rate->slots, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        free(rate);
        return NULL;
    }
    *rate = (struct rate){ per_second ? SECOND / per_second : 0, memory };
    return rate;
}

void rate_free(struct rate *rate)
{
    if (!rate)
        return;
    munmap(rate->slots, SLOTS * sizeof *rate->slots);
    free(rate);
}

/* NULL: every place that the uid could have belongs to somebody who is busy. */
static struct slot *find(struct rate *rate, uid_t uid, uint64_t now)
{
    uint64_t key = (uint64_t)uid + 1;
    unsigned start = uid * 2654435761u;
    for (unsigned i = 0; i < PROBES; i++) {
        struct slot *slot = &rate->slots[(start + i) % SLOTS];
        if (slot->key == key)
            return slot;
    }
    for (unsigned i = 0; i < PROBES; i++) {
        struct slot *slot = &rate->slots[(start + i) % SLOTS];
        uint64_t old = slot->key;
        if (slot->due < now && atomic_compare_exchange_strong(&slot->key, &old, key))
            return slot;
    }
    return NULL;
}

bool rate_take(struct rate *rate, uid_t uid, unsigned n, uint64_t now)
{
    struct slot *slot = rate->interval ? find(rate, uid, now) : NULL;
    if (!slot)
        return true;
    uint64_t due = slot->due;
    for (;;) {
        uint64_t next = (due > now ? due : now) + n * rate->interval;
        if (next > now + SECOND && due > now) /* one request alone always passes: a batch may be larger */
            return false;
        if (atomic_compare_exchange_strong(&slot->due, &due, next))
            return true;
    }
}
