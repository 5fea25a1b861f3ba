/* A descriptor for reading can be opened again through /proc/self/fd, with the holder's own rights to the
 * file. */
#include "facts.h"

static int reopen(int fd, int flags)
{
    char path[64];
    int n = snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    EXPECT(n > 0 && (size_t)n < sizeof path, "the path fits");
    return open(path, flags | O_CLOEXEC);
}

static void holder(int sock)
{
    struct incoming in;
    char bytes[2];
    become_somebody();
    EXPECT(receive(sock, bytes, sizeof bytes, 0, &in) == 2 && in.n_fds == 2, "two descriptors arrive");
    EXPECT(write(in.fds[0], "x", 1) < 0 && errno == EBADF, "the first is for reading only");
    EXPECT(open("closed/open", O_WRONLY | O_CLOEXEC) < 0 && errno == EACCES,
           "and the folder keeps others from the file");
    int again = MUST(reopen(in.fds[0], O_WRONLY));
    EXPECT(TEMP_FAILURE_RETRY(write(again, "x", 1)) == 1,
           "opened again it writes: the file's mode allows it");
    EXPECT(reopen(in.fds[1], O_WRONLY) < 0 && errno == EACCES, "not where the mode does not");
    int own = MUST(reopen(in.fds[1], O_RDONLY));
    EXPECT(lseek(own, 0, SEEK_CUR) == 0 && lseek(in.fds[1], 0, SEEK_CUR) == 3,
           "the new one has an offset of its own");
}

static int make_file(const char *path, mode_t mode)
{
    int fd = MUST(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    EXPECT(TEMP_FAILURE_RETRY(write(fd, "old", 3)) == 3, "the file has contents");
    MUST(fchmod(fd, mode));
    MUST(close(fd));
    return MUST(open(path, O_RDONLY | O_CLOEXEC));
}

int main(void)
{
    int sock[2];
    if (access("/proc/self/fd", X_OK) < 0)
        skip("/proc is not mounted");
    scratch_enter();
    MUST(chmod(".", 0711)); /* so that it is the folder in it that keeps others out */
    MUST(mkdir("closed", 0700));
    const int fds[] = { make_file("closed/open", 0666), make_file("closed/readable", 0444) };
    MUST((long)lseek(fds[1], 3, SEEK_SET));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    EXPECT(send_fds(sock[0], "xx", 2, fds, 2) == 2, "both are sent");
    if (geteuid() != 0)
        MUST(chmod("closed", 0)); /* without root we are the others ourselves */
    pid_t child = MUST(fork());
    if (child == 0) {
        holder(sock[1]);
        _exit(0);
    }
    int status;
    MUST(TEMP_FAILURE_RETRY(waitpid(child, &status, 0)));
    MUST(chmod("closed", 0700));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
