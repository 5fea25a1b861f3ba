/*
 * The identity helper: a small confined process that finds out executable, cgroup and systemd unit of a
 * client. A worker cannot: in a Landlock domain /proc/PID/exe cannot be read, whatever capability there is.
 * The helper has CAP_SYS_PTRACE and nothing else, and reads no client byte: a pidfd comes, three texts go.
 *
 * What is not known is not known, never guessed. And what is known is what the process runs NOW: who may
 * start a program, or trace it, can also have it make requests (fob.policy(5), exe:).
 */
#ifndef FOB_BROKER_IDENTITY_H
#define FOB_BROKER_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "confine.h"

enum { IDENTITY_PATH = 4096, IDENTITY_UNIT = 256 }; /* with their NULs */

struct identity {
    bool has_exe, has_cgroup, has_unit;
    dev_t exe_dev;
    ino_t exe_ino;
    char exe[IDENTITY_PATH];    /* its real path in the broker's mount namespace */
    char cgroup[IDENTITY_PATH]; /* in the v2 hierarchy, as the broker's cgroup namespace has it */
    char unit[IDENTITY_UNIT];
};

/* One worker's end of its channel to the helper. */
struct identity_channel {
    int sock;
    uint32_t sequence;
};

/*
 * Starts the helper for n workers; channels[i].sock is the end of worker i (kept by the supervisor too, for
 * the next worker of that slot). Returns its pid, or a negative errno. It ends at once where it cannot be
 * confined, and when every worker's end is closed.
 */
pid_t identity_start(struct identity_channel *channels, size_t n, const struct confine_plan *plan);

/*
 * Worker: who is the process of this pidfd, whose pid was once `pid` (SO_PEERPIDFD, SO_PEERCRED)? 0, or a
 * negative errno, and then nothing is known: -ESRCH: it has exited; -ETIMEDOUT after one second.
 */
int identity_ask(struct identity_channel *channel, int pidfd, pid_t pid, struct identity *out);

/* The reading itself; proc_fd: /proc. As identity_ask(), but that it takes no time: it waits for no file
 * system but those that `mounts` (may be NULL) lists and that are local. */
int identity_read(int proc_fd, const struct mounts *mounts, int pidfd, pid_t pid, struct identity *out);

/* Parts of it. The path of the v2 hierarchy in the text of /proc/PID/cgroup: 0, -ENOENT: there is none;
 * -EXDEV: it is outside of our cgroup namespace; -EBADMSG, -ENAMETOOLONG. */
int identity_cgroup_of(const char *text, size_t len, char out[IDENTITY_PATH]);
/* The unit of a cgroup: 0 or -ENOENT. own: whose broker this is. */
int identity_unit_of(const char *cgroup, uid_t own, char out[IDENTITY_UNIT]);

/* Of linux/pidfd.h since Linux 6.13, its first 64 bytes; Debian 12 has it as of 6.1. */
struct identity_pidfd_info {
    uint64_t mask, cgroup_id;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t exit_code;
};
#define IDENTITY_PIDFD_GET_INFO _IOWR(0xFF, 11, struct identity_pidfd_info)

#endif
