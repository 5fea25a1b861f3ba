/*
 * How requests lie in a connection's socket, and replies: everything that differs between the kinds of
 * socket. What comes out is a message of the native protocol, whatever went in.
 *
 * A stream is read no further than the end of one request: what follows stays with the kernel, as on a packet
 * socket, so that who does not read is not read from.
 */
#ifndef FOB_BROKER_FRAME_H
#define FOB_BROKER_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct worker;
struct connection;

enum frame_kind {
    FRAME_PACKET,   /* SOCK_SEQPACKET: the kernel keeps messages apart */
    FRAME_FRESH,    /* SOCK_STREAM before its first byte, which says what it is */
    FRAME_NATIVE,   /* SOCK_STREAM: each message tells its length */
    FRAME_APUE,     /* SOCK_STREAM: common/apue.h */
    FRAME_DATAGRAM, /* SOCK_DGRAM: nobody is connected */
};

/* The beginning of a request whose end has not come. */
struct frame_part {
    size_t len;
    struct ucred sender; /* pid 0: of no one process */
    uint8_t bytes[];
};

/*
 * Receives a request into worker->in. 1, with its length and who sent it (pid 0: several did); 0: the end;
 * -EAGAIN: not whole yet, what came is kept; -EMSGSIZE, -EPROTO: malformed; another negative errno.
 */
int frame_receive(struct worker *worker, struct connection *connection, size_t *len, struct ucred *sender);
/* The len bytes in worker->in are the beginning of the connection's next request. Without memory it is
 * closed. */
void frame_resume(struct worker *worker, struct connection *connection, size_t len,
                  const struct ucred *sender);
/* Sends the reply of len bytes in worker->out, which answers worker->exchanges if they have descriptors. As
 * msg_send(). */
int frame_send(struct worker *worker, const struct connection *connection, size_t len, const int *fds,
               size_t n_fds);

#endif
