/* The descriptor of a regular file cannot be taken back: permissions are asked for at open(2), and not after.
 */
#include "facts.h"

static void can_use(int fd, const char *claim)
{
    char byte;
    EXPECT(TEMP_FAILURE_RETRY(pread(fd, &byte, 1, 0)) == 1, claim);
    EXPECT(TEMP_FAILURE_RETRY(pwrite(fd, &byte, 1, 0)) == 1, claim);
}

static void wait_for_word(int sock)
{
    char byte;
    EXPECT(TEMP_FAILURE_RETRY(recv(sock, &byte, 1, 0)) == 1, "the other side goes on");
}

static void say_word(int sock)
{
    EXPECT(TEMP_FAILURE_RETRY(send(sock, "x", 1, MSG_NOSIGNAL)) == 1, "the other side is told");
}

static void holder(int sock)
{
    const char *const after[] = { "mode 0", "another name", "no name" };
    struct incoming in;
    char byte;
    become_somebody();
    EXPECT(receive(sock, &byte, 1, 0, &in) == 1 && in.n_fds == 1, "a descriptor arrives");
    for (size_t i = 0; i < sizeof after / sizeof *after; i++) {
        say_word(sock);
        wait_for_word(sock);
        can_use(in.fds[0], after[i]);
    }
}

int main(void)
{
    int sock[2];
    scratch_enter();
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    int fd = MUST(open("file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    EXPECT(TEMP_FAILURE_RETRY(write(fd, "secret", 6)) == 6, "the file has contents");
    pid_t child = MUST(fork());
    if (child == 0) {
        MUST(close(fd));
        MUST(close(sock[0]));
        holder(sock[1]);
        _exit(0);
    }
    MUST(close(sock[1]));
    EXPECT(send_fds(sock[0], "x", 1, &fd, 1) == 1, "the descriptor is sent");
    MUST(close(fd));

    wait_for_word(sock[0]);
    MUST(chmod("file", 0));
    say_word(sock[0]);
    wait_for_word(sock[0]);
    MUST(rename("file", "elsewhere"));
    say_word(sock[0]);
    wait_for_word(sock[0]);
    MUST(unlink("elsewhere"));
    say_word(sock[0]);
    finish(child);
    return 0;
}
