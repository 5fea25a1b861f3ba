#include "request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/util.h"
#include "connection.h"
#include "narrow.h"
#include "request_parts.h"
#include "worker.h"

/* ---- generations ---- */

/* Has one of the first n entries effects on the file system that stay when its answer is not given? */
static bool has_effects(const struct worker *worker, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (worker->exchanges[i].entry.flags & (WIRE_CREATE | WIRE_TRUNCATE))
            return true;
    return false;
}

/* A slow opener's way to enter: from here on its worker cannot say ETIMEDOUT any more. */
static bool claim(struct worker *worker)
{
    struct jobs *jobs = worker->setup->jobs;
    if (!jobs_move(jobs, worker->job, JOB_PENDING, JOB_ANSWERING))
        return false;
    if (board_is_announced(worker->setup->board, worker->setup->generation->number))
        return true;
    jobs_move(jobs, worker->job, JOB_ANSWERING, JOB_STALE);
    return false;
}

/* What was sent is the worker's to count. */
static void settle(struct worker *worker, unsigned sent, int err)
{
    struct jobs *jobs = worker->setup->jobs;
    if (err < 0)
        jobs_move(jobs, worker->job, JOB_ANSWERING, JOB_UNSENT);
    else
        jobs_answered(jobs, worker->job, sent);
    worker_wake_other(worker, jobs_worker_slot(jobs, worker->job));
}

/* False: another generation is to answer. May be called again by who has entered. */
static bool enter(struct worker *worker, struct request *request)
{
    request->entered =
        request->entered || (worker->job >= 0 ? claim(worker)
                                              : board_enter(worker->setup->board, worker->setup->slot,
                                                            worker->setup->generation->number));
    return request->entered;
}

static void leave(struct worker *worker, struct request *request)
{
    if (request->entered && worker->job < 0)
        board_leave(worker->setup->board, worker->setup->slot);
    request->entered = false;
}

/* ---- decide and open ---- */

static void refuse_entry(struct exchange *exchange, int error, const char *reason)
{
    exchange->result.allowed = false;
    exchange->result.error = error;
    exchange->result.reason = reason;
}

static void serve_entry(struct worker *worker, const struct request *request, struct exchange *exchange)
{
    const struct wire_entry *entry = &exchange->entry;
    if (request->error) {
        refuse_entry(exchange, request->error, request->reason);
        return;
    }
    if (entry->error || wire_check_flags(entry->flags, entry->mode) ||
        !path_is_clean(entry->path, entry->path_len)) {
        refuse_entry(exchange, EINVAL, "malformed");
        return;
    }
    char path[PATH_TEXT_MAX + 1];
    memcpy(path, entry->path, entry->path_len);
    path[entry->path_len] = '\0';
    struct opener_request open = {
        &worker->subject, path, entry->path_len, entry->flags, (mode_t)entry->mode, request->now,
    };
    if (request->header.type == WIRE_CHECK)
        opener_check(&worker->opener, &open, &exchange->result);
    else
        opener_open(&worker->opener, &open, &exchange->result);
}

/* ---- reply ---- */

static size_t encode_results(struct worker *worker, const struct request *request, int *fds, size_t *n_fds)
{
    struct wire_header header = request->header;
    header.type |= WIRE_REPLY;
    header.length = WIRE_HEADER_SIZE + header.count * (uint32_t)WIRE_RESULT_SIZE;
    size_t at = wire_encode_header(worker->out, sizeof worker->out, &header);
    *n_fds = 0;
    for (unsigned i = 0; i < header.count; i++) {
        const struct opener_result *result = &worker->exchanges[i].result;
        struct wire_result wire = { result->error, result->rule ? result->rule->number : 0, WIRE_NO_FD };
        if (result->fd >= 0 && result->error == 0) {
            wire.fd_index = (uint32_t)*n_fds;
            fds[(*n_fds)++] = result->fd;
        }
        at += wire_encode_result(worker->out + at, sizeof worker->out - at, &wire);
    }
    return at;
}

