#include "escape.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static const char HEX[] = "0123456789abcdef";

/* ---- text ---- */

/* Writes one byte as at most 4 characters. */
static size_t text_unit(char out[4], unsigned char byte)
{
    static const char special[] = "\n\r\t\\", letters[] = "nrt\\";
    if (byte >= 0x20 && byte < 0x7f && byte != '\\') {
        out[0] = (char)byte;
        return 1;
    }
    const char *found = memchr(special, byte, sizeof special - 1);
    out[0] = '\\';
    out[1] = found != NULL ? letters[found - special] : 'x';
    if (found != NULL)
        return 2;
    out[2] = HEX[byte >> 4];
    out[3] = HEX[byte & 15];
    return 4;
}

size_t escape_text(char *out, size_t size, const char *bytes, size_t len)
{
    enum { DOTS = 3 };
    size_t used = 0, cut = 0; /* cut: the last end of a whole escape after which the dots still fit */
    if (size == 0)
        return 0;
    for (size_t i = 0; i < len; i++) {
        char unit[4];
        size_t n = text_unit(unit, (unsigned char)bytes[i]);
        if (used + n >= size) {
            size_t dots = size - 1 - cut < DOTS ? size - 1 - cut : DOTS;
            memset(out + cut, '.', dots);
            used = cut + dots;
            break;
        }
        memcpy(out + used, unit, n);
        used += n;
        if (used + DOTS < size)
            cut = used;
    }
    out[used] = '\0';
    return used;
}

/* ---- UTF-8 ---- */

/* Reads a character of 2 to 4 bytes into *code. Returns its length; 0: it is none (Unicode 15, table 3-7). */
static size_t utf8_read(const unsigned char *at, size_t left, uint32_t *code)
{
    static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 }; /* below it: an overlong form */
    size_t n = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || left < n)
        return 0;
    uint32_t value = at[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (at[i] & 0x3fu);
    }
    if (value < smallest[n] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    *code = value;
    return n;
}

bool escape_is_utf8(const char *bytes, size_t len)
{
    const unsigned char *at = (const unsigned char *)bytes, *end = at + len;
    while (at < end) {
        uint32_t code;
        size_t n = *at < 0x80 ? 1 : utf8_read(at, (size_t)(end - at), &code);
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

/* ---- JSON ---- */

struct json_out {
    char *at, *end;
    bool full;
};

static void json_put(struct json_out *out, const void *text, size_t len)
{
    if (out->full || (size_t)(out->end - out->at) < len) {
        out->full = true;
        return;
    }
    memcpy(out->at, text, len);
    out->at += len;
}

static void json_put_hex(struct json_out *out, uint32_t code)
{
    char text[6] = {
        '\\', 'u', HEX[code >> 12 & 15], HEX[code >> 8 & 15], HEX[code >> 4 & 15], HEX[code & 15]
    };
    json_put(out, text, sizeof text);
}

static void json_put_ascii(struct json_out *out, unsigned char byte)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = memchr(plain, byte, sizeof plain - 1);
    if (found != NULL)
        json_put(out, (const char[]){ '\\', letters[found - plain] }, 2);
    else if (byte < 0x20 || byte == 0x7f)
        json_put_hex(out, byte);
    else
        json_put(out, &byte, 1);
}

/*
 * What would act on a terminal or a viewer though it is a character: C1 controls; the line separators, which
 * end a line in JavaScript and some pagers; the bidi controls, which show a name in another order
 * (CVE-2021-42574).
 */
static bool is_control(uint32_t code)
{
    return code < 0xa0 || code == 0x61c || code == 0x200e || code == 0x200f ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

static bool is_plain(unsigned char byte)
{
    return byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
}

/*
 * The same of eight bytes at once. In x - 0x01..01 & ~x the top bit of a byte is set if it is 0, or if one
 * below it was (then this says no where a look at each byte says yes).
 */
static bool are_plain(uint64_t bytes)
{
    const uint64_t ones = UINT64_MAX / 255, tops = ones * 0x80;
    uint64_t quote = bytes ^ ones * '"', backslash = bytes ^ ones * '\\', del = bytes ^ ones * 0x7f;
    uint64_t found = (quote - ones) & ~quote;
    found |= (backslash - ones) & ~backslash;
    found |= (del - ones) & ~del;
    found |= (bytes - ones * 0x20) & ~bytes; /* controls */
    return ((found | bytes) & tops) == 0;
}

/* Nearly all of what is written: bytes that stand for themselves. */
static size_t plain_run(const unsigned char *at, const unsigned char *end)
{
    const unsigned char *from = at;
    uint64_t eight;
    for (; end - at >= (ptrdiff_t)sizeof eight; at += sizeof eight) {
        memcpy(&eight, at, sizeof eight);
        if (!are_plain(eight))
            break;
    }
    while (at < end && is_plain(*at))
        at++;
    return (size_t)(at - from);
}

/* A character beyond ASCII, or, in a raw string, one byte of it. Returns the bytes taken. */
static size_t json_put_wide(struct json_out *out, const unsigned char *at, size_t left, bool raw)
{
    uint32_t code = *at;
    size_t n = raw ? 1 : utf8_read(at, left, &code);
    if (raw || is_control(code))
        json_put_hex(out, code);
    else
        json_put(out, at, n);
    return n;
}

size_t escape_json(char *out, size_t size, const char *bytes, size_t len, bool *raw)
{
    if (size == 0)
        return 0;
    struct json_out json = { out, out + size - 1, false }; /* - 1: the NUL */
    const unsigned char *at = (const unsigned char *)bytes, *end = at + len;
    size_t plain = plain_run(at, end);
    if (!*raw && plain < len)
        *raw = !escape_is_utf8(bytes, len);
    json_put(&json, "\"", 1);
    json_put(&json, at, plain);
    at += plain;
    while (at < end && !json.full) {
        if (*at < 0x80)
            json_put_ascii(&json, *at++);
        else
            at += json_put_wide(&json, at, (size_t)(end - at), *raw);
    }
    json_put(&json, "\"", 1);
    *json.at = '\0';
    return json.full ? 0 : (size_t)(json.at - out);
}
