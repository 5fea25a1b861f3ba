/* The room in the receiver's buffer: what does not fit is closed, and padding is room, too. */
#include "facts.h"

/* Two descriptors are sent, the receiver offers room bytes of control buffer: how many arrive? */
static size_t arrive(size_t room, bool *cut)
{
    union {
        struct cmsghdr align;
        char bytes[64];
    } control;
    int sock[2], pipes[2];
    char byte;
    size_t n = 0;
    struct iovec data = { &byte, 1 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
    EXPECT(room <= sizeof control, "the buffer is large enough");
    memset(&control, 0, sizeof control);
    if (room > 0) {
        message.msg_control = &control;
        message.msg_controllen = room;
    }
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    MUST(pipe2(pipes, O_CLOEXEC));
    const int fds[] = { pipes[1], pipes[1] };
    EXPECT(send_fds(sock[0], "x", 1, fds, 2) == 1, "two descriptors are sent");
    MUST(close(pipes[1]));
    EXPECT(TEMP_FAILURE_RETRY(recvmsg(sock[1], &message, MSG_CMSG_CLOEXEC)) == 1, "the data arrives");
    *cut = message.msg_flags & MSG_CTRUNC;
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (c) {
        int got[2];
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        EXPECT(n <= 2, "not more than were sent");
        memcpy(got, CMSG_DATA(c), n * sizeof(int));
        for (size_t i = 0; i < n; i++)
            MUST(close(got[i]));
    }
    EXPECT(pipe_ended(pipes[0]), "what did not fit is closed");
    MUST(close(pipes[0]));
    MUST(close(sock[0]));
    MUST(close(sock[1]));
    return n;
}

/* read(2) and recv(2) have no control buffer at all. */
static void plain_read(void)
{
    int sock[2], pipes[2];
    char byte;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
    MUST(pipe2(pipes, O_CLOEXEC));
    EXPECT(send_fds(sock[0], "x", 1, &pipes[1], 1) == 1, "a descriptor is sent");
    MUST(close(pipes[1]));
    EXPECT(TEMP_FAILURE_RETRY(read(sock[1], &byte, 1)) == 1, "the data is read");
    EXPECT(pipe_ended(pipes[0]), "read() closes the descriptor that came with it");
}

int main(void)
{
    bool cut;
    EXPECT(arrive(0, &cut) == 0 && cut, "no room: none arrives, MSG_CTRUNC is set");
    EXPECT(arrive(CMSG_LEN(sizeof(int)), &cut) == 1 && cut,
           "CMSG_LEN for one: one arrives, MSG_CTRUNC is set");
    EXPECT(arrive(CMSG_SPACE(2 * sizeof(int)), &cut) == 2 && !cut, "room for two: two arrive");
    if (CMSG_SPACE(sizeof(int)) == CMSG_SPACE(2 * sizeof(int)))
        EXPECT(arrive(CMSG_SPACE(sizeof(int)), &cut) == 2 && !cut, "CMSG_SPACE for one takes two");
    plain_read();
    return 0;
}
