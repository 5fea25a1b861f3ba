/*
 * fob_open(), fob_open_many(), fob_check(): entries out, results and descriptors in.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../common/util.h"
#include "connection.h"

/* ---- umask ---- */

/* umask(2) can only be read by changing it, which other threads would notice: /proc tells it without. */
static mode_t current_umask(void)
{
    unsigned mask;
    char line[128];
    bool found = false;
    FILE *in = fopen("/proc/self/status", "re");
    while (in && !found && fgets(line, sizeof line, in))
        found = sscanf(line, "Umask: %o", &mask) == 1;
    if (in)
        fclose(in);
    if (found)
        return (mode_t)mask;
    mode_t now = umask(0077);
    umask(now);
    return now;
}

/* Asked for once, and only when something is to be created. */
static mode_t needed_umask(const struct fob_request *requests, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (requests[i].oflags & O_CREAT)
            return current_umask();
    return 0;
}

/* ---- requests ---- */

static int add_entry(struct fob *fob, struct wire_header *header, const struct fob_request *request,
                     mode_t mask)
{
    int64_t flags = wire_flags_from_open(request->oflags);
    size_t len = strlen(request->path);
    if (flags < 0 || len == 0 || len > WIRE_MAX_PATH || request->path[0] != '/')
        return -EINVAL;
    mode_t mode = flags & WIRE_CREATE ? request->mode & 07777 & ~mask : 0;
    size_t size = wire_encode_entry(fob->out + header->length, sizeof fob->out - header->length,
                                    (uint32_t)flags, mode, request->path, len);
    if (size == 0)
        return -ENOSPC; /* in the next message */
    header->length += (uint32_t)size;
    header->count++;
    return 0;
}

static bool changes_something(int oflags)
{
    return (oflags & O_ACCMODE) != O_RDONLY || oflags & (O_CREAT | O_TRUNC | O_APPEND);
}

/* What goes into one message: requests[0..n), of which those with an error of their own are left out. */
struct batch {
    struct fob_request *requests;
    size_t n;
    bool repeatable;
    struct wire_header header;
};

static struct batch batch_make(struct fob *fob, enum wire_type type, struct fob_request *requests, size_t n,
                               mode_t mask)
{
    struct batch batch = { requests, 0, true, { WIRE_HEADER_SIZE, (uint16_t)type, 0, 0 } };
    while (batch.n < n && batch.header.count < WIRE_MAX_ENTRIES) {
        struct fob_request *request = &requests[batch.n];
        int err = add_entry(fob, &batch.header, request, mask);
        if (err == -ENOSPC)
            break;
        request->fd = -1;
        request->rule = 0;
        request->error = -err;
        batch.repeatable = batch.repeatable && (err < 0 || !changes_something(request->oflags));
        batch.n++;
    }
    return batch;
}

/* ---- replies ---- */

static int decode_results(struct fob *fob, const struct batch *batch, const struct wire_header *reply,
                          struct wire_result results[WIRE_MAX_ENTRIES])
{
    size_t used = 0;
    if (reply->count != batch->header.count ||
        reply->length != WIRE_HEADER_SIZE + reply->count * (uint32_t)WIRE_RESULT_SIZE)
        return -EPROTO;
    for (unsigned i = 0; i < reply->count; i++) {
        const uint8_t *at = fob->in + WIRE_HEADER_SIZE + i * WIRE_RESULT_SIZE;
        if (wire_decode_result(at, WIRE_RESULT_SIZE, &results[i]) < 0)
            return -EPROTO;
        if (results[i].fd_index == WIRE_NO_FD)
            continue;
        if (results[i].fd_index != used++) /* in order, each once */
            return -EPROTO;
    }
    return used == fob->message.n_fds ? 0 : -EPROTO;
}

static void hand_out(struct fob *fob, const struct batch *batch, const struct wire_result *results,
                     enum wire_type type)
{
    for (size_t i = 0; i < batch->n; i++) {
        struct fob_request *request = &batch->requests[i];
        if (request->error)
            continue;
        request->error = results->error;
        request->rule = results->rule;
        if (type == WIRE_OPEN && results->error == 0 && results->fd_index == WIRE_NO_FD)
            request->error = EPROTO;
        else if (results->fd_index != WIRE_NO_FD)
            request->fd = fob->message.fds[results->fd_index];
        results++;
    }
}

static void fail_all(const struct batch *batch, int error)
{
    for (size_t i = 0; i < batch->n; i++)
        if (!batch->requests[i].error)
            batch->requests[i].error = error;
}

static int batch_ask(struct fob *fob, const struct batch *batch)
{
    struct wire_result results[WIRE_MAX_ENTRIES];
    struct wire_header reply = batch->header;
    if (reply.count == 0)
        return 0;
    int err = connection_exchange(fob, &reply, batch->repeatable);
    if (err == 0) {
        err = decode_results(fob, batch, &reply, results);
        if (err == 0)
            hand_out(fob, batch, results, (enum wire_type)batch->header.type);
        else
            fd_close_many(fob->message.fds, fob->message.n_fds);
    }
    if (err < 0)
        fail_all(batch, -err);
    /* No room for the descriptors: that is an answer, and the broker is there. */
    return err == -EMFILE ? 0 : err;
}

static int ask_all(struct fob *fob, enum wire_type type, struct fob_request *requests, size_t n)
{
    mode_t mask = needed_umask(requests, n);
    int err = 0;
    for (size_t i = 0; i < n; i++)
        requests[i].fd = -1, requests[i].error = ECONNRESET, requests[i].rule = 0;
    connection_lock(fob);
    while (err == 0 && n) {
        struct batch batch = batch_make(fob, type, requests, n, mask);
        err = batch_ask(fob, &batch);
        requests += batch.n;
        n -= batch.n;
    }
    connection_unlock(fob);
    for (size_t i = 0; err < 0 && i < n; i++)
        requests[i].error = -err;
    return err;
}

/* ---- fob.h ---- */

ssize_t fob_open_many(struct fob *fob, struct fob_request *requests, size_t n)
{
    ssize_t opened = 0;
    int err = ask_all(fob, WIRE_OPEN, requests, n);
    if (err < 0)
        return connection_result(err);
    for (size_t i = 0; i < n; i++)
        opened += requests[i].fd >= 0;
    return opened;
}

int fob_open(struct fob *fob, const char *path, int oflags, mode_t mode)
{
    struct fob_request request = { .path = path, .oflags = oflags, .mode = mode };
    int err = ask_all(fob, WIRE_OPEN, &request, 1);
    if (err == 0 && request.error)
        err = -request.error;
    return err < 0 ? connection_result(err) : request.fd;
}

int fob_check(struct fob *fob, const char *path, int oflags)
{
    struct fob_request request = { .path = path, .oflags = oflags };
    int err = ask_all(fob, WIRE_CHECK, &request, 1);
    return connection_result(err == 0 ? -request.error : err);
}
