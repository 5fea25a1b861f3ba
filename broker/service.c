#include "service.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/sock.h"
#include "../common/util.h"

enum { LISTEN_FDS_START = 3, LISTEN_FDS_MAX = 16 }; /* SD_LISTEN_FDS_START, sd_listen_fds(3) */

/* ---- activation ---- */

static int socket_option(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -1 : value;
}

/* A datagram socket does not listen: it must have a name to be sent to. */
static bool is_served(int fd, int type)
{
    struct sockaddr_un addr;
    socklen_t len = sizeof addr;
    if (socket_option(fd, SO_DOMAIN) != AF_UNIX || socket_option(fd, SO_TYPE) != type)
        return false;
    if (type != SOCK_DGRAM)
        return socket_option(fd, SO_ACCEPTCONN) == 1;
    return getsockname(fd, (struct sockaddr *)&addr, &len) == 0 &&
           len > offsetof(struct sockaddr_un, sun_path);
}

/* How many were passed to this very process; LISTEN_PID tells it from its parent. */
static unsigned passed_fds(void)
{
    uint64_t pid, n;
    const char *pid_text = getenv("LISTEN_PID"), *n_text = getenv("LISTEN_FDS");
    if (!pid_text || !n_text || parse_u64(pid_text, INT32_MAX, &pid) < 0 || (pid_t)pid != getpid())
        return 0;
    return parse_u64(n_text, LISTEN_FDS_MAX, &n) < 0 ? 0 : (unsigned)n;
}

void service_close_inherited(void)
{
    close_range(LISTEN_FDS_START + passed_fds(), ~0u, 0);
}

/* Is it one of those that are wanted, and not there yet? */
static bool take(int fd, const int *types, int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fds[i] < 0 && is_served(fd, types[i])) {
            fds[i] = fd;
            return true;
        }
    return false;
}

int service_listen_fds(const int *types, int *fds, size_t n)
{
    int passed = (int)passed_fds(), found = 0;
    for (size_t i = 0; i < n; i++)
        fds[i] = -1;
    for (int fd = LISTEN_FDS_START; fd < LISTEN_FDS_START + passed; fd++) {
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
            continue;
        if (take(fd, types, fds, n))
            found++;
        else
            log_warning("socket activation: descriptor %d is no socket that is served here", fd);
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (found || passed == 0)
        return found ? found : -ENOENT;
    log_error("socket activation: no socket of the right type among %d (ListenSequentialPacket= in the unit)",
              passed);
    return -EINVAL;
}

/* ---- readiness ---- */

static int notify = -1;

void service_notify_open(void)
{
    const char *name = getenv("NOTIFY_SOCKET");
    if (name && *name) {
        int fd = sock_connect(name, SOCK_DGRAM);
        if (fd >= 0)
            notify = fd;
        else
            log_warning("NOTIFY_SOCKET: %s: the service manager is not told of readiness", strerror(-fd));
    }
    unsetenv("NOTIFY_SOCKET");
}

void service_notify(const char *state)
{
    if (notify >= 0 && send(notify, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("NOTIFY_SOCKET: %s", strerror(errno));
}

int service_notify_fd(void)
{
    return notify;
}

void service_notify_close(void)
{
    notify = fd_close(notify);
}
