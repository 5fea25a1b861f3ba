/*
 * The parts of the bench: who is measured (server.c, rules.c), who measures (client.c, measure.c), what is said of it
 * (table.c). All of it runs below one process that ends whatever is left of it (bench.c).
 */
#ifndef FOB_TESTS_BENCH_BENCH_H
#define FOB_TESTS_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum { ROUNDS_MAX = 32, NAME_MAX_LEN = 128, CLIENT_ID = 2001, BROKER_ID = 64999 };

/* Where and as whom; the same for the whole run. */
struct setting {
    const char *build; /* the build folder */
    const char *dir;   /* everything that is made stands beneath it; a real path */
    bool full, privileged;
    int cpu;           /* that one to which single clients and their servers are pinned */
    int other_cpu;     /* -1: there is only one */
    unsigned n_cpus;
    char *secret;      /* the tested file: root's, nobody else's */
    char *open_to_all; /* as deep, as long, readable by all: for who opens it without a broker */
};

/* Prints `bench: ...` and ends this process with status 1; the rest of the bench is ended then too. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
/* asprintf(3) that cannot fail. */
__attribute__((format(printf, 1, 2))) char *text_of(const char *format, ...);
/* Pins this process; -1 pins nothing. */
void pin_to(int cpu);
/* This process becomes the unprivileged client for good (nothing happens when it is no root). */
void become_client(void);
double now_ns(void);

/* ---- servers ---- */

struct server {
    pid_t pid;
    char *name, *socket, *log;
    char *audit;      /* NULL: keeps none */
    double start_ms;  /* until it served */
};

struct fobd_options {
    const char *name;
    unsigned rules, workers;
    int cpu;               /* -1: not pinned */
    unsigned connections;  /* 0: fobd's own limit of one user */
};

void server_start_floor(struct server *server, const struct setting *setting, const char *name, int cpu,
                        const char *const options[]);
/* Confined and audited into a file, or it does not start. */
void server_start_fobd(struct server *server, const struct setting *setting, const struct fobd_options *options);
/* What was audited so far is thrown away: the disk is not measured. */
void server_trim(const struct server *server);
/* Ends it; dies when it had ended by itself. */
void server_stop(struct server *server);
/* The line that it wrote when it began to serve, without the newline, or "". */
char *server_said(const struct server *server, const char *word);

/* Writes a policy of n rules as an admin may have it; the rule in the middle is the one that gives the tested file. */
void rules_write(FILE *out, const struct setting *setting, unsigned n);

/* ---- clients ---- */

enum protocol { PROTOCOL_DIRECT, PROTOCOL_FLOOR, PROTOCOL_FOB };

/* One way to get at a file. */
struct way {
    const char *name;
    enum protocol protocol;
    const char *socket; /* NULL with PROTOCOL_DIRECT */
    const char *path;
};

struct client {
    struct way way;
    unsigned batch; /* files in one message */
    int sock;
    uint8_t *request;
    size_t request_len;
};

/* Connected and ready to ask. Dies on failure, as all of these. */
void client_init(struct client *client, const struct way *way, unsigned batch);
void client_connect(struct client *client);
void client_disconnect(struct client *client);
/* Gets `batch` descriptors and closes them. */
void client_turn(struct client *client);
void client_deinit(struct client *client);
/* Does a broker answer HELLO there? */
bool client_hello(const char *socket);

/* ---- measures ---- */

/* Two ways side by side, round by round. */
struct series {
    unsigned rounds;
    double peer[ROUNDS_MAX], fob[ROUNDS_MAX];
};

struct latency {
    unsigned rounds, turns; /* in a round, for each way */
    unsigned batch;
    int cpu;                /* of the client; -1: any */
    bool connects;          /* a new connection for each turn */
};

/* Microseconds for one file: the median of all turns of a round. */
void measure_latency(struct series *out, const struct way *peer, const struct way *fob, const struct latency *how);
/* Files a second that n clients, each a process, get together in a window of `seconds`. */
void measure_throughput(struct series *out, const struct way *peer, const struct way *fob, unsigned n, unsigned rounds,
                        double seconds, const struct server *server);
/* Milliseconds from start to end of a program; the user is that of the client, or root. */
struct program { const char *const *argv; bool as_root; };
void measure_programs(struct series *out, const struct program *peer, const struct program *fob, unsigned rounds,
                      unsigned turns);
/* A process that holds n connections and does nothing; returns its pid once it has them. */
pid_t hold_connections(const char *socket, unsigned n);
void release_connections(pid_t pid);

/* ---- what is said of it ---- */

struct row {
    const char *key;  /* in the JSON */
    const char *name; /* in the table */
    const char *peer;
    const char *unit;
    double scale;     /* of the values as printed: 1e-3 for thousands; 0: as they are */
    bool at_least;    /* the goal: ratio >= goal, else <= goal */
    double goal;      /* 0: none, for information */
};

void table_begin(const struct setting *setting, const char *confinement);
/* Prints the row and keeps it for the JSON. */
void table_add(const struct row *row, const struct series *series);
/* A line of its own; shown, and in the JSON as "notes". */
__attribute__((format(printf, 1, 2))) void table_note(const char *format, ...);
void table_write_json(const char *file);
double median_of(double *values, size_t n);

#endif
