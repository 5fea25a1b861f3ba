#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/util.h"
#include "confine_steps.h"

/*
 * Of linux/landlock.h, which Debian 12 has as of Linux 6.1. A bit that the running kernel does not know must
 * not be asked for: the ABI version says which it knows.
 */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

enum {
    CREATE_RULESET_VERSION = 1 << 0,
    RULE_PATH_BENEATH = 1,

    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_MAKE_REG = 1 << 8,
    FS_TRUNCATE = 1 << 14, /* ABI 3 */

    FS_ALL_1 = (1 << 13) - 1,
    FS_ALL_2 = (1 << 14) - 1, /* REFER */
    FS_ALL_3 = (1 << 15) - 1, /* TRUNCATE */
    FS_ALL_5 = (1 << 16) - 1, /* IOCTL_DEV */
    NET_ALL_4 = 3,            /* bind and connect of TCP */
    SCOPE_ALL_6 = 3,          /* abstract sockets, signals */
};

struct ruleset_attr {
    uint64_t fs, net, scoped;
};
struct path_beneath_attr {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

static uint64_t handled_fs(unsigned abi)
{
    return abi >= 5 ? FS_ALL_5 : abi >= 3 ? FS_ALL_3 : abi >= 2 ? FS_ALL_2 : FS_ALL_1;
}

static int ruleset_new(unsigned abi)
{
    struct ruleset_attr attr = { handled_fs(abi), abi >= 4 ? NET_ALL_4 : 0, abi >= 6 ? SCOPE_ALL_6 : 0 };
    size_t size = abi >= 6   ? sizeof attr
                  : abi >= 4 ? offsetof(struct ruleset_attr, scoped)
                             : offsetof(struct ruleset_attr, net);
    long fd = syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    return fd < 0 ? -errno : (int)fd;
}

static uint64_t access_of(unsigned rights, unsigned abi)
{
    uint64_t access = 0;
    if (rights & RIGHT_READ)
        access |= FS_READ_FILE;
    if (rights & RIGHT_LIST)
        access |= FS_READ_DIR;
    if (rights & (RIGHT_WRITE | RIGHT_APPEND | RIGHT_CREATE))
        access |= FS_WRITE_FILE;
    if (rights & RIGHT_CREATE)
        access |= FS_MAKE_REG | FS_READ_FILE * !!(rights & RIGHT_READ);
    if (rights & RIGHT_WRITE && abi >= 3)
        access |= FS_TRUNCATE; /* nobody who may only append gets it: the right travels with the descriptor */
    return access;
}

/* A rule sticks to the inode, so one of the descriptors of a root stands for all. */
static int add_root(int ruleset, const struct mounts_root *root, unsigned abi)
{
    int fd = root->read_only >= 0 ? root->read_only : root->plain;
    struct path_beneath_attr attr = { access_of(root->rights, abi), fd };
    if (attr.allowed == 0)
        return 0; /* stat alone: O_PATH is not governed by Landlock */
    return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &attr, 0) < 0 ? -errno : 0;
}

int confine_landlock(const struct mounts *mounts, unsigned *abi)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    *abi = version > 0 ? (unsigned)version : 0;
    if (version <= 0)
        return version < 0 ? -errno : -EOPNOTSUPP;
    CLEANUP(fd_cleanup) int ruleset = ruleset_new(*abi);
    if (ruleset < 0)
        return ruleset;
    for (size_t i = 0; i < mounts->n_roots; i++) {
        int err = add_root(ruleset, &mounts->roots[i], *abi);
        if (err < 0)
            return err;
    }
    return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
}
