/* A descriptor and credentials go in one sendmsg(). */
#include "facts.h"

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
};

static void put(struct cmsghdr *c, int type, const void *what, size_t len)
{
    EXPECT(c != NULL, "there is room for both");
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), what, len);
}

static void send_both(int sock, int fd, bool descriptor_first)
{
    const struct ucred me = { getpid(), getuid(), getgid() };
    union control control;
    char byte = 'x';
    struct iovec data = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (descriptor_first) {
        put(c, SCM_RIGHTS, &fd, sizeof fd);
        put(CMSG_NXTHDR(&message, c), SCM_CREDENTIALS, &me, sizeof me);
    } else {
        put(c, SCM_CREDENTIALS, &me, sizeof me);
        put(CMSG_NXTHDR(&message, c), SCM_RIGHTS, &fd, sizeof fd);
    }
    EXPECT(TEMP_FAILURE_RETRY(sendmsg(sock, &message, MSG_NOSIGNAL)) == 1, "both go in one message");
}

static void receive_both(int sock, struct ucred *cred, int *fd)
{
    union control control;
    char byte;
    struct iovec data = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    memset(&control, 0, sizeof control);
    EXPECT(TEMP_FAILURE_RETRY(recvmsg(sock, &message, MSG_CMSG_CLOEXEC)) == 1, "the message arrives");
    EXPECT(!(message.msg_flags & MSG_CTRUNC), "and is whole");
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    EXPECT(c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS &&
               c->cmsg_len == CMSG_LEN(sizeof *cred),
           "the credentials come first, however they were sent");
    memcpy(cred, CMSG_DATA(c), sizeof *cred);
    c = CMSG_NXTHDR(&message, c);
    EXPECT(c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
               c->cmsg_len == CMSG_LEN(sizeof *fd),
           "then the descriptor");
    memcpy(fd, CMSG_DATA(c), sizeof *fd);
}

int main(void)
{
    const int on = 1;
    int sock[2], pipes[2];
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    MUST(setsockopt(sock[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    MUST(pipe2(pipes, O_CLOEXEC));
    for (int order = 0; order < 2; order++) {
        struct ucred cred;
        int fd;
        send_both(sock[0], pipes[0], order == 1);
        receive_both(sock[1], &cred, &fd);
        EXPECT(cred.pid == getpid() && cred.uid == getuid() && cred.gid == getgid(), "who sent it");
        EXPECT(fd != pipes[0] && same_file(fd, pipes[0]), "what was sent");
        MUST(close(fd));
    }
    return 0;
}
