/*
 * Where an asker is: whether its name means the same here, and whether the socket that has it is the asker's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../common/util.h"
#include "courier_parts.h"
#include "unix_diag.h"

int address_wear(const struct post *post, const struct courier_address *to)
{
    if (!post->privileged)
        return 0;
    return setresgid((gid_t)-1, to->asker.gid, (gid_t)-1) < 0 ||
                   setresuid((uid_t)-1, to->asker.uid, (uid_t)-1) < 0
               ? -errno
               : 0;
}

static bool is_same(const struct post *post, pid_t pid, const char *what, const struct stat *own)
{
    char path[32];
    struct stat st;
    snprintf(path, sizeof path, "%d/%s", (int)pid, what);
    return fstatat(post->proc, path, &st, 0) == 0 && st.st_dev == own->st_dev && st.st_ino == own->st_ino;
}

/* ---- abstract names ---- */

/*
 * The process may live here, and its socket in another network, where the name is another one: so the kernel
 * is asked who owns the one that sock is connected to. It is found by its inode's number, which may belong
 * to two by and by; of a name there is one alone: either this one, or sock's other end has closed, and
 * nothing arrives.
 */
static int check_owner(const struct post *post, const struct courier_address *to, int sock)
{
    struct unix_diag own = { 0 }, peer = { 0 };
    struct stat st;
    size_t len = to->len - offsetof(struct sockaddr_un, sun_path);
    if (post->diag < 0 || fstat(sock, &st) < 0)
        return -EREMOTE;
    int err = unix_diag_get(post->diag, (uint32_t)st.st_ino, NULL, &own);
    if (err == 0)
        err = unix_diag_get(post->diag, own.peer, NULL, &peer);
    if (err < 0)
        return err;
    return peer.type == SOCK_DGRAM && peer.uid == to->asker.uid && peer.name_len == len &&
                   memcmp(peer.name, to->name.sun_path, len) == 0
               ? 0
               : -EACCES;
}

int address_connect(struct post *post, const struct courier_address *to, int sock)
{
    if (!is_same(post, to->asker.pid, "ns/net", &post->net))
        return -EREMOTE;
    if (connect(sock, (const struct sockaddr *)&to->name, to->len) < 0)
        return -errno;
    return check_owner(post, to, sock);
}

/* ---- paths ---- */

/* The socket that the asker's path leads to, as O_PATH: one of the asker's own. Or a negative errno. */
static int open_socket(const struct post *post, const struct courier_address *to)
{
    char path[sizeof to->name.sun_path + 1];
    size_t len = to->len - offsetof(struct sockaddr_un, sun_path);
    struct stat st;
    memcpy(path, to->name.sun_path, len);
    path[len] = '\0';
    if (path[0] != '/' || !is_same(post, to->asker.pid, "ns/mnt", &post->mnt) ||
        !is_same(post, to->asker.pid, "root", &post->root))
        return -EREMOTE;
    CLEANUP(fd_cleanup) int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode) || st.st_uid != to->asker.uid)
        return -EACCES;
    return fd_take(&fd);
}

int address_find(const struct post *post, const struct courier_address *to, struct sockaddr_un *name,
                 socklen_t *len, int *target)
{
    *target = open_socket(post, to);
    if (*target < 0)
        return *target;
    *name = (struct sockaddr_un){ .sun_family = AF_UNIX };
    int n = snprintf(name->sun_path, sizeof name->sun_path, "/proc/self/fd/%d", *target);
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + 1);
    return 0;
}
