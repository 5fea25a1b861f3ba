/* SOCK_SEQPACKET: an empty packet and the end both read as 0; a packet too long for the buffer is cut. */
#include "facts.h"

int main(void)
{
    const int on = 1;
    int sock[2];
    char text[4];
    struct incoming in;
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    MUST(TEMP_FAILURE_RETRY(send(sock[0], "", 0, MSG_NOSIGNAL)));
    MUST(TEMP_FAILURE_RETRY(send(sock[0], "x", 1, MSG_NOSIGNAL)));
    EXPECT(receive(sock[1], text, sizeof text, 0, &in) == 0, "an empty packet reads as 0");
    EXPECT(receive(sock[1], text, sizeof text, 0, &in) == 1, "though it is not the end");

    EXPECT(TEMP_FAILURE_RETRY(send(sock[0], "too long", 8, MSG_NOSIGNAL)) == 8, "eight bytes are sent");
    EXPECT(TEMP_FAILURE_RETRY(send(sock[0], "next", 4, MSG_NOSIGNAL)) == 4, "and four");
    EXPECT(receive(sock[1], text, sizeof text, 0, &in) == 4 && (in.flags & MSG_TRUNC), "four fit: MSG_TRUNC");
    EXPECT(receive(sock[1], text, sizeof text, 0, &in) == 4 && memcmp(text, "next", 4) == 0,
           "the rest has gone");
    EXPECT(TEMP_FAILURE_RETRY(send(sock[0], "too long", 8, MSG_NOSIGNAL)) == 8, "eight bytes again");
    EXPECT(receive(sock[1], text, sizeof text, MSG_TRUNC, &in) == 8, "asked with MSG_TRUNC: the true length");

    MUST(setsockopt(sock[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    MUST(TEMP_FAILURE_RETRY(send(sock[0], "", 0, MSG_NOSIGNAL)));
    MUST(close(sock[0]));
    EXPECT(receive(sock[1], text, sizeof text, 0, &in) == 0 && in.has_cred,
           "SO_PASSCRED: a packet has a sender");
    EXPECT(receive(sock[1], text, sizeof text, 0, &in) == 0 && !in.has_cred, "SO_PASSCRED: the end has none");
    return 0;
}