/* The kernel holds too many descriptors in flight for this user already (ETOOMANYREFS, unix(7)): as good as a
 * quota. */
static void withdraw_all(struct worker *worker, const struct request *request, int error, const char *reason)
{
    for (unsigned i = 0; i < request->header.count; i++) {
        struct exchange *exchange = &worker->exchanges[i];
        if (exchange->result.fd < 0)
            continue;
        exchange->result.fd = fd_close(exchange->result.fd);
        refuse_entry(exchange, error, reason);
    }
}

static int send_results(struct worker *worker, struct connection *connection, const struct request *request)
{
    int fds[WIRE_MAX_ENTRIES];
    size_t n_fds;
    size_t len = encode_results(worker, request, fds, &n_fds);
    int err = frame_send(worker, connection, len, fds, n_fds);
    if (err == -ETOOMANYREFS) {
        withdraw_all(worker, request, EAGAIN, "quota");
        len = encode_results(worker, request, fds, &n_fds);
        err = frame_send(worker, connection, len, NULL, 0);
    }
    if (err == 0)
        connection_sent(worker, connection, len, (unsigned)n_fds);
    return err;
}

static void close_all(struct worker *worker, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        worker->exchanges[i].result.fd = fd_close(worker->exchanges[i].result.fd);
}

static void decode_entries(struct worker *worker, const struct request *request, struct wire_reader *reader)
{
    for (unsigned i = 0; i < request->header.count; i++) {
        struct exchange *exchange = &worker->exchanges[i];
        exchange->result = (struct opener_result){ .fd = -1, .real = worker->real[i] };
        exchange->entry = (struct wire_entry){ .error = EINVAL };
        if (wire_next_entry(reader, &exchange->entry) != 1)
            exchange->entry.error = EINVAL;
    }
}

/* Known before anything is done: an entry lies on a file system that may block. */
static bool is_slow(const struct worker *worker, const struct request *request)
{
    for (unsigned i = 0; i < request->header.count && request->header.type == WIRE_OPEN && !request->error;
         i++) {
        const struct wire_entry *entry = &worker->exchanges[i].entry;
        if (!entry->error && opener_is_slow(&worker->opener, entry->path, entry->path_len))
            return true;
    }
    return false;
}

/*
 * Entry i turned out to be slow: the whole request begins anew elsewhere. False, unless it has been there, or
 * what came before it has left something behind that must not be done twice: then this entry is to be asked
 * for again.
 */
static bool be_slow(struct worker *worker, struct request *request, unsigned i)
{
    if (worker->late) {
        refuse_entry(&worker->exchanges[i], ETIMEDOUT, "timeout");
        return true;
    }
    if (!has_effects(worker, i)) {
        close_all(worker, i);
        leave(worker, request);
        return false;
    }
    refuse_entry(&worker->exchanges[i], EAGAIN, "slow");
    return true;
}

/* In a slow opener a close may hang: all that others wait for comes before it. */
static int finish_entries(struct worker *worker, struct connection *connection, struct request *request)
{
    if (!narrow_is_same(worker, connection))
        withdraw_all(worker, request, EACCES, "identity");
    int err = enter(worker, request) ? send_results(worker, connection, request) : -ESTALE;
    if (request->entered && worker->job >= 0)
        settle(worker, connection->in_flight, err);
    leave(worker, request);
    if (err != -ESTALE)
        request_audit(worker, connection, request);
    if (worker->job >= 0)
        audit_flush(worker->setup->audit);
    close_all(worker, request->header.count);
    return err;
}

/*
 * OPEN and CHECK. The reply goes out first, then the audit joins the batch. What was decided by a generation
 * that is no more is not answered but given to the next one; what leaves something behind in the file system
 * is begun only if it will be answered.
 */
