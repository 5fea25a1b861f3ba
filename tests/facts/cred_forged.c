/* A sender may state only credentials that it has: EPERM, and nothing is sent. */
#include "facts.h"

static ssize_t send_as(int sock, pid_t pid, uid_t uid, gid_t gid)
{
    const struct ucred cred = { pid, uid, gid };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    char byte = 'x';
    struct iovec data = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_CREDENTIALS;
    c->cmsg_len = CMSG_LEN(sizeof cred);
    memcpy(CMSG_DATA(c), &cred, sizeof cred);
    return TEMP_FAILURE_RETRY(sendmsg(sock, &message, MSG_NOSIGNAL));
}

static bool refused(ssize_t n)
{
    return n < 0 && errno == EPERM;
}

static void ordinary_user(int sock[2])
{
    char byte;
    struct incoming in;
    become_somebody();
    EXPECT(refused(send_as(sock[0], getpid(), getuid() + 1, getgid())), "somebody else's uid");
    EXPECT(refused(send_as(sock[0], getpid(), getuid(), getgid() + 1)), "somebody else's gid");
    EXPECT(refused(send_as(sock[0], getppid(), getuid(), getgid())), "another process's pid");
    EXPECT(receive(sock[1], &byte, 1, MSG_DONTWAIT, &in) < 0 && errno == EAGAIN, "nothing was sent");
    EXPECT(send_as(sock[0], getpid(), getuid(), getgid()) == 1, "its own are accepted");
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && in.has_cred && in.cred.uid == getuid(), "and arrive");
}

int main(void)
{
    const int on = 1;
    int sock[2];
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    MUST(setsockopt(sock[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    pid_t child = MUST(fork());
    if (child == 0) {
        ordinary_user(sock);
        _exit(0);
    }
    finish(child);
    return 0;
}
