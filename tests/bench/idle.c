/*
 * Connections that ask nothing: what they cost the one who asks, and in memory.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/util.h"
#include "clients.h"
#include "measure.h"
#include "sections.h"
#include "servers.h"

enum { IDLE_MAX = 10000, PATIENCE_MS = 60000, KIB = 1024, SETTLE_MS = 400, MEMORY_ROUNDS = 5 };

/* ---- who holds connections ---- */

struct holder {
    pid_t pid;
    _Atomic int *held; /* shared with it */
};

/* n connections to the socket; NULL: the ends of n / 2 pairs, to know what a client's own end costs. */
static _Noreturn void hold(const char *socket, int n, _Atomic int *held)
{
    become(CLIENT_UID + 1);
    for (; *held < n; *held += socket ? 1 : 2) {
        int pair[2];
        if (socket)
            connected(socket, SOCK_SEQPACKET);
        else if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
            die("socketpair: %s", strerror(errno));
    }
    for (;;)
        pause();
}

static struct holder holder_start(const char *socket, int n)
{
    struct holder holder = { .held = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE,
                                          MAP_SHARED | MAP_ANONYMOUS, -1, 0) };
    if (holder.held == MAP_FAILED)
        die("mmap: %s", strerror(errno));
    *holder.held = 0;
    fflush(NULL);
    holder.pid = fork();
    if (holder.pid < 0)
        die("fork: %s", strerror(errno));
    if (holder.pid == 0)
        hold(socket, n, holder.held);
    for (int ms = 0; *holder.held < n; ms++) {
        if (ms == PATIENCE_MS || waitpid(holder.pid, NULL, WNOHANG) == holder.pid)
            die("%d connections are not to be had", n);
        usleep(1000);
    }
    return holder;
}

static void holder_stop(struct holder *holder)
{
    kill(holder->pid, SIGKILL);
    waitpid(holder->pid, NULL, 0);
    munmap(holder->held, sizeof(int));
}

/* ---- one works, the others do not ---- */

static struct curve by_idle = { .name = "connections",
                                .x_name = "number of connections",
                                .y_name = "one open of the only client that works, p50",
                                .unit = "us",
                                .n = 5,
                                .x = { 1, 10, 100, 1000, IDLE_MAX } };
static struct server fobd_by_idle[POINTS_MAX];

static void measure_idle(const void *data)
{
    struct curve *curve = &by_idle;
    (void)data;
    struct question questions[POINTS_MAX];
    struct act acts[POINTS_MAX];
    for (int i = 0; i < curve->n; i++) {
        questions[i] = ask_fob(connected(fobd_by_idle[i].socket, SOCK_SEQPACKET), at("data/file"), 1);
        acts[i] = (struct act){ run_question, &questions[i], 0, 0 };
    }
    curve_measure(curve, acts, NULL);
    curve_row(&(struct row){ "one of 10,000 connections, others idle", "us", "the only one", .limit = 1.05 },
              curve, curve->n - 1);
    curve_report(curve);
}

static const char config[] = "max-connections 10000\nmax-connections-per-user 10000\n";

static void idle(void)
{
    struct holder holders[POINTS_MAX];
    for (int i = 0; i < by_idle.n; i++) {
        char name[16];
        snprintf(name, sizeof name, "idle%d", i);
        need_fobd(&fobd_by_idle[i],
                  &(struct fobd_options){ .name = name, .cpu = CPU_SERVER, .config = config });
        holders[i] = holder_start(fobd_by_idle[i].socket, (int)by_idle.x[i] - 1);
    }
    as_user(CLIENT_UID, CPU_SERVER, measure_idle, NULL);
    for (int i = 0; i < by_idle.n; i++)
        holder_stop(&holders[i]);
    servers_stop();
}

/* ---- memory ---- */

