/* MSG_PEEK makes new descriptors each time, which somebody must close. */
#include "facts.h"

int main(void)
{
    int sock[2], pipes[2];
    char byte;
    struct incoming first, second, last;
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    MUST(pipe2(pipes, O_CLOEXEC));
    EXPECT(send_fds(sock[0], "x", 1, &pipes[1], 1) == 1, "one descriptor is sent");
    MUST(close(pipes[1]));

    EXPECT(receive(sock[1], &byte, 1, MSG_PEEK, &first) == 1 && first.n_fds == 1, "a peek gets it");
    EXPECT(receive(sock[1], &byte, 1, MSG_PEEK, &second) == 1 && second.n_fds == 1, "so does the next");
    EXPECT(receive(sock[1], &byte, 1, 0, &last) == 1 && last.n_fds == 1, "and who takes the message");
    EXPECT(first.fds[0] != second.fds[0] && second.fds[0] != last.fds[0] && first.fds[0] != last.fds[0],
           "these are three descriptors");
    EXPECT(same_file(first.fds[0], second.fds[0]) && same_file(second.fds[0], last.fds[0]), "of one file");

    close_fds(&last);
    close_fds(&first);
    MUST(fcntl(pipes[0], F_SETFL, O_NONBLOCK));
    EXPECT(read(pipes[0], &byte, 1) < 0 && errno == EAGAIN, "while one is forgotten, the pipe does not end");
    close_fds(&second);
    EXPECT(pipe_ended(pipes[0]), "all are closed: it ends");
    return 0;
}
