/*
 * bench quick|full: fob beside the floor (floor.c) and the direct open, in one run, in interleaved rounds.
 * Prints the median and the range of each ratio, and build/bench.json. It judges nothing: the goals stand
 * beside the figures.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
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

#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "../../common/wire.h"

enum { ROUNDS_MAX = 31, SAMPLES = 20000, CLIENT_UID = 2001, WORKER_UID = 64999, CLIENTS = 64, BATCH = 64 };

static char dir[] = "/tmp/fob-bench.XXXXXX", shared_file[64], own_file[64];
static const char *file = shared_file; /* what is asked for */
static pid_t started[8];
static int n_started;

static void finish(void)
{
    char command[64];
    for (int i = n_started - 1; i >= 0; i--) {
        kill(started[i], SIGTERM);
        waitpid(started[i], NULL, 0);
    }
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (system(command) != 0)
        fprintf(stderr, "bench: %s is left\n", dir);
}

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void on_signal(int signal)
{
    (void)signal;
    exit(1); /* NOLINT(bugprone-signal-handler,cert-sig30-c): to leave no process behind */
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, compare);
    return values[n / 2];
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* ---- servers ---- */

static const char *in_dir(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *out = paths[next++ % 4];
    snprintf(out, sizeof paths[0], "%s/%s", dir, name);
    return out;
}

