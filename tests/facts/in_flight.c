/* A descriptor that was sent lives on its own: the sender may close it and end, the file may lose its name.
 */
#include "facts.h"

static void sender(int sock)
{
    int fd = MUST(open("note.txt", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    EXPECT(TEMP_FAILURE_RETRY(write(fd, "hello", 5)) == 5, "five bytes are written");
    EXPECT(send_fds(sock, "x", 1, &fd, 1) == 1, "the descriptor is sent");
    MUST(close(fd));
    MUST(unlink("note.txt"));
}

int main(void)
{
    int sock[2], pipes[2];
    char text[8], byte;
    struct incoming in;
    scratch_enter();
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    pid_t child = MUST(fork());
    if (child == 0) {
        sender(sock[1]);
        _exit(0);
    }
    finish(child);
    EXPECT(receive(sock[0], &byte, 1, 0, &in) == 1 && in.n_fds == 1, "it arrives after the sender has ended");
    EXPECT(TEMP_FAILURE_RETRY(pread(in.fds[0], text, sizeof text, 0)) == 5, "and has the file");
    close_fds(&in);

    /* The write end of a pipe, nowhere but in flight. */
    MUST(pipe2(pipes, O_CLOEXEC | O_NONBLOCK));
    EXPECT(send_fds(sock[1], "x", 1, &pipes[1], 1) == 1, "the write end is sent");
    MUST(close(pipes[1]));
    EXPECT(read(pipes[0], &byte, 1) < 0 && errno == EAGAIN, "in flight it holds the pipe open");
    MUST(close(sock[0]));
    EXPECT(pipe_ended(pipes[0]), "when the receiving socket closes unread, it is closed too");
    return 0;
}
