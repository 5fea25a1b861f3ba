/*
 * For tests of the wire format: messages in memory, and vectors, little-endian as x86-64 writes them.
 */
#ifndef FOB_TESTS_WIRE_MESSAGE_H
#define FOB_TESTS_WIRE_MESSAGE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../common/util.h"
#include "../../common/wire.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the vectors below are little-endian"
#endif

/* A message in a block that ends where it ends, at an odd address: ASan sees a read behind it, UBSan an
 * unaligned one. */
struct message {
    uint8_t *block, *bytes;
    size_t len;
};

static inline void message_free(struct message *message)
{
    free(message->block);
}

static inline struct message message_copy(const void *bytes, size_t len)
{
    uint8_t *block = malloc(len + 1);
    assert_non_null(block);
    memcpy(block + 1, bytes, len);
    return (struct message){ block, block + 1, len };
}

#define MESSAGE CLEANUP(message_free) struct message

static inline int decode(const struct message *message)
{
    struct wire_header header;
    struct wire_reader reader;
    return wire_decode_request(message->bytes, message->len, &header, &reader);
}

static inline void set_u16(uint8_t *at, uint16_t value)
{
    memcpy(at, &value, 2);
}

static inline void set_u32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, 4);
}

/* clang-format off */
/* OPEN, id 0x01020304: /etc/hosts READ; /a/b APPEND|CREATE 0640; /c (length 2: two bytes of padding) PATH. */
static const uint8_t OPEN_REQUEST[] = {
    'F', 'O', 'B', '1', 0x48, 0, 0, 0, 1, 0, 3, 0, 4, 3, 2, 1,
    1, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, '/', 'e', 't', 'c', '/', 'h', 'o', 's', 't', 's', 0, 0,
    0x0c, 0, 0, 0, 0xa0, 1, 0, 0, 4, 0, 0, 0, '/', 'a', '/', 'b',
    0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, '/', 'c', 0, 0,
};
static const struct {
    uint32_t flags, mode;
    const char *path;
} OPEN_ENTRIES[] = {
    { WIRE_READ, 0, "/etc/hosts" },
    { WIRE_APPEND | WIRE_CREATE, 0640, "/a/b" },
    { WIRE_PATH, 0, "/c" },
};
static const uint8_t LIST_REQUEST[] = { 'F', 'O', 'B', '1', 16, 0, 0, 0, 3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff };
/* clang-format on */

#endif
