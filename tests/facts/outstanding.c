/* SIOCOUTQ tells the sender whether the receiver has taken what was sent. */
#include "facts.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

static int outstanding(int sock)
{
    int n;
    MUST(ioctl(sock, SIOCOUTQ, &n));
    return n;
}

int main(void)
{
    const int types[] = { SOCK_SEQPACKET, SOCK_STREAM };
    for (size_t i = 0; i < 2; i++) {
        int sock[2], pipes[2];
        char byte;
        struct incoming in;
        MUST(socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, sock));
        MUST(pipe2(pipes, O_CLOEXEC));
        EXPECT(outstanding(sock[0]) == 0, "nothing was sent");
        EXPECT(send_fds(sock[0], "x", 1, &pipes[0], 1) == 1, "one byte and a descriptor are sent");
        EXPECT(outstanding(sock[0]) > 1, "they wait, and count as more than a byte: the kernel's own room");
        EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && in.n_fds == 1, "the receiver takes them");
        EXPECT(outstanding(sock[0]) == 0, "0: all was taken");
        close_fds(&in);
        MUST(close(sock[0]));
        MUST(close(sock[1]));
        MUST(close(pipes[0]));
        MUST(close(pipes[1]));
    }
    return 0;
}
