#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/path.h"
#include "../common/util.h"
#include "../common/wire.h"

int target_pin(int tree, const char *rel, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(O_PATH | O_CLOEXEC | O_NOFOLLOW | flags),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd = syscall(SYS_openat2, tree, rel, &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

unsigned verify_type(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return POLICY_TYPE_FILE;
    case S_IFDIR:
        return POLICY_TYPE_DIR;
    case S_IFIFO:
        return POLICY_TYPE_FIFO;
    case S_IFSOCK:
        return POLICY_TYPE_SOCKET;
    case S_IFCHR:
        return POLICY_TYPE_CHR;
    case S_IFBLK:
        return POLICY_TYPE_BLK;
    default:
        return 0;
    }
}

/*
 * The directory that holds the opened file, from a descriptor: it is pinned first and then must have this
 * very inode under the last component, so that nobody can show us a better directory by renaming.
 */
static int stat_parent(const struct target *target, const struct stat *file, struct stat *parent)
{
    char dir[PATH_TEXT_MAX + 1];
    const char *slash = strrchr(target->rel, '/');
    const char *name = slash ? slash + 1 : target->rel;
    size_t dir_len = slash ? (size_t)(slash - target->rel) : 1;
    memcpy(dir, slash ? target->rel : ".", dir_len);
    dir[dir_len] = '\0';

    CLEANUP(fd_cleanup) int fd = target_pin(target->tree, dir, O_DIRECTORY);
    if (fd < 0)
        return fd;
    struct stat same;
    *parent = (struct stat){ .st_mode = S_IWOTH };
    if (fstatat(fd, name, &same, AT_SYMLINK_NOFOLLOW) < 0 || fstat(fd, parent) < 0)
        return -errno;
    return same.st_dev == file->st_dev && same.st_ino == file->st_ino ? 0 : -ESTALE;
}

/* "Others" are all but root and, without privilege, the broker's own user. */
static bool others_can_write(const struct stat *dir)
{
    uid_t own = geteuid();
    return (dir->st_uid != 0 && dir->st_uid != own) || (dir->st_mode & (S_IWGRP | S_IWOTH));
}

static bool is_roots(int tree, const char *dir)
{
    CLEANUP(fd_cleanup) int fd = target_pin(tree, dir, O_DIRECTORY);
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && !others_can_write(&st);
}

bool verify_directories(const struct target *target)
{
    char dir[PATH_TEXT_MAX + 1];
    bool all = is_roots(target->tree, ".");
    const char *slash = strchr(target->rel, '/');
    for (; all && slash; slash = strchr(slash + 1, '/')) {
        size_t len = (size_t)(slash - target->rel);
        memcpy(dir, target->rel, len);
        dir[len] = '\0';
        all = is_roots(target->tree, dir);
    }
    return all;
}

/* A second name could be anybody's file, linked in by who can write the directory (fs.protected_hardlinks may
 * be off). */
static bool links_are_safe(const struct target *target, const struct stat *st)
{
    struct stat parent;
    if (st->st_nlink <= 1 || target->rule->links_any || !S_ISREG(st->st_mode))
        return true;
    return stat_parent(target, st, &parent) == 0 && !others_can_write(&parent);
}

/* A file that somebody planted in /tmp is not to be filled by who meant to create one there. */
static bool owner_is_expected(const struct target *target, const struct stat *st, uid_t caller)
{
    struct stat parent;
    if (st->st_uid == caller)
        return true;
    if (stat_parent(target, st, &parent) < 0)
        return false;
    if (!(parent.st_mode & S_ISVTX) || !(parent.st_mode & (S_IWGRP | S_IWOTH)))
        return true;
    return st->st_uid == parent.st_uid;
}

/*
 * Writing to a set-user-ID file is how a program is replaced; reading is harmless through a sealed clone,
 * which is nosuid and noexec, and execveat(2) with privilege through a plain descriptor.
 */
static bool privileged_file_is_safe(const struct target *target, const struct stat *st, uint32_t flags)
{
    bool set_id = (st->st_mode & S_ISUID) || (st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
    if (!S_ISREG(st->st_mode) || !set_id)
        return true;
    return target->sealed && !(flags & (WIRE_WRITE | WIRE_APPEND | WIRE_CREATE | WIRE_TRUNCATE));
}

/* The policy knows the pseudo file systems that were mounted when it was loaded; one that came since was not
 * named by any rule. */
static bool file_system_is_named(const struct generation *generation, const struct target *target, int fd,
                                 dev_t dev)
{
    if (!mounts_device(&generation->mounts, dev, fd).pseudo)
        return true;
    for (size_t i = 0; i < generation->n_pseudo; i++) {
        const char *point = generation->pseudo[i];
        if (path_is_beneath(target->path, target->len, point, strlen(point)))
            return true;
    }
    return false;
}

int verify_file(const struct generation *generation, const struct target *target, int fd,
                const struct stat *st, uint32_t flags, uid_t caller, const char **reason)
{
    *reason = "type";
    if (!(verify_type(st->st_mode) & target->rule->types))
        return EPERM;
    if (!privileged_file_is_safe(target, st, flags) ||
        !file_system_is_named(generation, target, fd, st->st_dev))
        return EPERM;
    *reason = "links";
    if (!links_are_safe(target, st))
        return EPERM;
    *reason = "sticky";
    if ((flags & WIRE_CREATE) && S_ISREG(st->st_mode) && !owner_is_expected(target, st, caller))
        return EACCES;
    return 0;
}
