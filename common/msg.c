#include "msg.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "compat.h"
#include "msg_parse.h"
#include "util.h"

/* CMSG_SPACE for each, never CMSG_LEN: the sum of the latter has no room for the padding between two. */
enum {
    CRED_SPACE = CMSG_SPACE(sizeof(struct ucred)),
    FDS_SPACE = CMSG_SPACE(MSG_MAX_FDS * sizeof(int)),
    PIDFD_SPACE = CMSG_SPACE(sizeof(int)),
    /* msg_recv_cred() keeps none, it only has to see that some came; the kernel drops what does not fit. */
    STRAYS_SPACE = CMSG_SPACE(8 * sizeof(int)),
};

/* Every control buffer is a union with a cmsghdr, which aligns it (cmsg(3)). */
union control_full {
    struct cmsghdr align;
    char bytes[CRED_SPACE + FDS_SPACE + PIDFD_SPACE];
};
union control_cred {
    struct cmsghdr align;
    char bytes[CRED_SPACE + STRAYS_SPACE + PIDFD_SPACE];
};

/* ---- parse ---- */

static int parse_cred(const struct cmsghdr *c, struct msg_in *in)
{
    /* Exactly: a buffer too small cuts the ucred, and its gid would be what lay there before. */
    if (c->cmsg_len != CMSG_LEN(sizeof(struct ucred)) || in->has_cred)
        return -EPROTO;
    memcpy(&in->cred, CMSG_DATA(c), sizeof in->cred);
    in->has_cred = true;
    return 0;
}

/* Keeps every descriptor, also of what is malformed: whatever the message is worth, it is open here now. */
static int parse_fds(const struct cmsghdr *c, struct msg_in *in)
{
    size_t len = c->cmsg_len - CMSG_LEN(0);
    int err = in->n_fds > 0 || len == 0 || len % sizeof(int) != 0 ? -EPROTO : 0;
    for (size_t i = 0; i < len / sizeof(int); i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        if (in->n_fds < MSG_MAX_FDS) {
            in->fds[in->n_fds++] = fd;
        } else {
            fd_close(fd);
            err = -EPROTO;
        }
    }
    return err;
}

/* Nobody asked for one; it may be a negative number where the kernel could not make one. */
static int parse_pidfd(const struct cmsghdr *c)
{
    int fd;
    if (c->cmsg_len != CMSG_LEN(sizeof fd))
        return -EPROTO;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    fd_close(fd);
    return 0;
}

static int parse_one(const struct cmsghdr *c, struct msg_in *in)
{
    if (c->cmsg_level != SOL_SOCKET)
        return 0;
    switch (c->cmsg_type) {
    case SCM_CREDENTIALS:
        return parse_cred(c, in);
    case SCM_RIGHTS:
        return parse_fds(c, in);
    case SCM_PIDFD:
        return parse_pidfd(c);
    default:
        return 0;
    }
}

int msg_parse(const struct msghdr *header, struct msg_in *in)
{
    struct msghdr h = *header; /* CMSG_NXTHDR wants a pointer without const */
    const char *end = (const char *)h.msg_control + h.msg_controllen;
    int err = 0;
    in->has_cred = false;
    in->n_fds = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c != NULL; c = CMSG_NXTHDR(&h, c)) {
        if (c->cmsg_len < CMSG_LEN(0) || c->cmsg_len > (size_t)(end - (const char *)c))
            return -EPROTO;
        int one = parse_one(c, in);
        if (one < 0)
            err = one; /* and go on: what follows may be descriptors */
    }
    return err;
}

/* ---- receive ---- */

static int msg_error(const struct msghdr *header, int parsed)
{
    if (header->msg_flags & MSG_TRUNC)
        return -EMSGSIZE;
    /*
     * The buffer has room for all there can be, so descriptors were lost: no free slot in this process, or a
     * security module refused one (systemd issue 34688). The kernel says no more than this flag.
     */
    if (header->msg_flags & MSG_CTRUNC)
        return -EMFILE;
    return parsed;
}

