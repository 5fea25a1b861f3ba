/*
 * Who serves? A false broker would hand out files of its own making, and take what is written.
 *
 * SO_PEERCRED names who called listen(2): root, or root's service manager, for the system's broker; the user
 * for a broker of one's own. In a user namespace that does not map that uid, the kernel says 65534 instead,
 * whoever it is, and of files too. Then only the place of the socket can tell something: what is at the
 * default path, or was bound into this sandbox by itself, was put there by root or by who made the sandbox
 * (who can do with us what they want), provided that nobody else may write in a directory on the way.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/util.h"
#include "fob.h"

#define NAMELESS ((uid_t)65534) /* what a uid reads as that has no name in this user namespace */
#define LAST_UID ((uid_t)-2)

/*
 * Are there uids without a name here? The initial user namespace has all, to the last. Asked of the kernel
 * without /proc, which a sandbox need not have: giving a socket to a uid that has no name is EINVAL, before
 * it is asked whether we may (EPERM).
 */
static bool uids_are_missing(void)
{
    CLEANUP(fd_cleanup) int own = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return own < 0 || (fchown(own, LAST_UID, (gid_t)-1) < 0 && errno != EPERM);
}

/* The one uid more that the environment names, as it is seen from here. */
static bool uid_is_trusted(uid_t uid)
{
    const char *text = secure_getenv("FOB_SERVER");
    char *end;
    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    return *end == '\0' && errno == 0 && value == uid;
}

/* ---- the place of the socket ---- */

/* Can only root, we, or somebody nameless put names there? Where others write, sticky or not, anybody can. */
static bool directory_is_theirs(const struct stat *st)
{
    bool owner = st->st_uid == 0 || st->st_uid == geteuid() || st->st_uid == NAMELESS;
    return owner && S_ISDIR(st->st_mode) && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

/* Is what fd stands for the root of a mount? */
static bool is_mount(int fd)
{
    struct statx stx;
    return statx(fd, "", AT_EMPTY_PATH, 0, &stx) == 0 && stx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT &&
           stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

/* Steps from a directory to a name in it, through no symlink: who made that one would have to be judged too.
 * Takes dir. A descriptor, or -1. */
static int step(int dir, const char *path, size_t len)
{
    CLEANUP(fd_cleanup) int from = dir;
    char name[NAME_MAX + 1];
    struct stat st;
    if (len == 0 || len > NAME_MAX || (path[0] == '.' && (len == 1 || (len == 2 && path[1] == '.'))))
        return -1;
    if (fstat(from, &st) < 0 || !directory_is_theirs(&st))
        return -1;
    memcpy(name, path, len);
    name[len] = '\0';
    return openat(from, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

static bool path_vouches(const char *path)
{
    struct stat st;
    if (path[0] != '/')
        return false;
    CLEANUP(fd_cleanup) int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (const char *at = path; fd >= 0 && *at;) {
        size_t len = strcspn(++at, "/");
        fd = step(fd, at, len);
        at += len;
    }
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    return strcmp(path, FOB_DEFAULT_SOCKET) == 0 || is_mount(fd);
}

/* ---- all ---- */

int server_check(int sock, const char *path)
{
    struct ucred server;
    socklen_t size = sizeof server;
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &server, &size) < 0)
        return -errno;
    if (uid_is_trusted(server.uid))
        return 0;
    /* First: our own uid may read as the same 65534, without a name or by that one. */
    if (server.uid == NAMELESS && uids_are_missing())
        return path_vouches(path) ? 0 : -EREMOTE;
    return server.uid == 0 || server.uid == geteuid() ? 0 : -EPERM;
}
