/*
 * common/wire.c: protocol version 1, byte by byte (other implementations can be held against the vectors),
 * and the frame of requests.
 */
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
#include "wire_message.h"

/* ---- vectors: the other half is in wire_message.h ---- */

/* clang-format off */
static const uint8_t HELLO_REQUEST[] = { 'F', 'O', 'B', '1', 16, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0 };
/* OPEN reply to the above: descriptor 0 by rule 7, ENOENT by rule 8, EACCES by default. */
static const uint8_t OPEN_REPLY[] = {
    'F', 'O', 'B', '1', 0x40, 0, 0, 0, 1, 0x80, 3, 0, 4, 3, 2, 1,
    0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    2, 0, 0, 0, 8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
    13, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
};
static const struct wire_result OPEN_RESULTS[] = {
    { 0, 7, 0 }, { ENOENT, 8, WIRE_NO_FD }, { EACCES, 0, WIRE_NO_FD },
};
static const uint8_t HELLO_REPLY[] = {
    'F', 'O', 'B', '1', 0x20, 0, 0, 0, 4, 0x80, 0, 0, 0, 0, 0, 0,
    1, 0, 0, 0, 0, 0, 1, 0, 0xfd, 0, 0, 0, 0x2a, 0, 0, 0,
};
/* clang-format on */

static void test_open_request_encoded(void **state)
{
    (void)state;
    uint8_t out[sizeof OPEN_REQUEST + 8];
    memset(out, 0x55, sizeof out);
    struct wire_header header = { sizeof OPEN_REQUEST, WIRE_OPEN, 3, 0x01020304 };
    size_t at = wire_encode_header(out, sizeof out, &header);
    for (size_t i = 0; i < ARRAY_SIZE(OPEN_ENTRIES); i++)
        at += wire_encode_entry(out + at, sizeof out - at, OPEN_ENTRIES[i].flags, OPEN_ENTRIES[i].mode,
                                OPEN_ENTRIES[i].path, strlen(OPEN_ENTRIES[i].path));
    assert_int_equal(at, sizeof OPEN_REQUEST);
    assert_memory_equal(out, OPEN_REQUEST, sizeof OPEN_REQUEST);
    assert_int_equal(out[at], 0x55);
}

static void test_open_request_decoded(void **state)
{
    (void)state;
    for (int type = WIRE_OPEN; type <= WIRE_CHECK; type++) {
        MESSAGE message = message_copy(OPEN_REQUEST, sizeof OPEN_REQUEST);
        struct wire_header header;
        struct wire_reader reader;
        struct wire_entry entry;
        message.bytes[8] = (uint8_t)type;
        assert_int_equal(wire_decode_request(message.bytes, message.len, &header, &reader), 0);
        assert_int_equal(header.length, sizeof OPEN_REQUEST);
        assert_int_equal(header.type, type);
        assert_int_equal(header.count, 3);
        assert_int_equal(header.id, 0x01020304);
        for (size_t i = 0; i < ARRAY_SIZE(OPEN_ENTRIES); i++) {
            assert_int_equal(wire_next_entry(&reader, &entry), 1);
            assert_int_equal(entry.flags, OPEN_ENTRIES[i].flags);
            assert_int_equal(entry.mode, OPEN_ENTRIES[i].mode);
            assert_int_equal(entry.error, 0);
            assert_int_equal(entry.path_len, strlen(OPEN_ENTRIES[i].path));
            assert_memory_equal(entry.path, OPEN_ENTRIES[i].path, entry.path_len);
        }
        assert_int_equal(wire_next_entry(&reader, &entry), 0);
        assert_int_equal(wire_next_entry(&reader, &entry), 0);
    }
}

static void test_empty_requests(void **state)
{
    (void)state;
    const uint8_t *const vectors[] = { LIST_REQUEST, HELLO_REQUEST };
    const struct wire_header expected[] = { { 16, WIRE_LIST, 0, 0xffffffff }, { 16, WIRE_HELLO, 0, 0 } };
    for (size_t i = 0; i < 2; i++) {
        MESSAGE message = message_copy(vectors[i], 16);
        struct wire_header header;
        struct wire_reader reader;
        struct wire_entry entry;
        uint8_t out[16];
        assert_int_equal(wire_encode_header(out, sizeof out, &expected[i]), 16);
        assert_memory_equal(out, vectors[i], 16);
        assert_int_equal(wire_decode_request(message.bytes, 16, &header, &reader), 0);
        assert_memory_equal(&header, &expected[i], sizeof header);
        assert_int_equal(wire_next_entry(&reader, &entry), 0);
    }
}

