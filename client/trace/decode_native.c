#include "decode.h"

#include <stdbool.h>
#include <string.h>

#include "show.h"
#include "../../common/wire.h"

/* ---- header ---- */

static const char *type_name(unsigned type)
{
    static const char *const names[] = { NULL, "OPEN", "CHECK", "LIST", "HELLO" };
    return type < sizeof names / sizeof *names ? names[type] : NULL;
}

/* By hand: wire_decode_header() would refuse what is to be shown. */
static bool read_header(FILE *out, const uint8_t *message, size_t len, struct wire_header *header)
{
    enum { MAGIC = 4 };
    if (len < WIRE_HEADER_SIZE) {
        show_malformed(out, "%zu bytes are no header, which has %d", len, WIRE_HEADER_SIZE);
        return false;
    }
    if (memcmp(message, "FOB1", MAGIC) != 0) {
        show_malformed(out, "it does not begin with FOB1 (another protocol?)");
        return false;
    }
    memcpy(&header->length, message + 4, sizeof header->length);
    memcpy(&header->type, message + 8, sizeof header->type);
    memcpy(&header->count, message + 10, sizeof header->count);
    memcpy(&header->id, message + 12, sizeof header->id);
    return true;
}

static void show_header(FILE *out, const struct wire_header *header)
{
    unsigned type = header->type & ~(unsigned)WIRE_REPLY;
    const char *name = type_name(type);
    if (name != NULL)
        fprintf(out, "    %s", name);
    else
        fprintf(out, "    type %u", type);
    fprintf(out, "%s, id %u, count %u, length %u\n", header->type & WIRE_REPLY ? " reply" : "",
            (unsigned)header->id, (unsigned)header->count, (unsigned)header->length);
}

static void check_header(FILE *out, enum side from, const struct wire_header *header, size_t len)
{
    if (header->length != len)
        show_malformed(out, "the header says %u bytes, the message has %zu", (unsigned)header->length, len);
    else if (len > WIRE_MAX_MESSAGE)
        show_malformed(out, "longer than %d bytes", WIRE_MAX_MESSAGE);
    if (type_name(header->type & ~(unsigned)WIRE_REPLY) == NULL)
        show_malformed(out, "no such type");
    if ((from == BROKER) != ((header->type & WIRE_REPLY) != 0))
        show_malformed(out, from == BROKER ? "a request from the broker" : "a reply from the client");
}

/* ---- requests ---- */

static void show_entry(FILE *out, unsigned i, const struct wire_entry *entry)
{
    char flags[WIRE_FLAGS_TEXT];
    fprintf(out, "      [%u] %s, mode %04o, path ", i, wire_flags_text(flags, entry->flags),
            (unsigned)entry->mode);
    show_text(out, entry->path, entry->path_len);
    fputc('\n', out);
    if (entry->error != 0)
        fputs("          EINVAL: the path's length, a NUL in it, the reserved field or the padding\n", out);
    else if (wire_check_flags(entry->flags, entry->mode) != 0)
        fputs("          EINVAL: these flags, with this mode, do not go together\n", out);
}

static void show_entries(FILE *out, const struct wire_header *header, const uint8_t *at, const uint8_t *end)
{
    struct wire_reader reader = { at, end, header->count };
    struct wire_entry entry;
    if (header->count == 0 || header->count > WIRE_MAX_ENTRIES)
        show_malformed(out, "the count must be 1 to %d", WIRE_MAX_ENTRIES);
    for (unsigned i = 0; i < header->count; i++) {
        if (!wire_next_entry(&reader, &entry)) {
            show_malformed(out, "entry %u does not end in the message", i);
            return;
        }
        show_entry(out, i, &entry);
    }
    if (reader.pos != end)
        show_malformed(out, "%zu bytes after the last entry", (size_t)(end - reader.pos));
}

static void show_request(FILE *out, const struct wire_header *header, const uint8_t *at, const uint8_t *end)
{
    switch (header->type) {
    case WIRE_OPEN:
    case WIRE_CHECK:
        show_entries(out, header, at, end);
        break;
    case WIRE_LIST:
    case WIRE_HELLO:
        if (header->count != 0)
            show_malformed(out, "the count must be 0");
        if (at != end)
            show_malformed(out, "%zu bytes after the header", (size_t)(end - at));
        break;
    default:
        break;
    }
}

/* ---- replies ---- */

/* Which of the descriptors that came results have named. */
struct named {
    size_t n_fds;
    bool seen[WIRE_MAX_ENTRIES];
};

