/*
 * Any bytes as a path, against the plain statement of what is clean; and as text to be shown: nothing that
 * could act on a terminal, end a line or break a JSON string comes out of common/escape.h.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/escape.h"
#include "../../common/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition)
{
    if (!condition)
        abort();
}

/* Byte by byte: every component that ends here, what was it? */
static int is_clean_slowly(const char *path, size_t len)
{
    size_t component = 0, dots = 0;
    if (len < 1 || len > 4095 || path[0] != '/')
        return 0;
    for (size_t i = 1; i <= len; i++) {
        if (i == len || path[i] == '/') {
            int is_root = i == len && len == 1;
            if (!is_root && (component == 0 || (component == dots && dots <= 2)))
                return 0;
            component = dots = 0;
            continue;
        }
        if (path[i] == '\0')
            return 0;
        component++;
        dots += path[i] == '.';
    }
    return 1;
}

static void check_beneath(const char *path, size_t len)
{
    expect(path_is_beneath(path, len, "/", 1));
    for (size_t i = 2; i <= len; i++) { /* every clean beginning of it but "/" */
        int at_component = i == len || path[i] == '/';
        if (path_is_clean(path, i))
            expect(path_is_beneath(path, len, path, i) == at_component);
    }
}

static void check_text(const char *bytes, size_t len, size_t room)
{
    char *out = malloc(room);
    expect(out != NULL);
    size_t written = escape_text(out, room, bytes, len);
    expect(written < room && out[written] == '\0');
    for (size_t i = 0; i < written; i++)
        expect(out[i] >= 0x20 && out[i] < 0x7f);
    expect(room < 4 * len + 1 || written >= len);
    free(out);
}

static void check_json(const char *bytes, size_t len, size_t room)
{
    bool raw = false;
    char *out = malloc(room);
    expect(out != NULL);
    size_t written = escape_json(out, room, bytes, len, &raw);
    expect(raw == !escape_is_utf8(bytes, len));
    expect(written > 0 || room < 6 * len + 3);
    expect(written < room && escape_is_utf8(out, written));
    for (size_t i = 0; i < written; i++) {
        expect((uint8_t)out[i] >= 0x20 && out[i] != 0x7f);
        expect(!raw || (uint8_t)out[i] < 0x80);
        expect(out[i] != '"' || i == 0 || i == written - 1 || out[i - 1] == '\\');
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    int clean = path_is_clean(bytes, size);
    expect(clean == is_clean_slowly(bytes, size));
    if (clean && size < 200)
        check_beneath(bytes, size);
    check_text(bytes, size, 4 * size + 1);
    check_text(bytes, size, size / 2 + 1);
    check_json(bytes, size, 6 * size + 3);
    check_json(bytes, size, size / 2 + 1);
    return 0;
}