/* As msg_recv(), with a control buffer that need not be zeroed: nothing behind msg_controllen is read. */
static int recv_with(int sock, struct msghdr *header, int flags, struct msg_in *in)
{
    ssize_t n;
    in->len = in->n_fds = 0;
    in->has_cred = false;
    do
        n = recvmsg(sock, header, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    int err = msg_error(header, msg_parse(header, in));
    in->len = (size_t)n;
    if (n > 0 && err == 0)
        return 1;
    fd_close_many(in->fds, in->n_fds);
    in->n_fds = 0;
    return n > 0 ? err : 0;
}

int msg_recv(int sock, void *buf, size_t size, int flags, struct msg_in *in)
{
    union control_full control;
    struct iovec data = { .iov_base = buf, .iov_len = size };
    struct msghdr header = {
        .msg_iov = &data,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    return recv_with(sock, &header, flags, in);
}

static int recv_cred(int sock, struct msghdr *header, int flags, size_t *len, struct ucred *cred)
{
    union control_cred control;
    struct msg_in in; /* of its 1 KiB only what arrives is touched */
    header->msg_iovlen = 1;
    header->msg_control = control.bytes;
    header->msg_controllen = sizeof control.bytes;
    int got = recv_with(sock, header, flags, &in);
    if (got == -EMFILE)
        return -EPROTO; /* lost or not, descriptors came */
    if (got <= 0)
        return got;
    if (in.n_fds > 0 || !in.has_cred) {
        fd_close_many(in.fds, in.n_fds);
        return -EPROTO;
    }
    *len = in.len;
    *cred = in.cred;
    return 1;
}

int msg_recv_cred(int sock, void *buf, size_t size, int flags, size_t *len, struct ucred *cred)
{
    struct iovec data = { .iov_base = buf, .iov_len = size };
    return recv_cred(sock, &(struct msghdr){ .msg_iov = &data }, flags, len, cred);
}

int msg_recv_cred_from(int sock, void *buf, size_t size, size_t *len, struct ucred *cred,
                       struct sockaddr_un *from, socklen_t *from_len)
{
    struct iovec data = { .iov_base = buf, .iov_len = size };
    struct msghdr header = { .msg_name = from, .msg_namelen = *from_len, .msg_iov = &data };
    int got = recv_cred(sock, &header, MSG_DONTWAIT, len, cred);
    *from_len = got == 1 ? header.msg_namelen : 0;
    return got;
}

/* ---- send ---- */

static struct cmsghdr *control_put(struct cmsghdr *c, int type, const void *data, size_t len)
{
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), data, len);
    /* Not CMSG_NXTHDR: it would look at the next one's length, which is not written yet. */
    return (struct cmsghdr *)((char *)c + CMSG_SPACE(len));
}

static void control_fill(struct msghdr *header, union control_full *control, const int *fds, size_t n_fds,
                         const struct ucred *cred)
{
    size_t size = (cred != NULL ? CRED_SPACE : 0) + (n_fds > 0 ? CMSG_SPACE(n_fds * sizeof *fds) : 0);
    if (size == 0)
        return;
    memset(control->bytes, 0, size); /* the padding too */
    struct cmsghdr *c = &control->align;
    if (cred != NULL)
        c = control_put(c, SCM_CREDENTIALS, cred, sizeof *cred);
    if (n_fds > 0)
        control_put(c, SCM_RIGHTS, fds, n_fds * sizeof *fds);
    header->msg_control = control->bytes;
    header->msg_controllen = size;
}

static ssize_t send_once(int sock, const struct msghdr *header, int flags)
{
    ssize_t n;
    do
        n = sendmsg(sock, header, flags | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* A stream took only the beginning. Descriptors and credentials went with its first byte. */
static int send_rest(int sock, const char *at, size_t len, int flags)
{
    while (len > 0) {
        struct iovec data = { (char *)(uintptr_t)at, len };
        ssize_t n = send_once(sock, &(struct msghdr){ .msg_iov = &data, .msg_iovlen = 1 }, flags);
        if (n == -EAGAIN)
            return -ENOBUFS;
        if (n < 0)
            return (int)n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int send_with(int sock, struct msghdr header, const void *buf, size_t len, const int *fds,
                     size_t n_fds, const struct ucred *cred, int flags)
{
    union control_full control;
    struct iovec data = { (void *)(uintptr_t)buf, len };
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    /* A stream delivers nothing with no byte, a zero-length packet reads as the end. */
    if (len == 0 || n_fds > MSG_MAX_FDS)
        return -EINVAL;
    control_fill(&header, &control, fds, n_fds, cred);
    ssize_t n = send_once(sock, &header, flags);
    if (n < 0)
        return (int)n;
    return send_rest(sock, (const char *)buf + n, len - (size_t)n, flags);
}

int msg_send(int sock, const void *buf, size_t len, const int *fds, size_t n_fds, const struct ucred *cred,
             int flags)
{
    return send_with(sock, (struct msghdr){ .msg_name = NULL }, buf, len, fds, n_fds, cred, flags);
}

int msg_send_to(int sock, const struct sockaddr_un *to, socklen_t to_len, const void *buf, size_t len,
                const int *fds, size_t n_fds)
{
    struct msghdr header = { .msg_name = (void *)(uintptr_t)to, .msg_namelen = to_len };
    return send_with(sock, header, buf, len, fds, n_fds, NULL, MSG_DONTWAIT);
}

int msg_unread(int sock)
{
    int bytes;
    if (ioctl(sock, SIOCOUTQ, &bytes) < 0)
        return -errno;
    /*
     * While the last message is being freed the kernel counts one byte of it still, and it is in that moment
     * that it says that there is room (sock_wfree() in net/core/sock.c): who took it for unread would never
     * be woken again.
     */
    return bytes <= 1 ? 0 : bytes;
}
