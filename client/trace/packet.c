#include "packet.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "../../common/util.h"

enum {
    CRED_SPACE = CMSG_SPACE(sizeof(struct ucred)),
    FDS_SPACE = CMSG_SPACE(PACKET_MAX_FDS * sizeof(int)),
};

union control {
    struct cmsghdr align;
    char bytes[CRED_SPACE + FDS_SPACE];
};

/* ---- receive ---- */

static ssize_t receive(int sock, struct msghdr *header, int flags)
{
    ssize_t n;
    do
        n = recvmsg(sock, header, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static void take_fds(struct packet *packet, const struct cmsghdr *c)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        if (packet->n_fds < PACKET_MAX_FDS)
            packet->fds[packet->n_fds++] = fd;
        else
            fd_close(fd);
    }
}

static void take_control(struct packet *packet, struct msghdr *header)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        bool is_socket = c->cmsg_level == SOL_SOCKET;
        if (is_socket && c->cmsg_type == SCM_RIGHTS) {
            take_fds(packet, c);
        } else if (is_socket && c->cmsg_type == SCM_CREDENTIALS &&
                   c->cmsg_len == CMSG_LEN(sizeof packet->cred)) {
            memcpy(&packet->cred, CMSG_DATA(c), sizeof packet->cred);
            packet->has_cred = true;
        } else {
            packet->odd = true;
        }
    }
}

/* Appends at most `max` bytes to the packet, and all that comes beside them. What recvmsg(2) returns, or
 * -errno. */
static ssize_t receive_more(int sock, struct packet *packet, size_t max, int flags)
{
    union control control;
    struct iovec data = { packet->bytes + packet->len, max };
    struct msghdr header = { .msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes };
    ssize_t n = receive(sock, &header, flags);
    if (n < 0)
        return n;
    take_control(packet, &header);
    packet->cut |= (header.msg_flags & MSG_TRUNC) != 0;
    packet->lost |= (header.msg_flags & MSG_CTRUNC) != 0;
    packet->real_len += (size_t)n;
    packet->len += (size_t)n < max ? (size_t)n : max;
    return n;
}

/*
 * How many bytes a stream has, up to the end of the first message with descriptors; *fds: is there one? There
 * is room for credentials only, so the kernel makes no descriptor, but says MSG_CTRUNC.
 */
static ssize_t peek(int sock, struct packet *packet, bool *fds)
{
    union {
        struct cmsghdr align;
        char bytes[CRED_SPACE];
    } control;
    struct iovec data = { packet->bytes, PACKET_MAX };
    struct msghdr header = { .msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes };
    ssize_t n = receive(sock, &header, MSG_PEEK);
    *fds = (header.msg_flags & MSG_CTRUNC) != 0;
    return n;
}

/*
 * One recvmsg(2) takes the bytes before a message with descriptors together with it, and tells not with which
 * byte they came (nor does MSG_PEEK of fewer bytes: it looks on to the next message after the last of them).
 * So byte by byte, until they come; the rest of their message at once.
 */
static ssize_t receive_stream(int sock, struct packet *packet)
{
    bool fds;
    ssize_t n = peek(sock, packet, &fds);
    if (n <= 0)
        return n;
    for (ssize_t got; fds && packet->len < (size_t)n; packet->fds_at++) {
        got = receive_more(sock, packet, 1, 0);
        if (got <= 0)
            return packet->len > 0 ? (ssize_t)packet->len : got;
        if (packet->n_fds > 0 || packet->lost)
            break;
    }
    if (packet->len < (size_t)n) {
        ssize_t rest = receive_more(sock, packet, (size_t)n - packet->len, 0);
        if (rest < 0 && packet->len == 0)
            return rest;
    }
    return n;
}

int packet_receive(int sock, int type, struct packet *packet)
{
    packet->cut = packet->lost = packet->has_cred = packet->odd = false;
    packet->len = packet->real_len = packet->sent = packet->n_fds = packet->fds_at = 0;
    /* MSG_TRUNC: returns the real length */
    ssize_t n = type == SOCK_STREAM ? receive_stream(sock, packet)
                                    : receive_more(sock, packet, PACKET_MAX, MSG_TRUNC);
    if (n < 0)
        return (int)n;
    /* An empty packet has its sender's credentials, the end has nothing. */
    packet->full = n > 0 || packet->has_cred || packet->n_fds > 0;
    return packet->full;
}

/* ---- pass on ---- */

static ssize_t send_part(int sock, const struct packet *packet, size_t end, bool with_fds)
{
    union control control;
    struct iovec data = { (void *)(uintptr_t)(packet->bytes + packet->sent), end - packet->sent };
    struct msghdr header = { .msg_iov = &data, .msg_iovlen = 1 };
    size_t len = packet->n_fds * sizeof *packet->fds;
    if (with_fds) {
        memset(&control, 0, sizeof control);
        control.align = (struct cmsghdr){ CMSG_LEN(len), SOL_SOCKET, SCM_RIGHTS };
        memcpy(CMSG_DATA(&control.align), packet->fds, len);
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(len);
    }
    ssize_t n;
    do
        n = sendmsg(sock, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int packet_pass(int sock, struct packet *packet)
{
    do {
        bool before = packet->n_fds > 0 && packet->sent < packet->fds_at;
        bool with_fds = packet->n_fds > 0 && !before;
        ssize_t n = send_part(sock, packet, before ? packet->fds_at : packet->len, with_fds);
        if (n < 0)
            return (int)n;
        packet->sent += (size_t)n;
        if (with_fds) { /* they went with the first byte */
            fd_close_many(packet->fds, packet->n_fds);
            packet->n_fds = 0;
        }
    } while (packet->sent < packet->len);
    packet->full = false;
    return 0;
}

void packet_clear(struct packet *packet)
{
    fd_close_many(packet->fds, packet->n_fds);
    packet->n_fds = 0;
    packet->full = false;
}
