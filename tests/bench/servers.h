/*
 * What is measured: fobd as it is installed, and its peers, each started by the section that asks it. All end
 * with the process that started them, at the latest.
 */
#ifndef FOB_TESTS_BENCH_SERVERS_H
#define FOB_TESTS_BENCH_SERVERS_H

#include <stdbool.h>
#include <sys/types.h>

#include "place.h"

enum { RULES = 1000 }; /* of a policy, where nothing else is said */

struct server {
    char name[32], socket[PLACE_NAME];
    int type; /* of the socket: SOCK_SEQPACKET ... */
    pid_t pid;
};

struct fobd_options {
    const char *name;   /* of its files: NAME.sock, NAME.conf ... */
    int cpu;            /* CPU_SERVER ..., CPU_ANY */
    int workers;        /* 0: 1 */
    unsigned rules;     /* 0: RULES */
    const char *config; /* more lines of fobd.conf, or NULL */
    const char *policy; /* more lines of the policy, or NULL; `@` stands for the section's folder */
};
/* fobd: confined, audited to a file. False: it did not start (with this configuration; its log says why). */
bool start_fobd(struct server *server, const struct fobd_options *options);
/* The same for who needs it: what it said is printed, and this process ends. */
void need_fobd(struct server *server, const struct fobd_options *options);

/* floor.c: with so many loops (0: it blocks), and features apart by blanks. */
void start_floor(struct server *server, const char *name, int cpu, int loops, unsigned spin_us,
                 const char *features);
/* opend.c, the poll loop with the protocol of APUE. */
void start_opend(struct server *server, const char *name, int cpu);

/* SIGTERM to all that this process started, and waits for their end. */
void servers_stop(void);

/* Processes of fobd's by their name ("fobd-worker"; NULL: all beneath it); how many. */
int fobd_processes(pid_t fobd, const char *name, pid_t *pids, int max);

#endif
