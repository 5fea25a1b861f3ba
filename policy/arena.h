/*
 * Memory of one policy: given piece by piece, freed all at once.
 */
#ifndef FOB_POLICY_ARENA_H
#define FOB_POLICY_ARENA_H

#include <stddef.h>

struct arena {
    struct arena_chunk *chunks;
    size_t total; /* bytes taken from the system */
};

/* Zeroed, aligned for any object; NULL without memory. */
void *arena_alloc(struct arena *arena, size_t n, size_t size);
/* A copy of len bytes with a NUL after it, not aligned. */
char *arena_text(struct arena *arena, const char *bytes, size_t len);
/* A copy of n elements. NULL for n = 0 too. */
void *arena_copy(struct arena *arena, const void *from, size_t n, size_t size);
void arena_free(struct arena *arena);

#endif
