/* The number of a descriptor says nothing to another process: the descriptor itself must be sent. */
#include "facts.h"

struct note {
    int number;
    dev_t dev;
    ino_t ino;
};

/* Opens a file of its own, and sends the number as data and the descriptor beside it. */
static void sender(int sock)
{
    struct stat st;
    int fd = MUST(open("note.txt", O_RDONLY | O_CLOEXEC));
    int number = MUST(fcntl(fd, F_DUPFD_CLOEXEC, 64));
    MUST(fstat(number, &st));
    struct note note = { number, st.st_dev, st.st_ino };
    EXPECT(send_fds(sock, &note, sizeof note, &number, 1) == sizeof note, "number and descriptor are sent");
}

static bool is_that_file(int fd, const struct note *note)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_dev == note->dev && st.st_ino == note->ino;
}

int main(void)
{
    int sock[2];
    struct note note;
    struct incoming in;
    scratch_enter();
    MUST(close(MUST(open("note.txt", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600))));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    pid_t child = MUST(fork());
    if (child == 0) {
        sender(sock[1]);
        _exit(0);
    }
    finish(child);
    EXPECT(receive(sock[0], &note, sizeof note, 0, &in) == sizeof note && in.n_fds == 1, "both arrive");

    EXPECT(fcntl(note.number, F_GETFD) < 0 && errno == EBADF, "the number is none of the receiver's");
    int other = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));
    MUST(dup2(other, note.number));
    EXPECT(!is_that_file(note.number, &note), "or it is, and means another file");

    EXPECT(in.fds[0] != note.number, "the descriptor came with a number of its own");
    EXPECT(is_that_file(in.fds[0], &note), "and is the sender's file");
    close_fds(&in);
    return 0;
}
