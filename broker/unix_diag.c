#include "unix_diag.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "../common/util.h"

enum {
    STATES = 1 << 1 | 1 << 7, /* TCP_ESTABLISHED, TCP_CLOSE: connected or not */
    ANSWER_MAX = 32 << 10,    /* the most that the kernel gives at once */
};

static uint32_t sequence;

/* ---- asking ---- */

static int ask(int diag, uint16_t flags, uint32_t ino, const uint32_t cookie[2])
{
    struct {
        struct nlmsghdr header;
        struct unix_diag_req body;
    } request = {
        .header = { .nlmsg_len = sizeof request,
                    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                    .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
                    .nlmsg_seq = ++sequence },
        .body = { .sdiag_family = AF_UNIX,
                  .udiag_states = STATES,
                  .udiag_ino = ino,
                  .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN | UDIAG_SHOW_UID,
                  .udiag_cookie = { cookie ? cookie[0] : ~0u, cookie ? cookie[1] : ~0u } },
    };
    struct iovec data = { &request, sizeof request };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
    ssize_t n;
    do
        n = sendmsg(diag, &message, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

/* Bytes of an answer: it is there when the question is asked, or made while it is read. */
static ssize_t receive(int diag, void *buf, size_t size)
{
    struct sockaddr_nl from = { 0 };
    struct iovec data = { buf, size };
    struct msghdr message = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &data, .msg_iovlen = 1
    };
    ssize_t n;
    do
        n = recvmsg(diag, &message, MSG_DONTWAIT);
    while ((n < 0 && errno == EINTR) || (n >= 0 && from.nl_pid != 0));
    if (n < 0)
        return -errno;
    return message.msg_flags & MSG_TRUNC ? -EMSGSIZE : n;
}

/* ---- reading answers ---- */

static uint32_t number_of(const struct rtattr *attribute)
{
    uint32_t number = 0;
    if (RTA_PAYLOAD(attribute) >= sizeof number)
        memcpy(&number, RTA_DATA(attribute), sizeof number);
    return number;
}

static void read_attribute(const struct rtattr *attribute, struct unix_diag *out, bool *has_uid)
{
    size_t len = RTA_PAYLOAD(attribute);
    switch (attribute->rta_type) {
    case UNIX_DIAG_NAME:
        out->name_len = len <= sizeof out->name ? len : 0;
        memcpy(out->name, RTA_DATA(attribute), out->name_len);
        break;
    case UNIX_DIAG_PEER:
        out->peer = number_of(attribute);
        break;
    case UNIX_DIAG_RQLEN: /* the first of two numbers */
        out->unread = number_of(attribute);
        break;
    case UNIX_DIAG_UID:
        out->uid = number_of(attribute);
        *has_uid = true;
        break;
    default:
        break;
    }
}

static int read_socket(const struct nlmsghdr *header, struct unix_diag *out)
{
    struct unix_diag_msg message;
    bool has_uid = false;
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof message))
        return -EPROTO;
    memcpy(&message, NLMSG_DATA(header), sizeof message);
    *out = (struct unix_diag){ .ino = message.udiag_ino,
                               .cookie = { message.udiag_cookie[0], message.udiag_cookie[1] },
                               .type = message.udiag_type };
    size_t left = header->nlmsg_len - NLMSG_LENGTH(sizeof message);
    const char *at = (const char *)header + NLMSG_LENGTH(sizeof message);
    while (left >= sizeof(struct rtattr)) {
        const struct rtattr *attribute = (const void *)at;
        size_t step = RTA_ALIGN(attribute->rta_len);
        if (attribute->rta_len < sizeof *attribute || attribute->rta_len > left)
            return -EPROTO;
        read_attribute(attribute, out, &has_uid);
        at += step < left ? step : left;
        left -= step < left ? step : left;
    }
    return has_uid ? 0 : -EOPNOTSUPP;
}

/* The error that an answer is; 0: that is the end of all. */
static int read_error(const struct nlmsghdr *header)
{
    int error = 0;
    if (header->nlmsg_type == NLMSG_ERROR && header->nlmsg_len >= NLMSG_LENGTH(sizeof error))
        memcpy(&error, NLMSG_DATA(header), sizeof error);
    return error;
}

/* The next of those in buf, of which *left bytes are left; NULL: no more. */
static const struct nlmsghdr *next_answer(const char **at, size_t *left)
{
    const struct nlmsghdr *header = (const void *)*at;
    if (*left < sizeof *header || header->nlmsg_len < sizeof *header || header->nlmsg_len > *left)
        return NULL;
    size_t step = NLMSG_ALIGN(header->nlmsg_len);
    step = step < *left ? step : *left;
    *at += step;
    *left -= step;
    return header;
}

/* 1: there is more to come; 0 or a negative errno: the end. */
static int read_answers(const char *at, size_t left, unix_diag_fn *fn, void *context)
{
    struct unix_diag found;
    for (const struct nlmsghdr *header; (header = next_answer(&at, &left));) {
        if (header->nlmsg_seq != sequence)
            continue;
        if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY)
            return read_error(header);
        int err = read_socket(header, &found);
        if (err < 0)
            return err;
        fn(context, &found);
        if (!(header->nlmsg_flags & NLM_F_MULTI))
            return 0;
    }
    return 1;
}

/* What is not read to its end is in the way of the next question. */
static int hear(int diag, unix_diag_fn *fn, void *context)
{
    static uint32_t buf[ANSWER_MAX / sizeof(uint32_t)];
    int more = 1;
    for (;;) {
        ssize_t n = receive(diag, buf, sizeof buf);
        if (n == -EAGAIN)
            return more == 1 ? -EPROTO : more;
        if (n < 0 && n != -EMSGSIZE && n != -ENOBUFS)
            return (int)n;
        if (n < 0)
            more = (int)n;
        else if (more == 1)
            more = read_answers((const char *)buf, (size_t)n, fn, context);
    }
}

/* ---- questions ---- */

static void take(void *context, const struct unix_diag *socket)
{
    *(struct unix_diag *)context = *socket;
}

int unix_diag_get(int diag, uint32_t ino, const uint32_t cookie[2], struct unix_diag *out)
{
    *out = (struct unix_diag){ .ino = 0 };
    if (ino == 0)
        return -ENOENT;
    int err = ask(diag, 0, ino, cookie);
    if (err == 0)
        err = hear(diag, take, out);
    return err < 0 ? err : out->ino == ino ? 0 : -EPROTO;
}

int unix_diag_each(int diag, unix_diag_fn *fn, void *context)
{
    int err = ask(diag, NLM_F_DUMP, 0, NULL);
    return err < 0 ? err : hear(diag, fn, context);
}

static int probe(int diag)
{
    struct unix_diag own;
    struct stat st;
    CLEANUP(fd_cleanup) int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || fstat(sock, &st) < 0)
        return -errno;
    return unix_diag_get(diag, (uint32_t)st.st_ino, NULL, &own);
}

int unix_diag_open(void)
{
    CLEANUP(fd_cleanup) int diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (diag < 0)
        return -errno;
    int err = probe(diag);
    return err < 0 ? err : fd_take(&diag);
}
