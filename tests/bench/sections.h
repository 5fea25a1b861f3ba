/*
 * The parts of the bench. Each runs in a process of its own, as root, in a folder of its own (place.h), and
 * stops what it has started.
 */
#ifndef FOB_TESTS_BENCH_SECTIONS_H
#define FOB_TESTS_BENCH_SECTIONS_H

void section_single(void);      /* single.c: one client, one core */
void section_users(void);       /* users.c: as=caller, one user and many */
void section_cores(void);       /* cores.c: server and client on a core each; busy-poll */
void section_many(void);        /* many.c: many clients, all cores */
void section_workers(void);     /* many.c: curve */
void section_whole(void);       /* whole.c: whole processes */
void section_parts(void);       /* parts.c: what each thing adds to the floor */
void section_syscalls(void);    /* syscalls.c: of one request */
void section_growth(void);      /* growth.c: curves of rules, depth of the path, batch */
void section_connections(void); /* idle.c: curve of idle connections, and their memory */
void section_slow(void);        /* slow.c: a file system that hangs */
void section_policy(void);      /* policies.c: what rules cost, without a broker */
void section_reload(void);      /* reload.c: reloads under load */

#endif
