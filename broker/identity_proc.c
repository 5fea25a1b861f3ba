/*
 * Executable, cgroup and unit of a process, from /proc. Nothing here may wait: a client chooses what it runs
 * and from where, also from its own FUSE that never answers, and the next client must not wait for that.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../common/path.h"
#include "../common/util.h"
#include "identity.h"

enum {
    INFO_PID = 1 << 0,   /* PIDFD_INFO_PID */
    CACHED_ROUNDS = 16,  /* a walk without locks fails when something is mounted or renamed meanwhile */
    CGROUP_TEXT = 65536, /* a dozen v1 hierarchies with a path each, and more */
};

static int open_at(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = resolve };
    long fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

/* The whole of a small file of /proc. Its length, or a negative errno; -EFBIG: longer than size. */
static ssize_t read_text(int proc_fd, const char *path, char *out, size_t size)
{
    CLEANUP(fd_cleanup) int fd = open_at(proc_fd, path, O_RDONLY, 0);
    size_t len = 0;
    if (fd < 0)
        return fd;
    for (;;) {
        ssize_t got = read(fd, out + len, size - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        len += (size_t)got;
        if (got == 0 || len == size)
            return len == size ? -EFBIG : (ssize_t)len;
    }
}

/* ---- which process ---- */

/* Before Linux 6.13: the line "Pid:" of fdinfo, which only a pidfd has; -1 when the process is gone, 0 when
 * it is of a namespace that is not ours. */
static int pid_by_fdinfo(int proc_fd, int pidfd, pid_t *pid)
{
    char path[40], text[1024];
    snprintf(path, sizeof path, "self/fdinfo/%d", pidfd);
    ssize_t len = read_text(proc_fd, path, text, sizeof text - 1);
    if (len < 0)
        return (int)len;
    text[len] = '\0';
    const char *line = strstr(text, "\nPid:\t");
    if (!line || sscanf(line, " Pid: %d", pid) != 1)
        return -EBADF;
    return *pid > 0 ? 0 : -ESRCH;
}

/* The pid of a pidfd: of who connected, and not of whoever has that number now. */
static int pid_by_pidfd(int proc_fd, int pidfd, pid_t *pid)
{
    struct identity_pidfd_info info = { .mask = INFO_PID };
    if (ioctl(pidfd, IDENTITY_PIDFD_GET_INFO, &info) == 0) {
        *pid = (pid_t)info.pid;
        return info.mask & INFO_PID && info.pid > 0 && info.pid <= INT_MAX ? 0 : -ESRCH;
    }
    if (errno != ENOTTY && errno != EINVAL) /* -EINVAL: Linux 6.11 */
        return -errno;
    pid_t expected = *pid;
    int err = pid_by_fdinfo(proc_fd, pidfd, pid);
    return err == 0 && *pid != expected ? -ESRCH : err;
}

/* What was read of /proc/PID is true of the process of the pidfd only if that lives still: then nobody else
 * can have had its number meanwhile. Readable: it has exited. */
static int check_alive(int pidfd)
{
    struct pollfd polled = { .fd = pidfd, .events = POLLIN };
    int ready;
    while ((ready = poll(&polled, 1, 0)) < 0 && errno == EINTR)
        continue;
    return ready < 0 ? -errno : ready > 0 ? -ESRCH : 0;
}

/* ---- executable ---- */

struct file_id {
    dev_t dev;
    ino_t ino;
};

/* AT_STATX_DONT_SYNC: a FUSE or NFS server is not asked. */
static int identify(int fd, struct file_id *id)
{
    struct statx st;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &st) < 0)
        return -errno;
    if ((st.stx_mask & (STATX_TYPE | STATX_INO)) != (STATX_TYPE | STATX_INO) || !S_ISREG(st.stx_mode))
        return -EINVAL;
    *id = (struct file_id){ makedev(st.stx_dev_major, st.stx_dev_minor), (ino_t)st.stx_ino };
    return 0;
}

