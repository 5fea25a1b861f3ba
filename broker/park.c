#include "park.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "../common/msg.h"
#include "../common/util.h"
#include "connection.h"
#include "jobs.h"
#include "request.h"

enum { ANSWERING_MS = 200 /* a send that does not wait is over by then, or its process is dead */ };

/* ---- the list ---- */

static void list_add(struct parked_list *list, struct parked *p)
{
    struct parked *before = list->last;
    while (before && before->deadline > p->deadline) /* it came over from another worker */
        before = before->prev;
    p->prev = before;
    p->next = before ? before->next : list->first;
    *(p->next ? &p->next->prev : &list->last) = p;
    *(before ? &before->next : &list->first) = p;
}

static void list_remove(struct parked_list *list, struct parked *p)
{
    *(p->prev ? &p->prev->next : &list->first) = p->next;
    *(p->next ? &p->next->prev : &list->last) = p->prev;
}

static void forget(struct worker *worker, struct parked *p)
{
    p->connection->parked = NULL;
    list_remove(&worker->parked, p);
    jobs_leave_worker(worker->setup->jobs, p->job);
    free(p);
}

/* ---- there ---- */

static int send_job(struct worker *worker, const struct parked *p)
{
    static uint8_t bytes[sizeof(struct park_job) + WIRE_MAX_MESSAGE];
    struct park_job head = {
        .job = (uint32_t)p->job,
        .len = (uint32_t)p->len,
        .kind = p->connection->kind,
        .sender = p->sender,
    };
    if (p->connection->from)
        head.from = *p->connection->from;
    if (worker->narrowed)
        head.identity = worker->identity;
    memcpy(bytes, &head, sizeof head);
    memcpy(bytes + sizeof head, p->message, p->len);
    int err = msg_send(worker->setup->slow_queue, bytes, sizeof head + p->len, &p->connection->fd, 1, NULL,
                       MSG_DONTWAIT);
    if (err < 0)
        return -EAGAIN;
    /* Somebody is to be there for the next one; when this is lost, the next one says it. */
    const struct worker_notice notice = { head.job, jobs_serial(worker->setup->jobs, p->job) };
    msg_send(worker->setup->control, &notice, sizeof notice, &p->connection->fd, !p->connection->from, NULL,
             MSG_DONTWAIT);
    return 0;
}

int park(struct worker *worker, struct connection *connection, size_t len, const struct ucred *sender)
{
    const struct worker_setup *setup = worker->setup;
    int job = jobs_take(setup->jobs, connection->client->subject.uid, setup->slot, setup->generation->number);
    if (job < 0)
        return job;
    struct parked *p = mem_zalloc(1, sizeof *p + len);
    int err = p ? 0 : -ENOMEM;
    if (err == 0) {
        *p = (struct parked){
            .connection = connection,
            .job = job,
            .deadline =
                connection->deadline ? connection->deadline : clock_ms() + setup->config->open_timeout_ms,
            .sender = *sender,
            .len = len,
        };
        memcpy(p->message, worker->in, len);
        err = send_job(worker, p);
    }
    if (err < 0) {
        jobs_leave_opener(setup->jobs, job);
        jobs_leave_worker(setup->jobs, job);
        free(p);
        return err;
    }
    list_add(&worker->parked, p);
    connection->parked = p;
    connection->deadline = p->deadline;
    connection->lent = true;
    return connection_ignore(worker, connection); /* else it is closed, and the job with it */
}

/* ---- and back ---- */

/* True if the connection still lives. */
static bool take_up(struct worker *worker, struct parked *p)
{
    struct connection *connection = p->connection;
    unsigned sent = jobs_sent(worker->setup->jobs, p->job);
    forget(worker, p);
    connection->deadline = 0;
    connection_sent(worker, connection, 0, sent);
    return connection_heed(worker, connection);
}

/* True if the connection still lives. */
static bool answer_timeout(struct worker *worker, struct parked *p)
{
    struct connection *connection = p->connection;
    int err = request_time_out(worker, connection, p->message, p->len, &p->sender);
    forget(worker, p);
    connection->deadline = 0;
    if (err < 0) {
        connection_close(worker, connection);
        return false;
    }
    return connection_heed(worker, connection);
}

void park_serve(struct worker *worker)
{
    struct parked *next;
    int64_t now = clock_ms();
    for (struct parked *p = worker->parked.first; p; p = next) {
        next = p->next;
        enum job_state state = jobs_state(worker->setup->jobs, p->job);
        if (state == JOB_ANSWERED)
            take_up(worker, p);
        else if (state == JOB_DIED || state == JOB_UNSENT)
            connection_close(worker, p->connection); /* whatever became of the request */
        else if (now >= p->deadline && jobs_move(worker->setup->jobs, p->job, JOB_PENDING, JOB_TIMED_OUT))
            answer_timeout(worker, p);
    }
}

int park_timeout(const struct worker *worker)
{
    int64_t left = worker->parked.first ? worker->parked.first->deadline - clock_ms() : -1;
    return !worker->parked.first ? -1 : left < 1 ? 1 : (int)left;
}

void park_cancel(struct worker *worker, struct connection *connection)
{
    struct parked *p = connection->parked;
    if (!p)
        return;
    jobs_move(worker->setup->jobs, p->job, JOB_PENDING, JOB_CANCELLED);
    enum job_state state = jobs_state(worker->setup->jobs, p->job);
    if (state != JOB_ANSWERING && state != JOB_ANSWERED &&
        state != JOB_UNSENT) /* then the opener has its record */
        request_abandon(worker, connection, p->message, p->len);
    else if (state == JOB_ANSWERED)
        connection_sent(worker, connection, 0, jobs_sent(worker->setup->jobs, p->job));
    forget(worker, p);
}

/* Who is sending is waited for: a send that does not wait itself. */
static enum job_state settled_state(struct worker *worker, const struct parked *p)
{
    struct jobs *jobs = worker->setup->jobs;
    jobs_move(jobs, p->job, JOB_PENDING, JOB_CANCELLED);
    for (int i = 0; i < ANSWERING_MS && jobs_state(jobs, p->job) == JOB_ANSWERING; i++)
        poll(NULL, 0, 1);
    return jobs_state(jobs, p->job);
}

bool park_take_back(struct worker *worker, struct connection *connection)
{
    struct parked *p = connection->parked;
    if (!p)
        return true;
    enum job_state state = settled_state(worker, p);
    if (state == JOB_ANSWERED)
        return take_up(worker, p);
    if (state != JOB_CANCELLED && state != JOB_STALE) {
        connection_close(worker, connection);
        return false;
    }
    if (request_has_effects(p->message, p->len))
        return answer_timeout(worker, p);
    memcpy(worker->in, p->message, p->len);
    worker->pending = (struct handover_pending){ connection, p->len, p->sender };
    forget(worker, p);
    return true;
}
