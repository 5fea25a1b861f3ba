/*
 * common/escape.c: untrusted bytes on terminals and in JSON.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../common/escape.h"
#include "../../common/util.h"

/* ---- text ---- */

static void expect_text(const char *bytes, size_t len, const char *expected)
{
    char out[256];
    memset(out, '#', sizeof out);
    assert_int_equal(escape_text(out, sizeof out, bytes, len), strlen(expected));
    assert_string_equal(out, expected);
}

static void test_text(void **state)
{
    (void)state;
    expect_text("", 0, "");
    expect_text("plain ~ text", 12, "plain ~ text");
    expect_text("a\nb\rc\td\\e", 9, "a\\nb\\rc\\td\\\\e");
    expect_text("\0\x01\x1b[31m\x7f", 8, "\\x00\\x01\\x1b[31m\\x7f");
    expect_text("\xc3\xa9\x80\xff", 4, "\\xc3\\xa9\\x80\\xff");
    expect_text("\\x41", 4, "\\\\x41");
}

static void test_text_every_byte(void **state)
{
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        char in = (char)byte, out[8];
        size_t len = escape_text(out, sizeof out, &in, 1);
        assert_int_equal(len, strlen(out));
        assert_in_range(len, 1, 4);
        for (size_t i = 0; i < len; i++)
            assert_in_range(out[i], 0x20, 0x7e);
        /* one character is itself; what is escaped begins with a backslash */
        assert_true(len == 1 ? (uint8_t)out[0] == byte && byte != '\\' : out[0] == '\\');
    }
}

/* Never past size, always terminated, only whole escapes before the dots. */
static void test_text_cut(void **state)
{
    (void)state;
    static const char bytes[] = "ab\x01\n\xff"
                                "cd";
    static const char whole[] = "ab\\x01\\n\\xffcd";
    static const char *const expected[] = {
        "",
        "",
        ".",
        "..",
        "...",
        "a...",
        "ab...",
        "ab...",
        "ab...",
        "ab...",
        "ab\\x01...",
        "ab\\x01...",
        "ab\\x01\\n...",
        "ab\\x01\\n...",
        "ab\\x01\\n...",
        whole,
    };
    for (size_t size = 0; size < ARRAY_SIZE(expected); size++) {
        char out[32];
        memset(out, '#', sizeof out);
        size_t len = escape_text(out, size, bytes, sizeof bytes - 1);
        assert_int_equal(len, strlen(expected[size]));
        assert_int_equal(out[size], '#');
        if (size > 0)
            assert_string_equal(out, expected[size]);
    }
}

/* ---- UTF-8 ---- */

static void expect_utf8(const char *text, bool valid)
{
    assert_int_equal(escape_is_utf8(text, strlen(text)), valid);
}

static void test_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",
        "a",
        "\x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "a\xc3\xa9z",
    };
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc2",
        "\xc2\x7f",
        "\xc2\xc0",
        "\xe0\x80\x80",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xe1\x80",
        "\xe1\x80z",
        "\xf0\x80\x80\x80",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xf8\x88\x80\x80\x80",
        "\xfe",
        "\xff",
        "\xf1\x80\x80",
        "a\xc3",
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        expect_utf8(good[i], true);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        expect_utf8(bad[i], false);
    assert_false(escape_is_utf8("\xc3\xa9", 1)); /* cut: the second byte is there, but not ours */
}

/* Encodes any code point, also the surrogates and those above the end: what must be refused. */
static size_t encode(uint32_t code, char out[4])
{
    if (code < 0x80)
        return out[0] = (char)code, 1;
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((0xf00u >> n & 0xff) | code);
    return n;
}

static void test_utf8_every_code_point(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x200000; code++) {
        char bytes[4];
        size_t len = encode(code, bytes);
        bool valid = code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
        if (escape_is_utf8(bytes, len) != valid)
            fail_msg("U+%04X", (unsigned)code);
    }
}

/* ---- JSON ---- */

static void expect_json(const char *bytes, size_t len, const char *expected, bool raw)
{
    char out[256];
    bool flag = false;
    memset(out, '#', sizeof out);
    assert_int_equal(escape_json(out, sizeof out, bytes, len, &flag), strlen(expected));
    assert_string_equal(out, expected);
    assert_int_equal(flag, raw);
    /* One byte less than it needs is too small, and nothing is written behind it. */
    size_t need = strlen(expected) + 1;
    memset(out, '#', sizeof out);
    assert_int_equal(escape_json(out, need - 1, bytes, len, &flag), 0);
    assert_int_equal(out[need - 1], '#');
}

static void test_json(void **state)
{
    (void)state;
    expect_json("", 0, "\"\"", false);
    expect_json("/a b", 4, "\"/a b\"", false);
    expect_json("\"\\/\b\f\n\r\t", 8, "\"\\\"\\\\/\\b\\f\\n\\r\\t\"", false);
    expect_json("\0\x1f\x7f", 3, "\"\\u0000\\u001f\\u007f\"", false);
    expect_json("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", false);
    expect_json("\xc2\x80\xc2\x9f\xc2\xa0", 6, "\"\\u0080\\u009f\xc2\xa0\"", false);
    expect_json("\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xa7", 9, "\"\\u2028\\u2029\xe2\x80\xa7\"", false);
    expect_json("\xe2\x80\xae", 3, "\"\\u202e\"", false);
    /* one bad byte: the good character's bytes are written apart too */
    expect_json("\xc3\xa9\xff", 3, "\"\\u00c3\\u00a9\\u00ff\"", true);
    expect_json("a\xe9", 2, "\"a\\u00e9\"", true);
}

