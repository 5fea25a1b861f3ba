#include "quota.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "../common/util.h"

/* A slot that counts 0 may be taken over by another uid; one that is not used ends a search. */
struct slot {
    _Atomic uint32_t used, uid, count;
};

/*
 * Users whose numbers are near each other lie near each other: a few hundred of them in a page of memory, not
 * a page each, and there may be as many pages as connections. Only blocks that were ever written are looked
 * at where all users are wanted: memory that is read once is memory that is used.
 */
enum { BLOCK = 256 };

/* What one worker writes, on a cache line of its own. */
struct part {
    _Alignas(64) _Atomic uint32_t total;
    _Atomic uint8_t *written; /* for each block: something was */
    struct slot *table;
};

struct quota {
    unsigned workers, max_connections, max_per_user;
    size_t slots; /* for each worker: a power of 2, at least twice max_connections */
    size_t mapped;
    struct part *parts; /* the beginning of the shared memory */
};

static size_t slots_for(unsigned max_connections)
{
    size_t n = BLOCK;
    while (n < 2 * (size_t)max_connections)
        n *= 2;
    return n;
}

struct quota *quota_new(unsigned workers, unsigned max_connections, unsigned max_per_user)
{
    struct quota *quota = mem_zalloc(1, sizeof *quota);
    if (!quota)
        return NULL;
    size_t slots = slots_for(max_connections), blocks = slots / BLOCK;
    *quota = (struct quota){ workers, max_connections, max_per_user, slots, 0, NULL };
    quota->mapped = workers * (sizeof *quota->parts + slots * sizeof(struct slot) + blocks);
    void *memory = mmap(NULL, quota->mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        free(quota);
        return NULL;
    }
    quota->parts = memory;
    struct slot *tables = (struct slot *)(quota->parts + workers);
    _Atomic uint8_t *written = (_Atomic uint8_t *)(tables + workers * slots);
    for (unsigned i = 0; i < workers; i++) {
        quota->parts[i].table = tables + i * slots;
        quota->parts[i].written = written + i * blocks;
    }
    return quota;
}

void quota_free(struct quota *quota)
{
    if (!quota)
        return;
    munmap(quota->parts, quota->mapped);
    free(quota);
}

/* ---- a slot ---- */

static size_t place_of(const struct quota *quota, uid_t uid)
{
    return (uid / BLOCK * 2654435761u * BLOCK + uid % BLOCK) & (quota->slots - 1);
}

/* The slot of uid at a worker, or NULL. *unused: one that is free, or NULL. */
static struct slot *find(const struct quota *quota, unsigned worker, uid_t uid, struct slot **unused)
{
    struct slot *table = quota->parts[worker].table;
    size_t start = place_of(quota, uid);
    *unused = NULL;
    for (size_t i = 0; i < quota->slots; i++) {
        struct slot *slot = &table[(start + i) & (quota->slots - 1)];
        if (slot->used && slot->uid == uid)
            return slot;
        if (!*unused && slot->count == 0)
            *unused = slot;
        if (!slot->used)
            break;
    }
    return NULL;
}

static struct slot *find_or_make(struct quota *quota, unsigned worker, uid_t uid)
{
    struct part *part = &quota->parts[worker];
    struct slot *unused, *slot = find(quota, worker, uid, &unused);
    if (slot || !unused)
        return slot;
    part->written[(size_t)(unused - part->table) / BLOCK] = 1;
    unused->uid = uid;
    unused->used = 1;
    return unused;
}

/* Those that count nothing at the end of a row of slots: nobody need walk over them. */
static void shorten_row(struct quota *quota, unsigned worker, const struct slot *last)
{
    struct slot *table = quota->parts[worker].table;
    size_t mask = quota->slots - 1, at = (size_t)(last - table);
    if (table[(at + 1) & mask].used)
        return;
    for (; table[at].used && table[at].count == 0; at = (at - 1) & mask)
        table[at].used = 0;
}

/* ---- counts ---- */

