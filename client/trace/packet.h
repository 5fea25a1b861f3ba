/*
 * What one recvmsg(2) brings, with all that comes beside the bytes, and its way on. Other than common/msg.h
 * nothing is refused here: what is wrong is to be seen.
 */
#ifndef FOB_TRACE_PACKET_H
#define FOB_TRACE_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    PACKET_MAX = 256 * 1024, /* more than a socket buffer takes by default: what is too long for fob passes too */
    PACKET_MAX_FDS = 253,    /* SCM_MAX_FD */
};

struct packet {
    bool full;       /* there is something to pass on */
    bool cut;        /* MSG_TRUNC: longer than PACKET_MAX */
    bool lost;       /* MSG_CTRUNC: control messages that did not fit into this process */
    bool has_cred;
    bool odd;        /* a malformed control message, or one of another kind */
    struct ucred cred;
    size_t len;      /* of bytes */
    size_t real_len; /* as it was sent */
    size_t sent;
    size_t fds_at;   /* the byte that descriptors came with: not the first on streams alone */
    size_t n_fds;
    int fds[PACKET_MAX_FDS]; /* ours to close */
    uint8_t bytes[PACKET_MAX];
};

/*
 * Receives without waiting, from a socket of `type`. 1: packet->full, perhaps with no byte at all (an empty
 * packet); 0: the end; -EAGAIN or another negative errno. Of a stream at most to the end of the first message
 * with descriptors.
 */
int packet_receive(int sock, int type, struct packet *packet);
/* Sends what is left of it without waiting. 0: all, and its descriptors are closed; -EAGAIN: go on later; or a negative errno. */
int packet_pass(int sock, struct packet *packet);
/* Closes the descriptors; empty again. */
void packet_clear(struct packet *packet);

#endif
