/*
 * The OpenMetrics text format (openmetrics.io, version 1.0): counters for a collector.
 */
#include "board.h"
#include "status_collect.h"

#include "../common/util.h"

static void put_counter(FILE *out, const char *name, const char *help, uint64_t value)
{
    fprintf(out, "# HELP fob_%s %s\n# TYPE fob_%s counter\nfob_%s_total %llu\n", name, help, name, name,
            (unsigned long long)value);
}

static void put_gauge(FILE *out, const char *name, const char *help, double value)
{
    fprintf(out, "# HELP fob_%s %s\n# TYPE fob_%s gauge\nfob_%s %.15g\n", name, help, name, name, value);
}

static void put_decisions(const struct status *status, FILE *out)
{
    fputs("# HELP fob_decisions Entries decided.\n# TYPE fob_decisions counter\n", out);
    fprintf(out, "fob_decisions_total{decision=\"allowed\"} %llu\n", (unsigned long long)status->allowed);
    fprintf(out, "fob_decisions_total{decision=\"refused\"} %llu\n", (unsigned long long)status->refused);
    fprintf(out, "fob_decisions_total{decision=\"failed\"} %llu\n", (unsigned long long)status->failed);
}

static void put_workers(const struct status *status, FILE *out)
{
    fputs("# HELP fob_worker_connections Connections now, by worker.\n"
          "# TYPE fob_worker_connections gauge\n",
          out);
    for (size_t i = 0; i < status->n_processes; i++)
        if (status->processes[i].role[0] == 'w')
            fprintf(out, "fob_worker_connections{worker=\"%u\"} %u\n", status->processes[i].index,
                    status->processes[i].connections);
}

/* Cumulative, and only the limits that are powers of two: four classes each would be more than anybody plots.
 */
static void put_latencies(const struct status *status, FILE *out)
{
    uint64_t so_far = 0;
    fputs("# HELP fob_request_duration_seconds From reading a request to answering it.\n"
          "# TYPE fob_request_duration_seconds histogram\n# UNIT fob_request_duration_seconds seconds\n",
          out);
    for (unsigned i = 0; i < ARRAY_SIZE(status->latencies); i++) {
        so_far += status->latencies[i];
        if (i % 4 == 3 && i < 100)
            fprintf(out, "fob_request_duration_seconds_bucket{le=\"%.9g\"} %llu\n",
                    (double)(board_latency_limit(i) + 1) / 1e6, (unsigned long long)so_far);
    }
    fprintf(out, "fob_request_duration_seconds_bucket{le=\"+Inf\"} %llu\n", (unsigned long long)so_far);
    fprintf(out, "fob_request_duration_seconds_count %llu\n", (unsigned long long)so_far);
    fprintf(out, "fob_request_duration_seconds_sum %.6f\n", (double)status->latency_sum / 1e6);
}

void status_write_metrics(const struct status *status, FILE *out)
{
    const struct supervisor *s = status->s;
    unsigned running = 0;
    for (size_t i = 0; i < status->n_processes; i++)
        running += status->processes[i].role[0] == 'w' && status->processes[i].ready;
    put_gauge(out, "generation", "Number of the policy in force.", s->reign->generation.number);
    put_gauge(out, "policy_rules", "Rules of the policy in force.",
              policy_rule_count(s->reign->generation.policy));
    put_gauge(out, "uptime_seconds", "Since fobd started.", (double)status->up_ms / 1000);
    put_gauge(out, "workers", "Workers that serve.", running);
    put_gauge(out, "connections", "Connections now.", status->connections);
    put_workers(status, out);
    put_counter(out, "connections_accepted", "Connections accepted.", status->accepted);
    put_counter(out, "connections_handed_over", "Connections that a reload gave to new workers.",
                status->handed_over);
    put_counter(out, "requests", "Requests of one or more entries.", status->messages);
    put_decisions(status, out);
    put_counter(out, "over_quota", "Connections and entries turned away by a quota.", status->over_quota);
    put_counter(out, "malformed", "Messages that could not be decoded.", status->malformed);
    put_counter(out, "undelivered", "Datagrams that could not be answered.", status->undelivered);
    put_counter(out, "slow_requests", "Requests that took 100 ms and more.", status->slow);
    put_gauge(out, "slow_openers", "Opens that a slow opener is at.", status->slow_now);
    put_gauge(out, "slow_openers_stuck", "Slow openers that hang and are not waited for.",
              status->slow_stuck);
    put_counter(out, "open_timeouts", "Opens given up after open-timeout.", status->slow_timeouts);
    put_counter(out, "audit_lost", "Audit records that could not be written.", status->audit_lost);
    put_counter(out, "reloads", "Reloads done.", s->reload.done);
    put_counter(out, "reloads_failed", "Reloads that left the old policy in force.", s->reload.failed);
    put_latencies(status, out);
    fputs("# EOF\n", out);
}
