#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/path.h"
#include "../common/util.h"
#include "userns.h"

enum { ROOTS_MAX = 64 };
#define WRITING (RIGHT_WRITE | RIGHT_APPEND | RIGHT_CREATE)

/* ---- roots ---- */

static int open_directory(const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

/* path, or the nearest directory above that exists: path is cut to it. A symlink on the way: no real path
 * leads through there. */
static int open_nearest(char *path)
{
    for (;;) {
        int fd = open_directory(path);
        if (fd != -ENOENT && fd != -ENOTDIR)
            return fd;
        char *slash = strrchr(path, '/');
        if (path[1] == '\0')
            return fd;
        slash[slash == path] = '\0';
    }
}

/* Two roots may have been cut to the same directory, or one to a directory above another. */
static bool merge_with_last(struct mounts *mounts, const struct policy_root *root, bool unsealed)
{
    size_t len = strlen(root->path);
    for (size_t i = 0; i < mounts->n_roots; i++) {
        struct mounts_root *over = &mounts->roots[i];
        if (!path_is_beneath(root->path, len, over->path, over->path_len))
            continue;
        over->rights |= root->rights;
        over->unsealed |= unsealed;
        return true;
    }
    return false;
}

static void drop_beneath(struct mounts *mounts, struct mounts_root *root)
{
    size_t kept = 0;
    for (size_t i = 0; i < mounts->n_roots; i++) {
        struct mounts_root *under = &mounts->roots[i];
        if (path_is_beneath(under->path, under->path_len, root->path, root->path_len)) {
            root->rights |= under->rights;
            root->unsealed |= under->unsealed;
            fd_close(under->plain);
            free(under->path);
        } else {
            mounts->roots[kept++] = *under;
        }
    }
    mounts->n_roots = kept;
}

static void say_skipped(const char *path, int err)
{
    log_info("%s: %s: rules beneath it serve nothing until fobd is started anew",
             path ? path : "a policy root",
             err == -ELOOP ? "runs through a symlink, and the policy speaks of real paths" : strerror(-err));
}

/* A look-up there might hang, and nobody may: the mount point itself is as far as we go. */
static void stop_at_blocking(const struct mounts *mounts, char *path)
{
    for (size_t i = 0; i < mounts->n_blocking; i++) {
        size_t len = strlen(mounts->blocking[i]);
        if (path_is_beneath(path, strlen(path), mounts->blocking[i], len))
            path[len] = '\0';
    }
}

static int add_root(struct mounts *mounts, struct policy_root *from)
{
    stop_at_blocking(mounts, from->path);
    const bool asked_for_all = from->path[1] == '\0';
    char *wanted = strdup(from->path);
    CLEANUP(fd_cleanup) int fd = wanted ? open_nearest(from->path) : -ENOMEM;
    /* Cut down to "/", a missing directory would open the whole system to the worker. */
    if (fd >= 0 && !asked_for_all && from->path[1] == '\0')
        fd = (fd_close(fd), -ENOENT);
    if (fd < 0)
        say_skipped(wanted, fd);
    free(wanted);
    if (fd < 0)
        return fd == -ENOMEM ? fd : 0;
    if (merge_with_last(mounts, from, from->unsealed))
        return 0;
    struct mounts_root root = {
        .path = strdup(from->path),
        .path_len = strlen(from->path),
        .rights = from->rights,
        .unsealed = from->unsealed,
        .read_only = -1,
        .read_write = -1,
        .plain = fd_take(&fd),
    };
    if (!root.path) {
        fd_close(root.plain);
        return -ENOMEM;
    }
    drop_beneath(mounts, &root);
    mounts->roots[mounts->n_roots++] = root;
    return 0;
}

static int compare_roots(const void *a, const void *b)
{
    return strcmp(((const struct mounts_root *)a)->path, ((const struct mounts_root *)b)->path);
}

static int open_roots(struct mounts *mounts, const struct policy *policy)
{
    struct policy_root *roots;
    size_t n;
    int err = policy_get_roots(policy, ROOTS_MAX, &roots, &n);
    if (err < 0)
        return err;
    mounts->roots = mem_zalloc(n + 1, sizeof *mounts->roots);
    err = mounts->roots ? 0 : -ENOMEM;
    for (size_t i = 0; err == 0 && i < n; i++)
        err = add_root(mounts, &roots[i]);
    policy_roots_free(roots, n);
    if (err == 0 && mounts->n_roots)
        qsort(mounts->roots, mounts->n_roots, sizeof *mounts->roots, compare_roots);
    return err;
}

/* ---- clones ---- */

int mounts_clone(int dir, bool read_only)
{
    long tree =
        syscall(SYS_open_tree, dir, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (tree < 0)
        return -errno;
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW |
                    (read_only ? MOUNT_ATTR_RDONLY : 0),
        .propagation = MS_PRIVATE, /* or mounts made later would appear in here, unsealed */
    };
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) < 0) {
        int err = -errno;
        fd_close((int)tree);
        return err;
    }
    return (int)tree;
}

