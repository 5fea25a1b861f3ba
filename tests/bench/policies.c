/*
 * What the number and the shape of rules cost where no broker is in the way: decide, load, memory, explain.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../policy/policy.h"
#include "measure.h"
#include "place.h"
#include "rules.h"
#include "sections.h"

enum { MANY = 100000, LOADS = 5, DECISIONS = 100 /* timed together: one is too short for a clock */ };

struct built {
    char *text;
    size_t len;
    struct policy *policy;
};

/* Loads b->text; how long it took, in milliseconds. */
static double load(struct built *b)
{
    struct policy_messages messages = { 0 };
    double begin = now_us();
    if (policy_load_text(&b->policy, "bench", b->text, b->len, &(struct policy_env){ 0 }, &messages) < 0)
        die("%s", messages.text);
    double ms = (now_us() - begin) / 1e3;
    policy_messages_deinit(&messages);
    return ms;
}

static void build(struct built *b, unsigned rules)
{
    FILE *out = open_memstream(&b->text, &b->len);
    rules_write(out, 0, rules / 2, "/srv");
    rules_write_own(out, "/srv");
    rules_write(out, rules / 2, rules, "/srv");
    fclose(out);
    load(b);
}

static void built_deinit(struct built *b)
{
    policy_free(b->policy);
    free(b->text);
}

/* ---- decisions ---- */

struct asked {
    const struct policy *policy;
    struct policy_scratch *scratch;
    const char *path;
};

static void run_decisions(const void *asked)
{
    const struct asked *a = asked;
    const struct policy_subject subject = { .uid = CLIENT_UID, .gid = CLIENT_UID };
    struct policy_decision decision;
    size_t len = strlen(a->path);
    for (int i = 0; i < DECISIONS; i++)
        policy_decide(a->policy, a->scratch, &subject, RIGHT_READ, a->path, len, 0, &decision);
}

/* Microseconds of one decision. */
static double decide_time(const struct policy *policy, const char *path)
{
    double rounds[ROUNDS_MAX] = { 0 };
    struct asked asked = { policy, policy_scratch_new(policy), path };
    for (int r = 0; r < effort.rounds; r++)
        rounds[r] =
            act_time(&(struct act){ run_decisions, &asked, DECISIONS, strlen(path) > 1000 ? 400 : 20 });
    policy_scratch_free(asked.scratch);
    return median(rounds, effort.rounds);
}

static double load_time(struct built *b)
{
    double rounds[LOADS] = { 0 };
    for (int r = 0; r < LOADS; r++) {
        policy_free(b->policy);
        rounds[r] = load(b);
    }
    return median(rounds, LOADS);
}

static void sizes(void)
{
    struct built few = { 0 }, many = { 0 };
    struct asked asked[2];
    build(&few, 10);
    build(&many, MANY);
    asked[0] = (struct asked){ few.policy, policy_scratch_new(few.policy), "/srv/data/a/file" };
    asked[1] = (struct asked){ many.policy, policy_scratch_new(many.policy), "/srv/data/a/file" };
    compare(&(struct row){ "100,000 rules: a decision", "us", "one by 10 rules", .limit = 0 },
            &(struct act){ run_decisions, &asked[1], DECISIONS, 20 },
            &(struct act){ run_decisions, &asked[0], DECISIONS, 20 });
    report_value(&(struct row){ "100,000 rules: loading", "ms", .limit = 1000 }, load_time(&many));
    report_value(&(struct row){ "100,000 rules: memory of a rule", "bytes", .limit = 400 },
                 (double)policy_memory(many.policy) / MANY);
    policy_scratch_free(asked[0].scratch);
    policy_scratch_free(asked[1].scratch);
    built_deinit(&few);
    built_deinit(&many);
}

/* ---- many files ---- */

enum { FILES = 100 };