static int serve_entries(struct worker *worker, struct connection *connection, struct request *request,
                         struct wire_reader *reader)
{
    unsigned count = request->header.count;
    decode_entries(worker, request, reader);
    if (!worker->late && is_slow(worker, request))
        return -EINPROGRESS;
    if (worker->job < 0 && has_effects(worker, count) && !enter(worker, request))
        return -ESTALE;
    for (unsigned i = 0; i < count; i++) {
        serve_entry(worker, request, &worker->exchanges[i]);
        if (worker->exchanges[i].result.slow && !be_slow(worker, request, i))
            return -EINPROGRESS;
    }
    return finish_entries(worker, connection, request);
}

static int send_reply(struct worker *worker, struct connection *connection, struct request *request,
                      size_t body)
{
    struct wire_header header = request->header;
    header.type |= WIRE_REPLY;
    header.length = (uint32_t)(WIRE_HEADER_SIZE + body);
    wire_encode_header(worker->out, sizeof worker->out, &header);
    if (!enter(worker, request))
        return -ESTALE;
    int err = frame_send(worker, connection, header.length, NULL, 0);
    leave(worker, request);
    if (err == 0)
        connection_sent(worker, connection, header.length, 0);
    return err;
}

static int serve_list(struct worker *worker, struct connection *connection, struct request *request)
{
    size_t body = 0;
    if (!request->error)
        body = policy_list(worker->setup->generation->policy, &worker->subject, request->now,
                           (char *)worker->out + WIRE_HEADER_SIZE, sizeof worker->out - WIRE_HEADER_SIZE);
    return send_reply(worker, connection, request, body);
}

static int serve_hello(struct worker *worker, struct connection *connection, struct request *request)
{
    struct wire_hello hello = {
        WIRE_VERSION,
        WIRE_MAX_MESSAGE,
        WIRE_MAX_ENTRIES,
        worker->setup->generation->number,
    };
    size_t body =
        wire_encode_hello(worker->out + WIRE_HEADER_SIZE, sizeof worker->out - WIRE_HEADER_SIZE, &hello);
    return send_reply(worker, connection, request, body);
}

/* ---- authenticate ---- */

/* What a client that started its own broker sent before that asked for credentials comes without. */
static bool is_sender(const struct worker *worker, const struct connection *connection,
                      const struct ucred *sender)
{
    const struct policy_subject *subject = &connection->client->subject;
    struct peer peer = { .pid = connection->pid, .uid = subject->uid, .gid = subject->gid };
    return peer_sent(&peer, sender) || (worker->setup->single && peer_is_unsaid(sender));
}

/* The audit names who connected; who sent stands here, once for a connection. */
static void warn_of_sender(struct connection *connection, const struct ucred *sender)
{
    if (connection->warned)
        return;
    connection->warned = true;
    log_warning("a connection made by uid %u, pid %d is used by uid %u, pid %d: its requests are refused",
                (unsigned)connection->client->subject.uid, (int)connection->pid, (unsigned)sender->uid,
                (int)sender->pid);
}

/* What a slow opener does was counted when its worker read it. */
static bool is_within_rate(struct worker *worker, const struct connection *connection,
                           const struct request *request)
{
    uint64_t now = (uint64_t)request->begin.tv_sec * 1000000000 + (uint64_t)request->begin.tv_nsec;
    return worker->job >= 0 ||
           rate_take(worker->setup->rate, connection->client->subject.uid, request->header.count, now);
}

static bool has_room(struct worker *worker, struct connection *connection, unsigned n)
{
    return connection->kind == FRAME_DATAGRAM ? courier_has_room(connection->client->subject.uid, n)
                                              : connection_has_room(worker, connection, n);
}

/* Grounds to refuse the whole request before any of it is looked at. */
static void admit(struct worker *worker, struct connection *connection, struct request *request,
                  const struct ucred *sender)
{
    if (!is_sender(worker, connection, sender)) {
        warn_of_sender(connection, sender);
        request->error = EPERM;
        request->reason = "credentials";
    } else if (worker->setup->config->audit_required && !audit_works(worker->setup->audit)) {
        request->error = EACCES;
        request->reason = "audit";
    } else if (!is_within_rate(worker, connection, request) ||
               (request->header.type == WIRE_OPEN && !has_room(worker, connection, request->header.count))) {
        board_add(&worker->counters->over_quota, request->header.count);
        request->error = EAGAIN;
        request->reason = "quota";
    }
}

