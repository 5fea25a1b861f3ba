/*
 * The queue from the workers to the courier, and how many descriptors are in it: they count as those on
 * their way to askers do (unix(7), ETOOMANYREFS).
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "../common/util.h"
#include "courier_parts.h"

enum { CLASSES = 1024, CLASS_BITS = 10 };

/* In memory that all share. Users are counted in classes, which nobody can choose. */
struct flow {
    uint32_t key;
    _Atomic unsigned max, max_per_user;
    _Atomic unsigned n;
    _Atomic unsigned of_class[CLASSES];
};

static struct flow *flow;

static _Atomic unsigned *class_of(uid_t uid)
{
    return &flow->of_class[(uint32_t)(uid * flow->key) >> (32 - CLASS_BITS)];
}

static void add(uid_t uid, size_t n)
{
    if (!flow || n == 0)
        return;
    atomic_fetch_add(&flow->n, (unsigned)n);
    atomic_fetch_add(class_of(uid), (unsigned)n);
}

/* Never below 0: all may have been forgotten meanwhile. */
static void subtract(_Atomic unsigned *counter, unsigned n)
{
    unsigned old = atomic_load(counter);
    while (!atomic_compare_exchange_weak(counter, &old, old > n ? old - n : 0))
        ;
}

int queue_open(void)
{
    void *memory = mmap(NULL, sizeof *flow, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    flow = memory;
    if (getrandom(&flow->key, sizeof flow->key, 0) != sizeof flow->key)
        flow->key = 2654435761u;
    flow->key |= 1;
    return 0;
}

void queue_close(void)
{
    if (flow)
        munmap(flow, sizeof *flow);
    flow = NULL;
}

void queue_limit(unsigned max_fds)
{
    unsigned all = max_fds / 2, user = max_fds / 8;
    if (!flow)
        return;
    atomic_store(&flow->max, all > WIRE_MAX_ENTRIES ? all : WIRE_MAX_ENTRIES);
    atomic_store(&flow->max_per_user, user > WIRE_MAX_ENTRIES ? user : WIRE_MAX_ENTRIES);
}

void queue_took(uid_t uid, size_t n)
{
    if (!flow || n == 0)
        return;
    subtract(&flow->n, (unsigned)n);
    subtract(class_of(uid), (unsigned)n);
}

bool queue_is_counted(void)
{
    return flow && atomic_load(&flow->n) > 0;
}

void queue_forget(void)
{
    if (!flow)
        return;
    atomic_store(&flow->n, 0);
    for (unsigned i = 0; i < CLASSES; i++)
        atomic_store(&flow->of_class[i], 0);
}

/* ---- in a worker ---- */

bool courier_has_room(uid_t uid, unsigned n)
{
    return !flow || (atomic_load(&flow->n) + n <= atomic_load(&flow->max) &&
                     atomic_load(class_of(uid)) + n <= atomic_load(&flow->max_per_user));
}

static int post_as(int queue, bool slow, const struct courier_address *to, const void *reply, size_t len,
                   const int *fds, size_t n_fds)
{
    struct courier_head head;
    static uint8_t bytes[sizeof head + WIRE_MAX_MESSAGE];
    memset(&head, 0, sizeof head);
    head.to = *to;
    head.slow = slow && n_fds;
    memcpy(bytes, &head, sizeof head);
    memcpy(bytes + sizeof head, reply, len);
    add(to->asker.uid, n_fds);
    int err = msg_send(queue, bytes, sizeof head + len, fds, n_fds, NULL, MSG_DONTWAIT);
    if (err < 0)
        queue_took(to->asker.uid, n_fds);
    return err;
}

int courier_post(int queue, const struct courier_address *to, const void *reply, size_t len, const int *fds,
                 size_t n_fds)
{
    return post_as(queue, false, to, reply, len, fds, n_fds);
}

int courier_post_slow(int queue, const struct courier_address *to, const void *reply, size_t len,
                      const int *fds, size_t n_fds)
{
    return post_as(queue, true, to, reply, len, fds, n_fds);
}
