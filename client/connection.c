#include "connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../common/sock.h"
#include "../common/util.h"
#include "server.h"
#include "spawn.h"

enum { RECONNECT_TRIES = 3, RECONNECT_WAIT_MS = 40 };

int connection_result(int err)
{
    if (err >= 0)
        return err;
    errno = -err;
    return -1;
}

/* ---- making and dropping it ---- */

static const char *default_path(void)
{
    const char *path = secure_getenv("FOB_SOCKET");
    return path && *path ? path : FOB_DEFAULT_SOCKET;
}

static int connection_make(struct fob *fob)
{
    CLEANUP(fd_cleanup)
    int sock = fob->spawned ? spawn_broker(fob->path) : sock_connect(fob->path, SOCK_SEQPACKET);
    if (sock < 0)
        return sock;
    int err = fob->spawned ? 0 : server_check(sock, fob->path);
    if (err < 0)
        return err;
    fob->sock = fd_take(&sock);
    fob->pid = getpid();
    fob->send_cred = getuid() != geteuid() || getgid() != getegid();
    return 0;
}

static void connection_drop(struct fob *fob)
{
    fob->sock = fd_close(fob->sock);
}

/* A broker that is being restarted is back in a moment. */
static int connection_remake(struct fob *fob)
{
    const struct timespec wait = { 0, RECONNECT_WAIT_MS * 1000000L };
    int err = -ECONNREFUSED;
    for (int i = 0; i < RECONNECT_TRIES; i++) {
        err = connection_make(fob);
        if (err != -ECONNREFUSED && err != -ENOENT)
            return err;
        nanosleep(&wait, NULL);
    }
    return err;
}

int connection_need(struct fob *fob)
{
    return fob->sock < 0 ? connection_remake(fob) : 0;
}

static struct fob *fob_new(const char *copied, bool spawned)
{
    struct fob *fob = malloc(sizeof *fob);
    char *path = strdup(copied);
    if (!fob || !path) {
        free(fob);
        free(path);
        errno = ENOMEM;
        return NULL;
    }
    memset(fob, 0, offsetof(struct fob, out)); /* not the buffers: that would touch 33 pages for nothing */
    fob->sock = -1;
    fob->path = path;
    fob->spawned = spawned;
    spin_set(&fob->spin, spin_wanted());
    pthread_mutex_init(&fob->lock, NULL);
    int err = connection_make(fob);
    if (err == 0)
        return fob;
    fob_close(fob);
    errno = -err;
    return NULL;
}

struct fob *fob_connect(const char *socket_path)
{
    return fob_new(socket_path ? socket_path : default_path(), false);
}

/* One that cannot serve says why on standard error, and ends. */
struct fob *fob_spawn(const char *fobd_path)
{
    struct fob_info info;
    struct fob *fob = fob_new(fobd_path, true);
    if (!fob || fob_hello(fob, &info) == 0)
        return fob;
    int error = errno;
    fob_close(fob);
    errno = error;
    return NULL;
}

void fob_close(struct fob *fob)
{
    if (!fob)
        return;
    connection_drop(fob);
    pthread_mutex_destroy(&fob->lock);
    free(fob->path);
    free(fob);
}

/* ---- one at a time ---- */

/*
 * After fork(2) the connection is the parent's: the broker refuses what the child sends on it (another pid),
 * and replies would go to whoever reads first. The lock may be held by a thread that the child does not have;
 * as it has but one thread yet, the lock can be made anew.
 */
static void begin_in_child(struct fob *fob)
{
    pthread_mutex_init(&fob->lock, NULL);
    connection_drop(fob);
    fob->pid = getpid();
}

void connection_lock(struct fob *fob)
{
    if (fob->pid != getpid())
        begin_in_child(fob);
    pthread_mutex_lock(&fob->lock);
}

void connection_unlock(struct fob *fob)
{
    pthread_mutex_unlock(&fob->lock);
}

int fob_set_busy_poll(struct fob *fob, unsigned microseconds)
{
    if (microseconds > SPIN_MAX_US)
        return connection_result(-EINVAL);
    connection_lock(fob);
    spin_set(&fob->spin, microseconds);
    connection_unlock(fob);
    return 0;
}

/* ---- asking ---- */

static int send_request(struct fob *fob, const struct wire_header *header)
{
    struct ucred self;
    if (fob->send_cred)
        self = (struct ucred){ getpid(), geteuid(), getegid() };
    return msg_send(fob->sock, fob->out, header->length, NULL, 0, fob->send_cred ? &self : NULL, 0);
}

static bool is_answer(const struct wire_header *got, const struct wire_header *asked)
{
    return got->type == (asked->type | WIRE_REPLY) && got->id == asked->id;
}

static int receive_reply(struct fob *fob, struct wire_header *header)
{
    struct wire_header got;
    int status = spin_recv(&fob->spin, fob->sock, fob->in, sizeof fob->in, &fob->message);
    if (status <= 0)
        return status < 0 ? status : -ECONNRESET;
    int err = wire_decode_header(fob->in, fob->message.len, &got);
    if (err == 0 && is_answer(&got, header)) {
        *header = got;
        return 0;
    }
    fd_close_many(fob->message.fds, fob->message.n_fds);
    return -EPROTO;
}

static bool is_gone(int err)
{
    return err == -EPIPE || err == -ECONNRESET || err == -ENOTCONN || err == -ECONNREFUSED;
}

/* 0, a negative errno, or 1: try again on a new connection. */
static int exchange_once(struct fob *fob, struct wire_header *header, bool repeatable, bool again)
{
    int err = connection_need(fob);
    if (err < 0)
        return err;
    err = send_request(fob, header);
    bool sent = err == 0;
    if (sent)
        err = receive_reply(fob, header);
    if (err == 0 || err == -EMFILE)
        return err;
    connection_drop(fob); /* its state is not known any more */
    if (!is_gone(err))
        return err;
    return again && (!sent || repeatable) ? 1 : -ECONNRESET;
}

int connection_exchange(struct fob *fob, struct wire_header *header, bool repeatable)
{
    header->id = ++fob->next_id;
    wire_encode_header(fob->out, sizeof fob->out, header);
    /* A broker of one's own that never served has said why: it would say it again. */
    int err = exchange_once(fob, header, repeatable, !fob->spawned || fob->served);
    if (err == 1)
        err = exchange_once(fob, header, repeatable, false);
    fob->served = fob->served || err == 0;
    return err;
}
