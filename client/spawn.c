#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/sock.h"
#include "../common/util.h"

/* In the forked process, of which threads may have been left behind: nothing but system calls. */
_Noreturn static void child(const char *path, int socket, int report)
{
    char *const argv[] = { (char *)(uintptr_t)path, NULL };
    int error = 0;
    pid_t pid = fork();
    if (pid > 0)
        _exit(0); /* so that nobody here has to wait for the broker's end */
    if (pid == 0 && dup2(socket, STDIN_FILENO) == STDIN_FILENO &&
        (socket != STDIN_FILENO || fcntl(socket, F_SETFD, 0) == 0))
        execv(path, argv);
    error = errno;
    ssize_t written = write(report, &error, sizeof error);
    (void)written;
    _exit(1);
}

/* 0, or why the program could not be executed. */
static int await_start(pid_t pid, int report)
{
    int error = 0;
    ssize_t n;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ; /* ECHILD: where nobody wants to know of children */
    do
        n = read(report, &error, sizeof error);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof error ? -error : n < 0 ? -errno : 0;
}

int spawn_broker(const char *path)
{
    int pair[2], report[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    CLEANUP(fd_cleanup) int own = pair[0];
    CLEANUP(fd_cleanup) int its = pair[1];
    int err = sock_set_receive_options(its); /* before anything is sent */
    if (err == 0 && pipe2(report, O_CLOEXEC) < 0)
        err = -errno;
    if (err < 0)
        return err;
    pid_t pid = fork();
    if (pid == 0)
        child(path, its, report[1]);
    err = pid < 0 ? -errno : 0;
    fd_close(report[1]);
    if (err == 0)
        err = await_start(pid, report[0]);
    fd_close(report[0]);
    return err < 0 ? err : fd_take(&own);
}
