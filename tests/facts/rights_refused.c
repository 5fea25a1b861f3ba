/* A receiver can refuse descriptors (SO_PASSRIGHTS, Linux 6.16): it is the sender that gets the error. */
#include "facts.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

int main(void)
{
    const int off = 0;
    int sock[2];
    char byte;
    struct incoming in;
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    if (setsockopt(sock[1], SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off) < 0 && errno == ENOPROTOOPT)
        skip("no SO_PASSRIGHTS (before Linux 6.16)");
    EXPECT(send_fds(sock[0], "x", 1, &sock[0], 1) < 0 && errno == EPERM, "a descriptor is refused: EPERM");
    EXPECT(TEMP_FAILURE_RETRY(send(sock[0], "y", 1, MSG_NOSIGNAL)) == 1, "data alone is not");
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && byte == 'y' && in.n_fds == 0, "nothing else arrives");
    return 0;
}
