#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/util.h"
#include "service.h"

enum { ORPHAN_TRIES = 10, ORPHAN_MS = 50 };
enum { BACKLOG = 4096 }; /* the kernel's net.core.somaxconn cuts it */

void listener_init(struct listener *listener)
{
    *listener = (struct listener){ .fd = -1, .name = { .lock_fd = -1 } };
}

static const char *reason(int err)
{
    switch (err) {
    case -EADDRINUSE:
        return "somebody serves it already (stop that one, or use -s with another path)";
    case -EEXIST:
        return "something that is not a socket stands there (remove it, or use another path)";
    case -EPERM:
        return "its directory is writable by others, or the socket there is somebody else's";
    default:
        return strerror(-err);
    }
}

static int make_directory_of(const char *path, mode_t mode)
{
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return -ENOENT;
    char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];
    size_t len = (size_t)(slash - path);
    if (len >= sizeof dir)
        return -ENAMETOOLONG;
    memcpy(dir, path, len);
    dir[len] = '\0';
    return mkdir(dir, mode) < 0 ? -errno : 0;
}

static int bind_socket(struct listener *listener, const struct config_socket *socket, int type,
                       bool privileged)
{
    struct sock_listen_options options = { type, socket->mode, socket->gid, BACKLOG };
    int fd = sock_listen(socket->path, &options, &listener->name);
    if (fd == -ENOENT && make_directory_of(socket->path, privileged ? 0755 : 0700) == 0)
        fd = sock_listen(socket->path, &options, &listener->name);
    /* Workers of one that was killed answer what they have read, and are gone in a moment. */
    for (int i = 0; fd == -EADDRINUSE && i < ORPHAN_TRIES; i++) {
        poll(NULL, 0, ORPHAN_MS);
        fd = sock_listen(socket->path, &options, &listener->name);
    }
    if (fd < 0) {
        log_error("socket %s: %s", socket->path, reason(fd));
        return fd;
    }
    listener->named = true;
    snprintf(listener->display, sizeof listener->display, "%s", socket->path);
    return fd;
}

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int listener_bind(struct listener *listener, const struct config_socket *socket, int type, bool privileged)
{
    int fd = bind_socket(listener, socket, type, privileged);
    if (fd < 0)
        return fd;
    listener->fd = fd;
    return set_nonblocking(fd);
}

/* Several workers are woken for one connection now and then: the late ones must not wait in accept(2). */
static int adopt(struct listener *listener, int fd)
{
    listener->fd = fd;
    snprintf(listener->display, sizeof listener->display, "the socket of the service manager");
    int err = sock_set_receive_options(fd);
    return err < 0 ? err : set_nonblocking(fd);
}

/* Replies to connected askers go out from here: what some leave unread is not to be all that there is room
 * for. Without CAP_NET_ADMIN it is what the system allows. */
static void widen(int fd)
{
    const int bytes = 8 << 20;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

int listeners_open(struct listener listeners[LISTENERS], const struct config *config, bool privileged)
{
    static const int types[LISTENERS] = { SOCK_SEQPACKET, SOCK_STREAM, SOCK_DGRAM };
    const struct config_socket *sockets[LISTENERS] = { &config->socket, &config->stream, &config->datagram };
    int fds[LISTENERS], passed = service_listen_fds(types, fds, LISTENERS),
                        err = passed == -EINVAL ? passed : 0;
    for (int i = 0; i < LISTENERS && err == 0; i++) {
        if (fds[i] >= 0)
            err = adopt(&listeners[i], fds[i]);
        else if (sockets[i]->path && (passed <= 0 || sockets[i]->is_said))
            err = listener_bind(&listeners[i], sockets[i], types[i], privileged);
    }
    if (listeners[LISTENER_DATAGRAM].fd >= 0)
        widen(listeners[LISTENER_DATAGRAM].fd);
    return err;
}

void listener_close(struct listener *listener)
{
    if (listener->named)
        sock_unlisten(&listener->name);
    listener->named = false;
    listener->fd = fd_close(listener->fd);
}

const char *listeners_text(char *out, size_t size, const struct listener listeners[LISTENERS])
{
    size_t at = 0;
    out[0] = '\0';
    for (int i = 0; i < LISTENERS && at < size; i++)
        if (listeners[i].fd >= 0) {
            int n = snprintf(out + at, size - at, "%s%s", at ? " " : "", listeners[i].display);
            at += n > 0 ? (size_t)n : 0;
        }
    return out;
}
