#include "quota.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "../common/util.h"

/* A slot that counts 0 may be taken over by another uid; one that was never used ends a search. */
struct slot {
    _Atomic uint32_t used, uid, count;
};

struct quota {
    unsigned workers, max_connections, max_per_user;
    size_t slots; /* for each worker: a power of 2, at least twice max_connections */
    size_t mapped;
    _Atomic uint32_t *totals;
    struct slot *table;
};

static size_t slots_for(unsigned max_connections)
{
    size_t n = 64;
    while (n < 2 * (size_t)max_connections)
        n *= 2;
    return n;
}

struct quota *quota_new(unsigned workers, unsigned max_connections, unsigned max_per_user)
{
    struct quota *quota = mem_zalloc(1, sizeof *quota);
    if (!quota)
        return NULL;
    size_t slots = slots_for(max_connections);
    size_t totals_size = workers * sizeof *quota->totals;
    *quota = (struct quota){ workers, max_connections, max_per_user, slots, 0, NULL, NULL };
    quota->mapped = totals_size + sizeof(uint64_t) + workers * slots * sizeof *quota->table;
    void *memory = mmap(NULL, quota->mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        free(quota);
        return NULL;
    }
    quota->totals = memory;
    quota->table = (struct slot *)((char *)memory + (totals_size + sizeof(uint64_t) - 1) / sizeof(uint64_t) *
                                                        sizeof(uint64_t));
    return quota;
}

void quota_free(struct quota *quota)
{
    if (!quota)
        return;
    munmap(quota->totals, quota->mapped);
    free(quota);
}

/* The slot of uid at a worker; with `make`, one that is free when there is none yet. NULL: none. */
static struct slot *find(struct quota *quota, unsigned worker, uid_t uid, bool make)
{
    struct slot *table = quota->table + worker * quota->slots, *free_slot = NULL;
    size_t start = (uid * 2654435761u) & (quota->slots - 1);
    for (size_t i = 0; i < quota->slots; i++) {
        struct slot *slot = &table[(start + i) & (quota->slots - 1)];
        if (slot->used && slot->uid == uid)
            return slot;
        if (!free_slot && slot->count == 0)
            free_slot = slot;
        if (!slot->used)
            break;
    }
    if (!make || !free_slot)
        return NULL;
    free_slot->uid = uid;
    free_slot->used = 1;
    return free_slot;
}

static unsigned count_of(struct quota *quota, uid_t uid)
{
    unsigned sum = 0;
    for (unsigned worker = 0; worker < quota->workers; worker++) {
        const struct slot *slot = find(quota, worker, uid, false);
        sum += slot ? slot->count : 0;
    }
    return sum;
}

static unsigned count_all(struct quota *quota)
{
    unsigned sum = 0;
    for (unsigned worker = 0; worker < quota->workers; worker++)
        sum += quota->totals[worker];
    return sum;
}

int quota_adopt(struct quota *quota, unsigned worker, uid_t uid)
{
    struct slot *slot = find(quota, worker, uid, true);
    if (!slot)
        return -ENFILE;
    slot->count++;
    quota->totals[worker]++;
    return 0;
}

int quota_take(struct quota *quota, unsigned worker, uid_t uid)
{
    if (count_of(quota, uid) >= quota->max_per_user)
        return -EAGAIN;
    return count_all(quota) < quota->max_connections ? quota_adopt(quota, worker, uid) : -ENFILE;
}

void quota_give(struct quota *quota, unsigned worker, uid_t uid)
{
    struct slot *slot = find(quota, worker, uid, false);
    if (!slot || slot->count == 0)
        return;
    slot->count--;
    quota->totals[worker]--;
}

unsigned quota_total(const struct quota *quota, unsigned worker)
{
    return quota->totals[worker];
}

void quota_forget_worker(struct quota *quota, unsigned worker)
{
    memset(quota->table + worker * quota->slots, 0, quota->slots * sizeof *quota->table);
    quota->totals[worker] = 0;
}

/* A uid that several workers serve is told once, by the first that does. */
static bool told_before(struct quota *quota, unsigned worker, uid_t uid)
{
    for (unsigned earlier = 0; earlier < worker; earlier++) {
        const struct slot *slot = find(quota, earlier, uid, false);
        if (slot && slot->count)
            return true;
    }
    return false;
}

void quota_each(struct quota *quota, quota_fn *fn, void *data)
{
    for (unsigned worker = 0; worker < quota->workers; worker++) {
        const struct slot *table = quota->table + worker * quota->slots;
        for (size_t i = 0; i < quota->slots; i++) {
            uid_t uid = table[i].uid;
            if (!table[i].count || told_before(quota, worker, uid))
                continue;
            if (!fn(uid, count_of(quota, uid), data))
                return;
        }
    }
}
