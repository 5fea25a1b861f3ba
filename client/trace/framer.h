/*
 * From what arrives in one piece to whole messages, printed as soon as their last byte is there. A packet is one
 * message; on a stream messages come joined and in parts, and the client's first byte says which protocol it is.
 */
#ifndef FOB_TRACE_FRAMER_H
#define FOB_TRACE_FRAMER_H

#include <stdbool.h>

#include "decode.h"

enum protocol { PROTOCOL_UNKNOWN, PROTOCOL_NATIVE, PROTOCOL_APUE, PROTOCOL_OTHER };

/* One direction of a stream; all zero at the beginning. */
struct framer {
    uint8_t *bytes; /* of the message that is not whole yet: never more than the longest message */
    size_t len, room;
    size_t n_fds;  /* that came with it */
    size_t parts;  /* that it came in */
    bool lost;     /* malformed: nobody knows where the next message begins */
};

/* Prints what is whole with these bytes. n_fds came with the first of them. */
void framer_feed(struct framer *framer, FILE *out, enum protocol *protocol, enum side from, const uint8_t *bytes,
                 size_t len, size_t n_fds);
/* The end of the stream: says so when it is in the middle of a message. */
void framer_end(const struct framer *framer, FILE *out);
void framer_deinit(struct framer *framer);

#endif
