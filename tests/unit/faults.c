#include "faults.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../common/util.h"

static struct {
    bool begun, paused, lasting;
    unsigned target, counted;
    int round, error;
    char failed[64];
} faults;

void faults_begin(unsigned n, int round)
{
    faults.begun = true;
    faults.paused = faults.lasting = false;
    faults.target = n;
    faults.counted = 0;
    faults.round = round;
    faults.error = 0;
    faults.failed[0] = '\0';
}

void faults_begin_lasting(unsigned n, int round)
{
    faults_begin(n, round);
    faults.lasting = true;
}

void faults_pause(void)
{
    faults.paused = true;
}

void faults_resume(void)
{
    faults.paused = false;
}

unsigned faults_end(void)
{
    faults.begun = false;
    return faults.counted;
}

const char *faults_failed(void)
{
    return faults.failed[0] ? faults.failed : NULL;
}

int faults_error(void)
{
    return faults.error;
}

static void note(const char *name, int error)
{
    const char *text = error == FAULTS_SHORT    ? "cut short"
                       : error == FAULTS_CTRUNC ? "MSG_CTRUNC"
                                                : strerrorname_np(error);
    snprintf(faults.failed, sizeof faults.failed, "%s: %s", name, text ? text : "?");
    faults.error = error;
}

bool faults_fails(const char *name, const int *errors, size_t n)
{
    if (!faults.begun || faults.paused || (size_t)faults.round >= n)
        return false;
    int error = errors[faults.round];
    if (faults.lasting && error == EINTR)
        return false;
    faults.counted++;
    bool now = faults.counted == faults.target;
    if (!now && (!faults.lasting || faults.target == 0 || faults.counted < faults.target))
        return false;
    if (now)
        note(name, error);
    errno = error;
    return true;
}

/* Absent where a test does not wrap the call: the linker's name for the real one is weak. */
#define REAL(type, name, parameters)                            \
    extern type __real_##name parameters __attribute__((weak)); \
    type __wrap_##name parameters;

