/*
 * Any bytes as a request of APUE's: taken apart as another, slower reader does it, nothing beyond them is
 * read, what was understood means the same when it is written anew, and its reply is one that the book's
 * client understands.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/apue.h"
#include "../../common/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool held)
{
    if (!held)
        abort();
}

/* ---- the other reader: all words first ---- */

enum { WORDS_MAX = 1 << 16 };

static size_t split(const char *bytes, size_t len, size_t begins[WORDS_MAX], size_t ends[WORDS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < len && n < WORDS_MAX;) {
        i += strspn((char[]){ bytes[i], '\0' }, " \t\n");
        size_t begin = i;
        while (i < len && bytes[i] != ' ' && bytes[i] != '\t' && bytes[i] != '\n')
            i++;
        if (i > begin) {
            begins[n] = begin;
            ends[n++] = i;
        }
    }
    return n;
}

/* -1: not a number that matters. */
static int64_t number(const char *digits, size_t len)
{
    char text[16];
    while (len > 1 && *digits == '0')
        digits++, len--;
    if (len > 10)
        return -1;
    memcpy(text, digits, len);
    text[len] = '\0';
    return strspn(text, "0123456789") == len && atoll(text) <= INT32_MAX ? atoll(text) : -1;
}

static void compare(const char *bytes, size_t len, const struct apue_request *request)
{
    static size_t begins[WORDS_MAX], ends[WORDS_MAX];
    size_t n = split(bytes, len, begins, ends);
    if (n == WORDS_MAX)
        return;
    bool is_open = n >= 3 && ends[0] - begins[0] == 4 && memcmp(bytes + begins[0], "open", 4) == 0;
    expect(is_open == (request->path != NULL));
    if (!is_open) {
        expect(request->path_len == 0 && request->oflag == -1);
        return;
    }
    expect(request->path == bytes + begins[1] && request->path_len == ends[n - 2] - begins[1]);
    int64_t want = number(bytes + begins[n - 1], ends[n - 1] - begins[n - 1]);
    /* the last few below INT_MAX are no flags: taken or not */
    expect(request->oflag == want || (request->oflag == -1 && want > INT32_MAX - 9));
}

/* ---- there and back ---- */

static void check_again(const struct apue_request *request)
{
    char *text = malloc(request->path_len + 32);
    expect(text != NULL);
    memcpy(text, "open ", 5);
    memcpy(text + 5, request->path, request->path_len);
    size_t len = 5 + request->path_len;
    len += (size_t)sprintf(text + len, " %d", request->oflag);
    struct apue_request again;
    apue_parse(text, len, &again);
    expect(again.path_len == request->path_len && again.oflag == request->oflag);
    expect(memcmp(again.path, request->path, again.path_len) == 0);
    free(text);
    if (request->oflag >= 0 && wire_flags_from_open(request->oflag) > 0)
        expect(wire_flags_from_open(request->oflag) <= WIRE_FLAGS);
}

static void check_reply(const struct apue_request *request, int error)
{
    uint8_t out[APUE_MAX_REPLY];
    size_t len = apue_encode_error(out, request->path, request->path_len, error);
    expect(len >= 4 && len <= sizeof out && out[len - 3] == '\n' && out[len - 1] == error);
    if (!request->path || !memchr(request->path, '\0', request->path_len)) /* which no request has in it */
        expect(memchr(out, '\0', len) == out + len - 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct apue_request request;
    const char *bytes = (const char *)data;
    apue_parse(bytes, size, &request);
    compare(bytes, size, &request);
    if (request.path) {
        expect(request.path_len > 0 && request.path >= bytes &&
               request.path + request.path_len < bytes + size);
        check_again(&request);
    }
    check_reply(&request, size ? data[0] % 255 + 1 : 1);
    return 0;
}
