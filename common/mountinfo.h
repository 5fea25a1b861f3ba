/*
 * What is mounted: /proc/self/mountinfo (proc_pid_mountinfo(5)).
 */
#ifndef FOB_COMMON_MOUNTINFO_H
#define FOB_COMMON_MOUNTINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* One mount; the texts live until the next. */
struct mountinfo {
    dev_t dev;
    char *point, *type;
};

/* Not 0: ends the reading, and is its result. */
typedef int mountinfo_fn(const struct mountinfo *mount, void *data);
/* Calls fn for each mount of this process's namespace. 0, a negative errno, or what fn returned. */
int mountinfo_each(mountinfo_fn *fn, void *data);

/* Is a file system of this type the kernel's own face (procfs, sysfs, cgroupfs, ...)? */
bool mountinfo_is_pseudo(const char *type);
/* May it wait for somebody else (FUSE, network, autofs)? */
bool mountinfo_may_block(const char *type);

/* The mount points of pseudo file systems, n heap strings in a heap array. 0 or a negative errno. */
int mountinfo_pseudo(char ***points, size_t *n);
void mountinfo_pseudo_free(char **points, size_t n);

#endif
