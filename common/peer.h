/*
 * Who is at the other end of a connection, from the kernel: SO_PEERCRED, SO_PEERGROUPS (unix(7), socket(7)).
 * Both are frozen at connect(2): they name who connected, whatever became of that process since.
 */
#ifndef FOB_COMMON_PEER_H
#define FOB_COMMON_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

enum { PEER_OVERFLOW_ID = 65534 }; /* what an unmapped uid or gid reads as: user_namespaces(7) */

struct peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* supplementary, sorted ascending; owned by the peer */
    size_t n_groups;
    bool groups_unknown; /* of who sent a datagram */
};

/*
 * 0, or a negative errno, which concerns this connection only: -EPERM when the peer cannot be named (uid
 * 65534 or pid 0: a user or pid namespace that is not ours), what getsockopt(2) said otherwise. On success
 * peer_deinit() is owed. After an error pid, uid and gid are still set, for the record: to what the kernel
 * said, or to 0, 65534, 65534. Of the groups those that read as 65534 (unmapped) are left out.
 */
int peer_init(struct peer *peer, int sock);
void peer_deinit(struct peer *peer);

/* Credentials of what was sent when nobody had asked for them yet (SO_PASSCRED set later): nobody's. */
bool peer_is_unsaid(const struct ucred *message);

/* Did the process that connected send this message? pid, uid and gid must all agree. */
bool peer_sent(const struct peer *peer, const struct ucred *message);

#endif
