#include "mountinfo.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "util.h"

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

bool mountinfo_is_pseudo(const char *type)
{
    return is_one_of(type, pseudo_types, ARRAY_SIZE(pseudo_types));
}

bool mountinfo_may_block(const char *type)
{
    return strncmp(type, "fuse", 4) == 0 || is_one_of(type, blocking_types, ARRAY_SIZE(blocking_types));
}

/* ---- mountinfo ---- */

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
static bool parse_line(char *line, struct mountinfo *out)
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

int mountinfo_each(mountinfo_fn *fn, void *data)
{
    FILE *in = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t size = 0;
    int err = in ? 0 : -errno;
    struct mountinfo mount;
    while (err == 0 && getline(&line, &size, in) > 0)
        if (parse_line(line, &mount))
            err = fn(&mount, data);
    if (err == 0 && !feof(in)) /* half a table would hide pseudo file systems from the policy */
        err = -EIO;
    free(line);
    if (in)
        fclose(in);
    return err;
}

struct points {
    char **points;
    size_t n, cap;
};

static int add_point(const struct mountinfo *mount, void *data)
{
    struct points *p = data;
    if (!mountinfo_is_pseudo(mount->type))
        return 0;
    int err = mem_grow(&p->points, p->n, &p->cap, sizeof *p->points);
    char *copy = err == 0 ? strdup(mount->point) : NULL;
    if (!copy)
        return -ENOMEM;
    p->points[p->n++] = copy;
    return 0;
}

int mountinfo_pseudo(char ***points, size_t *n)
{
    struct points p = { 0 };
    int err = mountinfo_each(add_point, &p);
    if (err < 0) {
        mountinfo_pseudo_free(p.points, p.n);
        return err;
    }
    *points = p.points;
    *n = p.n;
    return 0;
}

void mountinfo_pseudo_free(char **points, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(points[i]);
    free(points);
}
