#include "arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_SIZE = 1 << 16 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    alignas(max_align_t) char bytes[];
};

static struct arena_chunk *chunk_add(struct arena *arena, size_t need)
{
    size_t size = need > CHUNK_SIZE / 4 ? need : CHUNK_SIZE;
    if (size > SIZE_MAX - sizeof(struct arena_chunk))
        return NULL;
    struct arena_chunk *chunk = malloc(sizeof *chunk + size);
    if (!chunk)
        return NULL;
    chunk->used = 0;
    chunk->size = size;
    arena->total += sizeof *chunk + size;
    /* A large piece fills its chunk: the one that has room left stays in front. */
    if (size != CHUNK_SIZE && arena->chunks) {
        chunk->next = arena->chunks->next;
        arena->chunks->next = chunk;
    } else {
        chunk->next = arena->chunks;
        arena->chunks = chunk;
    }
    return chunk;
}

static void *take(struct arena *arena, size_t size, size_t align)
{
    struct arena_chunk *chunk = arena->chunks;
    size_t start = chunk ? (chunk->used + align - 1) / align * align : 0;
    if (!chunk || start > chunk->size || chunk->size - start < size) {
        chunk = chunk_add(arena, size);
        start = 0;
    }
    if (!chunk)
        return NULL;
    chunk->used = start + size;
    return chunk->bytes + start;
}

void *arena_alloc(struct arena *arena, size_t n, size_t size)
{
    if (size && n > (SIZE_MAX - alignof(max_align_t)) / size)
        return NULL;
    void *memory = take(arena, n * size, size >= 8 ? 8 : 4);
    if (memory)
        memset(memory, 0, n * size);
    return memory;
}

char *arena_text(struct arena *arena, const char *bytes, size_t len)
{
    char *text = take(arena, len + 1, 1);
    if (!text)
        return NULL;
    memcpy(text, bytes, len);
    text[len] = '\0';
    return text;
}

void *arena_copy(struct arena *arena, const void *from, size_t n, size_t size)
{
    void *memory = n ? arena_alloc(arena, n, size) : NULL;
    if (memory)
        memcpy(memory, from, n * size);
    return memory;
}

void arena_free(struct arena *arena)
{
    struct arena_chunk *next;
    for (struct arena_chunk *chunk = arena->chunks; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    *arena = (struct arena){ 0 };
}
