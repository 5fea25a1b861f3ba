/*
 * Who asks: questions to fob and to its peers, made once and asked many times, so that nothing but the asking
 * is timed.
 */
#ifndef FOB_TESTS_BENCH_CLIENTS_H
#define FOB_TESTS_BENCH_CLIENTS_H

#include <stddef.h>
#include <sys/socket.h>

#include "../../client/fob.h"

struct question {
    const char *peer;         /* who is asked, for messages */
    int sock;                 /* -1: question_connected() */
    unsigned n;               /* descriptors that the answer has */
    unsigned spin_us;         /* how long to look for it before waiting for it */
    const struct ucred *cred; /* sent with it; NULL: the kernel adds them */
    size_t len;
    void *bytes;
};

/* A connection (SOCK_SEQPACKET, SOCK_STREAM); who cannot connect ends. */
int connected(const char *socket, int type);
/* n opens of one path in a message of the native protocol. */
struct question ask_fob(int sock, const char *path, unsigned n);
struct question ask_floor(int sock, const char *path);
/* The protocol of APUE. */
struct question ask_apue(int sock, const char *path);

/* For struct act: asks, and closes what came. `what` is a struct question. */
void run_question(const void *question);
/* The same with a connection of its own, closed again. */
struct visit {
    const char *socket;
    struct question question;
};
void run_visit(const void *visit);
/* By libfob, as programs use it. */
struct library {
    struct fob *fob; /* to be fob_close()d */
    const char *path;
};
struct library library_ask(const char *socket, const char *path);
void run_library(const void *library);
/* open(2) and close(2) of the path itself. */
void run_open(const void *path);

/* Runs fn(data) in a process of that user (0: as now), on this cpu or on CPU_ANY. If it fails this one ends
 * too. */
void as_user(uid_t uid, int cpu, void fn(const void *data), const void *data);
/* This process is that user from now on, in no group, and ends with its parent. */
void become(uid_t uid);

#endif