static int open_cached(int dir, const char *path)
{
    const uint64_t resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_CACHED;
    int fd = -EAGAIN;
    for (int i = 0; i < CACHED_ROUNDS && fd == -EAGAIN; i++)
        fd = open_at(dir, path, O_PATH, resolve);
    return fd;
}

/* Is the directory on a file system that was mounted when the policy was loaded, and that waits for nobody?
 */
static bool is_local(const struct mounts *mounts, int dir)
{
    struct statx st;
    return mounts && statx(dir, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) == 0 &&
           mounts_is_local(mounts, makedev(st.stx_dev_major, st.stx_dev_minor));
}

/* One name in a directory. What is mounted there is not entered by a walk that might wait, but that brings
 * into the cache what the other needs. */
static int step(const struct mounts *mounts, int dir, const char *name)
{
    int fd = open_cached(dir, name);
    if (fd != -EAGAIN || !is_local(mounts, dir))
        return fd;
    fd = open_at(dir, name, O_PATH, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
    return fd == -EXDEV ? open_cached(dir, name) : fd;
}

/* The cache may lack a directory's access list, which RESOLVE_CACHED does not read: where only root, whom no
 * list concerns, has ever walked. So name by name. */
static int walk(const struct mounts *mounts, const char *path)
{
    char name[NAME_MAX + 1];
    int dir = open_cached(AT_FDCWD, "/");
    while (dir >= 0 && *path == '/') {
        size_t len = strcspn(++path, "/");
        int next = -ENAMETOOLONG;
        if (len < sizeof name) {
            memcpy(name, path, len);
            name[len] = '\0';
            next = step(mounts, dir, name);
        }
        fd_close(dir);
        dir = next;
        path += len;
    }
    return dir;
}

/*
 * What the name means here, in the helper's own mount namespace. The name is the client's choice: by a mount
 * of its own it can lead anywhere. RESOLVE_CACHED never waits for a file system, and what runs is in the
 * cache under its name.
 */
static int identify_by_name(const struct mounts *mounts, const char *path, struct file_id *id)
{
    CLEANUP(fd_cleanup) int fd = open_cached(AT_FDCWD, path);
    if (fd == -EAGAIN)
        fd = walk(mounts, path);
    return fd < 0 ? fd : identify(fd, id);
}

/*
 * The text of the link proves nothing: another mount namespace gives any file any name, a deleted one is
 * called "x (deleted)", and so may another be. The inode that runs must be the one that has this name here.
 * The name comes first: who hides a file of a dead NFS server behind it is found out by a walk that does not
 * wait.
 */
static int read_exe(int proc_fd, const struct mounts *mounts, pid_t pid, struct identity *out)
{
    char link[32];
    struct file_id named = { 0 }, runs = { 0 };
    snprintf(link, sizeof link, "%d/exe", (int)pid);
    ssize_t len = readlinkat(proc_fd, link, out->exe, sizeof out->exe);
    if (len < 0 || len == (ssize_t)sizeof out->exe)
        return len < 0 ? -errno : -ENAMETOOLONG;
    out->exe[len] = '\0';
    if (!path_is_clean(out->exe, (size_t)len))
        return -EINVAL;
    int err = identify_by_name(mounts, out->exe, &named);
    if (err < 0)
        return err;
    CLEANUP(fd_cleanup) int fd = open_at(proc_fd, link, O_PATH, 0);
    err = fd < 0 ? fd : identify(fd, &runs);
    if (err < 0)
        return err;
    if (named.dev != runs.dev || named.ino != runs.ino)
        return -ESTALE;
    out->exe_dev = runs.dev;
    out->exe_ino = runs.ino;
    return 0;
}

/* ---- cgroup ---- */

static bool ends_in(const char *text, size_t len, const char *end)
{
    size_t end_len = strlen(end);
    return len > end_len && memcmp(text + len - end_len, end, end_len) == 0;
}

static int take_path(const char *path, size_t len, char out[IDENTITY_PATH])
{
    if (len >= IDENTITY_PATH)
        return -ENAMETOOLONG;
    if (len >= 3 && memcmp(path, "/..", 3) == 0 && (len == 3 || path[3] == '/'))
        return -EXDEV;
    if (!path_is_clean(path, len) || ends_in(path, len, " (deleted)"))
        return -EBADMSG;
    memcpy(out, path, len);
    out[len] = '\0';
    return 0;
}

/* Exactly one line "0::PATH"; the others are hierarchies of v1. No name of a cgroup has a newline. */
int identity_cgroup_of(const char *text, size_t len, char out[IDENTITY_PATH])
{
    int found = -ENOENT;
    const char *end;
    for (const char *line = text; line < text + len; line = end + 1) {
        end = memchr(line, '\n', len - (size_t)(line - text));
        if (!end)
            return -EBADMSG;
        size_t line_len = (size_t)(end - line);
        if (line_len < 3 || memcmp(line, "0::", 3) != 0)
            continue;
        if (found != -ENOENT)
            return -EBADMSG;
        found = take_path(line + 3, line_len - 3, out);
    }
    return found;
}

static int read_cgroup(int proc_fd, pid_t pid, struct identity *out)
{
    static char text[CGROUP_TEXT];
    char path[32];
    snprintf(path, sizeof path, "%d/cgroup", (int)pid);
    ssize_t len = read_text(proc_fd, path, text, sizeof text);
    return len < 0 ? (int)len : identity_cgroup_of(text, (size_t)len, out->cgroup);
}

/* ---- unit ---- */

/* systemd.unit(5): the characters of a name, and the types that have cgroups. */
static bool is_name(const char *name, size_t len)
{
    static const char allowed[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-_.\\@";
    return len < IDENTITY_UNIT && strspn(name, allowed) >= len;
}

static bool is_unit(const char *name, size_t len)
{
    static const char *const types[] = { ".service", ".scope", ".socket", ".mount", ".timer" };
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (ends_in(name, len, types[i]))
            return is_name(name, len);
    return false;
}

static bool is_manager_of(uid_t uid, const char *name, size_t len)
{
    char manager[40];
    int n = snprintf(manager, sizeof manager, "user@%u.service", (unsigned)uid);
    return len == (size_t)n && memcmp(name, manager, len) == 0;
}

/*
 * The unit that the system's manager started, as sd_pid_get_unit(3) has it: the first that stands beneath
 * slices alone, or the last slice. What is beneath a unit was named by whoever runs in it: any user's
 * manager makes any "backup.service" that its user likes, so does a container. Only in the broker of a user
 * the names of that user's own manager count.
 */
int identity_unit_of(const char *cgroup, uid_t own, char out[IDENTITY_UNIT])
{
    const char *unit = NULL, *slice = NULL, *name = cgroup;
    size_t unit_len = 0, slice_len = 0, len;
    for (; *name == '/'; name += len) {
        len = strcspn(++name, "/");
        if (ends_in(name, len, ".slice") && is_name(name, len)) {
            slice = name;
            slice_len = len;
            continue;
        }
        if (!is_unit(name, len))
            break;
        unit = name;
        unit_len = len;
        if (!is_manager_of(own, name, len))
            break;
    }
    if (!unit) {
        unit = slice;
        unit_len = slice_len;
    }
    if (!unit)
        return -ENOENT;
    memcpy(out, unit, unit_len);
    out[unit_len] = '\0';
    return 0;
}

/* ---- all of it ---- */

int identity_read(int proc_fd, const struct mounts *mounts, int pidfd, pid_t pid, struct identity *out)
{
    *out = (struct identity){ 0 };
    int err = pid_by_pidfd(proc_fd, pidfd, &pid);
    if (err < 0)
        return err;
    out->has_exe = read_exe(proc_fd, mounts, pid, out) == 0;
    if (!out->has_exe)
        out->exe[0] = '\0'; /* a name alone is not to be taken for anything */
    out->has_cgroup = read_cgroup(proc_fd, pid, out) == 0;
    out->has_unit = out->has_cgroup && identity_unit_of(out->cgroup, geteuid(), out->unit) == 0;
    err = check_alive(pidfd);
    if (err < 0)
        *out = (struct identity){ 0 };
    return err;
}
