/*
 * What the kernel says of the AF_UNIX sockets of this network namespace (sock_diag(7)): whose one is, what it
 * is connected to, and whether something unread is there. Anybody may ask.
 */
#ifndef FOB_BROKER_UNIX_DIAG_H
#define FOB_BROKER_UNIX_DIAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

struct unix_diag {
    uint32_t ino;
    uint32_t cookie[2]; /* an inode's number is used again, both together are not */
    int type;           /* SOCK_DGRAM ... */
    uid_t uid;          /* who made it */
    uint32_t peer;      /* the inode of the socket that it is connected to; 0: none, or closed */
    uint32_t unread;    /* bytes of the first datagram that waits there; 0: none, or one of no bytes */
    size_t name_len;    /* 0: it has none; that of a path has the NUL */
    char name[sizeof((struct sockaddr_un){ 0 }.sun_path) + 1]; /* sun_path */
};

/* A socket to ask on, which all that follows is done with, or a negative errno: nothing is told here, or not
 * all that stands above (Linux before 5.3). */
int unix_diag_open(void);
/* One socket by its inode. cookie: that of the very one that is meant, or NULL. 0; -ENOENT, -ESTALE: there is
 * none, or it is another one; or another negative errno. */
int unix_diag_get(int diag, uint32_t ino, const uint32_t cookie[2], struct unix_diag *out);

typedef void unix_diag_fn(void *context, const struct unix_diag *socket);
/* All of them, but those that listen. Some may be missing while others come and go. 0 or a negative errno. */
int unix_diag_each(int diag, unix_diag_fn *fn, void *context);

#endif
