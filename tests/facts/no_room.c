/* A receiver at its limit of descriptors: the data comes, MSG_CTRUNC is set, what did not fit has gone. */
#include "facts.h"

/* From here on there is room for n descriptors more. */
static void leave_room_for(int n, int some_fd)
{
    struct rlimit limit;
    int next = MUST(dup(some_fd));
    MUST(close(next));
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = (rlim_t)next + (rlim_t)n;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
}

static ssize_t receive_two(int sock, int *arrived, int *flags)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    char byte;
    struct iovec data = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    memset(&control, 0, sizeof control);
    *arrived = 0;
    ssize_t n = TEMP_FAILURE_RETRY(recvmsg(sock, &message, MSG_CMSG_CLOEXEC));
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); n >= 0 && c; c = CMSG_NXTHDR(&message, c)) {
        size_t fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < fds; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            MUST(close(fd)); /* what did arrive must not be forgotten */
            ++*arrived;
        }
    }
    *flags = message.msg_flags;
    return n;
}

int main(void)
{
    int sock[2], pipes[2], arrived, flags;
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    for (int room = 0; room < 2; room++) {
        MUST(pipe2(pipes, O_CLOEXEC));
        const int fds[] = { pipes[1], pipes[1] };
        EXPECT(send_fds(sock[0], "x", 1, fds, 2) == 1, "two descriptors are sent");
        MUST(close(pipes[1]));
        leave_room_for(room, sock[0]);
        EXPECT(receive_two(sock[1], &arrived, &flags) == 1, "recvmsg() does not fail: the data is there");
        EXPECT(flags & MSG_CTRUNC, "MSG_CTRUNC tells it");
        EXPECT(arrived == room, "as many arrive as there is room for");
        EXPECT(pipe_ended(pipes[0]), "the others are closed: no later call brings them");
        MUST(close(pipes[0]));
        leave_room_for(8, sock[0]);
    }
    return 0;
}
