/* A receiver of a descriptor and credentials needs CMSG_SPACE for each: what is too small loses the
 * descriptor. */
#include "facts.h"

struct seen {
    bool cut;        /* MSG_CTRUNC */
    bool cred;       /* whole */
    bool descriptor; /* there */
};

static struct seen look(struct msghdr *message)
{
    struct seen seen = { .cut = message->msg_flags & MSG_CTRUNC };
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_type == SCM_CREDENTIALS)
            seen.cred = c->cmsg_len == CMSG_LEN(sizeof(struct ucred));
        if (c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
            int fd;
            memcpy(&fd, CMSG_DATA(c), sizeof fd);
            MUST(close(fd));
            seen.descriptor = true;
        }
    }
    return seen;
}

static struct seen receive_into(int sock[2], size_t room)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec data = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = room
    };
    EXPECT(room <= sizeof control, "the buffer has that room");
    memset(&control, 0, sizeof control);
    EXPECT(send_fds(sock[0], "x", 1, &sock[0], 1) == 1, "a descriptor is sent; the kernel adds credentials");
    EXPECT(TEMP_FAILURE_RETRY(recvmsg(sock[1], &message, MSG_CMSG_CLOEXEC)) == 1, "the data arrives");
    return look(&message);
}

int main(void)
{
    const int on = 1;
    int sock[2];
    if (sizeof(size_t) == 4)
        skip("control messages have no padding on a 32-bit machine");
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    MUST(setsockopt(sock[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));

    struct seen seen = receive_into(sock, CMSG_SPACE(sizeof(int)));
    EXPECT(seen.cut && !seen.cred && !seen.descriptor, "room for a descriptor alone: half the credentials");

    const size_t too_small[] = { CMSG_LEN(sizeof(struct ucred)) + CMSG_LEN(sizeof(int)),
                                 CMSG_SPACE(sizeof(struct ucred) + sizeof(int)),
                                 CMSG_SPACE(sizeof(struct ucred)) };
    for (size_t i = 0; i < sizeof too_small / sizeof *too_small; i++) {
        seen = receive_into(sock, too_small[i]);
        EXPECT(seen.cut && seen.cred && !seen.descriptor, "credentials, no descriptor, and MSG_CTRUNC");
    }

    seen = receive_into(sock, CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int)));
    EXPECT(!seen.cut && seen.cred && seen.descriptor, "CMSG_SPACE for each: both arrive");
    return 0;
}