/* The sum of such lines ("Pss_Anon:", in KiB) of a file in /proc; bytes. */
static double sum_of(const char *path, const char *const *keys)
{
    char line[256];
    double sum = 0;
    FILE *in = fopen(path, "re");
    while (in && fgets(line, sizeof line, in))
        for (const char *const *key = keys; *key; key++)
            if (strncmp(line, *key, strlen(*key)) == 0)
                sum += atof(line + strlen(*key)) * KIB;
    if (in)
        fclose(in);
    return sum;
}

/* Of all processes of fobd's; what they share counts once. Files (programs, libraries) do not. */
static double user_memory(pid_t fobd)
{
    static const char *const keys[] = { "Pss_Anon:", "Pss_Shmem:", NULL };
    pid_t pids[64];
    char path[64];
    int n = fobd_processes(fobd, NULL, pids, 63);
    double sum = 0;
    pids[n++] = fobd;
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pids[i]);
        sum += sum_of(path, keys);
    }
    return sum;
}

/* Objects in use, by /proc/slabinfo: pages that are kept for more of them say nothing. */
static double slab_memory(void)
{
    char line[512];
    double active, all, size, sum = 0;
    FILE *in = fopen("/proc/slabinfo", "re");
    while (in && fgets(line, sizeof line, in))
        if (sscanf(line, "%*s %lf %lf %lf", &active, &all, &size) == 3)
            sum += active * size;
    if (in)
        fclose(in);
    return sum;
}

/* Of the whole system: nothing tells what of a socket's memory is whose. What is freed is freed later (RCU).
 */
static double kernel_memory(void)
{
    static const char *const keys[] = { "Slab:", NULL };
    usleep(SETTLE_MS * 1000);
    double objects = slab_memory();
    return objects > 0 ? objects : sum_of("/proc/meminfo", keys);
}

/* Of the kernel's memory, by each of so many connections (NULL: ends of pairs); the user's of fobd, too. */
static double cost_of_idle(const struct server *fobd, double *user)
{
    double kernel = kernel_memory(), before = fobd ? user_memory(fobd->pid) : 0;
    struct holder holder = holder_start(fobd ? fobd->socket : NULL, IDLE_MAX);
    double all = kernel_memory() - kernel;
    if (fobd)
        *user = (user_memory(fobd->pid) - before) / IDLE_MAX;
    holder_stop(&holder);
    return all / IDLE_MAX;
}

/* Both ends of a pair cost about the same: one of them is taken for the client's end of a connection. */
static void memory(void)
{
    double users[MEMORY_ROUNDS] = { 0 }, all[MEMORY_ROUNDS] = { 0 }, clients[MEMORY_ROUNDS] = { 0 };
    int rounds = effort.rounds < MEMORY_ROUNDS ? effort.rounds : MEMORY_ROUNDS;
    struct server fobd;
    char detail[256];
    need_fobd(&fobd, &(struct fobd_options){ .name = "memory", .cpu = CPU_ANY, .config = config });
    for (int r = 0; r < rounds; r++) {
        clients[r] = cost_of_idle(NULL, NULL);
        all[r] = cost_of_idle(&fobd, &users[r]);
    }
    double user = users[0]; /* what fobd has had once it keeps for the next */
    double both = median(all, rounds), client = median(clients, rounds);
    snprintf(
        detail, sizeof detail,
        "the kernel's for both ends of a connection: %.0f bytes; the client's end, as one of a socketpair: "
        "%.0f",
        both, client);
    report_value(&(struct row){ "an idle connection: fobd's own memory", "bytes", .limit = 256 }, user);
    report_value(
        &(struct row){ "with the kernel's for fobd's end", "bytes", .limit = 2900, .detail = detail },
        user + both - client);
    servers_stop();
}

/* Half of what may be open is what fobd takes as connections. */
static bool has_room(char *why, size_t size)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    snprintf(why, size, "the limit of descriptors is %llu, not %d", (unsigned long long)limit.rlim_cur,
             2 * IDLE_MAX);
    return limit.rlim_cur >= 2 * IDLE_MAX;
}

void section_connections(void)
{
    char why[128];
    if (!has_room(why, sizeof why)) {
        report_skipped("10,000 idle connections", why);
        return;
    }
    idle();
    memory();
}
