/*
 * common/wire.c: entries and results, what is wrong with them alone and what breaks the message.
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

/* ---- entries ---- */

/* A request of one entry whose path has path_len times 'p', padded with zeros. */
static struct message message_of_path(size_t path_len)
{
    size_t size = WIRE_ENTRY_SIZE + (path_len + 3) / 4 * 4;
    CLEANUP(free_cleanup) uint8_t *bytes = mem_zalloc(1, WIRE_HEADER_SIZE + size);
    assert_non_null(bytes);
    memcpy(bytes, LIST_REQUEST, WIRE_HEADER_SIZE);
    set_u32(bytes + 4, (uint32_t)(WIRE_HEADER_SIZE + size));
    bytes[8] = WIRE_OPEN;
    bytes[10] = 1;
    bytes[WIRE_HEADER_SIZE] = WIRE_READ;
    set_u16(bytes + WIRE_HEADER_SIZE + 8, (uint16_t)path_len);
    memset(bytes + WIRE_HEADER_SIZE + WIRE_ENTRY_SIZE, 'p', path_len);
    return message_copy(bytes, WIRE_HEADER_SIZE + size);
}

static int entry_error(const struct message *message)
{
    struct wire_header header;
    struct wire_reader reader;
    struct wire_entry entry;
    assert_int_equal(wire_decode_request(message->bytes, message->len, &header, &reader), 0);
    assert_int_equal(wire_next_entry(&reader, &entry), 1);
    assert_true((const uint8_t *)entry.path + entry.path_len <= message->bytes + message->len);
    struct wire_entry none;
    assert_int_equal(wire_next_entry(&reader, &none), 0);
    return entry.error;
}

static void test_path_lengths(void **state)
{
    (void)state;
    static const struct {
        size_t len;
        int error;
    } cases[] = {
        { 0, EINVAL }, { 1, 0 },    { 2, 0 },    { 3, 0 },         { 4, 0 },         { 5, 0 },
        { 4093, 0 },   { 4094, 0 }, { 4095, 0 }, { 4096, EINVAL }, { 4097, EINVAL }, { 65500, EINVAL },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        MESSAGE message = message_of_path(cases[i].len);
        assert_int_equal(entry_error(&message), cases[i].error);
        /* and one that claims more than is there breaks the message, not the entry */
        set_u16(message.bytes + WIRE_HEADER_SIZE + 8, (uint16_t)((cases[i].len + 3) / 4 * 4 + 1));
        assert_int_equal(decode(&message), -EPROTO);
        set_u16(message.bytes + WIRE_HEADER_SIZE + 8, 0xffff);
        assert_int_equal(decode(&message), -EPROTO);
    }
}

static void test_padding_and_reserved(void **state)
{
    (void)state;
    for (size_t len = 1; len <= 8; len++) {
        MESSAGE message = message_of_path(len);
        const size_t path = WIRE_HEADER_SIZE + WIRE_ENTRY_SIZE;
        for (size_t at = WIRE_HEADER_SIZE; at < message.len; at++) {
            uint8_t saved = message.bytes[at];
            bool is_length = at == WIRE_HEADER_SIZE + 8 || at == WIRE_HEADER_SIZE + 9;
            bool is_zero = at == WIRE_HEADER_SIZE + 10 || at == WIRE_HEADER_SIZE + 11 || at >= path + len;
            if (is_length)
                continue;
            message.bytes[at] ^= 0x80;
            assert_int_equal(entry_error(&message), is_zero ? EINVAL : 0);
            message.bytes[at] = 0;
            assert_int_equal(entry_error(&message), at >= path && at < path + len ? EINVAL : 0);
            message.bytes[at] = saved;
        }
    }
}

static void test_bad_entry_leaves_others(void **state)
{
    (void)state;
    MESSAGE message = message_copy(OPEN_REQUEST, sizeof OPEN_REQUEST);
    message.bytes[WIRE_HEADER_SIZE + 10] = 1;
    struct wire_header header;
    struct wire_reader reader;
    struct wire_entry entry;
    assert_int_equal(wire_decode_request(message.bytes, message.len, &header, &reader), 0);
    const int expected[] = { EINVAL, 0, 0 };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(wire_next_entry(&reader, &entry), 1);
        assert_int_equal(entry.error, expected[i]);
        assert_memory_equal(entry.path, OPEN_ENTRIES[i].path, entry.path_len);
    }
}

