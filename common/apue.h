/*
 * The protocol of the open server of Stevens and Rago, Advanced Programming in the UNIX Environment, 3rd
 * edition, chapter 17 (fob-protocol(7)), as bytes. No I/O, no allocation.
 */
#ifndef FOB_COMMON_APUE_H
#define FOB_COMMON_APUE_H

#include <stddef.h>
#include <stdint.h>

enum {
    APUE_FIRST_BYTE = 'o',   /* of "open" */
    APUE_MAX_REQUEST = 4352, /* bytes with the NUL: a path of 4095, and blanks */
    APUE_MAX_REPLY = 4096,   /* the original's buffer: it takes an error for one only if it is read at once */
};

struct apue_request {
    const char *path; /* in the request's bytes, NOT terminated; NULL: it is no request */
    size_t path_len;
    int oflag; /* of open(2); -1: not a number */
};

/* Takes the `len` bytes before the NUL apart: "open", a path, which may have blanks in it, and a decimal
 * number. */
void apue_parse(const char *bytes, size_t len, struct apue_request *request);

/*
 * The reply to a request that failed: text for people, as the original words it, ending in a newline, then a
 * zero and the errno (1..255). path_len 0: of what was no request. A long path is cut. Returns the bytes
 * written, at most APUE_MAX_REPLY. What succeeded is answered by two zeros and the descriptor (apue_success).
 */
size_t apue_encode_error(uint8_t out[static APUE_MAX_REPLY], const char *path, size_t path_len, int error);
extern const uint8_t apue_success[2];

#endif
