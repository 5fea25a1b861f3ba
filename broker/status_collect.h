/*
 * What fobctl status tells, before it is written in one of its formats.
 */
#ifndef FOB_BROKER_STATUS_COLLECT_H
#define FOB_BROKER_STATUS_COLLECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#include "supervisor.h"

enum { STATUS_QUANTILES = 4, STATUS_TOP_USERS = 20 };

/* A process: /proc/PID/status, and what it found when it looked at itself after it was confined. */
struct status_process {
    const char *role; /* "supervisor", "worker", "sealer", "identity", "opener" */
    unsigned index;   /* of a worker */
    pid_t pid;        /* 0: not running now */
    bool ready;
    uid_t uid;
    gid_t gid;
    unsigned groups;
    uint64_t permitted, effective, bounding; /* capabilities, by bit */
    bool no_new_privs;
    unsigned seccomp; /* 0 none, 2 a filter */
    unsigned found;   /* CONFINE_* of a worker */
    unsigned landlock_abi;
    unsigned connections; /* of a worker */
};

struct status_user {
    uid_t uid;
    unsigned connections;
};

struct status_rule {
    uint32_t number; /* 0: the default */
    uint64_t hits;
    time_t last;
};

struct status {
    const struct supervisor *s;
    int64_t up_ms;
    struct status_process *processes;
    size_t n_processes;
    struct status_user *users;
    size_t n_users, cap_users;
    unsigned connections;
    uint64_t accepted, handed_over, messages, allowed, refused, failed, over_quota, malformed, undelivered,
        slow, audit_lost;
    uint64_t latency_sum;          /* microseconds */
    uint64_t latencies[128];       /* by class: board_latency_class() */
    unsigned slow_now, slow_stuck; /* slow openers at work, and those that nobody waits for any more */
    uint64_t slow_timeouts;
    uint32_t quantiles[STATUS_QUANTILES]; /* microseconds, the most of their class: p50 p90 p99 p99.9 */
    uint32_t latency_max;
    struct status_rule *rules; /* those that decided something, most hits first */
    size_t n_rules, cap_rules;
    const char **changed; /* roots whose path is another directory by now; NULL-terminated */
};

/* 0, to status_deinit(), or -ENOMEM. */
int status_collect(struct status *status, struct supervisor *s);
void status_deinit(struct status *status);

/* status_metrics.c */
void status_write_metrics(const struct status *status, FILE *out);

extern const double status_quantile[STATUS_QUANTILES];

#endif
