/*
 * What the number and the shape of rules cost: decide, load, memory. Prints a table; judges nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../policy/policy.h"

enum { ROUNDS = 9, DECISIONS = 20000 };

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct built {
    char *text;
    size_t len;
    struct policy *policy;
    double load_ms;
};

/* A mix as admins write it; rule number `middle` is the one that the measured request meets. */
static void build(struct built *b, unsigned rules)
{
    FILE *out = open_memstream(&b->text, &b->len);
    for (unsigned i = 0; i < rules; i++) {
        if (i == rules / 2)
            fprintf(out, "allow user:2001 read /srv/data/tested/**\n");
        else if (i % 4 == 0)
            fprintf(out, "allow user:%u read /srv/data/set%u/**\n", 3000 + i % 1000, i);
        else if (i % 4 == 1)
            fprintf(out, "allow group:%u read,list /var/log/app%u/*.log\n", 100 + i % 50, i);
        else if (i % 4 == 2)
            fprintf(out, "allow user:%u,group:%u read,write /srv/home/%u/file%u\n", 3000 + i % 1000, i % 100,
                    i % 5000, i);
        else
            fprintf(out, "deny any write /srv/data/set%u/locked-*\n", i);
    }
    fclose(out);
}

static void load(struct built *b)
{
    struct policy_messages messages = { 0 };
    double begin = now_ns();
    if (policy_load_text(&b->policy, "bench", b->text, b->len, &(struct policy_env){ 0 }, &messages) < 0) {
        fputs(messages.text, stderr);
        exit(1);
    }
    b->load_ms = (now_ns() - begin) / 1e6;
    policy_messages_deinit(&messages);
}

/* Median nanoseconds of one decision. */
static double measure(const struct policy *policy, const char *path)
{
    struct policy_scratch *scratch = policy_scratch_new(policy);
    struct policy_subject subject = { .uid = 2001, .gid = 2001 };
    struct policy_decision decision;
    double rounds[ROUNDS] = { 0 };
    size_t len = strlen(path);
    for (int r = -1; r < ROUNDS; r++) { /* the first is to warm up */
        int n = len > 1000 ? DECISIONS / 100 : DECISIONS;
        double begin = now_ns();
        for (int i = 0; i < n; i++)
            policy_decide(policy, scratch, &subject, RIGHT_READ, path, len, 0, &decision);
        rounds[r < 0 ? 0 : r] = (now_ns() - begin) / n;
    }
    qsort(rounds, ROUNDS, sizeof *rounds, compare);
    policy_scratch_free(scratch);
    return rounds[ROUNDS / 2];
}

static void print_sizes(void)
{
    static const unsigned sizes[] = { 10, 1000, 100000 };
    double first = 0;
    printf("%-34s %10s %8s %10s %12s\n", "rules", "decide ns", "ratio", "load ms", "bytes a rule");
    for (size_t i = 0; i < 3; i++) {
        struct built b = { 0 };
        build(&b, sizes[i]);
        load(&b);
        double ns = measure(b.policy, "/srv/data/tested/a/file");
        first = i ? first : ns;
        printf("%-34u %10.0f %8.2f %10.1f %12.0f\n", sizes[i], ns, ns / first, b.load_ms,
               (double)policy_memory(b.policy) / sizes[i]);
        policy_free(b.policy);
        free(b.text);
    }
}

enum { FILES = 100, RULES_OF_A_FILE = 1000 };

/* The lines of `text`, dealt out to FILES files of a new directory. */
static void write_files(const char *dir, const struct built *b)
{
    const char *line = b->text;
    for (int f = 0; f < FILES; f++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%02d.policy", dir, f);
        FILE *out = fopen(path, "we");
        for (int i = 0; out && i < RULES_OF_A_FILE; i++) {
            const char *end = strchr(line, '\n') + 1;
            fwrite(line, 1, (size_t)(end - line), out);
            line = end;
        }
        if (!out || fclose(out) != 0) {
            perror(path);
            exit(1);
        }
        chmod(path, 0644);
    }
}

