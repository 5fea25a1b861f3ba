/*
 * What file systems are mounted, by /proc/self/mountinfo (proc(5)): which are the kernel's own face, and
 * which may block on somebody else.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <linux/magic.h>

#include "../common/util.h"
#include "mounts.h"

static const char *const pseudo_types[] = {
    "proc",        "sysfs",    "cgroup", "cgroup2",    "debugfs", "tracefs",   "securityfs",
    "configfs",    "efivarfs", "pstore", "bpf",        "fusectl", "selinuxfs", "smackfs",
    "binfmt_misc", "mqueue",   "devpts", "rpc_pipefs", "nfsd",    "nsfs",
};
static const char *const blocking_types[] = {
    "autofs", "nfs",  "nfs4",   "cifs", "smb3",  "smbfs",    "ceph",   "9p",
    "afs",    "coda", "lustre", "gfs2", "ocfs2", "orangefs", "vboxsf", "virtiofs",
};

static bool is_one_of(const char *type, const char *const *types, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return false;
}

static bool is_pseudo(const char *type)
{
    return is_one_of(type, pseudo_types, ARRAY_SIZE(pseudo_types));
}

static bool may_block(const char *type)
{
    return strncmp(type, "fuse", 4) == 0 || is_one_of(type, blocking_types, ARRAY_SIZE(blocking_types));
}

/* ---- mountinfo ---- */

/* One line's fields that matter here; they point into the line. */
struct mount_line {
    dev_t dev;
    char *point, *type;
};

/* \040 for a blank, and so on; in place. */
static void unescape(char *text)
{
    char *out = text;
    for (const char *p = text; *p; p++) {
        unsigned value;
        if (*p == '\\' && sscanf(p + 1, "%3o", &value) == 1) {
            *out++ = (char)value;
            p += 3;
        } else {
            *out++ = *p;
        }
    }
    *out = '\0';
}

/* "36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw" */
static bool parse_line(char *line, struct mount_line *out)
{
    char *save, *word = strtok_r(line, " \n", &save), *fields[5] = { 0 };
    unsigned major, minor;
    for (size_t i = 0; word && i < 5; i++, word = strtok_r(NULL, " \n", &save))
        fields[i] = word;
    while (word && strcmp(word, "-") != 0)
        word = strtok_r(NULL, " \n", &save);
    out->type = word ? strtok_r(NULL, " \n", &save) : NULL;
    if (!fields[4] || !out->type || sscanf(fields[2], "%u:%u", &major, &minor) != 2)
        return false;
    out->dev = makedev(major, minor);
    out->point = fields[4];
    unescape(out->point);
    return true;
}

typedef int mount_fn(const struct mount_line *mount, void *data);

static int each_mount(mount_fn *fn, void *data)
{
    FILE *in = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t size = 0;
    int err = in ? 0 : -errno;
    struct mount_line mount;
    while (err == 0 && getline(&line, &size, in) > 0)
        if (parse_line(line, &mount))
            err = fn(&mount, data);
    free(line);
    if (in)
        fclose(in);
    return err;
}

struct points {
    char **points;
    size_t n, cap;
};

static int add_point(const struct mount_line *mount, void *data)
{
    struct points *p = data;
    if (!is_pseudo(mount->type))
        return 0;
    int err = mem_grow(&p->points, p->n, &p->cap, sizeof *p->points);
    char *copy = err == 0 ? strdup(mount->point) : NULL;
    if (!copy)
        return -ENOMEM;
    p->points[p->n++] = copy;
    return 0;
}

int mounts_pseudo(char ***points, size_t *n)
{
    struct points p = { 0 };
    int err = each_mount(add_point, &p);
    if (err < 0) {
        mounts_pseudo_free(p.points, p.n);
        return err;
    }
    *points = p.points;
    *n = p.n;
    return 0;
}

void mounts_pseudo_free(char **points, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(points[i]);
    free(points);
}

/* ---- devices ---- */

struct devices {
    struct mounts *mounts;
    size_t cap;
};

static int add_device(const struct mount_line *mount, void *data)
{
    struct devices *d = data;
    int err = mem_grow(&d->mounts->devices, d->mounts->n_devices, &d->cap, sizeof *d->mounts->devices);
    if (err == 0)
        d->mounts->devices[d->mounts->n_devices++] =
            (struct mounts_device){ mount->dev, is_pseudo(mount->type), may_block(mount->type) };
    return err;
}

static int compare_devices(const void *a, const void *b)
{
    dev_t x = ((const struct mounts_device *)a)->dev, y = ((const struct mounts_device *)b)->dev;
    return x < y ? -1 : x > y;
}

int mounts_read_devices(struct mounts *mounts)
{
    int err = each_mount(add_device, &(struct devices){ .mounts = mounts });
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

struct mounts_device mounts_device(const struct mounts *mounts, dev_t dev, int fd)
{
    size_t low = 0, high = mounts->n_devices;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (mounts->devices[middle].dev < dev)
            low = middle + 1;
        else
            high = middle;
    }
    return low < mounts->n_devices && mounts->devices[low].dev == dev ? mounts->devices[low] : ask(dev, fd);
}