static int clone_root(struct mounts_root *root, int dir)
{
    int fd = mounts_clone(dir, true);
    if (fd < 0)
        return fd;
    root->read_only = fd;
    if (!(root->rights & WRITING))
        return 0;
    fd = mounts_clone(dir, false);
    if (fd < 0)
        return fd;
    root->read_write = fd;
    return 0;
}

static int clone_here(struct mounts *mounts)
{
    for (size_t i = 0; i < mounts->n_roots; i++) {
        int err = clone_root(&mounts->roots[i], mounts->roots[i].plain);
        if (err < 0)
            return err;
    }
    return 0;
}

/* The child: in a user namespace of its own it may clone mounts. They are of its mount namespace, so roots
 * are opened anew, by name. */
static int clone_and_send(struct mounts *mounts, int sock)
{
    int fds[2 * ROOTS_MAX], err = userns_enter();
    size_t n = 0;
    for (size_t i = 0; err == 0 && i < mounts->n_roots; i++) {
        CLEANUP(fd_cleanup) int dir = open_directory(mounts->roots[i].path);
        err = dir < 0 ? dir : clone_root(&mounts->roots[i], dir);
        fds[n++] = mounts->roots[i].read_only;
        if (mounts->roots[i].read_write >= 0)
            fds[n++] = mounts->roots[i].read_write;
    }
    return msg_send(sock, &err, sizeof err, fds, err == 0 ? n : 0, NULL, 0);
}

static int receive_clones(struct mounts *mounts, int sock)
{
    static struct msg_in in;
    int err = -EPROTO;
    int got = msg_recv(sock, &err, sizeof err, 0, &in);
    if (got <= 0 || err < 0)
        return got < 0 ? got : err < 0 ? err : -ECHILD;
    size_t n = 0;
    for (size_t i = 0; i < mounts->n_roots; i++) {
        struct mounts_root *root = &mounts->roots[i];
        root->read_only = n < in.n_fds ? in.fds[n++] : -1;
        if (root->rights & WRITING)
            root->read_write = n < in.n_fds ? in.fds[n++] : -1;
    }
    return n == in.n_fds ? 0 : -EPROTO;
}

static int clone_in_child(struct mounts *mounts)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        _exit(clone_and_send(mounts, pair[1]) < 0);
    fd_close(pair[1]);
    int err = pid < 0 ? -errno : receive_clones(mounts, pair[0]);
    fd_close(pair[0]);
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    return err;
}

static void close_clones(struct mounts *mounts)
{
    for (size_t i = 0; i < mounts->n_roots; i++) {
        mounts->roots[i].read_only = fd_close(mounts->roots[i].read_only);
        mounts->roots[i].read_write = fd_close(mounts->roots[i].read_write);
    }
}

/* The ordinary directory is kept where a rule has seal=no, or where there is nothing better. */
static void close_plain(struct mounts *mounts)
{
    for (size_t i = 0; i < mounts->n_roots; i++)
        if (mounts->sealed && !mounts->roots[i].unsealed)
            mounts->roots[i].plain = fd_close(mounts->roots[i].plain);
}

static void seal(struct mounts *mounts)
{
    mounts->error = mounts->n_roots ? clone_here(mounts) : 0;
    if (mounts->error == -EPERM && geteuid() != 0) {
        close_clones(mounts);
        mounts->error = clone_in_child(mounts);
    }
    mounts->sealed = mounts->error == 0;
    if (!mounts->sealed)
        close_clones(mounts);
    close_plain(mounts);
}

int mounts_open(struct mounts *mounts, const struct policy *policy)
{
    *mounts = (struct mounts){ .slash = open_directory("/") };
    int err = mounts->slash < 0 ? mounts->slash : mounts_read_devices(mounts);
    if (err == 0)
        err = open_roots(mounts, policy);
    if (err < 0) {
        mounts_close(mounts);
        return err;
    }
    seal(mounts);
    return 0;
}

void mounts_close(struct mounts *mounts)
{
    close_clones(mounts);
    for (size_t i = 0; i < mounts->n_roots; i++) {
        fd_close(mounts->roots[i].plain);
        free(mounts->roots[i].path);
    }
    free(mounts->roots);
    free(mounts->devices);
    for (size_t i = 0; i < mounts->n_blocking; i++)
        free(mounts->blocking[i]);
    free(mounts->blocking);
    fd_close(mounts->slash);
    *mounts = (struct mounts){ .slash = -1 };
}

const struct mounts_root *mounts_find(const struct mounts *mounts, const char *path, size_t path_len)
{
    /* At most ROOTS_MAX of them, none beneath another. */
    for (size_t i = 0; i < mounts->n_roots; i++)
        if (path_is_beneath(path, path_len, mounts->roots[i].path, mounts->roots[i].path_len))
            return &mounts->roots[i];
    return NULL;
}
