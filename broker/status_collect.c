#include "status_collect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/util.h"
#include "board.h"
#include "quota.h"

const double status_quantile[STATUS_QUANTILES] = { 0.5, 0.9, 0.99, 0.999 };

/* ---- processes ---- */

static const char *field(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? at + strlen(name) : "";
}

static unsigned count_words(const char *text)
{
    unsigned n = 0;
    for (; *text && *text != '\n'; text++)
        n += *text != ' ' && *text != '\t' && (text[1] == ' ' || text[1] == '\n');
    return n;
}

/* proc_pid_status(5). The process is our child, or we: it stays what it is while it is read. */
static void read_process(struct status_process *p)
{
    char path[64], text[8192];
    snprintf(path, sizeof path, "/proc/%d/status", (int)p->pid);
    CLEANUP(fd_cleanup) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (len <= 0) {
        p->pid = 0;
        return;
    }
    text[len] = '\0';
    p->uid = (uid_t)strtoul(field(text, "\nUid:"), NULL, 10);
    p->gid = (gid_t)strtoul(field(text, "\nGid:"), NULL, 10);
    p->groups = count_words(field(text, "\nGroups:"));
    p->permitted = strtoull(field(text, "\nCapPrm:"), NULL, 16);
    p->effective = strtoull(field(text, "\nCapEff:"), NULL, 16);
    p->bounding = strtoull(field(text, "\nCapBnd:"), NULL, 16);
    p->no_new_privs = strtoul(field(text, "\nNoNewPrivs:"), NULL, 10);
    p->seccomp = (unsigned)strtoul(field(text, "\nSeccomp:"), NULL, 10);
}

static int collect_processes(struct status *status, const struct supervisor *s)
{
    const struct workers *workers = &s->reign->workers;
    status->processes = mem_zalloc(workers->n + 4 + workers->pool.max, sizeof *status->processes);
    if (!status->processes)
        return -ENOMEM;
    struct status_process *p = status->processes;
    *p++ = (struct status_process){ .role = "supervisor", .pid = getpid(), .ready = true };
    for (unsigned i = 0; i < workers->n; i++) {
        const struct workers_slot *slot = &workers->slots[i];
        *p++ = (struct status_process){
            .role = "worker",
            .index = i,
            .pid = slot->pid,
            .ready = slot->ready,
            .found = slot->confinement.done,
            .landlock_abi = slot->confinement.landlock_abi,
            .connections = quota_total(s->quota, workers->setup.slot + i),
        };
    }
    if (workers->sealer)
        *p++ = (struct status_process){ .role = "sealer", .pid = workers->sealer, .ready = true };
    if (s->courier.pid)
        *p++ = (struct status_process){ .role = "courier", .pid = s->courier.pid, .ready = true };
    if (workers->identity)
        *p++ = (struct status_process){ .role = "identity", .pid = workers->identity, .ready = true };
    for (unsigned i = 0; i < workers->pool.max; i++)
        if (workers->pool.pids[i])
            *p++ = (struct status_process){
                .role = "opener", .index = i, .pid = workers->pool.pids[i], .ready = true
            };
    status->n_processes = (size_t)(p - status->processes);
    for (size_t i = 0; i < status->n_processes; i++) {
        struct status_process *q = &status->processes[i];
        if (q->pid)
            read_process(q);
        if (strcmp(q->role, "supervisor") != 0 && strcmp(q->role, "worker") != 0)
            q->ready = q->seccomp != 0; /* the last step of its confinement */
    }
    return 0;
}

/* ---- counters ---- */

static void add_counters(struct status *status, const struct board_counters *c)
{
    status->accepted += c->accepted;
    status->handed_over += c->handed_over;
    status->messages += c->messages;
    status->allowed += c->allowed;
    status->refused += c->refused;
    status->failed += c->failed;
    status->over_quota += c->over_quota;
    status->malformed += c->malformed;
    status->undelivered += c->undelivered;
    status->slow += c->slow;
    status->audit_lost += c->audit_lost;
    status->latency_sum += c->latency_sum;
    for (unsigned i = 0; i < BOARD_LATENCIES; i++)
        status->latencies[i] += c->latency[i];
}

