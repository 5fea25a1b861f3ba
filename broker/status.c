#include "status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>

#include "../common/escape.h"
#include "../common/util.h"
#include "status_collect.h"

enum { TOP_RULES = 20 };

static const struct policy_rule *rule_of(const struct status *status, uint32_t number)
{
    return policy_rule_get(status->s->reign->generation.policy, number);
}

static void put_time(FILE *out, time_t when)
{
    struct tm tm;
    char text[32];
    if (gmtime_r(&when, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
        fputs(text, out);
}

static void put_json(FILE *out, const char *text)
{
    bool raw = false;
    size_t len = strlen(text), size = 6 * len + 3;
    char *shown = malloc(size);
    if (shown && escape_json(shown, size, text, len, &raw))
        fputs(shown, out);
    else
        fputs("null", out);
    free(shown);
}

/* The names of a set of capabilities, by capabilities(7) without "cap_". */
static void put_caps(FILE *out, uint64_t caps, const char *between, const char *quote)
{
    const char *before = "";
    for (int cap = 0; cap < 64; cap++) {
        if (!(caps >> cap & 1))
            continue;
        char *name = cap_to_name(cap);
        fprintf(out, "%s%s%s%s", before, quote, name ? name + (strncmp(name, "cap_", 4) ? 0 : 4) : "?",
                quote);
        before = between;
        cap_free(name);
    }
}

/* ---- text ---- */

static void text_process(const struct status_process *p, FILE *out)
{
    char found[CONFINE_TEXT];
    if (strcmp(p->role, "worker") == 0 || strcmp(p->role, "opener") == 0)
        fprintf(out, "  %s %-3u ", p->role, p->index);
    else
        fprintf(out, "  %-10s ", p->role);
    if (!p->pid) {
        fputs("not running\n", out);
        return;
    }
    fprintf(out, "pid %d%s: uid %u, gid %u, %u groups, ", (int)p->pid, p->ready ? "" : " (starting)",
            (unsigned)p->uid, (unsigned)p->gid, p->groups);
    fputs(p->effective ? "capabilities " : "no capabilities", out);
    put_caps(out, p->effective, " ", "");
    if (p->permitted & ~p->effective) {
        fputs(" (held back: ", out);
        put_caps(out, p->permitted & ~p->effective, " ", "");
        fputc(')', out);
    }
    fprintf(out, ", %s, %s", p->no_new_privs ? "no_new_privs" : "privileges can be gained",
            p->seccomp == 2 ? "seccomp filter" : "no seccomp");
    if (p->found)
        fprintf(out, "; found by itself: %s", confine_text(found, p->found));
    if (p->landlock_abi)
        fprintf(out, " (Landlock ABI %u)", p->landlock_abi);
    fputc('\n', out);
}

static bool is_worker(const struct status_process *p)
{
    return strcmp(p->role, "worker") == 0;
}

static void text_users(const struct status *status, FILE *out)
{
    fprintf(out, "connections: %u now, %llu accepted, %llu handed over by reloads\n", status->connections,
            (unsigned long long)status->accepted, (unsigned long long)status->handed_over);
    for (size_t i = 0; i < status->n_processes; i++)
        if (is_worker(&status->processes[i]))
            fprintf(out, "  worker %u: %u\n", status->processes[i].index, status->processes[i].connections);
    for (size_t i = 0; i < status->n_users && i < STATUS_TOP_USERS; i++)
        fprintf(out, "  uid %u: %u\n", (unsigned)status->users[i].uid, status->users[i].connections);
    if (status->n_users > STATUS_TOP_USERS)
        fprintf(out, "  and %zu users more\n", status->n_users - STATUS_TOP_USERS);
}

static void text_counters(const struct status *status, FILE *out)
{
    fprintf(out, "decisions: %llu allowed, %llu refused, %llu allowed but failed; in %llu requests\n",
            (unsigned long long)status->allowed, (unsigned long long)status->refused,
            (unsigned long long)status->failed, (unsigned long long)status->messages);
    fprintf(out, "turned away: %llu over a quota, %llu malformed; %llu datagrams not answered\n",
            (unsigned long long)status->over_quota, (unsigned long long)status->malformed,
            (unsigned long long)status->undelivered);
    fprintf(out,
            "latency: p50 %u, p90 %u, p99 %u, p99.9 %u, most %u microseconds; %llu requests took 100 ms and "
            "more\n",
            status->quantiles[0], status->quantiles[1], status->quantiles[2], status->quantiles[3],
            status->latency_max, (unsigned long long)status->slow);
    fprintf(out, "slow openers: %u at work, %u of them stuck; %llu timeouts\n", status->slow_now,
            status->slow_stuck, (unsigned long long)status->slow_timeouts);
    fprintf(out, "audit: %llu records lost\n", (unsigned long long)status->audit_lost);
}

static void text_rules(const struct status *status, FILE *out)
{
    fputs("rules that decided, since this generation is in force:\n", out);
    for (size_t i = 0; i < status->n_rules && i < TOP_RULES; i++) {
        const struct policy_rule *rule = rule_of(status, status->rules[i].number);
        char shown[512];
        fprintf(out, "  %10llu  last ", (unsigned long long)status->rules[i].hits);
        put_time(out, status->rules[i].last);
        if (rule) {
            escape_text(shown, sizeof shown, rule->file, strlen(rule->file));
            fprintf(out, "  %s:%u%s%s\n", shown, (unsigned)rule->line, rule->id ? " " : "",
                    rule->id ? rule->id : "");
        } else {
            fputs("  (default: no rule)\n", out);
        }
    }
    if (status->n_rules > TOP_RULES)
        fprintf(out, "  and %zu rules more (--json has all)\n", status->n_rules - TOP_RULES);
}

static void text_write(const struct status *status, FILE *out)
{
    const struct supervisor *s = status->s;
    const struct generation *g = &s->reign->generation;
    char shown[4 * 4096];
    fprintf(out, "fobd: up %lld s, generation %u of ", (long long)status->up_ms / 1000, (unsigned)g->number);
    put_time(out, g->loaded);
    escape_text(shown, sizeof shown, s->config->policy, strlen(s->config->policy));
    fprintf(out, "\npolicy %s: %u rules, %zu bytes\n", shown, (unsigned)policy_rule_count(g->policy),
            policy_memory(g->policy));
    fprintf(out, "reloads: %llu done, %llu failed%s\n", (unsigned long long)s->reload.done,
            (unsigned long long)s->reload.failed, s->reload.step == RELOAD_IDLE ? "" : ", one under way");
    fputs("processes, as the kernel has them:\n", out);
    for (size_t i = 0; i < status->n_processes; i++)
        text_process(&status->processes[i], out);
    for (const char **path = status->changed; *path; path++) {
        escape_text(shown, sizeof shown, *path, strlen(*path));
        fprintf(out, "root changed: %s is another directory now than when it was loaded (fobctl reload)\n",
                shown);
    }
    text_users(status, out);
    text_counters(status, out);
    text_rules(status, out);
}

/* ---- JSON ---- */

static void json_process(const struct status_process *p, FILE *out)
{
    char found[CONFINE_TEXT];
    fprintf(out, "{\"role\":\"%s\",\"index\":%u,\"pid\":%d,\"ready\":%s", p->role, p->index, (int)p->pid,
            p->ready ? "true" : "false");
    if (p->pid) {
        fprintf(out, ",\"uid\":%u,\"gid\":%u,\"groups\":%u,\"capabilities\":{\"effective\":[",
                (unsigned)p->uid, (unsigned)p->gid, p->groups);
        put_caps(out, p->effective, ",", "\"");
        fputs("],\"permitted\":[", out);
        put_caps(out, p->permitted, ",", "\"");
        fputs("],\"bounding\":[", out);
        put_caps(out, p->bounding, ",", "\"");
        fprintf(out, "]},\"no_new_privs\":%s,\"seccomp\":%u,\"landlock_abi\":%u,\"found\":\"%s\"",
                p->no_new_privs ? "true" : "false", p->seccomp, p->landlock_abi,
                confine_text(found, p->found));
    }
    if (is_worker(p))
        fprintf(out, ",\"connections\":%u", p->connections);
    fputc('}', out);
}

static void json_rules(const struct status *status, FILE *out)
{
    for (size_t i = 0; i < status->n_rules; i++) {
        const struct policy_rule *rule = rule_of(status, status->rules[i].number);
        fputs(i ? ",{\"rule\":" : "{\"rule\":", out);
        if (rule) {
            char place[512];
            snprintf(place, sizeof place, "%s:%u", rule->file, (unsigned)rule->line);
            put_json(out, place);
        } else {
            fputs("null", out);
        }
        fputs(",\"id\":", out);
        if (rule && rule->id)
            put_json(out, rule->id);
        else
            fputs("null", out);
        fprintf(out, ",\"hits\":%llu,\"last\":\"", (unsigned long long)status->rules[i].hits);
        put_time(out, status->rules[i].last);
        fputs("\"}", out);
    }
}

static void json_counters(const struct status *status, FILE *out)
{
    fprintf(out,
            ",\"connections\":%u,\"accepted\":%llu,\"handed_over\":%llu,\"requests\":%llu,\"allowed\":%llu,"
            "\"refused\":%llu,\"failed\":%llu,\"over_quota\":%llu,\"malformed\":%llu,\"undelivered\":%llu,"
            "\"slow\":%llu,"
            "\"audit_lost\":%llu",
            status->connections, (unsigned long long)status->accepted,
            (unsigned long long)status->handed_over, (unsigned long long)status->messages,
            (unsigned long long)status->allowed, (unsigned long long)status->refused,
            (unsigned long long)status->failed, (unsigned long long)status->over_quota,
            (unsigned long long)status->malformed, (unsigned long long)status->undelivered,
            (unsigned long long)status->slow, (unsigned long long)status->audit_lost);
    fprintf(out, ",\"slow_openers\":{\"now\":%u,\"stuck\":%u,\"timeouts\":%llu}", status->slow_now,
            status->slow_stuck, (unsigned long long)status->slow_timeouts);
    fprintf(out, ",\"latency_us\":{\"p50\":%u,\"p90\":%u,\"p99\":%u,\"p99.9\":%u,\"max\":%u}",
            status->quantiles[0], status->quantiles[1], status->quantiles[2], status->quantiles[3],
            status->latency_max);
}

static void json_write(const struct status *status, FILE *out)
{
    const struct supervisor *s = status->s;
    const struct generation *g = &s->reign->generation;
    fprintf(out, "{\"generation\":%u,\"loaded\":\"", (unsigned)g->number);
    put_time(out, g->loaded);
    fprintf(out, "\",\"uptime_s\":%lld,\"policy\":", (long long)status->up_ms / 1000);
    put_json(out, s->config->policy);
    fprintf(out,
            ",\"rules\":%u,\"policy_bytes\":%zu,\"reloads\":%llu,\"reloads_failed\":%llu,\"processes\":[",
            (unsigned)policy_rule_count(g->policy), policy_memory(g->policy),
            (unsigned long long)s->reload.done, (unsigned long long)s->reload.failed);
    for (size_t i = 0; i < status->n_processes; i++) {
        fputs(i ? "," : "", out);
        json_process(&status->processes[i], out);
    }
    fputs("],\"roots_changed\":[", out);
    for (size_t i = 0; status->changed[i]; i++) {
        fputs(i ? "," : "", out);
        put_json(out, status->changed[i]);
    }
    fputc(']', out);
    json_counters(status, out);
    fputs(",\"users\":[", out);
    for (size_t i = 0; i < status->n_users; i++)
        fprintf(out, "%s{\"uid\":%u,\"connections\":%u}", i ? "," : "", (unsigned)status->users[i].uid,
                status->users[i].connections);
    fputs("],\"decided_by\":[", out);
    json_rules(status, out);
    fputs("]}\n", out);
}

int status_write(struct supervisor *s, const char *format, FILE *out)
{
    struct status status;
    int err = status_collect(&status, s);
    if (err < 0)
        return err;
    if (strcmp(format, "text") == 0)
        text_write(&status, out);
    else if (strcmp(format, "json") == 0)
        json_write(&status, out);
    else if (strcmp(format, "openmetrics") == 0)
        status_write_metrics(&status, out);
    else
        err = -EINVAL;
    status_deinit(&status);
    return err;
}
