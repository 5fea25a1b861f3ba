/* An append-only inode (chattr +a) does protect: O_APPEND cannot be taken off. */
#include "facts.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

static int append_only(int fd, bool on)
{
    int flags;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
        return -1;
    flags = on ? flags | FS_APPEND_FL : flags & ~FS_APPEND_FL;
    return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

struct tried {
    bool keeps_flag, keeps_length, opens_for_writing;
};

static struct tried try_all(int append)
{
    struct tried tried;
    int flags = MUST(fcntl(append, F_GETFL));
    tried.keeps_flag = fcntl(append, F_SETFL, flags & ~O_APPEND) < 0 && errno == EPERM;
    tried.keeps_length = ftruncate(append, 0) < 0 && errno == EPERM;
    int plain = open("log", O_WRONLY | O_CLOEXEC);
    tried.opens_for_writing = plain >= 0 || errno != EPERM;
    if (plain >= 0)
        close(plain);
    return tried;
}

int main(void)
{
    int sock[2];
    char byte;
    struct incoming in;
    scratch_enter();
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    int fd = MUST(open("log", O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    int append = MUST(open("log", O_WRONLY | O_APPEND | O_CLOEXEC));
    if (append_only(fd, true) < 0)
        skip(errno == EPERM ? "needs CAP_LINUX_IMMUTABLE" : "this file system has no append-only files");
    EXPECT(send_fds(sock[0], "x", 1, &append, 1) == 1, "a descriptor for appending is sent");
    bool received = receive(sock[1], &byte, 1, 0, &in) == 1 && in.n_fds == 1;
    struct tried tried = try_all(received ? in.fds[0] : append);
    MUST(append_only(fd, false)); /* before anything ends the program: the file could not be removed */
    EXPECT(received, "and received");
    EXPECT(tried.keeps_flag, "O_APPEND cannot be taken off: EPERM");
    EXPECT(tried.keeps_length, "the file cannot be truncated: EPERM");
    EXPECT(!tried.opens_for_writing, "nor opened without O_APPEND: EPERM");
    close_fds(&in);
    return 0;
}
