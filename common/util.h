/*
 * Small helpers that everything else stands on: scoped cleanup, descriptors, arrays.
 *
 * Error contract of common/, policy/ and broker/: a function that can fail returns 0 (or a
 * positive count) on success and a NEGATIVE errno on failure; errno itself is not part of any
 * contract. Ownership stands in the names: _new/_free (heap), _init/_deinit (storage of the
 * caller's), _open/_close. "takes" in a comment means that the callee owns the thing from then on.
 */
#ifndef FOB_COMMON_UTIL_H
#define FOB_COMMON_UTIL_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Runs fn(&variable) when the variable's scope ends (gcc and clang; GCC manual, "cleanup"). */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* close(2) that keeps errno and takes -1 for "nothing to close"; returns -1, so: fd = fd_close(fd). */
int fd_close(int fd);
/* Closes n descriptors; each slot becomes -1. */
void fd_close_many(int *fds, size_t n);
/* For CLEANUP(): closes *fd. */
void fd_cleanup(int *fd);
/* Hands the descriptor on: returns *fd and leaves -1 behind. */
int fd_take(int *fd);
/* How many descriptors this process has open (reads /proc/self/fd), or a negative errno. */
int fd_count(void);

/* For CLEANUP(): free(*pointer). */
void free_cleanup(void *pointer);

/* calloc with overflow check by libc; a plain name so that fault injection has one place. */
void *mem_zalloc(size_t n, size_t size);
/* Grows *array (n used, *cap allocated, elements of `size` bytes) so that one more fits. 0 or -ENOMEM. */
int mem_grow(void *array, size_t n, size_t *cap, size_t size);

/* Writes all of buf, going on after EINTR and short writes. 0 or a negative errno. */
int fd_write_all(int fd, const void *buf, size_t len);
/*
 * Sorts ids ascending, in place. Not qsort(3): for more than a kilobyte that of glibc asks for memory and, with sysinfo(2), how much there
 * is, which a confined process must not.
 */
void sort_ids(uint32_t *ids, size_t n);
/* CLOCK_MONOTONIC in microseconds and in milliseconds. */
int64_t clock_us(void);
int64_t clock_ms(void);
/* Decimal, no sign, no blank, nothing after it, at most `max`. 0, -EINVAL or -ERANGE. */
int parse_u64(const char *text, uint64_t max, uint64_t *out);

#endif
