/*
 * What reloads of 10,000 rules cost those who ask meanwhile: some clients open as fast as they can, in turn
 * without and with a reload every PAUSE_MS.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../client/fob.h"
#include "clients.h"
#include "measure.h"
#include "sections.h"
#include "servers.h"

enum {
    NEW_RULES = 10000,
    CLIENTS = 8,
    CLASSES = 1 << 16,
    PAUSE_MS = 100,
    RELOAD_ROUNDS = 5,
    ROUND_MS = 1000
};

/* By microsecond, of the round that is now; one table for quiet times, one for reloads. */
static struct shared {
    _Atomic int reloading, over;
    _Atomic unsigned long counts[2][CLASSES], lost;
} * shared;

static _Noreturn void ask_all_the_time(const char *socket)
{
    become(CLIENT_UID);
    struct fob *fob = fob_connect(socket);
    while (fob && !shared->over) {
        int reloading = shared->reloading;
        double begin = now_us();
        int fd = fob_open(fob, at("data/file"), O_RDONLY, 0);
        unsigned took = (unsigned)(now_us() - begin);
        shared->lost += fd < 0;
        close(fd);
        shared->counts[reloading][took < CLASSES ? took : CLASSES - 1]++;
    }
    _exit(!fob);
}

static void reload_once(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDOUT_FILENO);
        execl(built("fobctl"), "fobctl", "-s", at("fob.sock.control"), "reload", (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        die("a reload failed");
}

static unsigned long total(int reloading)
{
    unsigned long sum = 0;
    for (unsigned i = 0; i < CLASSES; i++)
        sum += shared->counts[reloading][i];
    return sum;
}

static double quantile(int reloading, double q)
{
    double wanted = q * (double)total(reloading);
    unsigned long so_far = 0;
    for (unsigned i = 0; i < CLASSES; i++) {
        so_far += shared->counts[reloading][i];
        if ((double)so_far >= wanted)
            return i;
    }
    return CLASSES;
}

struct figures {
    double p50[2][ROUNDS_MAX], p99[2][ROUNDS_MAX];
    double rate[2]; /* opens a second, quiet and with reloads: of the last round */
    double reload_us;
    unsigned reloads;
};

static void quiet_for(struct figures *figures)
{
    shared->reloading = 0;
    usleep(ROUND_MS * 1000);
    figures->rate[0] = (double)total(0) * 1000 / ROUND_MS;
}

static void reload_for(struct figures *figures)
{
    double begin = now_us(), end = begin + ROUND_MS * 1000;
    shared->reloading = 1;
    while (now_us() < end) {
        double before = now_us();
        reload_once();
        figures->reload_us += now_us() - before;
        figures->reloads++;
        usleep(PAUSE_MS * 1000);
    }
    figures->rate[1] = (double)total(1) * 1e6 / (now_us() - begin);
}

static void run_round(struct figures *figures, int round)
{
    for (int i = 0; i < 2; i++)
        for (int c = 0; c < CLASSES; c++)
            shared->counts[i][c] = 0;
    quiet_for(figures);
    reload_for(figures);
    for (int i = 0; i < 2; i++) {
        figures->p50[i][round] = quantile(i, 0.5);
        figures->p99[i][round] = quantile(i, 0.99);
    }
}

static void tell(const struct figures *f, int rounds)
{
    char detail[256];
    snprintf(detail, sizeof detail,
             "%u reloads of %.1f ms each; opens a second: %.0f without, %.0f with a reload every %d ms",
             f->reloads, f->reload_us / f->reloads / 1e3, f->rate[0], f->rate[1], PAUSE_MS);
    report(&(struct row){ "8 clients, reloads meanwhile: p50", "us", "p50 without", .limit = 0 }, f->p50[1],
           f->p50[0], rounds);
    report(&(struct row){ "8 clients, reloads meanwhile: p99", "us", "p99 without", .limit = 3 }, f->p99[1],
           f->p99[0], rounds);
    report_value(
        &(struct row){ "requests that were lost", "", .limit = 0.5, .goal = "none", .detail = detail },
        (double)shared->lost);
}

void section_reload(void)
{
    static struct figures figures;
    struct server fobd;
    int rounds = effort.rounds < RELOAD_ROUNDS ? effort.rounds : RELOAD_ROUNDS;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap: %s", strerror(errno));
    need_fobd(&fobd,
              &(struct fobd_options){ .name = "fob", .cpu = CPU_ANY, .workers = 2, .rules = NEW_RULES });
    fflush(NULL);
    for (int i = 0; i < CLIENTS; i++)
        if (fork() == 0)
            ask_all_the_time(fobd.socket);
    usleep(500000);
    for (int r = 0; r < rounds; r++)
        run_round(&figures, r);
    shared->over = 1;
    for (int i = 0; i < CLIENTS; i++)
        if (wait(&(int){ 0 }) < 0)
            die("a client is gone");
    tell(&figures, rounds);
    servers_stop();
}
