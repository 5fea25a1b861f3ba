#include "sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat.h"
#include "util.h"

/* ---- addresses ---- */

int sock_address(struct sockaddr_un *addr, const char *path)
{
    size_t len = strlen(path);
    bool abstract = path[0] == '@';
    if (len == 0 || (abstract && len == 1))
        return -EINVAL;
    /* A pathname keeps its NUL, though Linux would do without; of an abstract name it would be a part. */
    if (len + !abstract > sizeof addr->sun_path)
        return -ENAMETOOLONG;
    *addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
    memcpy(addr->sun_path, path, len);
    if (abstract)
        addr->sun_path[0] = '\0';
    return (int)(offsetof(struct sockaddr_un, sun_path) + len + !abstract);
}

static int sock_new(int type)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static int connect_to(int fd, const char *path)
{
    struct sockaddr_un addr;
    int len = sock_address(&addr, path);
    if (len < 0)
        return len;
    int status;
    do
        status = connect(fd, (const struct sockaddr *)&addr, (socklen_t)len);
    while (status < 0 && errno == EINTR); /* AF_UNIX: nothing goes on behind the back of an interrupted one */
    return status < 0 ? -errno : 0;
}

int sock_connect(const char *path, int type)
{
    CLEANUP(fd_cleanup) int fd = sock_new(type);
    if (fd < 0)
        return fd;
    int err = connect_to(fd, path);
    return err < 0 ? err : fd_take(&fd);
}

