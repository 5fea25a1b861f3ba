/*
 * libfob: files from the file-open broker. See libfob(3).
 *
 * Like open(2): descriptors have O_CLOEXEC; -1 and errno on failure. A struct fob may be used by any number of threads. After fork(2)
 * the child makes a connection of its own at its first call. A connection that broke is made anew where nothing can be done
 * twice: a request that had been sent and may create, truncate or write is not repeated, but fails with ECONNRESET.
 *
 * errno beside the kernel's own: EACCES the policy refuses; EPERM the kernel names somebody else than the one who connected, or the rule's
 * file checks refuse; EINVAL a path that is not absolute and clean, or flags that the protocol does not have; ETIMEDOUT the
 * file system did not answer; EAGAIN over a quota; ENOENT, ECONNREFUSED (from fob_connect) no broker; EMFILE the descriptor did
 * not fit into this process; EPROTO the other side does not speak the protocol.
 *
 * Who serves must be root or the caller's own user. Else fob_connect() and a call that connects anew fail: EPERM somebody else serves;
 * EREMOTE who it is has no name in this user namespace, and the place of the socket does not vouch for it: see libfob(3).
 */
#ifndef FOB_H
#define FOB_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default) /* the library itself is built with everything else hidden */

#define FOB_DEFAULT_SOCKET "/run/fob/fob.sock"

struct fob;
struct ucred; /* <sys/socket.h> with _GNU_SOURCE */

/* Connects. NULL: $FOB_SOCKET (ignored in a set-user-ID program, as $FOB_SERVER is: one uid more that may serve), else FOB_DEFAULT_SOCKET.
 * NULL and errno on failure. Free with fob_close(). */
struct fob *fob_connect(const char *socket_path);
/*
 * Starts a broker of one's own: the program (an absolute path, fobd(8); perhaps installed set-user-ID) with one end of a socketpair as its
 * standard input. It serves this struct fob alone, and ends with it. No child of this process: nobody has to wait for it. It is started
 * anew as fob_connect() connects anew. NULL and errno: of execve(2), or ECONNRESET: it did not want to serve, and said why on standard error.
 */
struct fob *fob_spawn(const char *fobd_path);
void fob_close(struct fob *fob);

/*
 * open(2) through the broker. oflags: O_RDONLY O_WRONLY O_RDWR O_APPEND O_CREAT O_EXCL O_TRUNC O_DIRECTORY O_NOFOLLOW O_PATH O_NONBLOCK
 * O_SYNC (O_CLOEXEC is always on; O_NOCTTY is taken and means nothing); others: EINVAL. O_WRONLY|O_APPEND asks for the right
 * to append only. mode counts with O_CREAT; the umask of the caller is applied here, as open(2) does.
 */
int fob_open(struct fob *fob, const char *path, int oflags, mode_t mode);

struct fob_request {
    const char *path; /* in */
    int oflags;       /* in */
    mode_t mode;      /* in */
    int fd;           /* out: the descriptor, or -1 */
    int error;        /* out: 0, or why */
    uint32_t rule;    /* out: number of the deciding rule, 0 = none */
};
/*
 * Any number of opens in as few messages as there can be. Returns how many have a descriptor (n = all); -1 and errno when the
 * broker could not be asked: then too every request has its fd or its error, and what was opened before the failure is the caller's.
 */
ssize_t fob_open_many(struct fob *fob, struct fob_request *requests, size_t n);

/* May I? 0: allowed; -1 and errno (EACCES) otherwise. No file is touched. */
int fob_check(struct fob *fob, const char *path, int oflags);
/* What may I open? "RIGHTS PATTERN\n" lines; free(3) it. NULL and errno on failure. */
char *fob_list(struct fob *fob);

struct fob_info { uint32_t version, max_message, max_entries, generation; };
/* Asks the broker for its version and limits: a round trip. 0, or -1 and errno. */
int fob_hello(struct fob *fob, struct fob_info *info);
/*
 * Busy polling: a call looks for its reply again and again for that long at most, before it sleeps until it comes. 0: off, as it is at first,
 * unless $FOB_BUSY_POLL (ignored in a set-user-ID program) says otherwise. What it costs and when it pays: libfob(3). 0, or -1 and EINVAL:
 * more than 10000.
 */
int fob_set_busy_poll(struct fob *fob, unsigned microseconds);
/* Who listens: the credentials of the process that called listen(2). 0, or -1 and errno. */
int fob_server(struct fob *fob, struct ucred *server);

/*
 * Descriptors and credentials over any connected AF_UNIX socket. n_fds 0..253, len >= 1. cred NULL: none are sent explicitly.
 * 0, or -1 and errno.
 */
int fob_send_fds(int sock, const void *data, size_t len, const int *fds, size_t n_fds, const struct ucred *cred);
/*
 * Receives at most *len bytes and at most *n_fds descriptors (O_CLOEXEC); both are set to what came. *cred (may be NULL) is filled when SO_PASSCRED
 * was on before the message was sent, else its pid is 0. 1: a message; 0: end; -1 and errno: EMFILE descriptors were lost for want of room in this process, EMSGSIZE more
 * data or more descriptors than asked for; then none is left open.
 */
int fob_recv_fds(int sock, void *data, size_t *len, int *fds, size_t *n_fds, struct ucred *cred);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
