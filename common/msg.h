/*
 * One message with descriptors and credentials over an AF_UNIX socket, done right: cmsg(3), unix(7). The
 * measured ways to get it wrong: a control buffer of CMSG_LEN sums, CMSG_NXTHDR on a buffer that is not
 * zeroed, SO_PASSCRED set too late, descriptors that arrived with a truncated message and were never closed.
 */
#ifndef FOB_COMMON_MSG_H
#define FOB_COMMON_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

enum { MSG_MAX_FDS = 253 }; /* SCM_MAX_FD */

struct msg_in {
    size_t len;    /* bytes of data received */
    bool has_cred; /* exactly one well-formed SCM_CREDENTIALS came */
    struct ucred cred;
    size_t n_fds; /* descriptors received (O_CLOEXEC), the caller's to close */
    int fds[MSG_MAX_FDS];
};

/*
 * Receives one message into buf. flags: MSG_DONTWAIT or 0 (MSG_CMSG_CLOEXEC is always on).
 * 1: a message, *in filled. 0: end of the connection (a zero-length packet counts as that). Negative errno:
 * -EAGAIN, -ECONNRESET ...; -EMSGSIZE: longer than size; -EMFILE: MSG_CTRUNC, the descriptors did not all fit
 * into this process; -EPROTO: malformed or repeated control messages. After an error no descriptor that came
 * with it is left open. EINTR is not returned: the call is made again.
 */
int msg_recv(int sock, void *buf, size_t size, int flags, struct msg_in *in);
/*
 * The broker's form: expects credentials and NO descriptor. As msg_recv(), and -EPROTO (all closed) when a
 * descriptor came or credentials are missing. Needs no room for descriptors, so it is cheaper.
 */
int msg_recv_cred(int sock, void *buf, size_t size, int flags, size_t *len, struct ucred *cred);

/* The same of a datagram, and the name that it came from: *from_len is the room, then its length (0: none). A
 * datagram of no bytes is 0. */
int msg_recv_cred_from(int sock, void *buf, size_t size, size_t *len, struct ucred *cred,
                       struct sockaddr_un *from, socklen_t *from_len);

/*
 * Sends len (>= 1) bytes with n_fds (0..253) descriptors and, if cred is not NULL, credentials, in one
 * sendmsg(2) with MSG_NOSIGNAL | flags. 0 or a negative errno. After a stream's short write the rest is sent.
 * -EAGAIN: nothing was sent; -ENOBUFS: a stream that may not wait (MSG_DONTWAIT, O_NONBLOCK) took a part
 * only: close it, its other side waits for the rest.
 */
int msg_send(int sock, const void *buf, size_t len, const int *fds, size_t n_fds, const struct ucred *cred,
             int flags);

/* A datagram to a name, never waiting: as msg_send(). */
int msg_send_to(int sock, const struct sockaddr_un *to, socklen_t to_len, const void *buf, size_t len,
                const int *fds, size_t n_fds);

/* Bytes sent on a socket that its peer has not read yet (SIOCOUTQ), or a negative errno. */
int msg_unread(int sock);

#endif
