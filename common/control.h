/*
 * The protocol of the control socket, between fobctl and fobd's supervisor: SOCK_SEQPACKET, one request a
 * connection.
 *
 * Request: words, each ended by a NUL, in one packet of at most CONTROL_REQUEST_MAX bytes: "status" FORMAT,
 * "watch", "reload", "explain" SUBJECT RIGHTS PATH. Reply: packets of at most CONTROL_PACKET_MAX bytes, the
 * first byte of each says what the rest is: CONTROL_OUT and CONTROL_ERR: text for standard output and
 * standard error; CONTROL_EXIT: the exit status in decimal, and the end. A connection that ends without it
 * was cut off.
 */
#ifndef FOB_COMMON_CONTROL_H
#define FOB_COMMON_CONTROL_H

enum {
    CONTROL_REQUEST_MAX = 16384,
    CONTROL_PACKET_MAX = 32768,
    CONTROL_WORDS_MAX = 8,
    CONTROL_OUT = 'o',
    CONTROL_ERR = 'e',
    CONTROL_EXIT = 'x',
};

#endif