static void find_quantiles(struct status *status)
{
    uint64_t total = 0, so_far = 0;
    unsigned q = 0;
    for (unsigned i = 0; i < BOARD_LATENCIES; i++)
        total += status->latencies[i];
    for (unsigned i = 0; total && i < BOARD_LATENCIES; i++) {
        so_far += status->latencies[i];
        for (; q < STATUS_QUANTILES && (double)so_far >= status_quantile[q] * (double)total; q++)
            status->quantiles[q] = board_latency_limit(i);
        if (status->latencies[i])
            status->latency_max = board_latency_limit(i);
    }
}

static bool add_user(uid_t uid, unsigned connections, void *data)
{
    struct status *status = data;
    status->connections += connections;
    if (mem_grow(&status->users, status->n_users, &status->cap_users, sizeof *status->users) == 0)
        status->users[status->n_users++] = (struct status_user){ uid, connections };
    return true;
}

static int compare_users(const void *a, const void *b)
{
    const struct status_user *x = a, *y = b;
    if (x->connections != y->connections)
        return x->connections > y->connections ? -1 : 1;
    return x->uid < y->uid ? -1 : 1;
}

static int compare_rules(const void *a, const void *b)
{
    const struct status_rule *x = a, *y = b;
    if (x->hits != y->hits)
        return x->hits > y->hits ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

static int collect_rules(struct status *status, const struct generation *g)
{
    for (uint32_t i = 0; i <= policy_rule_count(g->policy); i++) {
        struct status_rule rule = { .number = i };
        rule.hits = generation_hits(g, i, &rule.last);
        if (!rule.hits)
            continue;
        if (mem_grow(&status->rules, status->n_rules, &status->cap_rules, sizeof *status->rules) < 0)
            return -ENOMEM;
        status->rules[status->n_rules++] = rule;
    }
    if (status->n_rules)
        qsort(status->rules, status->n_rules, sizeof *status->rules, compare_rules);
    return 0;
}

/* ---- roots ---- */

/* What is served is the directory that was there at load. */
static bool is_changed(const struct mounts *mounts, const struct mounts_root *root)
{
    if (mounts_may_block(mounts, root->path, root->path_len))
        return false; /* nobody asks a file system that may hang */
    int fd = root->read_only >= 0 ? root->read_only : root->read_write >= 0 ? root->read_write : root->plain;
    struct stat loaded, now;
    if (fd < 0 || fstat(fd, &loaded) < 0)
        return false;
    if (stat(root->path, &now) < 0)
        return errno == ENOENT;
    return loaded.st_dev != now.st_dev || loaded.st_ino != now.st_ino;
}

static int collect_changed(struct status *status, const struct mounts *mounts)
{
    size_t n = 0;
    status->changed = mem_zalloc(mounts->n_roots + 1, sizeof *status->changed);
    for (size_t i = 0; status->changed && i < mounts->n_roots; i++)
        if (is_changed(mounts, &mounts->roots[i]))
            status->changed[n++] = mounts->roots[i].path;
    return status->changed ? 0 : -ENOMEM;
}

/* ---- the whole ---- */

int status_collect(struct status *status, struct supervisor *s)
{
    *status = (struct status){ .s = s, .up_ms = clock_ms() - s->started };
    int err = collect_processes(status, s);
    for (unsigned i = 0; err == 0 && i < board_slots(s->board); i++)
        add_counters(status, board_counters(s->board, i));
    find_quantiles(status);
    jobs_count(s->jobs, &status->slow_now, &status->slow_stuck, &status->slow_timeouts);
    quota_each(s->quota, add_user, status);
    if (status->n_users)
        qsort(status->users, status->n_users, sizeof *status->users, compare_users);
    if (err == 0)
        err = collect_rules(status, &s->reign->generation);
    if (err == 0)
        err = collect_changed(status, &s->reign->generation.mounts);
    if (err < 0)
        status_deinit(status);
    return err;
}

void status_deinit(struct status *status)
{
    free(status->processes);
    free(status->users);
    free(status->rules);
    free(status->changed);
    *status = (struct status){ .s = NULL };
}
