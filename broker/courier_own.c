/*
 * Replies with descriptors that went out of sockets of their own, and that nobody has taken yet.
 */
#include <errno.h>

#include "../common/util.h"
#include "courier_parts.h"

int own_socket(void)
{
    int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return sock < 0 ? -errno : sock;
}

static void forget(struct post *post, unsigned i)
{
    fd_close(post->own[i].sock);
    post->n_own_fds -= post->own[i].fds;
    post->own[i] = post->own[--post->n_own];
}

void own_sweep(struct post *post)
{
    for (unsigned i = 0; i < post->n_own;)
        if (post->own[i].held || msg_unread(post->own[i].sock) > 0)
            i++;
        else
            forget(post, i);
}

static bool has_room(const struct post *post, uid_t uid, size_t n_fds)
{
    unsigned replies = 0, fds = 0;
    for (unsigned i = 0; i < post->n_own; i++)
        if (post->own[i].uid == uid) {
            replies++;
            fds += post->own[i].fds;
        }
    return replies < OWN_PER_USER && post->n_own < OWN_MAX && fds + n_fds <= post->max_fds_per_user &&
           post->n_own_fds + n_fds <= post->max_fds;
}

bool own_has_room(struct post *post, uid_t uid, size_t n_fds)
{
    if (n_fds == 0 || has_room(post, uid, n_fds))
        return true;
    own_sweep(post);
    return has_room(post, uid, n_fds);
}

void own_add(struct post *post, int sock, uid_t uid, size_t n_fds, bool held)
{
    post->own[post->n_own++] = (struct own){ sock, uid, (unsigned)n_fds, held };
    post->n_own_fds += (unsigned)n_fds;
}

void own_settle(struct post *post, int sock, bool sent)
{
    for (unsigned i = 0; i < post->n_own; i++) {
        if (post->own[i].sock != sock)
            continue;
        post->own[i].held = false;
        if (!sent)
            forget(post, i);
        return;
    }
    fd_close(sock);
}