static void test_json_escaped_characters(void **state)
{
    (void)state;
    for (uint32_t code = 0x80; code < 0x3000; code++) {
        char bytes[4], out[16];
        bool raw = false;
        size_t len = encode(code, bytes);
        if (code >= 0xd800 && code <= 0xdfff)
            continue;
        escape_json(out, sizeof out, bytes, len, &raw);
        bool control = code < 0xa0 || code == 0x061c || code == 0x200e || code == 0x200f || code == 0x2028 ||
                       code == 0x2029 || (code >= 0x202a && code <= 0x202e) ||
                       (code >= 0x2066 && code <= 0x2069);
        if ((out[1] == '\\') != control || raw)
            fail_msg("U+%04X: %s", (unsigned)code, out);
    }
}

static void test_json_flag_set_before(void **state)
{
    (void)state;
    char out[64];
    bool raw = true;
    escape_json(out, sizeof out, "\xc3\xa9", 2, &raw);
    assert_string_equal(out, "\"\\u00c3\\u00a9\"");
    escape_json(out, sizeof out, "plain", 5, &raw);
    assert_true(raw); /* never cleared */
    assert_int_equal(escape_json(out, 0, "", 0, &raw), 0);
}

/* ---- JSON: a reader gets the bytes back ---- */

static unsigned hex_digits(const char *at)
{
    char digits[5] = { 0 }, *end;
    memcpy(digits, at, 4);
    unsigned value = (unsigned)strtoul(digits, &end, 16);
    assert_ptr_equal(end, digits + 4);
    return value;
}

/* One character of a JSON string (RFC 8259, section 7) as its code point; *at moves on. */
static uint32_t json_next(const char **at)
{
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const uint8_t *s = (const uint8_t *)*at;
    assert_true(s[0] >= 0x20 && s[0] != '"');
    if (s[0] == '\\' && s[1] == 'u') {
        *at += 6;
        return hex_digits((const char *)s + 2);
    }
    if (s[0] == '\\') {
        const char *letter = strchr(letters, s[1]);
        assert_true(s[1] != '\0' && letter != NULL);
        *at += 2;
        return (uint32_t)values[letter - letters];
    }
    unsigned n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    uint32_t code = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
    for (unsigned i = 1; i < n; i++)
        code = code << 6 | (s[i] & 0x3fu);
    *at += n;
    return code;
}

/* As a log reader does: characters, then their bytes: Latin-1 when the string is raw, UTF-8 when not. */
static size_t json_decode(const char *json, bool raw, char *out)
{
    size_t len = 0;
    assert_int_equal(*json++, '"');
    while (*json != '"') {
        uint32_t code = json_next(&json);
        if (raw) {
            assert_in_range(code, 0, 255);
            out[len++] = (char)code;
        } else {
            len += encode(code, out + len);
        }
    }
    assert_int_equal(json[1], '\0');
    return len;
}

static void expect_round_trip(const char *bytes, size_t len, bool raw_before)
{
    char json[6 * 64 + 3], back[256];
    bool raw = raw_before;
    memset(json, '#', sizeof json);
    size_t written = escape_json(json, 6 * len + 3, bytes, len, &raw);
    assert_true(written >= 2);
    assert_int_equal(written, strlen(json));
    assert_int_equal(raw, raw_before || !escape_is_utf8(bytes, len));
    assert_true(escape_is_utf8(json, written));
    assert_int_equal(json_decode(json, raw, back), len);
    assert_memory_equal(back, bytes, len);
}

static void test_json_round_trip(void **state)
{
    (void)state;
    srandom(20111);
    unsigned raw_count = 0, utf8_count = 0;
    for (unsigned round = 0; round < 40000; round++) {
        char bytes[64];
        size_t len = 0, target = (size_t)random() % 48;
        bool valid_only = round % 2 == 0;
        while (len < target) {
            uint32_t code = (uint32_t)random() % (round % 3 == 0   ? 0x110000
                                                  : round % 3 == 1 ? 0x3000
                                                                   : 0x100);
            if (!valid_only && random() % 4 == 0)
                bytes[len++] = (char)random();
            else if (code < 0xd800 || code > 0xdfff)
                len += encode(code, bytes + len);
        }
        expect_round_trip(bytes, len, round % 7 == 0);
        *(escape_is_utf8(bytes, len) ? &utf8_count : &raw_count) += 1;
    }
    assert_true(raw_count > 10000 && utf8_count > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_text_every_byte),
        cmocka_unit_test(test_text_cut),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_utf8_every_code_point),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_escaped_characters),
        cmocka_unit_test(test_json_flag_set_before),
        cmocka_unit_test(test_json_round_trip),
    };
    return cmocka_run_group_tests_name("escape", tests, NULL, NULL);
}