/* A call that only fails; what follows `arguments` are its errnos. */
#define WRAP(type, failure, name, parameters, arguments, ...)                    \
    REAL(type, name, parameters)                                                 \
    type __wrap_##name parameters                                                \
    {                                                                            \
        static const int errors[] = { __VA_ARGS__ };                             \
        _Static_assert(ARRAY_SIZE(errors) <= FAULTS_ROUNDS, "a round for each"); \
        if (faults_fails(#name, errors, ARRAY_SIZE(errors)))                     \
            return failure;                                                      \
        return __real_##name arguments;                                          \
    }

/* clang-format off */

/* ---- memory ---- */

WRAP(void *, NULL, malloc, (size_t size), (size), ENOMEM)
WRAP(void *, NULL, calloc, (size_t n, size_t size), (n, size), ENOMEM)
WRAP(void *, NULL, realloc, (void *old, size_t size), (old, size), ENOMEM)
WRAP(void *, NULL, reallocarray, (void *old, size_t n, size_t size), (old, n, size), ENOMEM)
WRAP(char *, NULL, strdup, (const char *text), (text), ENOMEM)
WRAP(char *, NULL, strndup, (const char *text, size_t n), (text, n), ENOMEM)
WRAP(void *, MAP_FAILED, mmap, (void *at, size_t len, int prot, int flags, int fd, off_t offset),
     (at, len, prot, flags, fd, offset), ENOMEM, EAGAIN)
WRAP(FILE *, NULL, open_memstream, (char **text, size_t *len), (text, len), ENOMEM)
WRAP(char *, NULL, realpath, (const char *path, char *out), (path, out), ENOMEM, EACCES)

/* ---- files ---- */

WRAP(int, -1, fstat, (int fd, struct stat *st), (fd, st), EIO, ENOMEM, ESTALE)
WRAP(int, -1, lstat, (const char *path, struct stat *st), (path, st), EACCES, ENOMEM, ENOENT)
WRAP(int, -1, stat, (const char *path, struct stat *st), (path, st), EACCES, ENOMEM, ENOENT)
WRAP(int, -1, fstatat, (int dir, const char *path, struct stat *st, int flags), (dir, path, st, flags),
     EACCES, ENOMEM, ENOENT, ELOOP, EIO, ENOTDIR)
WRAP(int, -1, fstatfs, (int fd, struct statfs *fs), (fd, fs), EIO, ENOMEM)
WRAP(ssize_t, -1, readlinkat, (int dir, const char *path, char *out, size_t size), (dir, path, out, size),
     ENOENT, ENOMEM, EACCES)
WRAP(int, -1, ftruncate, (int fd, off_t len), (fd, len), EIO, EINTR, EPERM, EACCES)
WRAP(ssize_t, -1, read, (int fd, void *out, size_t size), (fd, out, size), EINTR, EIO)
WRAP(ssize_t, -1, pread, (int fd, void *out, size_t size, off_t at), (fd, out, size, at), EIO)
WRAP(int, -1, __openat_2, (int dir, const char *path, int flags), (dir, path, flags), EMFILE, ENFILE, ENOMEM,
     EACCES, ENOENT, ELOOP)
WRAP(int, -1, scandirat, (int dir, const char *path, struct dirent ***list,
                          int (*filter)(const struct dirent *),
                          int (*compare)(const struct dirent **, const struct dirent **)),
     (dir, path, list, filter, compare), ENOMEM, EMFILE, EACCES)
WRAP(FILE *, NULL, fopen, (const char *path, const char *mode), (path, mode), EMFILE, ENOMEM)
WRAP(ssize_t, -1, __getdelim, (char **line, size_t *size, int end, FILE *in), (line, size, end, in), ENOMEM,
     EIO)
WRAP(ssize_t, -1, getline, (char **line, size_t *size, FILE *in), (line, size, in), ENOMEM, EIO)
WRAP(int, -1, poll, (struct pollfd *fds, nfds_t n, int wait), (fds, n, wait), EINTR, ENOMEM)
WRAP(int, -1, __poll_chk, (struct pollfd *fds, nfds_t n, int wait, size_t size), (fds, n, wait, size), EINTR,
     ENOMEM)
WRAP(int, -1, epoll_create1, (int flags), (flags), EMFILE, ENOMEM)

/* ---- sockets ---- */

WRAP(int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol), EMFILE, ENFILE, ENOMEM)
WRAP(int, -1, connect, (int fd, const struct sockaddr *to, socklen_t len), (fd, to, len), ECONNREFUSED,
     ENOENT, EACCES, EINTR, EAGAIN)
WRAP(int, -1, accept4, (int fd, struct sockaddr *from, socklen_t *len, int flags), (fd, from, len, flags),
     EMFILE, ENFILE, EINTR, ECONNABORTED, ENOMEM, EAGAIN, EPERM)
WRAP(int, -1, getsockopt, (int fd, int level, int name, void *value, socklen_t *len),
     (fd, level, name, value, len), ENOMEM, ENOBUFS, ERANGE, ENODATA)
WRAP(ssize_t, -1, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags), EINTR,
     EAGAIN, ETOOMANYREFS, EPIPE, ENOMEM, ENOBUFS, ECONNRESET, EBADF)

/* ---- identities ---- */

WRAP(int, -1, cap_set_proc, (cap_t caps), (caps), EPERM)

/* clang-format on */

/* ---- what does more than to fail ---- */

REAL(ssize_t, write, (int fd, const void *bytes, size_t len))
ssize_t __wrap_write(int fd, const void *bytes, size_t len)
{
    static const int errors[] = { ENOSPC, EINTR, FAULTS_SHORT, EIO, EAGAIN };
    if (!faults_fails("write", errors, ARRAY_SIZE(errors)))
        return __real_write(fd, bytes, len);
    return errno == FAULTS_SHORT ? __real_write(fd, bytes, len / 2) : -1;
}

/* The descriptors and credentials that do not fit are dropped by the kernel. */
REAL(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags))
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
    static const int errors[] = { EINTR, EAGAIN, ECONNRESET, ENOMEM, FAULTS_CTRUNC };
    bool fails = faults_fails("recvmsg", errors, ARRAY_SIZE(errors));
    if (fails && errno != FAULTS_CTRUNC)
        return -1;
    if (fails)
        message->msg_controllen = 0;
    return __real_recvmsg(fd, message, flags);
}

/* To take away needs no memory. */
REAL(int, epoll_ctl, (int fd, int op, int what, struct epoll_event *event))
int __wrap_epoll_ctl(int fd, int op, int what, struct epoll_event *event)
{
    static const int errors[] = { ENOMEM, ENOSPC };
    if (op != EPOLL_CTL_DEL && faults_fails("epoll_ctl", errors, ARRAY_SIZE(errors)))
        return -1;
    return __real_epoll_ctl(fd, op, what, event);
}

