/*
 * The sealer: a small confined process that makes a directory descriptor safe to hand out. A directory inside
 * a clone still has a way up to the clone's top by
 * `..`; the sealer clones that directory again (open_tree(2) on the descriptor), read-only, nosuid, nodev,
 * noexec, so that it is a top itself. It needs CAP_SYS_ADMIN, which no worker has; it reads no client byte:
 * an O_PATH descriptor comes, a descriptor goes. Without privilege it lives in a user namespace of its own.
 */
#ifndef FOB_BROKER_SEALER_H
#define FOB_BROKER_SEALER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "confine.h"

/* One worker's end of its channel to the sealer. */
struct sealer_channel {
    int sock;
    uint32_t sequence;
};

/*
 * Starts the sealer for n workers; channels[i].sock is the end of worker i (kept by the supervisor too, for
 * the next worker of that slot). Returns its pid, or a negative errno. Without privilege it makes a user
 * namespace; where there is none to be had it ends at once. It ends when every worker's end is closed.
 */
pid_t sealer_start(struct sealer_channel *channels, size_t n, const struct confine_plan *plan);

/* Worker: a sealed twin of the O_PATH directory dir_fd, which is of an ordinary mount (before Linux 6.15 a
 * clone cannot be cloned), opened O_RDONLY|O_DIRECTORY|O_CLOEXEC (or O_PATH when path_only). A descriptor or
 * a negative errno; -ETIMEDOUT after one second. */
int sealer_seal(struct sealer_channel *channel, int dir_fd, int path_only);

#endif