/* Who has none at all is most of those that could be asked: two generations have a part each. */
static unsigned count_of(const struct quota *quota, uid_t uid)
{
    unsigned sum = 0;
    for (unsigned worker = 0; worker < quota->workers; worker++) {
        struct slot *unused;
        const struct slot *slot = quota->parts[worker].total ? find(quota, worker, uid, &unused) : NULL;
        sum += slot ? slot->count : 0;
    }
    return sum;
}

static unsigned count_all(const struct quota *quota)
{
    unsigned sum = 0;
    for (unsigned worker = 0; worker < quota->workers; worker++)
        sum += quota->parts[worker].total;
    return sum;
}

unsigned quota_total(const struct quota *quota, unsigned worker)
{
    return quota->parts[worker].total;
}

/* The total first: count_of() passes over who has none. */
int quota_adopt(struct quota *quota, unsigned worker, uid_t uid)
{
    struct slot *slot = find_or_make(quota, worker, uid);
    if (!slot)
        return -ENFILE;
    quota->parts[worker].total++;
    slot->count++;
    return 0;
}

/* Counted before it is looked again: of two workers that take the last one at once none gets it, rather than
 * both. */
int quota_take(struct quota *quota, unsigned worker, uid_t uid)
{
    if (count_of(quota, uid) >= quota->max_per_user)
        return -EAGAIN;
    if (count_all(quota) >= quota->max_connections)
        return -ENFILE;
    int err = quota_adopt(quota, worker, uid);
    if (err < 0)
        return err;
    err = count_of(quota, uid) > quota->max_per_user  ? -EAGAIN
          : count_all(quota) > quota->max_connections ? -ENFILE
                                                      : 0;
    if (err < 0)
        quota_give(quota, worker, uid);
    return err;
}

/* Another worker may be doing the same. False: it is 0. */
static bool count_down(_Atomic uint32_t *counter)
{
    uint32_t n = *counter;
    while (n && !atomic_compare_exchange_weak(counter, &n, n - 1))
        ;
    return n;
}

void quota_release(struct quota *quota, unsigned worker, uid_t uid)
{
    struct slot *unused, *slot = find(quota, worker, uid, &unused);
    if (slot && count_down(&slot->count))
        count_down(&quota->parts[worker].total);
}

void quota_give(struct quota *quota, unsigned worker, uid_t uid)
{
    struct slot *unused, *slot = find(quota, worker, uid, &unused);
    if (!slot || !count_down(&slot->count))
        return;
    count_down(&quota->parts[worker].total);
    if (slot->count == 0)
        shorten_row(quota, worker, slot);
}

/* ---- all of them ---- */

void quota_forget_worker(struct quota *quota, unsigned worker)
{
    struct part *part = &quota->parts[worker];
    for (size_t block = 0; block < quota->slots / BLOCK; block++)
        if (part->written[block])
            memset(part->table + block * BLOCK, 0, BLOCK * sizeof *part->table);
    part->total = 0;
}

/* A uid that several workers serve is told once, by the first that does. */
static bool told_before(const struct quota *quota, unsigned worker, uid_t uid)
{
    for (unsigned earlier = 0; earlier < worker; earlier++) {
        struct slot *unused;
        const struct slot *slot = find(quota, earlier, uid, &unused);
        if (slot && slot->count)
            return true;
    }
    return false;
}

static bool tell_block(const struct quota *quota, unsigned worker, size_t block, quota_fn *fn, void *data)
{
    const struct slot *slots = quota->parts[worker].table + block * BLOCK;
    for (size_t i = 0; i < BLOCK; i++) {
        uid_t uid = slots[i].uid;
        if (slots[i].count && !told_before(quota, worker, uid) && !fn(uid, count_of(quota, uid), data))
            return false;
    }
    return true;
}

void quota_each(const struct quota *quota, quota_fn *fn, void *data)
{
    for (unsigned worker = 0; worker < quota->workers; worker++)
        for (size_t block = 0; block < quota->slots / BLOCK; block++)
            if (quota->parts[worker].written[block] && !tell_block(quota, worker, block, fn, data))
                return;
}