static void start(bool pinned, const char *program, const char *const *arguments)
{
    pid_t pid = fork();
    if (pid == 0) {
        int log = open(in_dir("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        dup2(log, 2);
        if (pinned)
            pin(0);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execv(program, (char *const *)arguments);
        _exit(127);
    }
    started[n_started++] = pid;
}

static int wait_for(const char *socket)
{
    for (int i = 0; i < 200; i++) {
        int sock = sock_connect(socket, SOCK_SEQPACKET);
        if (sock >= 0)
            return sock;
        usleep(20000);
    }
    die("%s: nobody serves (%s says why)", socket, in_dir("log"));
}

static void start_floor(bool pinned, const char *name, const char *processes)
{
    char program[512];
    snprintf(program, sizeof program, "%s/tests/bench/floor", getenv("BUILD") ? getenv("BUILD") : "build");
    const char *arguments[] = { "floor", in_dir(name), processes, NULL };
    start(pinned, program, arguments);
    fd_close(wait_for(in_dir(name)));
    chmod(in_dir(name), 0666);
}

static void start_fobd(bool pinned, const char *name, int workers)
{
    char program[512], conf[64];
    snprintf(program, sizeof program, "%s/fobd", getenv("BUILD") ? getenv("BUILD") : "build");
    snprintf(conf, sizeof conf, "%s.conf", name);
    FILE *out = fopen(in_dir(conf), "we");
    if (!out)
        die("%s: %s", in_dir(conf), strerror(errno));
    fprintf(out, "socket %s\npolicy %s/bench.policy\naudit file %s/audit\nuser %d\nworkers %d\n",
            in_dir(name), dir, dir, WORKER_UID, workers);
    fclose(out);
    const char *arguments[] = { "fobd", "-f", in_dir(conf), NULL };
    start(pinned, program, arguments);
    fd_close(wait_for(in_dir(name)));
}

static void make_file(char path[64], const char *name)
{
    mkdir(in_dir(name), 0755);
    snprintf(path, 64, "%s/%s/file", dir, name);
    fd_close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
}

static void prepare(unsigned rules)
{
    if (!mkdtemp(dir) || chmod(dir, 0755) < 0)
        die("%s: %s", dir, strerror(errno));
    atexit(finish);
    make_file(shared_file, "data");
    make_file(own_file, "own");
    FILE *out = fopen(in_dir("bench.policy"), "we");
    if (!out)
        die("%s: %s", in_dir("bench.policy"), strerror(errno));
    for (unsigned i = 0; i < rules; i++) {
        if (i == rules / 2)
            fprintf(out, "allow user:%d read %s/data/**\nallow user:%d read %s/own/** as=caller\n",
                    CLIENT_UID, dir, CLIENT_UID, dir);
        else
            fprintf(out, "allow user:%u,group:%u read %s/set%u/*.log\n", 3000 + i, i % 100, dir, i);
    }
    fclose(out);
}

/* ---- clients ---- */

/* One open at the floor, closed again. */
static void ask_floor(int sock)
{
    static struct msg_in in;
    char byte;
    if (send(sock, file, strlen(file), 0) < 0 || msg_recv(sock, &byte, 1, 0, &in) != 1 || in.n_fds != 1)
        die("the floor does not answer");
    close(in.fds[0]);
}

/* One message of n opens at fob, closed again. */
static void ask_fob_for(int sock, unsigned n)
{
    static struct msg_in in;
    static uint8_t out[WIRE_MAX_MESSAGE], reply[WIRE_MAX_MESSAGE];
    static size_t len;
    static unsigned made;
    static const char *made_for;
    if (made != n || made_for != file) {
        len = WIRE_HEADER_SIZE;
        for (unsigned i = 0; i < n; i++)
            len += wire_encode_entry(out + len, sizeof out - len, WIRE_READ, 0, file, strlen(file));
        struct wire_header header = { (uint32_t)len, WIRE_OPEN, (uint16_t)n, 1 };
        wire_encode_header(out, sizeof out, &header);
        made = n;
        made_for = file;
    }
    if (send(sock, out, len, 0) < 0 || msg_recv(sock, reply, sizeof reply, 0, &in) != 1 || in.n_fds != n)
        die("fob does not answer, or refuses");
    for (unsigned i = 0; i < n; i++)
        close(in.fds[i]);
}

static void ask_fob(int sock)
{
    ask_fob_for(sock, 1);
}

static void ask_batch(int sock)
{
    ask_fob_for(sock, BATCH);
}

static void open_directly(int sock)
{
    (void)sock;
    close(open(file, O_RDONLY | O_CLOEXEC));
}

typedef void ask_fn(int sock);

/* The middle of the times of n calls, in microseconds. */
static double middle_time(ask_fn *ask, int sock, int n)
{
    static double samples[SAMPLES];
    for (int i = 0; i < n / 10; i++)
        ask(sock);
    for (int i = 0; i < n; i++) {
        double begin = now_us();
        ask(sock);
        samples[i] = now_us() - begin;
    }
    return median(samples, n);
}

/* Calls in a second by so many processes. */
static double rate(ask_fn *ask, const char *socket, int clients)
{
    volatile struct shared {
        int go, stop;
        unsigned counts[1024];
    } *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < clients; i++)
        if (fork() == 0) {
            int sock = wait_for(socket);
            while (!shared->go)
                usleep(1000);
            while (!shared->stop) {
                ask(sock);
                shared->counts[i]++;
            }
            _exit(0);
        }
    usleep(200000);
    double begin = now_us(), sum = 0;
    shared->go = 1;
    usleep(1000000);
    for (int i = 0; i < clients; i++)
        sum += shared->counts[i];
    double took = now_us() - begin;
    shared->stop = 1;
    for (int i = 0; i < clients; i++)
        wait(NULL);
    munmap((void *)(uintptr_t)shared, sizeof *shared);
    return sum / took * 1e6;
}

/* ---- the table ---- */

static FILE *json;

static void report(const char *what, double *ratios, double *ours, double *theirs, int n, const char *unit,
                   const char *goal)
{
    double low = ratios[0], high = ratios[0];
    for (int i = 1; i < n; i++) {
        low = ratios[i] < low ? ratios[i] : low;
        high = ratios[i] > high ? ratios[i] : high;
    }
    double ratio = median(ratios, n), our = median(ours, n), their = median(theirs, n);
    printf("%-44s %6.2fx  %5.2f..%-5.2f  %10.2f %10.2f %-8s %s\n", what, ratio, low, high, our, their, unit,
           goal);
    fprintf(json,
            "%s  "
            "{\"measure\":\"%s\",\"ratio\":%.3f,\"min\":%.3f,\"max\":%.3f,\"fob\":%.3f,\"other\":%.3f,"
            "\"unit\":\"%s\"}",
            ftell(json) > 3 ? ",\n" : "", what, ratio, low, high, our, their, unit);
}

/* A child: it is pinned, and runs as the client's uid. */
static void measure_single(int rounds)
{
    double ratios[ROUNDS_MAX] = { 0 }, fob[ROUNDS_MAX], floor[ROUNDS_MAX];
    int at_floor = wait_for(in_dir("floor-one")), at_fob = wait_for(in_dir("fob-one"));
    for (int r = 0; r < rounds; r++) {
        floor[r] = middle_time(ask_floor, at_floor, SAMPLES);
        fob[r] = middle_time(ask_fob, at_fob, SAMPLES);
        ratios[r] = fob[r] / floor[r];
    }
    report("one client, one open, one core: p50", ratios, fob, floor, rounds, "us", "<= 1.25x of the floor");
    for (int r = 0; r < rounds; r++) {
        floor[r] = middle_time(open_directly, -1, SAMPLES);
        fob[r] = middle_time(ask_batch, at_fob, SAMPLES / BATCH) / BATCH;
        ratios[r] = fob[r] / floor[r];
    }
    report("batch of 64, one core: a descriptor", ratios, fob, floor, rounds, "us",
           "<= 2.0x of a direct open");
    for (int r = 0; r < rounds; r++) {
        floor[r] = middle_time(ask_fob, at_fob, SAMPLES);
        file = own_file;
        fob[r] = middle_time(ask_fob, at_fob, SAMPLES);
        file = shared_file;
        ratios[r] = fob[r] / floor[r];
    }
    report("as=caller, one user in a row: p50", ratios, fob, floor, rounds, "us", "<= 1.05x of the default");
}

static void measure_many(int rounds, int clients)
{
    double ratios[ROUNDS_MAX] = { 0 }, fob[ROUNDS_MAX], floor[ROUNDS_MAX];
    char what[64];
    for (int r = 0; r < rounds; r++) {
        floor[r] = rate(ask_floor, in_dir("floor-two"), clients);
        fob[r] = rate(ask_fob, in_dir("fob-two"), clients);
        ratios[r] = fob[r] / floor[r];
    }
    snprintf(what, sizeof what, "%d clients, all cores: opens a second", clients);
    report(what, ratios, fob, floor, rounds, "1/s", ">= 0.85x of the two-process floor");
}

static void as_client(void measure(int), int rounds, bool pinned)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        n_started = 0;
        if (pinned)
            pin(0);
        if (setresgid(CLIENT_UID, CLIENT_UID, CLIENT_UID) || setresuid(CLIENT_UID, CLIENT_UID, CLIENT_UID))
            _exit(1);
        measure(rounds);
        fflush(NULL);
        _exit(0);
    }
    int status;
    if (waitpid(pid, &status, 0) < 0 || status != 0)
        die("a measuring client failed");
}

static void measure_64(int rounds)
{
    measure_many(rounds, CLIENTS);
}

static void measure_256(int rounds)
{
    measure_many(rounds, 256);
}

int main(int argc, char **argv)
{
    bool full = argc > 1 && strcmp(argv[1], "full") == 0;
    if (geteuid() != 0)
        die("needs root: the broker is measured as it is installed, confined, with clients of another uid");
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    char name[512];
    snprintf(name, sizeof name, "%s/bench.json", getenv("BUILD") ? getenv("BUILD") : "build");
    json = fopen(name, "we");
    if (!json)
        die("%s: %s", name, strerror(errno));
    prepare(1000);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    start_floor(true, "floor-one", "1");
    start_fobd(true, "fob-one", 1);
    start_floor(false, "floor-two", "2");
    start_fobd(false, "fob-two", (int)cpus);
    printf("fob: confined, audited to a file, 1,000 rules; ratio: median, range of rounds; medians of fob "
           "and the other\n");
    fputs("[\n", json);
    as_client(measure_single, full ? 21 : 7, true);
    as_client(measure_64, full ? 9 : 5, false);
    if (full)
        as_client(measure_256, 9, false);
    fputs("\n]\n", json);
    return fclose(json) != 0;
}