static void test_open_reply(void **state)
{
    (void)state;
    MESSAGE message = message_copy(OPEN_REPLY, sizeof OPEN_REPLY);
    struct wire_header header;
    uint8_t out[sizeof OPEN_REPLY];
    assert_int_equal(wire_decode_header(message.bytes, message.len, &header), 0);
    assert_int_equal(header.type, WIRE_OPEN | WIRE_REPLY);
    assert_int_equal(header.count, 3);
    size_t at = wire_encode_header(out, sizeof out, &header);
    for (size_t i = 0; i < ARRAY_SIZE(OPEN_RESULTS); i++) {
        struct wire_result result;
        assert_int_equal(wire_decode_result(message.bytes + at, message.len - at, &result), 0);
        assert_memory_equal(&result, &OPEN_RESULTS[i], sizeof result);
        at += wire_encode_result(out + at, sizeof out - at, &result);
    }
    assert_int_equal(at, sizeof OPEN_REPLY);
    assert_memory_equal(out, OPEN_REPLY, sizeof OPEN_REPLY);
}

static void test_hello_reply(void **state)
{
    (void)state;
    MESSAGE message = message_copy(HELLO_REPLY, sizeof HELLO_REPLY);
    const uint8_t *body = message.bytes + WIRE_HEADER_SIZE;
    struct wire_header header;
    struct wire_hello hello;
    uint8_t out[WIRE_HELLO_SIZE];
    assert_int_equal(wire_decode_header(message.bytes, message.len, &header), 0);
    assert_int_equal(wire_decode_hello(body, WIRE_HELLO_SIZE, &hello), 0);
    assert_int_equal(hello.version, 1);
    assert_int_equal(hello.max_message, 65536);
    assert_int_equal(hello.max_entries, 253);
    assert_int_equal(hello.generation, 42);
    assert_int_equal(wire_encode_hello(out, sizeof out, &hello), sizeof out);
    assert_memory_equal(out, body, sizeof out);
    assert_int_equal(wire_encode_hello(out, sizeof out - 1, &hello), 0);
    assert_int_equal(wire_decode_hello(body, WIRE_HELLO_SIZE - 1, &hello), -EPROTO);
    assert_int_equal(wire_decode_hello(body, WIRE_HELLO_SIZE + 1, &hello), -EPROTO);
}

/* ---- header ---- */

static void test_length_lies(void **state)
{
    (void)state;
    const uint32_t lies[] = {
        0,     1,          15,         16,         sizeof OPEN_REQUEST - 1, sizeof OPEN_REQUEST + 1, 65536,
        65537, 0x7fffffff, 0x80000000, 0xffffffff,
    };
    MESSAGE message = message_copy(OPEN_REQUEST, sizeof OPEN_REQUEST);
    struct wire_header header;
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        set_u32(message.bytes + 4, lies[i]);
        assert_int_equal(wire_decode_header(message.bytes, message.len, &header), -EPROTO);
        assert_int_equal(decode(&message), -EPROTO);
    }
}

/* Every shorter message, with the old length in its header and with the true one: no read behind the end, no
 * success. */
static void test_cut_anywhere(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof OPEN_REQUEST; len++) {
        MESSAGE message = message_copy(OPEN_REQUEST, len);
        assert_int_equal(decode(&message), -EPROTO);
        if (len >= 8)
            set_u32(message.bytes + 4, (uint32_t)len);
        assert_int_equal(decode(&message), -EPROTO);
    }
}

static void test_trailing_bytes(void **state)
{
    (void)state;
    const struct {
        const uint8_t *vector;
        size_t len;
    } cases[] = { { OPEN_REQUEST, sizeof OPEN_REQUEST }, { LIST_REQUEST, 16 }, { HELLO_REQUEST, 16 } };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (size_t more = 1; more <= 32; more++) {
            uint8_t bytes[256] = { 0 };
            memcpy(bytes, cases[i].vector, cases[i].len);
            set_u32(bytes + 4, (uint32_t)(cases[i].len + more));
            MESSAGE message = message_copy(bytes, cases[i].len + more);
            assert_int_equal(decode(&message), -EPROTO);
        }
    }
}

static void test_magic(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 32; bit++) {
        MESSAGE message = message_copy(LIST_REQUEST, 16);
        assert_int_equal(decode(&message), 0);
        message.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(decode(&message), -EPROTO);
    }
}

static void test_types(void **state)
{
    (void)state;
    for (uint32_t type = 0; type <= 0xffff; type++) {
        struct wire_header header;
        struct wire_reader reader;
        uint8_t list[16], open[sizeof OPEN_REQUEST];
        memcpy(list, LIST_REQUEST, sizeof list);
        memcpy(open, OPEN_REQUEST, sizeof open);
        set_u16(list + 8, (uint16_t)type);
        set_u16(open + 8, (uint16_t)type);
        bool empty = wire_decode_request(list, sizeof list, &header, &reader) == 0;
        bool entries = wire_decode_request(open, sizeof open, &header, &reader) == 0;
        assert_int_equal(empty, type == WIRE_LIST || type == WIRE_HELLO);
        assert_int_equal(entries, type == WIRE_OPEN || type == WIRE_CHECK);
    }
}

