/* On a stream at least one byte must go with a descriptor; a packet or a datagram may be empty. */
#include "facts.h"

/* Sends a pipe's end with len bytes of data, keeps none, and receives. */
static ssize_t pass(int type, size_t len, struct incoming *in, int *read_end)
{
    int sock[2], pipes[2];
    char bytes[1] = "x";
    MUST(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, sock));
    MUST(pipe2(pipes, O_CLOEXEC));
    EXPECT(send_fds(sock[0], bytes, len, &pipes[1], 1) == (ssize_t)len, "sendmsg() reports no error");
    MUST(close(pipes[1]));
    ssize_t n = receive(sock[1], bytes, sizeof bytes, MSG_DONTWAIT, in);
    int error = errno;
    MUST(close(sock[0]));
    MUST(close(sock[1]));
    *read_end = pipes[0];
    errno = error;
    return n;
}

int main(void)
{
    struct incoming in;
    int read_end;

    EXPECT(pass(SOCK_STREAM, 0, &in, &read_end) < 0 && errno == EAGAIN, "stream: without data nothing comes");
    EXPECT(in.n_fds == 0 && pipe_ended(read_end), "stream: the descriptor has gone, and nobody was told");
    MUST(close(read_end));

    EXPECT(pass(SOCK_STREAM, 1, &in, &read_end) == 1 && in.n_fds == 1, "stream: with one byte it comes");
    close_fds(&in);
    MUST(close(read_end));

    const int types[] = { SOCK_SEQPACKET, SOCK_DGRAM };
    for (size_t i = 0; i < 2; i++) {
        EXPECT(pass(types[i], 0, &in, &read_end) == 0 && in.n_fds == 1, "an empty packet can carry one");
        close_fds(&in);
        MUST(close(read_end));
    }
    return 0;
}
