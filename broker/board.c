#include "board.h"

#include <string.h>
#include <sys/mman.h>

#include "../common/util.h"
#include "audit.h"

enum { RING_SIZE = 1 << 18, SLOW_US = 100000 };
_Static_assert(RING_SIZE > 4 * AUDIT_LINE_MAX, "a ring holds some records");

/* Each on cache lines of its own. */
struct slot {
    _Alignas(64) _Atomic bool busy;
    _Alignas(64) struct board_counters counters;
    _Alignas(64) _Atomic uint64_t told; /* bytes ever written to the ring */
    char ring[RING_SIZE];
};

struct shared {
    _Atomic uint32_t announced;
    _Atomic bool watched;
    struct slot slots[];
};

struct board {
    struct shared *shared;
    unsigned slots;
    size_t mapped;
};

struct board *board_new(unsigned slots)
{
    struct board *board = mem_zalloc(1, sizeof *board);
    if (!board)
        return NULL;
    board->slots = slots;
    board->mapped = sizeof *board->shared + slots * sizeof *board->shared->slots;
    void *memory = mmap(NULL, board->mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        free(board);
        return NULL;
    }
    board->shared = memory;
    return board;
}

void board_free(struct board *board)
{
    if (!board)
        return;
    munmap(board->shared, board->mapped);
    free(board);
}

unsigned board_slots(const struct board *board)
{
    return board->slots;
}

/* ---- generations ---- */

/* Sequentially consistent, as is busy: either the worker sees the announcement, or the announcer sees it
 * busy. */
void board_announce(struct board *board, uint32_t generation)
{
    atomic_store(&board->shared->announced, generation);
}

bool board_is_announced(const struct board *board, uint32_t generation)
{
    return atomic_load(&board->shared->announced) == generation;
}

bool board_enter(struct board *board, unsigned slot, uint32_t generation)
{
    atomic_store(&board->shared->slots[slot].busy, true);
    if (board_is_announced(board, generation))
        return true;
    board_leave(board, slot);
    return false;
}

void board_leave(struct board *board, unsigned slot)
{
    atomic_store_explicit(&board->shared->slots[slot].busy, false, memory_order_release);
}

bool board_is_busy(const struct board *board, unsigned slot)
{
    return atomic_load(&board->shared->slots[slot].busy);
}

/* ---- counters ---- */

struct board_counters *board_counters(struct board *board, unsigned slot)
{
    return &board->shared->slots[slot].counters;
}

unsigned board_latency_class(uint32_t us)
{
    if (us < 4)
        return us;
    unsigned octave = 31 - (unsigned)__builtin_clz(us);
    return (octave - 1) * 4 + (us >> (octave - 2) & 3);
}

uint32_t board_latency_limit(unsigned latency_class)
{
    if (latency_class < 4)
        return latency_class;
    unsigned octave = latency_class / 4 + 1, quarter = latency_class % 4;
    return (uint32_t)(((UINT64_C(5) + quarter) << (octave - 2)) - 1);
}

void board_count_latency(struct board_counters *counters, uint32_t us)
{
    board_add(&counters->latency[board_latency_class(us)], 1);
    board_add(&counters->latency_sum, us);
    board_add(&counters->slow, us >= SLOW_US);
}

/* ---- watching ---- */

void board_watch(struct board *board, bool on)
{
    atomic_store_explicit(&board->shared->watched, on, memory_order_relaxed);
}

bool board_is_watched(const struct board *board)
{
    return atomic_load_explicit(&board->shared->watched, memory_order_relaxed);
}

void board_tell(struct board *board, unsigned slot, const char *lines, size_t len)
{
    struct slot *s = &board->shared->slots[slot];
    uint64_t told = atomic_load_explicit(&s->told, memory_order_relaxed);
    if (len > RING_SIZE / 2)
        return;
    size_t at = told % RING_SIZE, first = len < RING_SIZE - at ? len : RING_SIZE - at;
    atomic_thread_fence(memory_order_release); /* `told` is seen before what is written over is */
    memcpy(s->ring + at, lines, first);
    memcpy(s->ring, lines + first, len - first);
    atomic_store_explicit(&s->told, told + len, memory_order_release);
}

uint64_t board_now(const struct board *board, unsigned slot)
{
    return atomic_load_explicit(&board->shared->slots[slot].told, memory_order_acquire);
}

static void ring_copy(const struct slot *s, uint64_t from, char *out, size_t len)
{
    size_t at = from % RING_SIZE, first = len < RING_SIZE - at ? len : RING_SIZE - at;
    memcpy(out, s->ring + at, first);
    memcpy(out + first, s->ring, len - first);
}

/* The writer may be writing the piece after `told` already: it is RING_SIZE / 2 at most. */
static bool is_overwritten(const struct board *board, unsigned slot, uint64_t from)
{
    return board_now(board, slot) - from > RING_SIZE / 2;
}

size_t board_hear(const struct board *board, unsigned slot, uint64_t *position, char *out, size_t size,
                  uint64_t *lost)
{
    const struct slot *s = &board->shared->slots[slot];
    uint64_t told = board_now(board, slot);
    if (is_overwritten(board, slot, *position)) {
        ++*lost;
        *position = told;
        return 0;
    }
    size_t len = (size_t)(told - *position);
    if (len > size)
        len = size;
    ring_copy(s, *position, out, len);
    atomic_thread_fence(memory_order_acquire);
    if (is_overwritten(board, slot, *position)) {
        ++*lost;
        *position = board_now(board, slot);
        return 0;
    }
    while (len && out[len - 1] != '\n')
        len--;
    *position += len;
    return len;
}
