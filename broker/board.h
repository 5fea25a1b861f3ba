/*
 * What supervisor and workers tell each other in shared memory: which generation is announced, what each
 * worker has counted, and the decisions that somebody watches. Every slot has one writer, so nothing is
 * locked, and counting costs a worker an addition.
 */
#ifndef FOB_BROKER_BOARD_H
#define FOB_BROKER_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Latencies are counted in four classes for each power of two of microseconds. */
enum { BOARD_LATENCIES = 128 };

struct board_counters {
    _Atomic uint64_t accepted;    /* connections */
    _Atomic uint64_t handed_over; /* connections that came from the last generation's worker */
    _Atomic uint64_t messages;    /* requests, of one or more entries */
    _Atomic uint64_t allowed, refused;
    _Atomic uint64_t failed;      /* allowed, but the kernel did not */
    _Atomic uint64_t over_quota;  /* connections and entries */
    _Atomic uint64_t malformed;   /* messages */
    _Atomic uint64_t undelivered; /* replies to datagrams, and datagrams without a name */
    _Atomic uint64_t slow;        /* messages that took 100 ms and more */
    _Atomic uint64_t audit_lost;  /* records */
    _Atomic uint64_t latency_sum; /* microseconds */
    _Atomic uint64_t latency[BOARD_LATENCIES];
};

struct board;

/* Before the first worker is forked. NULL: no memory. */
struct board *board_new(unsigned slots);
void board_free(struct board *board);
unsigned board_slots(const struct board *board);

/* ---- generations ---- */

/* From now on workers of another generation begin nothing and send nothing. */
void board_announce(struct board *board, uint32_t generation);
bool board_is_announced(const struct board *board, uint32_t generation);
/*
 * The worker is about to do what cannot be taken back: to send, or to open what a request creates or
 * truncates. False: another generation is announced, so it must not. What began is waited for by whoever
 * announces (board_is_busy()).
 */
bool board_enter(struct board *board, unsigned slot, uint32_t generation);
void board_leave(struct board *board, unsigned slot);
bool board_is_busy(const struct board *board, unsigned slot);

/* ---- counters ---- */

struct board_counters *board_counters(struct board *board, unsigned slot);
static inline void board_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
void board_count_latency(struct board_counters *counters, uint32_t microseconds);
/* The class of a latency, and the most that belongs to a class. */
unsigned board_latency_class(uint32_t microseconds);
uint32_t board_latency_limit(unsigned latency_class);

/* ---- watching ---- */

void board_watch(struct board *board, bool on);
bool board_is_watched(const struct board *board);
/* Whole lines, of the slot's worker. */
void board_tell(struct board *board, unsigned slot, const char *lines, size_t len);
/*
 * Copies what a slot told since *position (0 in the beginning: board_now()) to out, whole lines only, and
 * moves *position. Returns the bytes; *lost counts up when lines were written over unread.
 */
size_t board_hear(const struct board *board, unsigned slot, uint64_t *position, char *out, size_t size,
                  uint64_t *lost);
/* Where the slot writes next. */
uint64_t board_now(const struct board *board, unsigned slot);

#endif
