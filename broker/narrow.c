#include "narrow.h"

#include <string.h>
#include <sys/socket.h>

#include "../common/util.h"
#include "connection.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

/* Nothing is known when there is no pidfd: a pid alone may be somebody else's by now. */
static int ask(struct worker *worker, const struct connection *connection, struct identity *identity)
{
    int fd = -1;
    socklen_t len = sizeof fd;
    *identity = (struct identity){ .has_exe = false };
    if (connection->kind == FRAME_DATAGRAM)
        return -1; /* nobody is connected */
    if (getsockopt(connection->fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) < 0)
        return -1;
    CLEANUP(fd_cleanup) int pidfd = fd;
    int err = identity_ask(worker->setup->identity, pidfd, connection->pid, identity);
    if (err < 0)
        *identity = (struct identity){ .has_exe = false };
    return err;
}

/* Frozen at connect(2), as the credentials are. */
static const char *find_label(struct worker *worker, const struct connection *connection)
{
    socklen_t len = sizeof worker->label - 1;
    if (connection->kind == FRAME_DATAGRAM ||
        getsockopt(connection->fd, SOL_SOCKET, SO_PEERSEC, worker->label, &len) < 0)
        return NULL;
    worker->label[len < sizeof worker->label ? len : sizeof worker->label - 1] = '\0';
    return *worker->label ? worker->label : NULL;
}

void narrow_subject(struct worker *worker, const struct connection *connection, bool is_asked)
{
    const struct policy_needs *needs = &worker->setup->generation->needs;
    worker->subject = connection->client->subject;
    worker->narrowed = is_asked && connection->client->narrows;
    if (worker->narrowed && worker->job < 0)
        ask(worker, connection, &worker->identity);
    if (worker->narrowed) {
        worker->subject.exe = worker->identity.has_exe ? worker->identity.exe : NULL;
        worker->subject.unit = worker->identity.has_unit ? worker->identity.unit : NULL;
        worker->subject.cgroup = worker->identity.has_cgroup ? worker->identity.cgroup : NULL;
    }
    if (is_asked && needs->label)
        worker->subject.label = find_label(worker, connection);
}

bool narrow_is_same(struct worker *worker, const struct connection *connection)
{
    static struct identity now;
    const struct identity *then = &worker->identity;
    if (!worker->narrowed || !then->has_exe)
        return true;
    ask(worker, connection, &now);
    return now.has_exe && now.exe_dev == then->exe_dev && now.exe_ino == then->exe_ino &&
           strcmp(now.exe, then->exe) == 0;
}
