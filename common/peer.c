#include "peer.h"

#include <errno.h>
#include <stdlib.h>

#include "util.h"

/*
 * Unmapped groups all read as 65534: which they are is not known, and none of them is the group of that
 * number (often "nogroup"). They go. The kernel sorts by its own ids; in a user namespace the mapped ones may
 * come in another order.
 */
static void groups_settle(struct peer *peer)
{
    size_t kept = 0;
    for (size_t i = 0; i < peer->n_groups; i++) {
        if (peer->groups[i] != PEER_OVERFLOW_ID)
            peer->groups[kept++] = peer->groups[i];
    }
    peer->n_groups = kept;
    sort_ids(peer->groups, kept);
}

static int groups_read(struct peer *peer, int sock)
{
    socklen_t size = 32 * sizeof(gid_t); /* more than most users have: one call and no second */
    for (;;) {
        CLEANUP(free_cleanup) gid_t *groups = malloc(size);
        socklen_t len = size;
        if (groups == NULL)
            return -ENOMEM;
        if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, groups, &len) == 0) {
            peer->n_groups = len / sizeof *groups;
            peer->groups = groups;
            groups = NULL;
            groups_settle(peer);
            return 0;
        }
        if (errno != ERANGE)
            return -errno;
        if (len <= size)
            return -EPROTO; /* too small, and as large as needed? No kernel says so; it ends the loop */
        size = len;
    }
}

int peer_init(struct peer *peer, int sock)
{
    struct ucred cred;
    socklen_t len = sizeof cred;
    *peer = (struct peer){ .uid = PEER_OVERFLOW_ID, .gid = PEER_OVERFLOW_ID };
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return -errno;
    if (len != sizeof cred)
        return -EPROTO;
    peer->pid = cred.pid;
    peer->uid = cred.uid;
    peer->gid = cred.gid;
    /* Also (uid_t)-1 and pid 0, which is what the kernel says of a socket that nobody connected to. */
    if (cred.pid <= 0 || cred.uid == PEER_OVERFLOW_ID || cred.uid == (uid_t)-1)
        return -EPERM;
    return groups_read(peer, sock);
}

void peer_deinit(struct peer *peer)
{
    free(peer->groups);
    peer->groups = NULL;
    peer->n_groups = 0;
}

bool peer_is_unsaid(const struct ucred *message)
{
    return message->pid == 0 && message->uid == PEER_OVERFLOW_ID && message->gid == PEER_OVERFLOW_ID;
}

bool peer_sent(const struct peer *peer, const struct ucred *message)
{
    return message->pid == peer->pid && message->uid == peer->uid && message->gid == peer->gid;
}