/* The lines of `text`, dealt out to FILES files. */
static void write_files(const struct built *b)
{
    const char *line = b->text, *end = b->text + b->len;
    if (mkdir(at("policy.d"), 0755) < 0)
        die("%s cannot be made", at("policy.d"));
    for (int f = 0; f < FILES; f++) {
        char name[32];
        snprintf(name, sizeof name, "policy.d/%02d.policy", f);
        FILE *out = fopen(at(name), "we");
        for (int i = 0; out && i <= MANY / FILES && line < end; i++) {
            const char *next = strchr(line, '\n') + 1;
            fwrite(line, 1, (size_t)(next - line), out);
            line = next;
        }
        if (!out || fclose(out) != 0)
            die("%s cannot be written", at(name));
    }
}

/* Milliseconds of one answer. */
static double explain_time(const struct policy *policy, const char *path)
{
    double rounds[ROUNDS_MAX] = { 0 };
    FILE *out = fopen("/dev/null", "we");
    for (int r = 0; out && r < effort.rounds; r++) {
        double begin = now_us();
        policy_explain(policy, "user:2001", "read", path, 0, out, out);
        rounds[r] = (now_us() - begin) / 1e3;
    }
    fclose(out);
    return median(rounds, effort.rounds);
}

static void files(void)
{
    struct built b = { 0 };
    struct policy *policy = NULL;
    struct policy_messages messages = { 0 };
    struct policy_env env = { .trusted_uid = geteuid() };
    build(&b, MANY);
    write_files(&b);
    double rounds[LOADS] = { 0 };
    for (int r = 0; r < LOADS; r++) {
        double begin = now_us();
        policy_free(policy);
        if (policy_load(&policy, at("policy.d"), &env, &messages) < 0)
            die("%s", messages.text ? messages.text : "policy_load");
        rounds[r] = (now_us() - begin) / 1e3;
    }
    report_value(&(struct row){ "the same in 100 files: loading", "ms", .limit = 1000 },
                 median(rounds, LOADS));
    report_value(&(struct row){ "  explain what a rule allows", "ms", .limit = 0 },
                 explain_time(policy, "/srv/data/a/file"));
    report_value(&(struct row){ "  explain what none allows", "ms", .limit = 0 },
                 explain_time(policy, "/srv/elsewhere/file"));
    policy_free(policy);
    policy_messages_deinit(&messages);
    built_deinit(&b);
}

/* ---- shapes ---- */

/* n rules of one shape; `#` is the rule's number. limit 0: none. */
static void shape(const char *what, const char *rule, unsigned n, const char *path, double limit)
{
    struct built b = { 0 };
    FILE *out = open_memstream(&b.text, &b.len);
    for (unsigned i = 0; i < n; i++) {
        for (const char *p = rule; *p; p++)
            if (*p == '#')
                fprintf(out, "%u", i);
            else
                fputc(*p, out);
        fputc('\n', out);
    }
    fclose(out);
    load(&b);
    report_value(&(struct row){ what, "us", .limit = limit }, decide_time(b.policy, path));
    built_deinit(&b);
}

static void shapes(void)
{
    char deep[4001], names[4001];
    for (int i = 0; i < 4000; i++) {
        deep[i] = i % 2 ? 'q' : '/';
        names[i] = i % 250 ? 'a' : '/';
    }
    deep[4000] = names[4000] = '\0';
    shape("64 of /**/x#/**, path of 4,000 bytes", "allow user:2001 read /**/x#/**", 64, deep, 50);
    shape("64 of /**/q/**/x#, path of 4,000 bytes", "allow user:2001 read /**/q/**/x#", 64, deep, 50);
    shape("/**/**/**/a*, path of 4,000 bytes", "allow user:2001 read /**/**/**/a*", 1, names, 50);
    shape("/**/*a*a*a*a*b, path of 4,000 bytes", "allow user:2001 read /**/*a*a*a*a*b", 1, names, 50);
    shape("100,000 users' rules on one path", "allow user:1# read /srv/shared/**", MANY, "/srv/shared/file",
          0);
    shape("10,000 siblings app*-#.log", "allow user:2001 read /var/log/app*-#.log", 10000,
          "/var/log/app1-777.log", 0);
}

void section_policy(void)
{
    pin(CPU_SERVER);
    sizes();
    files();
    shapes();
}
