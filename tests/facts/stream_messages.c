/* What a stream keeps of the messages that carried descriptors: one call returns those of one message. */
#include "facts.h"

static void send_byte(int sock, char byte)
{
    MUST(TEMP_FAILURE_RETRY(send(sock, &byte, 1, MSG_NOSIGNAL)));
}

int main(void)
{
    int sock[2], pipes[2];
    char text[16];
    struct incoming in;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
    MUST(pipe2(pipes, O_CLOEXEC));

    EXPECT(send_fds(sock[0], "one", 3, &pipes[0], 1) == 3, "a first message");
    EXPECT(send_fds(sock[0], "two", 3, &pipes[1], 1) == 3, "and a second");
    send_byte(sock[0], '.');
    EXPECT(receive(sock[1], text, sizeof text, 0, &in) == 3, "no call reads on behind a descriptor");
    EXPECT(in.n_fds == 1 && same_file(in.fds[0], pipes[0]), "the first message has the first descriptor");
    close_fds(&in);
    EXPECT(receive(sock[1], text, 1, 0, &in) == 1 && in.n_fds == 1, "it comes with the first byte taken");
    close_fds(&in);
    EXPECT(receive(sock[1], text, sizeof text, 0, &in) == 3 && in.n_fds == 0, "and only with that");
    EXPECT(memcmp(text, "wo.", 3) == 0, "data without a descriptor does not keep its bounds");

    send_byte(sock[0], 'a');
    EXPECT(send_fds(sock[0], "bc", 2, &pipes[0], 1) == 2, "data, and then data with a descriptor");
    EXPECT(receive(sock[1], text, sizeof text, 0, &in) == 3 && in.n_fds == 1, "may arrive in one call");
    close_fds(&in);
    return 0;
}