static void remove_files(const char *dir)
{
    for (int f = 0; f < FILES; f++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%02d.policy", dir, f);
        unlink(path);
    }
    rmdir(dir);
}

/* Median milliseconds of one answer. */
static double measure_explain(const struct policy *policy, const char *subject, const char *path)
{
    double rounds[ROUNDS] = { 0 };
    FILE *out = fopen("/dev/null", "we");
    for (int r = 0; out && r < ROUNDS; r++) {
        double begin = now_ns();
        policy_explain(policy, subject, "read", path, 0, out, out);
        rounds[r] = (now_ns() - begin) / 1e6;
    }
    fclose(out);
    qsort(rounds, ROUNDS, sizeof *rounds, compare);
    return rounds[ROUNDS / 2];
}

static void print_files(void)
{
    char dir[] = "/tmp/fob-bench.XXXXXX";
    struct built b = { 0 };
    struct policy_messages messages = { 0 };
    struct policy_env env = { .trusted_uid = geteuid() };
    build(&b, FILES * RULES_OF_A_FILE);
    if (!mkdtemp(dir) || chmod(dir, 0755) < 0) {
        perror(dir);
        exit(1);
    }
    write_files(dir, &b);
    double begin = now_ns();
    int err = policy_load(&b.policy, dir, &env, &messages);
    double ms = (now_ns() - begin) / 1e6;
    remove_files(dir);
    if (err < 0) {
        fputs(messages.text ? messages.text : "policy_load\n", stderr);
        exit(1);
    }
    printf("\n%-34s %10.1f ms\n", "100,000 rules in 100 files: load", ms);
    printf("%-34s %10.1f ms\n", "  explain what a rule allows",
           measure_explain(b.policy, "user:2001", "/srv/data/tested/a/file"));
    printf("%-34s %10.1f ms\n", "  explain what none allows",
           measure_explain(b.policy, "user:2001", "/srv/data/elsewhere/file"));
    policy_free(b.policy);
    policy_messages_deinit(&messages);
    free(b.text);
}

/* n rules of one shape; %u is the rule's number. */
static void print_shape(const char *what, const char *shape, unsigned n, const char *path)
{
    struct built b = { 0 };
    FILE *out = open_memstream(&b.text, &b.len);
    for (unsigned i = 0; i < n; i++) {
        for (const char *p = shape; *p; p++)
            if (*p == '#')
                fprintf(out, "%u", i);
            else
                fputc(*p, out);
        fputc('\n', out);
    }
    fclose(out);
    load(&b);
    printf("%-34s %10.0f\n", what, measure(b.policy, path));
    policy_free(b.policy);
    free(b.text);
}

int main(void)
{
    char deep[4001], names[4001];
    for (int i = 0; i < 4000; i++) {
        deep[i] = i % 2 ? 'q' : '/';
        names[i] = i % 250 ? 'a' : '/';
    }
    deep[4000] = names[4000] = '\0';
    print_sizes();
    print_shape("64 of /**/x#/**, 4,000-byte path", "allow user:2001 read /**/x#/**", 64, deep);
    print_shape("64 of /**/q/**/x#, 4,000-byte path", "allow user:2001 read /**/q/**/x#", 64, deep);
    print_shape("/**/**/**/a*, 4,000-byte path", "allow user:2001 read /**/**/**/a*", 1, names);
    print_shape("/**/*a*a*a*a*b, 4,000-byte path", "allow user:2001 read /**/*a*a*a*a*b", 1, names);
    print_shape("100,000 users' rules on one path", "allow user:1# read /srv/shared/**", 100000,
                "/srv/shared/file");
    print_shape("10,000 siblings app*-#.log", "allow user:2001 read /var/log/app*-#.log", 10000,
                "/var/log/app1-777.log");
    print_files();
    return 0;
}
