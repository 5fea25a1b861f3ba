#include "wire.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "path.h"

_Static_assert(WIRE_MAX_PATH == (int)PATH_TEXT_MAX, "the protocol carries every path that fob serves");

static const uint8_t MAGIC[4] = { 'F', 'O', 'B', '1' };

/* Messages lie at any address: memcpy, which compilers make one load or store of. */

static uint16_t get_u16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t get_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static void put_u16(uint8_t *at, uint16_t value)
{
    memcpy(at, &value, sizeof value);
}

static void put_u32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static size_t padded(size_t len)
{
    return (len + 3) & ~(size_t)3;
}

/* ---- decode: header, request, entries ---- */

int wire_message_length(const void *header)
{
    const uint8_t *at = header;
    uint32_t length = get_u32(at + 4);
    bool sound =
        memcmp(at, MAGIC, sizeof MAGIC) == 0 && length >= WIRE_HEADER_SIZE && length <= WIRE_MAX_MESSAGE;
    return sound ? (int)length : -EPROTO;
}

int wire_decode_header(const void *message, size_t len, struct wire_header *header)
{
    const uint8_t *at = message;
    if (len < WIRE_HEADER_SIZE || len > WIRE_MAX_MESSAGE || memcmp(at, MAGIC, sizeof MAGIC) != 0)
        return -EPROTO;
    *header = (struct wire_header){ get_u32(at + 4), get_u16(at + 8), get_u16(at + 10), get_u32(at + 12) };
    return header->length == len ? 0 : -EPROTO;
}

static int count_check(const struct wire_header *header)
{
    switch (header->type) {
    case WIRE_OPEN:
    case WIRE_CHECK:
        return header->count >= 1 && header->count <= WIRE_MAX_ENTRIES ? 0 : -EPROTO;
    case WIRE_LIST:
    case WIRE_HELLO:
        return header->count == 0 ? 0 : -EPROTO;
    default:
        return -EPROTO;
    }
}

/* The bytes that the entry at `at` takes, or 0 when it does not end in the `left` bytes there. */
static size_t entry_size(const uint8_t *at, size_t left)
{
    if (left < WIRE_ENTRY_SIZE)
        return 0;
    size_t size = WIRE_ENTRY_SIZE + padded(get_u16(at + 8));
    return size <= left ? size : 0;
}

int wire_decode_request(const void *message, size_t len, struct wire_header *header,
                        struct wire_reader *reader)
{
    if (wire_decode_header(message, len, header) < 0 || count_check(header) < 0)
        return -EPROTO;
    const uint8_t *pos = (const uint8_t *)message + WIRE_HEADER_SIZE, *end = (const uint8_t *)message + len;
    *reader = (struct wire_reader){ pos, end, header->count };
    for (unsigned i = 0; i < header->count; i++) {
        size_t size = entry_size(pos, (size_t)(end - pos));
        if (size == 0)
            return -EPROTO;
        pos += size;
    }
    return pos == end ? 0 : -EPROTO;
}

static bool is_zero(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (at[i] != 0)
            return false;
    }
    return true;
}

static int entry_error(const uint8_t *at, size_t path_len)
{
    const uint8_t *path = at + WIRE_ENTRY_SIZE;
    if (path_len == 0 || path_len > WIRE_MAX_PATH || get_u16(at + 10) != 0)
        return EINVAL;
    if (memchr(path, '\0', path_len) != NULL || !is_zero(path + path_len, padded(path_len) - path_len))
        return EINVAL;
    return 0;
}

int wire_next_entry(struct wire_reader *reader, struct wire_entry *entry)
{
    if (reader->left == 0)
        return 0;
    const uint8_t *at = reader->pos;
    size_t size = entry_size(at, (size_t)(reader->end - at));
    if (size == 0)
        return 0; /* a reader that no checked request made: nothing is better than bytes beyond the end */
    uint16_t path_len = get_u16(at + 8);
    *entry = (struct wire_entry){
        .flags = get_u32(at),
        .mode = get_u32(at + 4),
        .path = (const char *)at + WIRE_ENTRY_SIZE,
        .path_len = path_len,
        .error = entry_error(at, path_len),
    };
    reader->pos += size;
    reader->left--;
    return 1;
}

/* ---- decode: replies ---- */

/* A descriptor comes with success only; a success without one is a CHECK's. */
static bool result_is_sound(const struct wire_result *result)
{
    if (result->fd_index == WIRE_NO_FD)
        return result->error >= 0;
    return result->error == 0 && result->fd_index < WIRE_MAX_ENTRIES;
}

int wire_decode_result(const void *in, size_t size, struct wire_result *result)
{
    const uint8_t *at = in;
    if (size < WIRE_RESULT_SIZE)
        return -EPROTO;
    *result = (struct wire_result){ (int32_t)get_u32(at), get_u32(at + 4), get_u32(at + 8) };
    return result_is_sound(result) && get_u32(at + 12) == 0 ? 0 : -EPROTO;
}

int wire_decode_hello(const void *in, size_t size, struct wire_hello *hello)
{
    const uint8_t *at = in;
    if (size != WIRE_HELLO_SIZE)
        return -EPROTO;
    *hello = (struct wire_hello){ get_u32(at), get_u32(at + 4), get_u32(at + 8), get_u32(at + 12) };
    return 0;
}

/* ---- encode ---- */

size_t wire_encode_header(void *out, size_t size, const struct wire_header *header)
{
    uint8_t *at = out;
    if (size < WIRE_HEADER_SIZE || header->length < WIRE_HEADER_SIZE || header->length > WIRE_MAX_MESSAGE ||
        header->count > WIRE_MAX_ENTRIES)
        return 0;
    memcpy(at, MAGIC, sizeof MAGIC);
    put_u32(at + 4, header->length);
    put_u16(at + 8, header->type);
    put_u16(at + 10, header->count);
    put_u32(at + 12, header->id);
    return WIRE_HEADER_SIZE;
}

size_t wire_encode_entry(void *out, size_t size, uint32_t flags, uint32_t mode, const char *path,
                         size_t path_len)
{
    uint8_t *at = out;
    if (path_len == 0 || path_len > WIRE_MAX_PATH || size < WIRE_ENTRY_SIZE + padded(path_len) ||
        memchr(path, '\0', path_len) != NULL)
        return 0;
    put_u32(at, flags);
    put_u32(at + 4, mode);
    put_u16(at + 8, (uint16_t)path_len);
    put_u16(at + 10, 0);
    memcpy(at + WIRE_ENTRY_SIZE, path, path_len);
    memset(at + WIRE_ENTRY_SIZE + path_len, 0, padded(path_len) - path_len);
    return WIRE_ENTRY_SIZE + padded(path_len);
}

size_t wire_encode_result(void *out, size_t size, const struct wire_result *result)
{
    uint8_t *at = out;
    if (size < WIRE_RESULT_SIZE || !result_is_sound(result))
        return 0;
    put_u32(at, (uint32_t)result->error);
    put_u32(at + 4, result->rule);
    put_u32(at + 8, result->fd_index);
    put_u32(at + 12, 0);
    return WIRE_RESULT_SIZE;
}

size_t wire_encode_hello(void *out, size_t size, const struct wire_hello *hello)
{
    uint8_t *at = out;
    if (size < WIRE_HELLO_SIZE)
        return 0;
    put_u32(at, hello->version);
    put_u32(at + 4, hello->max_message);
    put_u32(at + 8, hello->max_entries);
    put_u32(at + 12, hello->generation);
    return WIRE_HELLO_SIZE;
}