static void show_result_descriptor(FILE *out, struct named *named, uint32_t index)
{
    if (index == WIRE_NO_FD) {
        fputs(", no descriptor\n", out);
        return;
    }
    fprintf(out, ", descriptor %u\n", (unsigned)index);
    if (index >= named->n_fds)
        show_malformed(out, "descriptor %u did not come", (unsigned)index);
    else if (named->seen[index])
        show_malformed(out, "descriptor %u is named twice", (unsigned)index);
    else
        named->seen[index] = true;
}

/* What wire_decode_result() refuses. */
static const char *contradiction(const struct wire_result *result)
{
    if (result->error < 0)
        return "a negative error";
    if (result->fd_index == WIRE_NO_FD)
        return "the reserved field is not zero";
    if (result->error != 0)
        return "an error with a descriptor";
    return result->fd_index >= WIRE_MAX_ENTRIES ? "an index beyond the most there can be"
                                                : "the reserved field is not zero";
}

static void show_result(FILE *out, unsigned i, const uint8_t *at, struct named *named)
{
    struct wire_result result;
    int err = wire_decode_result(at, WIRE_RESULT_SIZE, &result); /* fills it in any case */
    fprintf(out, "      [%u] ", i);
    if (result.error == 0)
        fputs("ok", out);
    else
        show_error(out, result.error);
    fprintf(out, ", rule %u%s", (unsigned)result.rule, result.rule == 0 ? " (default)" : "");
    show_result_descriptor(out, named, result.fd_index);
    if (err < 0)
        show_malformed(out, "result %u: %s", i, contradiction(&result));
}

static void show_results(FILE *out, const struct wire_header *header, const uint8_t *at, const uint8_t *end,
                         struct named *named)
{
    for (unsigned i = 0; i < header->count; i++) {
        if ((size_t)(end - at) < WIRE_RESULT_SIZE) {
            show_malformed(out, "result %u does not end in the message", i);
            return;
        }
        show_result(out, i, at, named);
        at += WIRE_RESULT_SIZE;
    }
    if (at != end)
        show_malformed(out, "%zu bytes after the last result", (size_t)(end - at));
}

static void show_lines(FILE *out, const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        const uint8_t *newline = memchr(at, '\n', (size_t)(end - at));
        fputs("      ", out);
        show_text(out, at, (size_t)((newline != NULL ? newline : end) - at));
        fputc('\n', out);
        if (newline == NULL)
            show_malformed(out, "the last line does not end");
        at = newline != NULL ? newline + 1 : end;
    }
}

static void show_hello(FILE *out, const uint8_t *at, const uint8_t *end)
{
    struct wire_hello hello;
    if (wire_decode_hello(at, (size_t)(end - at), &hello) < 0)
        show_malformed(out, "%zu bytes of body, not %d", (size_t)(end - at), WIRE_HELLO_SIZE);
    else
        fprintf(out, "      version %u, at most %u bytes and %u entries, policy generation %u\n",
                (unsigned)hello.version, (unsigned)hello.max_message, (unsigned)hello.max_entries,
                (unsigned)hello.generation);
}

static void show_reply(FILE *out, const struct wire_header *header, const uint8_t *at, const uint8_t *end,
                       struct named *named)
{
    switch (header->type & ~(unsigned)WIRE_REPLY) {
    case WIRE_OPEN:
    case WIRE_CHECK:
        show_results(out, header, at, end, named);
        break;
    case WIRE_LIST:
        show_lines(out, at, end);
        break;
    case WIRE_HELLO:
        show_hello(out, at, end);
        break;
    default:
        break;
    }
}

/* ---- all ---- */

void decode_native(FILE *out, enum side from, const uint8_t *message, size_t len, size_t n_fds)
{
    struct named named = { .n_fds = n_fds < WIRE_MAX_ENTRIES ? n_fds : WIRE_MAX_ENTRIES };
    struct wire_header header;
    if (!read_header(out, message, len, &header))
        return;
    show_header(out, &header);
    check_header(out, from, &header, len);
    if (header.type & WIRE_REPLY)
        show_reply(out, &header, message + WIRE_HEADER_SIZE, message + len, &named);
    else
        show_request(out, &header, message + WIRE_HEADER_SIZE, message + len);
    for (size_t i = 0; i < named.n_fds; i++)
        if (!named.seen[i])
            show_malformed(out, "descriptor %zu: nothing in the message names it", i);
}
