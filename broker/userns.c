#include "userns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../common/util.h"

static int write_file(const char *path, const char *text)
{
    CLEANUP(fd_cleanup) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

static int write_map(const char *path, unsigned id)
{
    char map[48];
    snprintf(map, sizeof map, "%u %u 1\n", id, id);
    return write_file(path, map);
}

int userns_enter(void)
{
    unsigned uid = geteuid(), gid = getegid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return -errno;
    int err = write_map("/proc/self/uid_map", uid);
    if (err == 0)
        err = write_file("/proc/self/setgroups", "deny");
    return err < 0 ? err : write_map("/proc/self/gid_map", gid);
}
