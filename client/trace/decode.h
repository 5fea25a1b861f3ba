/*
 * Whole messages of both protocols (fob-protocol(7)) as text. Pure: bytes in, lines out. What is malformed is said, and
 * decoded as far as it goes.
 */
#ifndef FOB_TRACE_DECODE_H
#define FOB_TRACE_DECODE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum side { CLIENT, BROKER }; /* who sent it */

/* n_fds: how many descriptors came with it. */
void decode_native(FILE *out, enum side from, const uint8_t *message, size_t len, size_t n_fds);
/* A request with its NUL, or a reply with its zero and its status. */
void decode_apue(FILE *out, enum side from, const uint8_t *message, size_t len, size_t n_fds);

#endif