static void test_unknown_bits_kept(void **state)
{
    (void)state;
    MESSAGE message = message_of_path(1);
    struct wire_header header;
    struct wire_reader reader;
    struct wire_entry entry;
    set_u32(message.bytes + WIRE_HEADER_SIZE, 0x80000801);
    set_u32(message.bytes + WIRE_HEADER_SIZE + 4, 0xdeadbeef);
    assert_int_equal(wire_decode_request(message.bytes, message.len, &header, &reader), 0);
    wire_next_entry(&reader, &entry);
    assert_int_equal(entry.flags, 0x80000801);
    assert_int_equal(entry.mode, 0xdeadbeef);
}

/* A reader that was not made by a checked request stops at its end. */
static void test_reader_stays_inside(void **state)
{
    (void)state;
    MESSAGE message = message_of_path(5);
    const uint8_t *begin = message.bytes + WIRE_HEADER_SIZE, *end = message.bytes + message.len;
    for (const uint8_t *early = begin; early < end; early++) {
        struct wire_reader reader = { begin, early, 3 };
        struct wire_entry entry;
        assert_int_equal(wire_next_entry(&reader, &entry), 0);
    }
}

static void test_entry_not_encoded(void **state)
{
    (void)state;
    CLEANUP(free_cleanup) uint8_t *out = malloc(8192);
    CLEANUP(free_cleanup) char *path = malloc(5000);
    assert_non_null(out);
    assert_non_null(path);
    memset(path, 'x', 5000);
    assert_int_equal(wire_encode_entry(out, 8192, 1, 0, path, 0), 0);
    assert_int_equal(wire_encode_entry(out, 8192, 1, 0, path, 4095), 12 + 4096);
    assert_int_equal(wire_encode_entry(out, 8192, 1, 0, path, 4096), 0);
    assert_int_equal(wire_encode_entry(out, 8192, 1, 0, path, SIZE_MAX), 0);
    assert_int_equal(wire_encode_entry(out, 8192, 1, 0, "a\0b", 3), 0);
    for (size_t len = 1; len <= 9; len++) {
        size_t need = 12 + (len + 3) / 4 * 4;
        memset(out, 0x55, 64);
        assert_int_equal(wire_encode_entry(out, need - 1, 1, 0, path, len), 0);
        assert_int_equal(out[0], 0x55);
        assert_int_equal(wire_encode_entry(out, need, 1, 0, path, len), need);
        assert_int_equal(out[need], 0x55);
    }
}

/* ---- results ---- */

static void test_results(void **state)
{
    (void)state;
    static const struct {
        struct wire_result result;
        bool sound;
    } cases[] = {
        { { 0, 1, 0 }, true },
        { { 0, 0xffffffff, 252 }, true },
        { { 0, 1, WIRE_NO_FD }, true },
        { { 13, 1, WIRE_NO_FD }, true },
        { { INT32_MAX, 0, WIRE_NO_FD }, true },
        { { 13, 1, 0 }, false },
        { { 0, 1, 253 }, false },
        { { 0, 1, WIRE_NO_FD - 1 }, false },
        { { -1, 1, WIRE_NO_FD }, false },
        { { INT32_MIN, 1, WIRE_NO_FD }, false },
        { { -1, 1, 0 }, false },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t out[WIRE_RESULT_SIZE], bytes[WIRE_RESULT_SIZE] = { 0 };
        struct wire_result back;
        memcpy(bytes, &cases[i].result, 12);
        assert_int_equal(wire_encode_result(out, sizeof out, &cases[i].result),
                         cases[i].sound ? sizeof out : 0);
        assert_int_equal(wire_encode_result(out, sizeof out - 1, &cases[i].result), 0);
        assert_int_equal(wire_decode_result(bytes, sizeof bytes, &back), cases[i].sound ? 0 : -EPROTO);
        assert_int_equal(wire_decode_result(bytes, sizeof bytes - 1, &back), -EPROTO);
        for (size_t at = 12; at < 16; at++) {
            bytes[at] = 1;
            assert_int_equal(wire_decode_result(bytes, sizeof bytes, &back), -EPROTO);
            bytes[at] = 0;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path_lengths),
        cmocka_unit_test(test_padding_and_reserved),
        cmocka_unit_test(test_bad_entry_leaves_others),
        cmocka_unit_test(test_unknown_bits_kept),
        cmocka_unit_test(test_reader_stays_inside),
        cmocka_unit_test(test_entry_not_encoded),
        cmocka_unit_test(test_results),
    };
    return cmocka_run_group_tests_name("wire_entries", tests, NULL, NULL);
}