int sock_set_receive_options(int sock)
{
    const int on = 1, off = 0;
    if (setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
        return -errno;
    /* Before Linux 6.16 there is no such option: whoever receives closes what came all the same. */
    if (setsockopt(sock, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off) < 0 && errno != ENOPROTOOPT)
        return -errno;
    return 0;
}

/* ---- the place of a name ---- */

static bool is_trusted_owner(uid_t uid)
{
    return uid == 0 || uid == geteuid();
}

/* Splits path in directory and name. Returns the directory, opened. */
static int directory_open(const char *path, const char **base)
{
    struct sock_name parent = { .lock_fd = -1 };
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL ? (size_t)(slash - path) : 0;
    if (len >= sizeof parent.path)
        return -ENAMETOOLONG;
    *base = slash != NULL ? slash + 1 : path;
    if (**base == '\0')
        return -EINVAL;
    memcpy(parent.path, path, len);
    const char *name = slash == NULL ? "." : len == 0 ? "/" : parent.path;
    int fd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Could anyone but root and us rename or remove what we make there? */
static int directory_check(int dir)
{
    struct stat st;
    if (fstat(dir, &st) < 0)
        return -errno;
    bool others_write = st.st_mode & (S_IWGRP | S_IWOTH);
    return is_trusted_owner(st.st_uid) && (!others_write || st.st_mode & S_ISVTX) ? 0 : -EPERM;
}

/* ---- the lock ---- */

enum { LOCK_NAME = sizeof(((struct sock_name *)0)->path) + sizeof ".lock" };

static int lock_name(char out[LOCK_NAME], const char *base)
{
    int len = snprintf(out, LOCK_NAME, "%s.lock", base);
    return len > 0 && len < LOCK_NAME ? 0 : -ENAMETOOLONG;
}

static int lock_open(int dir, const char *name)
{
    /* O_NONBLOCK: should it be a FIFO, nothing may hang. */
    CLEANUP(fd_cleanup)
    int fd = openat(dir, name, O_CREAT | O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == ELOOP || errno == EISDIR ? -EEXIST : -errno;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EEXIST;
    /* In a sticky directory anyone could have made it, to hold the lock for ever. */
    return is_trusted_owner(st.st_uid) ? fd_take(&fd) : -EPERM;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Has the locked file still its name? Whoever held the lock before has perhaps removed it. */
static bool lock_is_current(int fd, int dir, const char *name)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && fstatat(dir, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           is_same_file(&held, &named);
}

static int lock_take(int dir, const char *base)
{
    enum { ROUNDS = 100 }; /* each lost one means that another broker came and went */
    char name[LOCK_NAME];
    int err = lock_name(name, base);
    for (int i = 0; err == 0 && i < ROUNDS; i++) {
        CLEANUP(fd_cleanup) int fd = lock_open(dir, name);
        if (fd < 0)
            return fd;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
            return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
        if (lock_is_current(fd, dir, name))
            return fd_take(&fd);
    }
    return err < 0 ? err : -EADDRINUSE;
}

/* ---- what stands there already ---- */

/*
 * Is some process behind the socket at path? -EADDRINUSE if so, 0 if not. Asked with a datagram socket: to
 * every other type the kernel answers EPROTOTYPE once it has found a living socket, also one that does not
 * listen yet, and no connection comes of it that a server would have to accept.
 */
static int probe(const char *path)
{
    CLEANUP(fd_cleanup) int fd = sock_new(SOCK_DGRAM | SOCK_NONBLOCK);
    if (fd < 0)
        return fd;
    int err = connect_to(fd, path);
    if (err == -ECONNREFUSED || err == -ENOENT)
        return 0;
    /* EPERM: a datagram socket that is connected elsewhere. EAGAIN: its queue is full. Both live. */
    return err == 0 || err == -EPROTOTYPE || err == -EPERM || err == -EAGAIN ? -EADDRINUSE : err;
}

static int stale_remove(int dir, const char *base, const char *path)
{
    struct stat st;
    if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    if (!is_trusted_owner(st.st_uid))
        return -EPERM;
    int err = probe(path);
    if (err < 0)
        return err;
    return unlinkat(dir, base, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* ---- listen ---- */

static int bind_to(int fd, const char *path)
{
    struct sockaddr_un addr;
    int len = sock_address(&addr, path);
    if (len < 0)
        return len;
    return bind(fd, (const struct sockaddr *)&addr, (socklen_t)len) < 0 ? -errno : 0;
}

static int sock_start(int fd, const struct sock_listen_options *options)
{
    if (options->type == SOCK_DGRAM)
        return 0; /* receives from bind(2) on */
    return listen(fd, options->backlog) < 0 ? -errno : 0;
}

/* By name: only root and we can change the directory's entries (directory_check()). */
static int name_settle(int dir, const char *base, const struct sock_listen_options *options,
                       struct sock_name *name)
{
    struct stat st;
    if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    name->dev = st.st_dev;
    name->ino = st.st_ino;
    if (options->gid != (gid_t)-1 && fchownat(dir, base, (uid_t)-1, options->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return fchmodat(dir, base, options->mode, 0) < 0 ? -errno : 0;
}

/* With the lock held. name->path must be set before, so that what fails here can be undone by its name. */
static int listen_at(int fd, int dir, const char *base, const struct sock_listen_options *options,
                     struct sock_name *name)
{
    int err = stale_remove(dir, base, name->path);
    if (err < 0)
        return err;
    /* bind(2) gives the file the mode of the socket's inode, less the umask: 0 until all else is right. */
    if (fchmod(fd, 0) < 0)
        return -errno;
    err = bind_to(fd, name->path);
    if (err < 0)
        return err;
    err = name_settle(dir, base, options, name);
    return err < 0 ? err : sock_start(fd, options);
}

static int listen_on_path(int fd, const char *path, const struct sock_listen_options *options,
                          struct sock_name *name)
{
    const char *base;
    CLEANUP(fd_cleanup) int dir = directory_open(path, &base);
    if (dir < 0)
        return dir;
    int err = directory_check(dir);
    if (err < 0)
        return err;
    int lock = lock_take(dir, base);
    if (lock < 0)
        return lock;
    name->lock_fd = lock;
    memcpy(name->path, path, strlen(path) + 1); /* fits: sock_address() took it */
    err = listen_at(fd, dir, base, options, name);
    if (err < 0)
        sock_unlisten(name);
    return err;
}

static int listen_on_abstract(int fd, const char *path, const struct sock_listen_options *options)
{
    int err = bind_to(fd, path);
    return err < 0 ? err : sock_start(fd, options);
}

int sock_listen(const char *path, const struct sock_listen_options *options, struct sock_name *name)
{
    struct sockaddr_un addr;
    *name = (struct sock_name){ .lock_fd = -1 };
    int err = sock_address(&addr, path);
    if (err < 0)
        return err;
    CLEANUP(fd_cleanup) int fd = sock_new(options->type);
    if (fd < 0)
        return fd;
    err = sock_set_receive_options(fd);
    if (err < 0)
        return err;
    err = path[0] == '@' ? listen_on_abstract(fd, path, options) : listen_on_path(fd, path, options, name);
    return err < 0 ? err : fd_take(&fd);
}

static bool name_is_ours(const struct sock_name *name)
{
    struct stat st;
    return name->ino != 0 && lstat(name->path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_dev == name->dev &&
           st.st_ino == name->ino;
}

void sock_unlisten(struct sock_name *name)
{
    char lock[LOCK_NAME];
    if (name->lock_fd < 0)
        return;
    if (name_is_ours(name))
        (void)unlink(name->path);
    /* While it is held: whoever opened it meanwhile finds it without a name and begins again. */
    if (lock_name(lock, name->path) == 0)
        (void)unlink(lock);
    *name = (struct sock_name){ .lock_fd = fd_close(name->lock_fd) };
}