/* Closed it is whatever it says (close(2)). */
REAL(int, close, (int fd))
int __wrap_close(int fd)
{
    static const int errors[] = { EINTR, EIO };
    bool fails = faults_fails("close", errors, ARRAY_SIZE(errors));
    int error = errno, result = __real_close(fd);
    errno = fails ? error : errno;
    return fails ? -1 : result;
}

/* They tell nothing of a failure: the id stays. */
REAL(int, setfsuid, (uid_t uid))
int __wrap_setfsuid(uid_t uid)
{
    return __real_setfsuid(faults_fails("setfsuid", (const int[]){ EPERM }, 1) ? (uid_t)-1 : uid);
}
REAL(int, setfsgid, (gid_t gid))
int __wrap_setfsgid(gid_t gid)
{
    return __real_setfsgid(faults_fails("setfsgid", (const int[]){ EPERM }, 1) ? (gid_t)-1 : gid);
}

/* ---- variable arguments: one long or pointer, in a register of its own whatever its size ---- */

REAL(int, fcntl, (int fd, int command, ...))
int __wrap_fcntl(int fd, int command, ...)
{
    static const int duplicate[] = { EMFILE }, other[] = { ENOLCK, EPERM };
    bool makes = command == F_DUPFD || command == F_DUPFD_CLOEXEC;
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    if (makes ? faults_fails("fcntl", duplicate, 1) : faults_fails("fcntl", other, ARRAY_SIZE(other)))
        return -1;
    return __real_fcntl(fd, command, argument);
}

REAL(int, ioctl, (int fd, unsigned long request, ...))
int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (faults_fails("ioctl", (const int[]){ EINVAL, ENOMEM }, 2))
        return -1;
    return __real_ioctl(fd, request, argument);
}

REAL(int, openat, (int dir, const char *path, int flags, ...))
int __wrap_openat(int dir, const char *path, int flags, ...)
{
    static const int errors[] = { EMFILE, ENFILE, ENOMEM, EACCES, ENOENT, ELOOP };
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if (faults_fails("openat", errors, ARRAY_SIZE(errors)))
        return -1;
    return __real_openat(dir, path, flags, mode);
}

REAL(int, open, (const char *path, int flags, ...))
int __wrap_open(const char *path, int flags, ...)
{
    static const int errors[] = { EMFILE, ENFILE, ENOMEM, EACCES, ENOENT, EINTR };
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if (faults_fails("open", errors, ARRAY_SIZE(errors)))
        return -1;
    return __real_open(path, flags, mode);
}

REAL(int, asprintf, (char **out, const char *format, ...))
__attribute__((format(printf, 2, 3))) int __wrap_asprintf(char **out, const char *format, ...)
{
    va_list arguments;
    *out = NULL; /* what it is after a failure nobody knows */
    if (faults_fails("asprintf", (const int[]){ ENOMEM }, 1))
        return -1;
    va_start(arguments, format);
    int len = vasprintf(out, format, arguments);
    va_end(arguments);
    return len;
}

REAL(int, __asprintf_chk, (char **out, int flag, const char *format, ...))
__attribute__((format(printf, 3, 4))) int __wrap___asprintf_chk(char **out, int flag, const char *format, ...)
{
    (void)flag;
    va_list arguments;
    *out = NULL;
    if (faults_fails("asprintf", (const int[]){ ENOMEM }, 1))
        return -1;
    va_start(arguments, format);
    int len = vasprintf(out, format, arguments);
    va_end(arguments);
    return len;
}

static bool syscall_fails(long number)
{
    static const int
        opening[] = { EMFILE, ENOENT, ENFILE, ENOMEM, EACCES, ELOOP, EINTR, EAGAIN, EXDEV, EEXIST },
        mounting[] = { EPERM, ENOMEM, EMFILE, ENOSYS }, other[] = { ENOMEM, EPERM };
    switch (number) {
    case SYS_openat2:
        return faults_fails("openat2", opening, ARRAY_SIZE(opening));
    case SYS_open_tree:
    case SYS_mount_setattr:
        return faults_fails(number == SYS_open_tree ? "open_tree" : "mount_setattr", mounting,
                            ARRAY_SIZE(mounting));
    case SYS_setgroups:
        return faults_fails("setgroups", other, ARRAY_SIZE(other));
    default:
        return faults_fails("syscall", other, ARRAY_SIZE(other));
    }
}

REAL(long, syscall, (long number, ...))
/* It reads more than there is, as the real one does: not for AddressSanitizer. */
__attribute__((no_sanitize("address"))) long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (size_t i = 0; i < ARRAY_SIZE(a); i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    return syscall_fails(number) ? -1 : __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
