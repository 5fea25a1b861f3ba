/*
 * Many clients at once, on all cores: opens a second, and how the kernel spreads connections over workers.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/util.h"
#include "clients.h"
#include "measure.h"
#include "sections.h"
#include "servers.h"

enum { CLIENTS_MAX = 256, SIDES_MAX = 2 * POINTS_MAX, WORKERS_MAX = 64, CONNECT_MS = 20000 };

/* One whom the clients ask. */
struct side {
    const struct server *server;
    struct question (*question)(int sock, const char *path);
};

/* Shared with the clients; who writes often has a cache line of his own. */
static struct board {
    _Atomic int turn; /* whom to ask: a side; IDLE, OVER */
    _Atomic int connected;
    struct {
        _Alignas(64) _Atomic unsigned long asked;
    } clients[CLIENTS_MAX];
} * board;

enum { IDLE = -1, OVER = -2 };

static struct question ask_fob_once(int sock, const char *path)
{
    return ask_fob(sock, path, 1);
}

/* ---- clients ---- */

static _Noreturn void be_client(int client, const struct side *sides, int n)
{
    struct question questions[SIDES_MAX];
    become(CLIENT_UID);
    for (int i = 0; i < n; i++)
        questions[i] = sides[i].question(connected(sides[i].server->socket, SOCK_SEQPACKET), at("data/file"));
    board->connected++;
    for (int turn; (turn = board->turn) != OVER;)
        if (turn == IDLE) {
            usleep(1000);
        } else {
            run_question(&questions[turn]);
            board->clients[client].asked++;
        }
    _exit(0);
}

/* They are connected to all sides when this returns. */
static void start_clients(int clients, const struct side *sides, int n)
{
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        die("mmap: %s", strerror(errno));
    board->turn = IDLE;
    fflush(NULL);
    for (int i = 0; i < clients; i++)
        if (fork() == 0)
            be_client(i, sides, n);
    for (int ms = 0; board->connected < clients; ms++) {
        if (ms == CONNECT_MS)
            die("%d of %d clients are not connected", clients - board->connected, clients);
        usleep(1000);
    }
}

/* The servers are not waited for: they are children too. */
static void stop_clients(int clients)
{
    board->turn = OVER;
    for (int i = 0; i < clients; i++) {
        int status;
        if (wait(&status) < 0 || status != 0)
            die("a client, or a server, failed");
    }
    munmap(board, sizeof *board);
}

static unsigned long asked(int clients)
{
    unsigned long sum = 0;
    for (int i = 0; i < clients; i++)
        sum += board->clients[i].asked;
    return sum;
}

/* Opens a second at one side. The first fifth of a slice is for all to begin. */
static double rate(int side, int clients)
{
    board->turn = side;
    usleep(effort.slice_ms * 200);
    double begin = now_us();
    unsigned long before = asked(clients);
    usleep(effort.slice_ms * 1000);
    double sum = (double)(asked(clients) - before), took = now_us() - begin;
    board->turn = IDLE;
    usleep(2000);
    return sum / took * 1e6;
}

/* ---- workers ---- */

static int count_fds(pid_t pid)
{
    char path[64];
    int n = -2; /* "." and ".." */
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

struct workers {
    int n, fds[WORKERS_MAX];
};

/* By the kernel's count, not by fobd's. */
static struct workers look_at_workers(pid_t fobd)
{
    pid_t pids[WORKERS_MAX];
    struct workers workers = { .n = fobd_processes(fobd, "fobd-worker", pids, WORKERS_MAX) };
    for (int i = 0; i < workers.n; i++)
        workers.fds[i] = count_fds(pids[i]);
    return workers;
}

static void report_spread(const struct workers *before, const struct workers *after, int clients)
{
    char detail[256] = "connections by worker:";
    int most = 0;
    for (int i = 0; i < after->n && i < before->n; i++) {
        int connections = after->fds[i] - before->fds[i];
        size_t len = strlen(detail);
        snprintf(detail + len, sizeof detail - len, " %d", connections);
        most = connections > most ? connections : most;
    }
    report_value(&(struct row){ "share of the worker with most connections", "x", .limit = 1.1,
                                .goal = "<= 1.1x of an even share", .detail = detail },
                 after->n ? (double)most * after->n / clients : 0);
}

/* ---- sections ---- */

static void measure(int clients)
{
    double ours[ROUNDS_MAX] = { 0 }, theirs[ROUNDS_MAX] = { 0 };
    struct server fobd, floor;
    char what[64];
    need_fobd(&fobd, &(struct fobd_options){ .name = "fob", .cpu = CPU_ANY, .workers = 2 });
    start_floor(&floor, "floor", CPU_ANY, 2, 0, "");
    struct workers before = look_at_workers(fobd.pid);
    start_clients(clients, (struct side[]){ { &fobd, ask_fob_once }, { &floor, ask_floor } }, 2);
    struct workers after = look_at_workers(fobd.pid);
    for (int r = 0; r < effort.rounds; r++) {
        theirs[r] = rate(1, clients);
        ours[r] = rate(0, clients);
    }
    snprintf(what, sizeof what, "%d clients: opens a second", clients);
    report(&(struct row){ what, "1/s", "the floor with two processes", 0.85, .at_least = true }, ours, theirs,
           effort.rounds);
    report_spread(&before, &after, clients);
    stop_clients(clients);
    servers_stop();
}

void section_many(void)
{
    measure(strcmp(effort.name, "full") == 0 ? CLIENTS_MAX : strcmp(effort.name, "quick") == 0 ? 64 : 4);
}

enum { WORKERS_CLIENTS = 64, CPUS_MAX = 4 };

void section_workers(void)
{
    static struct curve curve = { .name = "workers",
                                  .x_name = "number of workers",
                                  .y_name = "opens a second of 64 clients",
                                  .unit = "1/s",
                                  .other_name = "floor" };
    static struct server fobds[CPUS_MAX], floors[CPUS_MAX];
    struct side sides[SIDES_MAX];
    curve.n = cpus() < CPUS_MAX ? cpus() : CPUS_MAX;
    if (curve.n == 1)
        report_skipped("workers 1 to 2", "there is one processor");
    if (curve.n == 1)
        return;
    for (int i = 0; i < curve.n; i++) {
        char name[2][32];
        snprintf(name[0], sizeof name[0], "fob%d", i + 1);
        snprintf(name[1], sizeof name[1], "floor%d", i + 1);
        curve.x[i] = i + 1;
        need_fobd(&fobds[i], &(struct fobd_options){ .name = name[0], .cpu = CPU_ANY, .workers = i + 1 });
        start_floor(&floors[i], name[1], CPU_ANY, i + 1, 0, "");
        sides[2 * i] = (struct side){ &fobds[i], ask_fob_once };
        sides[2 * i + 1] = (struct side){ &floors[i], ask_floor };
    }
    start_clients(WORKERS_CLIENTS, sides, 2 * curve.n);
    for (int r = 0; r < effort.rounds; r++)
        for (int i = 0; i < curve.n; i++) {
            curve.y[i][r] = rate(2 * i, WORKERS_CLIENTS);
            curve.other[i][r] = rate(2 * i + 1, WORKERS_CLIENTS);
        }
    curve_row(&(struct row){ "64 clients, two workers: opens a second", "1/s", "one worker", .limit = 0 },
              &curve, 1);
    curve_report(&curve);
    stop_clients(WORKERS_CLIENTS);
    servers_stop();
}