/* 0: the message's entries, refused all of them. */
static int refuse_all(struct worker *worker, struct request *request, const uint8_t *message, size_t len)
{
    struct wire_reader reader;
    int err = wire_decode_request(message, len, &request->header, &reader);
    if (err < 0)
        return err;
    clock_gettime(CLOCK_MONOTONIC, &request->begin);
    decode_entries(worker, request, &reader);
    for (unsigned i = 0; i < request->header.count; i++)
        refuse_entry(&worker->exchanges[i], request->error, request->reason);
    return 0;
}

int request_answer(struct worker *worker, struct connection *connection, const uint8_t *message, size_t len,
                   int error, const char *reason)
{
    struct request request = { .error = error, .reason = reason };
    int err = refuse_all(worker, &request, message, len);
    if (err < 0)
        return err;
    err = send_results(worker, connection, &request);
    request_audit(worker, connection, &request);
    return err;
}

int request_time_out(struct worker *worker, struct connection *connection, const uint8_t *message, size_t len,
                     const struct ucred *sender)
{
    struct wire_header header;
    if (wire_decode_header(message, len, &header) == 0 && header.count > 1 &&
        !request_has_effects(message, len)) {
        memcpy(worker->in, message, len);
        worker->late = true;
        int err = request_serve(worker, connection, len, sender);
        worker->late = false;
        if (err != -ESTALE)
            return err;
    }
    return request_answer(worker, connection, message, len, ETIMEDOUT, "timeout");
}

void request_abandon(struct worker *worker, struct connection *connection, const uint8_t *message, size_t len)
{
    struct request request = { .error = ECANCELED, .reason = "gone" };
    if (refuse_all(worker, &request, message, len) == 0)
        request_audit(worker, connection, &request);
}

bool request_has_effects(const uint8_t *message, size_t len)
{
    struct wire_header header;
    struct wire_reader reader;
    struct wire_entry entry;
    if (wire_decode_request(message, len, &header, &reader) < 0)
        return false;
    while (wire_next_entry(&reader, &entry) == 1)
        if (entry.flags & (WIRE_CREATE | WIRE_TRUNCATE))
            return true;
    return false;
}

/* Nobody is free to wait for it: as good as a quota. */
static int park_or_refuse(struct worker *worker, struct connection *connection, size_t len,
                          const struct ucred *sender)
{
    int err = park(worker, connection, len, sender);
    if (connection->parked)
        return err < 0 ? err : -EINPROGRESS;
    board_add(&worker->counters->over_quota, 1);
    return request_answer(worker, connection, worker->in, len, EAGAIN, "quota");
}

int request_serve(struct worker *worker, struct connection *connection, size_t len,
                  const struct ucred *sender)
{
    struct request request = { .error = 0 };
    struct wire_reader reader;
    if (!board_is_announced(worker->setup->board, worker->setup->generation->number))
        return -ESTALE;
    int err = wire_decode_request(worker->in, len, &request.header, &reader);
    if (err < 0) {
        request_malformed(worker, connection, -err);
        return err;
    }
    clock_gettime(CLOCK_MONOTONIC, &request.begin);
    request.now = time(NULL);
    admit(worker, connection, &request, sender);
    narrow_subject(worker, connection, request.header.type != WIRE_HELLO && !request.error);
    switch (request.header.type) {
    case WIRE_LIST:
        return serve_list(worker, connection, &request);
    case WIRE_HELLO:
        return serve_hello(worker, connection, &request);
    default:
        err = serve_entries(worker, connection, &request, &reader);
        return err == -EINPROGRESS ? park_or_refuse(worker, connection, len, sender) : err;
    }
}
