/* Sender and receiver share one open file: its offset and its status flags. */
#include "facts.h"

int main(void)
{
    int sock[2];
    char text[4], byte;
    struct incoming in;
    scratch_enter();
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    int fd = MUST(open("file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    EXPECT(TEMP_FAILURE_RETRY(write(fd, "abcdef", 6)) == 6, "six bytes are written");
    MUST((long)lseek(fd, 2, SEEK_SET));
    EXPECT(send_fds(sock[0], "x", 1, &fd, 1) == 1, "the descriptor is sent");
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && in.n_fds == 1, "and received");

    EXPECT(lseek(in.fds[0], 0, SEEK_CUR) == 2, "it stands where the sender left it");
    EXPECT(TEMP_FAILURE_RETRY(read(in.fds[0], text, 2)) == 2 && memcmp(text, "cd", 2) == 0,
           "it reads from there");
    EXPECT(lseek(fd, 0, SEEK_CUR) == 4, "and the sender's offset has moved, too");
    EXPECT(TEMP_FAILURE_RETRY(pread(in.fds[0], text, 1, 0)) == 1 && text[0] == 'a',
           "pread() has its own place");
    EXPECT(lseek(fd, 0, SEEK_CUR) == 4, "and moves nothing");

    MUST(fcntl(in.fds[0], F_SETFL, O_NONBLOCK));
    EXPECT(MUST(fcntl(fd, F_GETFL)) & O_NONBLOCK, "O_NONBLOCK set by one is set for both");
    int again = MUST(open("file", O_RDONLY | O_CLOEXEC));
    EXPECT(lseek(again, 0, SEEK_CUR) == 0 && !(MUST(fcntl(again, F_GETFL)) & O_NONBLOCK),
           "another open() shares neither");
    close_fds(&in);
    return 0;
}
