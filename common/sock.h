/*
 * AF_UNIX addresses, listening and connecting (unix(7)).
 */
#ifndef FOB_COMMON_SOCK_H
#define FOB_COMMON_SOCK_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

/* Fills addr from a pathname or, with a leading '@', an abstract name. Returns its length or -ENAMETOOLONG / -EINVAL. */
int sock_address(struct sockaddr_un *addr, const char *path);

/* A connected socket (SOCK_CLOEXEC) of `type` (SOCK_SEQPACKET ...) to path, or a negative errno. */
int sock_connect(const char *path, int type);

/* SO_PASSCRED on, SO_PASSRIGHTS off (where the kernel has it, Linux 6.16): accepted sockets inherit both, and they hold for
 * what was sent before accept(2). 0 or a negative errno. */
int sock_set_receive_options(int sock);

/* A name in the file system that a listening socket has, remembered so that only our own is unlinked. */
struct sock_name { char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; dev_t dev; ino_t ino; int lock_fd; };

struct sock_listen_options { int type; mode_t mode; gid_t gid /* (gid_t)-1: leave */; int backlog; };
/*
 * Binds and listens on path (sock_set_receive_options() before listen(2)). A stale socket (nobody listens: ECONNREFUSED) of ours or
 * root's is replaced; -EADDRINUSE: somebody serves there (or holds path.lock); -EEXIST: something that is no socket stands there;
 * -EPERM: its directory is writable by others than root and us (sticky ones are fine) or the stale socket is somebody else's.
 * path.lock is held (flock) as long as the name lives and removed with it; one that somebody else made is -EPERM. Returns the
 * descriptor, name filled. The name's mode is 0 until owner and mode are right, whatever the umask. An abstract name ('@...') has
 * neither lock nor mode. A SOCK_DGRAM socket is bound only. On failure nothing is left behind, and name is fit for sock_unlisten().
 */
int sock_listen(const char *path, const struct sock_listen_options *options, struct sock_name *name);
/* Unlinks the name (if it is still ours) and the lock; closes lock_fd. A second time, or for an abstract name: does nothing. */
void sock_unlisten(struct sock_name *name);

#endif
