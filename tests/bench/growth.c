/*
 * What a request costs as the work grows: rules of the policy, depth of the path, descriptors of a batch. All
 * points of a curve are asked in turn; one client, one core.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "clients.h"
#include "measure.h"
#include "sections.h"
#include "servers.h"

/* ---- rules ---- */

static struct curve by_rules = { .name = "rules",
                                 .x_name = "number of rules",
                                 .y_name = "one open, p50",
                                 .unit = "us",
                                 .n = 6,
                                 .x = { 10, 100, 1000, 10000, 100000, 1000000 } };
static struct server fobd_by_rules[POINTS_MAX];

static void measure_rules(const void *data)
{
    struct curve *curve = &by_rules;
    (void)data;
    struct question questions[POINTS_MAX];
    struct act acts[POINTS_MAX];
    for (int i = 0; i < curve->n; i++) {
        questions[i] = ask_fob(connected(fobd_by_rules[i].socket, SOCK_SEQPACKET), at("data/file"), 1);
        acts[i] = (struct act){ run_question, &questions[i], 0, 0 };
    }
    curve_measure(curve, acts, NULL);
    curve_row(&(struct row){ "100,000 rules", "us", "10 rules", .limit = 1.05 }, curve, 4);
    curve_row(&(struct row){ "1,000,000 rules", "us", "10 rules", .limit = 0 }, curve, 5);
    curve_report(curve);
}

static void rules(void)
{
    for (int i = 0; i < by_rules.n; i++) {
        char name[16];
        snprintf(name, sizeof name, "rules%d", i);
        need_fobd(&fobd_by_rules[i], &(struct fobd_options){
                                         .name = name, .cpu = CPU_SERVER, .rules = (unsigned)by_rules.x[i] });
    }
    as_user(CLIENT_UID, CPU_SERVER, measure_rules, NULL);
    servers_stop();
}

/* ---- depth and batch ---- */

struct peers {
    struct server fobd, floor;
};

/* data/d/d/.../file, so many directories beneath data. */
static void path_of_depth(char *out, size_t size, int depth)
{
    snprintf(out, size, "%s", at("data"));
    for (int i = 1; i < depth; i++) {
        strncat(out, "/d", size - strlen(out) - 1);
        if (mkdir(out, 0755) < 0 && errno != EEXIST)
            die("%s: %s", out, strerror(errno));
    }
    strncat(out, "/file", size - strlen(out) - 1);
    FILE *file = fopen(out, "ae");
    if (!file)
        die("%s: %s", out, strerror(errno));
    fclose(file);
}

static char deep[POINTS_MAX][512];

static void measure_depth(const void *data)
{
    static struct curve curve = { "depth", "depth of the path",        "one open, p50", "us",     "floor",
                                  7,       { 1, 2, 4, 8, 16, 32, 64 }, { { 0 } },       { { 0 } } };
    const struct peers *peers = data;
    int fob_sock = connected(peers->fobd.socket, SOCK_SEQPACKET);
    int floor_sock = connected(peers->floor.socket, SOCK_SEQPACKET);
    struct question fob[POINTS_MAX], floor[POINTS_MAX];
    struct act acts[POINTS_MAX], floor_acts[POINTS_MAX];
    for (int i = 0; i < curve.n; i++) {
        fob[i] = ask_fob(fob_sock, deep[i], 1);
        floor[i] = ask_floor(floor_sock, deep[i]);
        acts[i] = (struct act){ run_question, &fob[i], 0, 0 };
        floor_acts[i] = (struct act){ run_question, &floor[i], 0, 0 };
    }
    curve_measure(&curve, acts, floor_acts);
    curve_report(&curve);
}

static void measure_batch(const void *data)
{
    static struct curve curve = {
        "batch", "number of paths in a message",       "a descriptor, p50", "us",     "direct open",
        9,       { 1, 2, 4, 8, 16, 32, 64, 128, 253 }, { { 0 } },           { { 0 } }
    };
    const struct peers *peers = data;
    int sock = connected(peers->fobd.socket, SOCK_SEQPACKET);
    struct question fob[POINTS_MAX];
    struct act acts[POINTS_MAX], direct[POINTS_MAX];
    for (int i = 0; i < curve.n; i++) {
        int n = (int)curve.x[i];
        fob[i] = ask_fob(sock, deep[0], (unsigned)n);
        acts[i] = (struct act){ run_question, &fob[i], n, 1 + n / 4 };
        direct[i] = (struct act){ run_open, deep[0], 0, 0 };
    }
    curve_measure(&curve, acts, direct);
    curve_report(&curve);
}

static void depth_and_batch(void)
{
    static const int depths[] = { 1, 2, 4, 8, 16, 32, 64 };
    struct peers peers;
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++)
        path_of_depth(deep[i], sizeof deep[i], depths[i]);
    need_fobd(&peers.fobd, &(struct fobd_options){ .name = "fob", .cpu = CPU_SERVER });
    start_floor(&peers.floor, "floor", CPU_SERVER, 0, 0, "");
    as_user(CLIENT_UID, CPU_SERVER, measure_depth, &peers);
    as_user(CLIENT_UID, CPU_SERVER, measure_batch, &peers);
    servers_stop();
}

void section_growth(void)
{
    rules();
    depth_and_batch();
}
