/*
 * Which mounted file systems are the kernel's own face, and which may block on somebody else, by their device
 * numbers.
 */
#include <errno.h>
#include <string.h>
#include <sys/statfs.h>

#include <linux/magic.h>

#include "../common/mountinfo.h"
#include "../common/path.h"
#include "../common/util.h"
#include "mounts.h"

/* ---- devices ---- */

struct devices {
    struct mounts *mounts;
    size_t cap, cap_blocking;
};

static int add_blocking(struct devices *d, const char *point)
{
    struct mounts *m = d->mounts;
    if (point[1] == '\0')
        return 0; /* the root itself: whoever hangs then, hangs with the whole system */
    int err = mem_grow(&m->blocking, m->n_blocking, &d->cap_blocking, sizeof *m->blocking);
    char *copy = err == 0 ? strdup(point) : NULL;
    if (!copy)
        return -ENOMEM;
    m->blocking[m->n_blocking++] = copy;
    return 0;
}

/* What is mounted over it does not matter: the longest way round is safe. */
bool mounts_may_block(const struct mounts *mounts, const char *path, size_t path_len)
{
    for (size_t i = 0; i < mounts->n_blocking; i++) {
        const char *point = mounts->blocking[i];
        if (path_is_beneath(path, path_len, point, strlen(point)))
            return true;
    }
    return false;
}

static int add_device(const struct mountinfo *mount, void *data)
{
    struct devices *d = data;
    int err = mem_grow(&d->mounts->devices, d->mounts->n_devices, &d->cap, sizeof *d->mounts->devices);
    if (err == 0)
        d->mounts->devices[d->mounts->n_devices++] =
            (struct mounts_device){ mount->dev, mountinfo_is_pseudo(mount->type),
                                    mountinfo_may_block(mount->type) };
    return err == 0 && mountinfo_may_block(mount->type) ? add_blocking(d, mount->point) : err;
}

static int compare_devices(const void *a, const void *b)
{
    dev_t x = ((const struct mounts_device *)a)->dev, y = ((const struct mounts_device *)b)->dev;
    return x < y ? -1 : x > y;
}

int mounts_read_devices(struct mounts *mounts)
{
    int err = mountinfo_each(add_device, &(struct devices){ .mounts = mounts });
    if (err == 0 && mounts->n_devices)
        qsort(mounts->devices, mounts->n_devices, sizeof *mounts->devices, compare_devices);
    return err;
}

/* btrfs gives every subvolume a device number of its own, which mountinfo does not list: the file system
 * itself is asked. */
static struct mounts_device ask(dev_t dev, int fd)
{
    static const uint32_t pseudo[] = {
        PROC_SUPER_MAGIC, SYSFS_MAGIC,      CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC,
        TRACEFS_MAGIC,    SECURITYFS_MAGIC, EFIVARFS_MAGIC,     PSTOREFS_MAGIC,      BPF_FS_MAGIC,
        SELINUX_MAGIC,    SMACK_MAGIC,      BINFMTFS_MAGIC,     DEVPTS_SUPER_MAGIC,  NSFS_MAGIC,
    };
    static const uint32_t blocking[] = { FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, V9FS_MAGIC, AUTOFS_SUPER_MAGIC,
                                         SMB_SUPER_MAGIC };
    struct mounts_device device = { dev, false, false };
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0)
        return (struct mounts_device){ dev, true, true }; /* not known: the careful answer */
    for (size_t i = 0; i < ARRAY_SIZE(pseudo); i++)
        device.pseudo |= (uint32_t)fs.f_type == pseudo[i];
    for (size_t i = 0; i < ARRAY_SIZE(blocking); i++)
        device.may_block |= (uint32_t)fs.f_type == blocking[i];
    return device;
}

static const struct mounts_device *find(const struct mounts *mounts, dev_t dev)
{
    size_t low = 0, high = mounts->n_devices;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (mounts->devices[middle].dev < dev)
            low = middle + 1;
        else
            high = middle;
    }
    return low < mounts->n_devices && mounts->devices[low].dev == dev ? &mounts->devices[low] : NULL;
}

bool mounts_is_local(const struct mounts *mounts, dev_t dev)
{
    const struct mounts_device *device = find(mounts, dev);
    return device && !device->may_block;
}

struct mounts_device mounts_device(const struct mounts *mounts, dev_t dev, int fd)
{
    const struct mounts_device *device = find(mounts, dev);
    return device ? *device : ask(dev, fd);
}
