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

static bool is_listener(int fd, int type)
{
    return socket_option(fd, SO_DOMAIN) == AF_UNIX && socket_option(fd, SO_TYPE) == type &&
           socket_option(fd, SO_ACCEPTCONN) == 1;
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

int service_listen_fd(int type)
{
    unsigned n = passed_fds();
    int found = n ? -EINVAL : -ENOENT;
    for (int fd = LISTEN_FDS_START; fd < LISTEN_FDS_START + (int)n; fd++) {
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
            continue;
        if (found < 0 && is_listener(fd, type))
            found = fd;
        else
            log_warning("socket activation: descriptor %d is not the listening socket that is served here",
                        fd);
    }
    if (found == -EINVAL)
        log_error(
            "socket activation: no listening socket of the right type among %u (ListenSequentialPacket= "
            "in the unit)",
            n);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return found;
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
