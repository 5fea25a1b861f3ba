#include "framer.h"

#include <stdlib.h>
#include <string.h>

#include "show.h"
#include "../../common/apue.h"
#include "../../common/wire.h"

/* ---- where a message ends: its length, 0: not here, NO_MESSAGE: it cannot be one ---- */

#define NO_MESSAGE SIZE_MAX

static size_t native_end(const uint8_t *bytes, size_t len)
{
    enum { MAGIC = 4 };
    uint32_t length;
    if (memcmp(bytes, "FOB1", len < MAGIC ? len : MAGIC) != 0)
        return NO_MESSAGE;
    if (len < MAGIC + sizeof length)
        return 0;
    memcpy(&length, bytes + MAGIC, sizeof length);
    if (length < WIRE_HEADER_SIZE || length > WIRE_MAX_MESSAGE)
        return NO_MESSAGE;
    return len < length ? 0 : length;
}

/* Up to a zero byte, and `after` bytes more. */
static size_t text_end(const uint8_t *bytes, size_t len, size_t after, size_t max)
{
    const uint8_t *zero = memchr(bytes, '\0', len);
    size_t end = (zero != NULL ? (size_t)(zero - bytes) : len) + 1 + after;
    if (end > max)
        return NO_MESSAGE;
    return zero != NULL && end <= len ? end : 0;
}

static size_t message_end(enum protocol protocol, enum side from, const uint8_t *bytes, size_t len)
{
    if (protocol == PROTOCOL_NATIVE)
        return native_end(bytes, len);
    return from == CLIENT ? text_end(bytes, len, 0, APUE_MAX_REQUEST)
                          : text_end(bytes, len, 1, APUE_MAX_REPLY);
}

/* ---- bytes ---- */

static bool append(struct framer *framer, const uint8_t *bytes, size_t len)
{
    if (framer->room - framer->len < len) {
        uint8_t *grown = realloc(framer->bytes, framer->len + len);
        if (grown == NULL)
            return false;
        framer->bytes = grown;
        framer->room = framer->len + len;
    }
    memcpy(framer->bytes + framer->len, bytes, len);
    framer->len += len;
    return true;
}

static void lose(struct framer *framer, FILE *out, const char *why)
{
    show_malformed(out, "%s: this direction is not decoded from here on", why);
    framer->lost = true;
    framer_deinit(framer);
}

static void decode(struct framer *framer, FILE *out, enum protocol protocol, enum side from,
                   const uint8_t *message, size_t len)
{
    if (framer->parts > 1)
        fprintf(out, "    message of %zu bytes in %zu parts:\n", len, framer->parts);
    if (protocol == PROTOCOL_NATIVE)
        decode_native(out, from, message, len, framer->n_fds);
    else
        decode_apue(out, from, message, len, framer->n_fds);
    framer->n_fds = 0;
    framer->parts = 1;
}

static void decode_whole(struct framer *framer, FILE *out, enum protocol protocol, enum side from)
{
    size_t done = 0, end = 0;
    while (done < framer->len) {
        end = message_end(protocol, from, framer->bytes + done, framer->len - done);
        if (end == 0 || end == NO_MESSAGE)
            break;
        decode(framer, out, protocol, from, framer->bytes + done, end);
        done += end;
    }
    if (end == NO_MESSAGE) {
        if (protocol == PROTOCOL_NATIVE)
            decode_native(out, from, framer->bytes + done, framer->len - done, framer->n_fds);
        lose(framer, out, "where a message should begin is none");
        return;
    }
    framer->len -= done;
    if (framer->len == 0) {
        framer->parts = 0;
        return;
    }
    memmove(framer->bytes, framer->bytes + done, framer->len);
    fprintf(out, "    the message goes on: %zu bytes of it so far\n", framer->len);
}

static enum protocol protocol_of(uint8_t first)
{
    return first == 'F' ? PROTOCOL_NATIVE : first == APUE_FIRST_BYTE ? PROTOCOL_APUE : PROTOCOL_OTHER;
}

void framer_feed(struct framer *framer, FILE *out, enum protocol *protocol, enum side from,
                 const uint8_t *bytes, size_t len, size_t n_fds)
{
    if (framer->lost || len == 0)
        return;
    if (*protocol == PROTOCOL_UNKNOWN && from == CLIENT) {
        *protocol = protocol_of(*bytes);
        fprintf(out, "    protocol: %s\n",
                *protocol == PROTOCOL_NATIVE ? "native"
                : *protocol == PROTOCOL_APUE ? "APUE"
                                             : "neither, by the first byte: not decoded");
    }
    if (*protocol == PROTOCOL_UNKNOWN)
        show_malformed(out, "the broker speaks before the client");
    if (*protocol == PROTOCOL_UNKNOWN || *protocol == PROTOCOL_OTHER)
        return;
    framer->n_fds += n_fds;
    framer->parts++;
    if (!append(framer, bytes, len)) {
        lose(framer, out, "no memory");
        return;
    }
    decode_whole(framer, out, *protocol, from);
}

void framer_end(const struct framer *framer, FILE *out)
{
    if (framer->len > 0)
        show_malformed(out, "it ends in the middle of a message, after %zu bytes of it", framer->len);
}

void framer_deinit(struct framer *framer)
{
    free(framer->bytes);
    framer->bytes = NULL;
    framer->len = framer->room = 0;
}
