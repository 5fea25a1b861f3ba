/*
 * Where the bench works: a folder of its own, in it one for each section of the bench, with the files that
 * are asked for; and the processors that there are to work on.
 */
#ifndef FOB_TESTS_BENCH_PLACE_H
#define FOB_TESTS_BENCH_PLACE_H

#include <stdbool.h>
#include <sys/types.h>

enum {
    PLACE_NAME = 160,   /* bytes of at() */
    CLIENT_UID = 2001,  /* who asks; CLIENT_UID + n where there are several */
    WORKER_UID = 64999, /* of fobd */
    CPU_SERVER = 0,     /* the first of the processors that may be used ... */
    CPU_OTHER = 1,      /* ... and the second, for a client with a core of its own */
    CPU_ANY = -1,
};

/* Prints `bench: ...` and ends this process: its section has failed. */
__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);

/* Makes the folder, named so that what is left of a killed bench can be told. 0 or a negative errno. */
int place_make(void);
/* Removes it and all in it. 0 or a negative errno. */
int place_remove(void);
/* From now on at() is in a folder of this name, which is made, with data/file, which rules name, and
 * open/file and own/file, which are for all users: rules.h. */
void place_enter(const char *section);
/* Removes such a folder, if it is there. */
void place_leave(const char *section);

/* NAME in the section's folder, in a static buffer (one of 8 in turn). */
const char *at(const char *name);
/* A program that was built, in a static buffer. */
const char *built(const char *program);
/* The same, copied to where every user can execute it: at(its name). */
const char *lent(const char *program);

int cpus(void); /* that may be used here */
/* A process, and those that it starts, on one of them, CPU_SERVER or another. */
void pin_process(pid_t pid, int cpu);
/* This one. */
void pin(int cpu);

#endif
