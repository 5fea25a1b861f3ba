/*
 * What a client asks: at random, what makes sense more often than what does not.
 */
#include "soak.h"

#include <string.h>

#include "../../common/util.h"

/* Bigger numbers are asked for more often. */
static uint32_t random_flags(void)
{
    static const uint32_t usual[] = {
        WIRE_READ,
        WIRE_READ,
        WIRE_READ,
        WIRE_READ,
        WIRE_READ | WIRE_WRITE,
        WIRE_WRITE,
        WIRE_APPEND,
        WIRE_WRITE | WIRE_CREATE,
        WIRE_APPEND | WIRE_CREATE,
        WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE,
        WIRE_APPEND | WIRE_CREATE | WIRE_EXCLUSIVE,
        WIRE_READ | WIRE_DIRECTORY,
        WIRE_DIRECTORY,
        WIRE_PATH,
        WIRE_PATH | WIRE_DIRECTORY,
        WIRE_READ | WIRE_NOFOLLOW,
        WIRE_READ | WIRE_NONBLOCK,
        WIRE_WRITE | WIRE_TRUNCATE,
        WIRE_WRITE | WIRE_CREATE | WIRE_TRUNCATE,
        WIRE_READ | WIRE_APPEND,
    };
    if (soak_chance(4))
        return soak_random(WIRE_FLAGS + 1);
    return usual[soak_random(ARRAY_SIZE(usual))];
}

/* Its own home often: of all others' it may open nothing. */
static int random_entry(unsigned client)
{
    char home[64];
    static const char *const names[] = { "", "/a", "/b", "/c", "/r", "/new" };
    if (!soak_chance(15))
        return (int)soak_random(soak_n_entries);
    snprintf(home, sizeof home, "home/u%u%s", FIRST_UID + client, names[soak_random(ARRAY_SIZE(names))]);
    const char *path = soak_path(home);
    return soak_entry_find(path, strlen(path));
}

static struct soak_ask random_ask(unsigned client)
{
    struct soak_ask ask = { .entry = random_entry(client), .flags = random_flags() };
    static const uint32_t modes[] = { 0600, 0644, 0666, 0777, 0400, 0 };
    if (soak_entries[ask.entry].kind == KIND_DIR && soak_chance(50))
        ask.flags = WIRE_READ | (soak_chance(80) ? WIRE_DIRECTORY : 0);
    if (ask.flags & WIRE_CREATE)
        ask.mode = soak_chance(2) ? 04777 : modes[soak_random(ARRAY_SIZE(modes))];
    return ask;
}

void soak_ask_init(struct soak_sent *sent, unsigned client, uint32_t id)
{
    unsigned r = soak_random(100);
    *sent = (struct soak_sent){ .id = id,
                                .op = r < 75   ? WIRE_OPEN
                                      : r < 92 ? WIRE_CHECK
                                      : r < 97 ? WIRE_LIST
                                               : WIRE_HELLO };
    if (sent->op != WIRE_OPEN && sent->op != WIRE_CHECK)
        return;
    r = soak_random(100);
    sent->count = (uint16_t)(1 + (r < 60 ? 0 : r < 90 ? soak_random(8) : soak_random(BATCH_MAX)));
    for (unsigned i = 0; i < sent->count; i++)
        sent->asks[i] = random_ask(client);
}

size_t soak_ask_encode(const struct soak_sent *sent, uint8_t *bytes, size_t size)
{
    size_t len = WIRE_HEADER_SIZE;
    for (unsigned i = 0; i < sent->count; i++) {
        const struct soak_ask *ask = &sent->asks[i];
        const char *path = soak_entries[ask->entry].path;
        size_t n = wire_encode_entry(bytes + len, size - len, ask->flags, ask->mode, path, strlen(path));
        SOAK_NEED(n > 0);
        len += n;
    }
    struct wire_header header = { (uint32_t)len, sent->op, sent->count, sent->id };
    SOAK_NEED(wire_encode_header(bytes, size, &header) > 0);
    return len;
}

bool soak_ask_spoil(uint8_t *bytes, size_t *len)
{
    struct wire_header header;
    struct wire_reader reader;
    switch (soak_random(5)) {
    case 0: /* no header at all */
        for (size_t i = 0; i < *len; i++)
            bytes[i] = (uint8_t)soak_random(256);
        break;
    case 1: /* cut */
        *len = 1 + soak_random((unsigned)*len - 1);
        break;
    case 2: /* a type that there is not */
        bytes[12] = bytes[13] = 0x7f;
        bytes[4] ^= 0x55;
        break;
    case 3: /* more than is announced */
        bytes[(*len)++] = 0;
        break;
    default: /* longer than any */
        *len = WIRE_MAX_MESSAGE + 4;
    }
    return *len > WIRE_MAX_MESSAGE || wire_decode_request(bytes, *len, &header, &reader) != 0;
}