static void test_counts(void **state)
{
    (void)state;
    enum { MINIMAL = WIRE_ENTRY_SIZE + 4 };
    for (unsigned count = 0; count <= 300; count++) {
        CLEANUP(free_cleanup) uint8_t *bytes = malloc(WIRE_HEADER_SIZE + 300 * MINIMAL);
        assert_non_null(bytes);
        size_t len = WIRE_HEADER_SIZE + count * MINIMAL;
        memcpy(bytes, LIST_REQUEST, WIRE_HEADER_SIZE);
        set_u32(bytes + 4, (uint32_t)len);
        bytes[8] = WIRE_CHECK;
        for (unsigned i = 0; i < count; i++)
            assert_int_equal(wire_encode_entry(bytes + WIRE_HEADER_SIZE + i * MINIMAL, MINIMAL, 1, 0, "/", 1),
                             MINIMAL);
        for (int claim = (int)count - 1; claim <= (int)count + 1; claim++) {
            set_u16(bytes + 10, (uint16_t)claim);
            MESSAGE message = message_copy(bytes, len);
            assert_int_equal(decode(&message) == 0, claim == (int)count && count >= 1 && count <= 253);
        }
    }
}

static void test_largest_message(void **state)
{
    (void)state;
    CLEANUP(free_cleanup) uint8_t *bytes = mem_zalloc(WIRE_MAX_MESSAGE + 4, 1);
    CLEANUP(free_cleanup) char *path = malloc(WIRE_MAX_PATH);
    assert_non_null(bytes);
    assert_non_null(path);
    memset(path, 'x', WIRE_MAX_PATH);
    size_t at = WIRE_HEADER_SIZE;
    unsigned count = 0;
    for (size_t room; (room = WIRE_MAX_MESSAGE - at) > 0; count++) {
        size_t len = room - WIRE_ENTRY_SIZE < WIRE_MAX_PATH ? room - WIRE_ENTRY_SIZE : WIRE_MAX_PATH;
        at += wire_encode_entry(bytes + at, room, WIRE_READ, 0, path, len);
    }
    struct wire_header header = { WIRE_MAX_MESSAGE, WIRE_OPEN, (uint16_t)count, 1 };
    struct wire_reader reader;
    assert_int_equal(wire_encode_header(bytes, WIRE_MAX_MESSAGE, &header), WIRE_HEADER_SIZE);
    assert_int_equal(wire_decode_request(bytes, WIRE_MAX_MESSAGE, &header, &reader), 0);
    /* four bytes more in the last path, and the length says so: too large all the same */
    size_t last = WIRE_MAX_MESSAGE - (at - WIRE_HEADER_SIZE) % (WIRE_ENTRY_SIZE + 4096);
    uint16_t len;
    memcpy(&len, bytes + last + 8, 2);
    set_u16(bytes + last + 8, (uint16_t)(len + 4));
    set_u32(bytes + 4, WIRE_MAX_MESSAGE + 4);
    assert_int_equal(wire_decode_request(bytes, WIRE_MAX_MESSAGE + 4, &header, &reader), -EPROTO);
    assert_int_equal(wire_decode_header(bytes, WIRE_MAX_MESSAGE + 4, &header), -EPROTO);
}

static void test_header_not_encoded(void **state)
{
    (void)state;
    uint8_t out[16];
    const struct wire_header bad[] = {
        { 15, 1, 0, 0 }, { 0, 1, 0, 0 }, { 65537, 1, 0, 0 }, { 0xffffffff, 1, 0, 0 }, { 16, 1, 254, 0 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(wire_encode_header(out, sizeof out, &bad[i]), 0);
    assert_int_equal(wire_encode_header(out, 15, &(struct wire_header){ 16, 3, 0, 0 }), 0);
    assert_int_equal(wire_encode_header(out, 16, &(struct wire_header){ 65536, 3, 253, 0 }), 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_request_encoded),
        cmocka_unit_test(test_open_request_decoded),
        cmocka_unit_test(test_empty_requests),
        cmocka_unit_test(test_open_reply),
        cmocka_unit_test(test_hello_reply),
        cmocka_unit_test(test_length_lies),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_trailing_bytes),
        cmocka_unit_test(test_magic),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_largest_message),
        cmocka_unit_test(test_header_not_encoded),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
