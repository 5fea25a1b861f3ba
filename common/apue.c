#include "apue.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const uint8_t apue_success[2] = { 0, 0 };

/* ---- requests ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

/* Decimal and no more, or -1. */
static int number(const char *text, size_t len)
{
    int value = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || value > (INT_MAX - 9) / 10)
            return -1;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

void apue_parse(const char *bytes, size_t len, struct apue_request *request)
{
    static const char command[] = { 'o', 'p', 'e', 'n' };
    const char *begin = bytes, *end = bytes + len;
    *request = (struct apue_request){ .oflag = -1 };
    while (begin < end && is_blank(*begin))
        begin++;
    while (end > begin && is_blank(end[-1]))
        end--;
    if ((size_t)(end - begin) <= sizeof command || memcmp(begin, command, sizeof command) != 0 ||
        !is_blank(begin[sizeof command]))
        return;
    const char *path = begin + sizeof command, *last = end;
    while (path < end && is_blank(*path))
        path++;
    while (last > path && !is_blank(last[-1]))
        last--;
    const char *path_end = last;
    while (path_end > path && is_blank(path_end[-1]))
        path_end--;
    if (path_end == path)
        return; /* one word: a path without a number, or the other way round */
    request->path = path;
    request->path_len = (size_t)(path_end - path);
    request->oflag = number(last, (size_t)(end - last));
}

/* ---- replies ---- */

/* Room for the path: the rest of the text is short. */
enum { PATH_SHOWN = APUE_MAX_REPLY - 128 };

size_t apue_encode_error(uint8_t out[static APUE_MAX_REPLY], const char *path, size_t path_len, int error)
{
    char *text = (char *)out;
    int len = path_len == 0
                  ? snprintf(text, APUE_MAX_REPLY - 2, "usage: <pathname> <oflag>\n")
                  : snprintf(text, APUE_MAX_REPLY - 2, "can't open %.*s: %s\n",
                             path_len < PATH_SHOWN ? (int)path_len : PATH_SHOWN, path, strerror(error));
    size_t at = len > 0 && len < APUE_MAX_REPLY - 2 ? (size_t)len : 0;
    out[at] = 0;
    out[at + 1] = error > 0 && error <= UINT8_MAX ? (uint8_t)error : 1;
    return at + 2;
}
