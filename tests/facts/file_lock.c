/* flock() locks the open file, which both sides share; fcntl() locks belong to a process. */
#include "facts.h"

#include <sys/file.h>

/* Could another open of the file lock it? */
static bool locked(void)
{
    int fd = MUST(open("file", O_RDWR | O_CLOEXEC));
    bool is = flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    MUST(close(fd));
    return is;
}

/* The sender, whose descriptor has the lock, is gone. */
static void sender(int sock)
{
    const struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int fd = MUST(open("file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    MUST(TEMP_FAILURE_RETRY(flock(fd, LOCK_EX)));
    MUST(fcntl(fd, F_SETLK, &whole));
    EXPECT(send_fds(sock, "x", 1, &fd, 1) == 1, "a locked file is sent");
}

int main(void)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int sock[2];
    char byte;
    struct incoming in;
    scratch_enter();
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    pid_t child = MUST(fork());
    if (child == 0) {
        sender(sock[0]);
        _exit(0);
    }
    finish(child);
    EXPECT(locked(), "in flight it holds the lock, though the sender has ended");
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && in.n_fds == 1, "it is received");
    EXPECT(locked(), "the receiver has the sender's flock()");
    MUST(fcntl(in.fds[0], F_GETLK, &whole));
    EXPECT(whole.l_type == F_UNLCK, "its fcntl() lock has gone with the process");

    int copy = MUST(fcntl(in.fds[0], F_DUPFD_CLOEXEC, 0));
    MUST(flock(copy, LOCK_UN));
    EXPECT(!locked(), "whoever unlocks it, unlocks it for all that share it");
    MUST(flock(copy, LOCK_EX | LOCK_NB));
    MUST(close(copy));
    EXPECT(locked(), "one who only closes does not");
    close_fds(&in);
    EXPECT(!locked(), "when the last closes, it is unlocked");
    return 0;
}
