/*
 * Any bytes as a message: the decoders of common/wire.h read nothing beyond them, and what a checked request
 * holds comes out again, byte for byte, when its entries are encoded anew.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/path.h"
#include "../../common/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition)
{
    if (!condition)
        abort();
}

/* Returns the entry's size on the wire. */
static size_t check_entry(const uint8_t *at, const uint8_t *end, const struct wire_entry *entry)
{
    static uint8_t out[WIRE_ENTRY_SIZE + WIRE_MAX_PATH + 1];
    char text[WIRE_FLAGS_TEXT];
    const uint8_t *path = (const uint8_t *)entry->path;
    expect(path == at + WIRE_ENTRY_SIZE && entry->path_len <= (size_t)(end - path));
    expect(strlen(wire_flags_text(text, entry->flags)) < sizeof text);
    size_t size = wire_encode_entry(out, sizeof out, entry->flags, entry->mode, entry->path, entry->path_len);
    if (entry->error != 0)
        return WIRE_ENTRY_SIZE + (entry->path_len + 3u) / 4 * 4;
    expect(size > 0 && size <= (size_t)(end - at) && memcmp(out, at, size) == 0);
    expect(memchr(path, '\0', entry->path_len) == NULL);
    if (wire_check_flags(entry->flags, entry->mode) == 0)
        expect(wire_flags_from_open(wire_flags_to_open(entry->flags)) > 0);
    return size;
}

static void check_request(const uint8_t *data, size_t size)
{
    struct wire_header header;
    struct wire_reader reader;
    struct wire_entry entry;
    if (wire_decode_request(data, size, &header, &reader) < 0)
        return;
    expect(header.length == size && size <= WIRE_MAX_MESSAGE && header.count <= WIRE_MAX_ENTRIES);
    const uint8_t *at = data + WIRE_HEADER_SIZE;
    unsigned entries = 0;
    for (; wire_next_entry(&reader, &entry) == 1; entries++)
        at += check_entry(at, data + size, &entry);
    expect(entries == header.count && at == data + size);
}

static void check_reply(const uint8_t *data, size_t size)
{
    struct wire_header header;
    struct wire_result result;
    struct wire_hello hello;
    uint8_t out[WIRE_RESULT_SIZE];
    if (wire_decode_header(data, size, &header) < 0)
        return;
    wire_decode_hello(data + WIRE_HEADER_SIZE, size - WIRE_HEADER_SIZE, &hello);
    for (size_t at = WIRE_HEADER_SIZE; wire_decode_result(data + at, size - at, &result) == 0;
         at += WIRE_RESULT_SIZE) {
        expect(wire_encode_result(out, sizeof out, &result) == WIRE_RESULT_SIZE);
        expect(memcmp(out, data + at, sizeof out) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_request(data, size);
    check_reply(data, size);
    /* A length that fits, so that chance need not find it: the rest of the message is what is wanted tried.
     */
    if (size >= 8 && size <= WIRE_MAX_MESSAGE) {
        uint8_t *fixed = malloc(size);
        uint32_t length = (uint32_t)size;
        expect(fixed != NULL);
        memcpy(fixed, data, size);
        memcpy(fixed, "FOB1", 4);
        memcpy(fixed + 4, &length, sizeof length);
        check_request(fixed, size);
        check_reply(fixed, size);
        free(fixed);
    }
    return 0;
}
