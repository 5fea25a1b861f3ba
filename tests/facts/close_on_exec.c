/* FD_CLOEXEC does not travel: the receiver says with MSG_CMSG_CLOEXEC what it wants. */
#include "facts.h"

static int receive_one(int sock, int flags)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    int fd;
    struct iovec data = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    memset(&control, 0, sizeof control);
    EXPECT(TEMP_FAILURE_RETRY(recvmsg(sock, &message, flags)) == 1, "the message arrives");
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof fd))
        return -1;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

int main(void)
{
    int sock[2], pipes[2];
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    MUST(pipe2(pipes, O_CLOEXEC));
    EXPECT(send_fds(sock[0], "x", 1, &pipes[0], 1) == 1, "a descriptor with FD_CLOEXEC is sent");
    EXPECT(send_fds(sock[0], "x", 1, &pipes[0], 1) == 1, "and once more");

    int fd = MUST(receive_one(sock[1], 0));
    EXPECT(MUST(fcntl(fd, F_GETFD)) == 0, "it arrives without, and an exec would pass it on");
    MUST(close(fd));

    fd = MUST(receive_one(sock[1], MSG_CMSG_CLOEXEC));
    EXPECT(MUST(fcntl(fd, F_GETFD)) == FD_CLOEXEC, "MSG_CMSG_CLOEXEC sets it, with no moment between");
    MUST(close(fd));
    return 0;
}
