/*
 * What becomes of a request, written down: one record for each entry, and the counters.
 */
#include <stdio.h>
#include <string.h>

#include "connection.h"
#include "request.h"
#include "request_parts.h"
#include "worker.h"

static bool is_logged(const struct opener_result *result)
{
    enum policy_log log = result->rule ? result->rule->log : POLICY_LOG_ALL;
    return log == POLICY_LOG_ALL || (log == POLICY_LOG_REFUSED && !result->allowed);
}

static uint32_t microseconds_since(const struct timespec *begin)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((now.tv_sec - begin->tv_sec) * 1000000 + (now.tv_nsec - begin->tv_nsec) / 1000);
}

static const char *as_text(char out[static 64], const struct policy_rule *rule)
{
    if (!rule || rule->deny)
        return NULL;
    if (rule->as == POLICY_AS_BROKER)
        return "broker";
    if (rule->as == POLICY_AS_CALLER)
        return "caller";
    snprintf(out, 64, "user:%s", rule->as_user->name);
    return out;
}

static void audit_exchange(struct worker *worker, const struct connection *connection,
                           const struct request *request, const struct exchange *exchange, uint32_t latency)
{
    const struct opener_result *result = &exchange->result;
    const struct policy_subject *subject = &connection->client->subject;
    if (!is_logged(result))
        return;
    char as[64];
    struct audit_record record = {
        .allowed = result->allowed,
        .error = result->error,
        .reason = result->reason,
        .rule_file = result->rule ? result->rule->file : NULL,
        .rule_line = result->rule ? result->rule->line : 0,
        .rule_id = result->rule ? result->rule->id : NULL,
        .generation = worker->setup->generation->number,
        .uid = subject->uid,
        .gid = subject->gid,
        .pid = connection->pid,
        .op = request->header.type == WIRE_CHECK ? "check" : "open",
        .rights = opener_rights(exchange->entry.flags),
        .flags = exchange->entry.flags,
        .path = exchange->entry.path,
        .path_len = exchange->entry.path_len,
        .real = result->real_len ? result->real : NULL,
        .real_len = result->real_len,
        .has_file = result->has_file,
        .dev = result->dev,
        .ino = result->ino,
        .as = as_text(as, result->rule),
        .sealed = result->sealed,
        .latency_us = latency,
    };
    audit_add(worker->setup->audit, &record);
}

static void count_exchange(struct worker *worker, const struct request *request,
                           const struct exchange *exchange)
{
    const struct opener_result *result = &exchange->result;
    struct board_counters *counters = worker->counters;
    board_add(!result->allowed ? &counters->refused
              : result->error  ? &counters->failed
                               : &counters->allowed,
              1);
    generation_count(worker->setup->generation, worker->setup->index, result->rule, request->now);
}

void request_audit(struct worker *worker, const struct connection *connection, const struct request *request)
{
    uint32_t latency = microseconds_since(&request->begin);
    board_add(&worker->counters->messages, 1);
    board_count_latency(worker->counters, latency);
    for (unsigned i = 0; i < request->header.count; i++) {
        audit_exchange(worker, connection, request, &worker->exchanges[i], latency);
        count_exchange(worker, request, &worker->exchanges[i]);
    }
}

void request_malformed(struct worker *worker, struct connection *connection, int error)
{
    const struct policy_subject *subject = &connection->client->subject;
    struct audit_record record = {
        .error = error,
        .reason = "malformed",
        .op = "message",
        .generation = worker->setup->generation->number,
        .uid = subject->uid,
        .gid = subject->gid,
        .pid = connection->pid,
    };
    audit_add(worker->setup->audit, &record);
    board_add(&worker->counters->malformed, 1);
}
