/* O_APPEND is the holder's to take off: it is no protection of what is in the file. */
#include "facts.h"

int main(void)
{
    int sock[2];
    char text[8], byte;
    struct incoming in;
    scratch_enter();
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    int fd = MUST(open("log", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    EXPECT(TEMP_FAILURE_RETRY(write(fd, "first", 5)) == 5, "the file has contents");
    int append = MUST(open("log", O_WRONLY | O_APPEND | O_CLOEXEC));
    EXPECT(send_fds(sock[0], "x", 1, &append, 1) == 1, "a descriptor for appending is sent");
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && in.n_fds == 1, "and received");

    EXPECT(TEMP_FAILURE_RETRY(pwrite(in.fds[0], "+", 1, 0)) == 1, "a write to the beginning");
    EXPECT(TEMP_FAILURE_RETRY(pread(fd, text, 8, 0)) == 6 && memcmp(text, "first+", 6) == 0,
           "goes to the end");
    int flags = MUST(fcntl(in.fds[0], F_GETFL));
    MUST(fcntl(in.fds[0], F_SETFL, flags & ~O_APPEND));
    EXPECT(TEMP_FAILURE_RETRY(pwrite(in.fds[0], "WORST", 5, 0)) == 5, "without O_APPEND");
    EXPECT(TEMP_FAILURE_RETRY(pread(fd, text, 8, 0)) == 6 && memcmp(text, "WORST+", 6) == 0, "it overwrites");
    EXPECT(!(MUST(fcntl(append, F_GETFL)) & O_APPEND), "the flag has gone for the sender, too");
    MUST(ftruncate(in.fds[0], 0)); /* and O_APPEND never was against this */
    close_fds(&in);
    return 0;
}
