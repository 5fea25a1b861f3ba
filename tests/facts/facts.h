/*
 * facts.h: what the examples of fob-facts(7) need and are not about: a claim, a call that must succeed,
 * children, a scratch folder, and a message with descriptors, sent and received as it should be.
 */
#ifndef FACTS_H
#define FACTS_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, MOST_FDS = 253, SOMEBODY = 2001 };

#define EXPECT(condition, claim) expect((condition), (claim), __FILE__, __LINE__)
#define MUST(call) must((call), #call)

static inline void expect(bool holds, const char *claim, const char *file, int line)
{
    if (!holds) {
        printf("%s: does not hold (%s:%d)\n", claim, file, line);
        exit(1);
    }
}

static inline int must(long result, const char *call)
{
    if (result < 0) {
        printf("%s: %s\n", call, strerror(errno));
        exit(1);
    }
    return (int)result;
}

static inline void skip(const char *why)
{
    printf("skipped: %s\n", why);
    exit(SKIPPED);
}

/* The end of a child: its verdict is the program's. */
static inline void finish(pid_t child)
{
    int status;
    MUST(TEMP_FAILURE_RETRY(waitpid(child, &status, 0)));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* An ordinary user from here on, if we are root. */
static inline void become_somebody(void)
{
    if (geteuid() != 0)
        return;
    MUST(setgroups(0, NULL));
    MUST(setresgid(SOMEBODY, SOMEBODY, SOMEBODY));
    MUST(setresuid(SOMEBODY, SOMEBODY, SOMEBODY));
}

static char scratch[4096];
static pid_t scratch_owner;

static inline int scratch_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void scratch_remove(void)
{
    if (getpid() == scratch_owner)
        nftw(scratch, scratch_unlink, 8, FTW_DEPTH | FTW_PHYS);
}

/* Into a folder of our own, which goes when the program ends. */
static inline void scratch_enter(void)
{
    const char *tmp = getenv("TMPDIR");
    int n = snprintf(scratch, sizeof scratch, "%s/fob-facts.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    EXPECT(n > 0 && (size_t)n < sizeof scratch, "TMPDIR is a short path");
    EXPECT(mkdtemp(scratch) != NULL, "a temporary folder can be made");
    scratch_owner = getpid();
    atexit(scratch_remove);
    MUST(chdir(scratch));
}

/* A listening socket with an abstract name that the kernel chooses. */
static inline int listen_somewhere(int type, struct sockaddr_un *name, socklen_t *len)
{
    const sa_family_t unnamed = AF_UNIX;
    int sock = MUST(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    MUST(bind(sock, (const struct sockaddr *)&unnamed, sizeof unnamed));
    *len = sizeof *name;
    MUST(getsockname(sock, (struct sockaddr *)name, len));
    MUST(listen(sock, 8));
    return sock;
}

/* Data and n descriptors in one message: what sendmsg() says. */
static inline ssize_t send_fds(int sock, const void *bytes, size_t len, const int *fds, size_t n)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * (MOST_FDS + 1))];
    } control;
    EXPECT(n >= 1 && n <= MOST_FDS + 1, "as many descriptors as the buffer holds");
    memset(&control, 0, sizeof control);
    struct iovec data = { (void *)bytes, len };
    struct msghdr message = { .msg_iov = &data,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = CMSG_SPACE(n * sizeof *fds) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n * sizeof *fds);
    memcpy(CMSG_DATA(c), fds, n * sizeof *fds);
    return TEMP_FAILURE_RETRY(sendmsg(sock, &message, MSG_NOSIGNAL));
}

struct incoming {
    int fds[MOST_FDS + 1]; /* the room that padding leaves is room for one more */
    size_t n_fds;
    struct ucred cred;
    bool has_cred;
    int flags; /* MSG_CTRUNC and its like, as recvmsg() leaves them */
};

static inline void take_control(struct incoming *in, struct cmsghdr *c)
{
    size_t len = c->cmsg_len - CMSG_LEN(0);
    if (c->cmsg_level != SOL_SOCKET)
        return;
    if (c->cmsg_type == SCM_RIGHTS) {
        in->n_fds = len / sizeof(int);
        EXPECT(in->n_fds <= MOST_FDS + 1, "no more descriptors than there was room for");
        memcpy(in->fds, CMSG_DATA(c), len);
    } else if (c->cmsg_type == SCM_CREDENTIALS && len == sizeof in->cred) {
        memcpy(&in->cred, CMSG_DATA(c), len);
        in->has_cred = true;
    }
}

static inline void close_fds(struct incoming *in)
{
    while (in->n_fds > 0)
        close(in->fds[--in->n_fds]);
}

/* One message, whole: if its descriptors did not all fit, none stays open and the error is EMFILE. */
static inline ssize_t receive(int sock, void *bytes, size_t len, int flags, struct incoming *in)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * MOST_FDS)];
    } control;
    memset(in, 0, sizeof *in);
    memset(&control, 0, sizeof control);
    struct iovec data = { bytes, len }; /* cppcheck-suppress ctuuninitvar ; they are written */
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    ssize_t n = TEMP_FAILURE_RETRY(recvmsg(sock, &message, flags | MSG_CMSG_CLOEXEC));
    if (n < 0)
        return -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
        take_control(in, c);
    in->flags = message.msg_flags;
    if (message.msg_flags & MSG_CTRUNC) {
        close_fds(in);
        errno = EMFILE;
        return -1;
    }
    return n;
}

/* The same file, whatever the numbers? */
static inline bool same_file(int a, int b)
{
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Has the write end of this pipe gone, with nothing written? */
static inline bool pipe_ended(int read_end)
{
    char byte;
    return TEMP_FAILURE_RETRY(read(read_end, &byte, 1)) == 0;
}

#endif
