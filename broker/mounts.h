/*
 * The mounts that clients' files are opened through: detached, sealed clones (open_tree(2), mount_setattr(2))
 * of the policy's roots. Sealed: nosuid, nodev, noexec, nosymfollow, private; and read-only for what does not
 * write. A descriptor from such a clone cannot be reopened for writing, executed with privilege, linked out,
 * and `..` at its top leads nowhere.
 */
#ifndef FOB_BROKER_MOUNTS_H
#define FOB_BROKER_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "../policy/policy.h"

struct mounts_root {
    char *path; /* real path of the directory, clean */
    size_t path_len;
    unsigned rights; /* of the policy beneath it */
    bool unsealed;   /* some rule beneath it has seal=no */
    int read_only;   /* sealed, read-only clone, or -1 */
    int read_write;  /* sealed clone that can be written, or -1 (no rule writes) */
    int plain; /* O_PATH descriptor of the ordinary directory: for seal=no, and when sealing is impossible; or
                  -1 */
};

struct mounts_device {
    dev_t dev;
    bool pseudo;
    bool may_block;
}; /* of a mounted file system: /proc/self/mountinfo */

struct mounts {
    struct mounts_root *roots; /* sorted by path, none beneath another */
    size_t n_roots;
    int slash;   /* O_PATH "/" of the broker's mount namespace: symlinks are resolved from here */
    bool sealed; /* false: clones could not be made (no privilege); `why` says it */
    int error;   /* the negative errno of that */
    struct mounts_device *devices;
    size_t n_devices; /* sorted by dev */
    char **blocking;  /* mount points of file systems that may block */
    size_t n_blocking;
};

/*
 * Makes the clones for the policy's roots (a root that does not exist is served from its nearest existing
 * parent). With CAP_SYS_ADMIN in this process; without, by a child in a user namespace of its own
 * (user_namespaces(7)) where the kernel allows that; else unsealed. 0 or a negative errno.
 */
int mounts_open(struct mounts *mounts, const struct policy *policy);
void mounts_close(struct mounts *mounts);
/* A sealed clone of a directory and all that is mounted beneath it: its descriptor or a negative errno. Needs
 * CAP_SYS_ADMIN, and dir to be of this process's mount namespace (before Linux 6.15 a clone cannot be cloned
 * again). */
int mounts_clone(int dir, bool read_only);
/* Fills mounts->devices. */
int mounts_read_devices(struct mounts *mounts);
/* Does path lie on a file system that may block (FUSE, network, autofs)? By the mount table: nothing is
 * asked. */
bool mounts_may_block(const struct mounts *mounts, const char *path, size_t path_len);
/* Is dev a file system of the mount table, and one that waits for nobody? Nothing is asked. */
bool mounts_is_local(const struct mounts *mounts, dev_t dev);
/* The root that path lies beneath (or is), or NULL. */
const struct mounts_root *mounts_find(const struct mounts *mounts, const char *path, size_t path_len);
/* Is the file system on dev pseudo (procfs, sysfs, ...) / one that may block (FUSE, network, autofs)? fd (any
 * kind) answers for devices that mountinfo does not list (fstatfs). */
struct mounts_device mounts_device(const struct mounts *mounts, dev_t dev, int fd);

#endif
