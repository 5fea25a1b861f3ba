/*
 * reload: what reloads of 10,000 rules cost those who ask meanwhile: CLIENTS processes open as fast as they
 * can, in turn without and with a reload every PAUSE_MS. Prints p50 and p99 of both; a lost request ends it.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../client/fob.h"

enum {
    RULES = 10000,
    CLIENTS = 8,
    ROUNDS = 5,
    CLIENT_UID = 2001,
    CLASSES = 1 << 16,
    ROUND_MS = 1000,
    PAUSE_MS = 100
};

static char dir[] = "/tmp/fob-bench.XXXXXX", file[64], sock[64], control[64], fobctl[512];
static pid_t fobd;

/* By microsecond; one table for quiet times, one for reloads. */
struct shared {
    _Atomic int reloading, over;
    _Atomic unsigned long counts[2][CLASSES], lost;
} * shared;

static void finish(void)
{
    char command[64];
    kill(fobd, SIGTERM);
    waitpid(fobd, NULL, 0);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (system(command) != 0)
        fprintf(stderr, "reload: %s is left\n", dir);
}

static void write_policy(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s/bench.policy", dir);
    FILE *out = fopen(path, "we");
    for (unsigned i = 0; out && i < RULES; i++)
        fprintf(out, "allow user:%u,group:%u read %s/set%u/*.log\n", 3000 + i, i % 100, dir, i);
    if (!out || fprintf(out, "allow user:%d read %s/data/**\n", CLIENT_UID, dir) < 0 || fclose(out) != 0) {
        perror(path);
        exit(1);
    }
}

static void prepare(const char *build)
{
    char path[64];
    if (!mkdtemp(dir) || chmod(dir, 0755) < 0) {
        perror(dir);
        exit(1);
    }
    snprintf(path, sizeof path, "%s/data", dir);
    mkdir(path, 0755);
    snprintf(file, sizeof file, "%s/data/file", dir);
    close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    snprintf(sock, sizeof sock, "%s/sock", dir);
    snprintf(control, sizeof control, "%s/sock.control", dir);
    snprintf(fobctl, sizeof fobctl, "%s/fobctl", build);
    write_policy();
    snprintf(path, sizeof path, "%s/conf", dir);
    FILE *out = fopen(path, "we");
    if (out)
        fprintf(out, "socket %s\npolicy %s/bench.policy\naudit file %s/audit\nuser 64999\n", sock, dir, dir);
    if (!out || fclose(out) != 0)
        exit(1);
    fobd = fork();
    if (fobd == 0) {
        char program[512];
        snprintf(program, sizeof program, "%s/fobd", build);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (!freopen("/dev/null", "w", stderr))
            _exit(127);
        execl(program, "fobd", "-f", path, (char *)NULL);
        _exit(127);
    }
    atexit(finish);
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void ask_all_the_time(void)
{
    struct fob *fob = NULL;
    if (setresgid(CLIENT_UID, CLIENT_UID, CLIENT_UID) || setresuid(CLIENT_UID, CLIENT_UID, CLIENT_UID))
        _exit(1);
    for (int i = 0; i < 200 && !(fob = fob_connect(sock)); i++)
        usleep(20000);
    while (fob && !shared->over) {
        int reloading = shared->reloading;
        double begin = now_us();
        int fd = fob_open(fob, file, O_RDONLY, 0);
        unsigned took = (unsigned)(now_us() - begin);
        shared->lost += fd < 0;
        close(fd);
        shared->counts[reloading][took < CLASSES ? took : CLASSES - 1]++;
    }
    _exit(!fob);
}

static unsigned reload_once(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stdout))
            _exit(127);
        execl(fobctl, "fobctl", "-s", control, "reload", (char *)NULL);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) < 0 || status != 0) {
        fputs("reload: a reload failed\n", stderr);
        exit(1);
    }
    return 1;
}

static unsigned quantile(int reloading, double q)
{
    unsigned long total = 0, so_far = 0;
    for (unsigned i = 0; i < CLASSES; i++)
        total += shared->counts[reloading][i];
    for (unsigned i = 0; i < CLASSES; i++) {
        so_far += shared->counts[reloading][i];
        if ((double)so_far >= q * (double)total)
            return i;
    }
    return 0;
}

static unsigned run_rounds(double *reload_ms)
{
    unsigned reloads = 0;
    double spent = 0;
    for (int r = 0; r < ROUNDS; r++) {
        shared->reloading = 0;
        usleep(ROUND_MS * 1000);
        shared->reloading = 1;
        for (double end = now_us() + ROUND_MS * 1000; now_us() < end;) {
            double begin = now_us();
            reloads += reload_once();
            spent += now_us() - begin;
            usleep(PAUSE_MS * 1000);
        }
    }
    shared->over = 1;
    *reload_ms = spent / reloads / 1000;
    return reloads;
}

int main(void)
{
    const char *build = getenv("BUILD") ? getenv("BUILD") : "build";
    double reload_ms;
    if (geteuid() != 0) {
        fputs("reload: needs root\n", stderr);
        return 1;
    }
    prepare(build);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    fflush(NULL);
    for (int i = 0; i < CLIENTS; i++)
        if (fork() == 0)
            ask_all_the_time();
    usleep(500000);
    unsigned reloads = run_rounds(&reload_ms);
    printf("\n%u reloads of 10,000 rules under %d clients at full speed: %.1f ms each, %lu requests lost\n",
           reloads, CLIENTS, reload_ms, shared->lost);
    printf("%-34s %8s %8s\n%-34s %8u %8u\n%-34s %8u %8u\n%-34s %7.2fx %7.2fx  (goal: <= 3x)\n", "", "p50 us",
           "p99 us", "quiet", quantile(0, 0.5), quantile(0, 0.99), "a reload every 100 ms", quantile(1, 0.5),
           quantile(1, 0.99), "ratio", (double)quantile(1, 0.5) / quantile(0, 0.5),
           (double)quantile(1, 0.99) / quantile(0, 0.99));
    return shared->lost != 0;
}
