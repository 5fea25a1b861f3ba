/*
 * Who serves: only root and the caller's own user are believed to be the broker (libfob(3)).
 */
#ifndef FOB_CLIENT_SERVER_H
#define FOB_CLIENT_SERVER_H

/*
 * Judges the peer of a connected socket whose path is `path`, by what the kernel says of who called
 * listen(2). 0: believed; -EPERM: somebody else; -EREMOTE: it has no name in this user namespace, and nothing
 * vouches for it; what getsockopt(2) said otherwise.
 */
int server_check(int sock, const char *path);

#endif
