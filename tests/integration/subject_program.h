/*
 * A program that asks the broker, as another executable: copies of the test itself, which its main() gives to
 * subject_main(). It does what the test tells it, one order at a time, over a socket that it keeps when it
 * executes another.
 */
#ifndef FOB_TESTS_SUBJECT_PROGRAM_H
#define FOB_TESTS_SUBJECT_PROGRAM_H

#include "harness.h"

/* The orders: what each answers is an errno, or SUBJECT_BROKEN. */
enum subject_order {
    SUBJECT_OPEN = 'o',    /* asks for the path, on its connection, made when there is none */
    SUBJECT_CHECK = 'c',   /* the same with CHECK */
    SUBJECT_NEW = 'n',     /* asks on a connection of its own */
    SUBJECT_SEND = 's',    /* sends the request, receives no answer; answers 0 */
    SUBJECT_RECEIVE = 'r', /* receives what was sent for */
    SUBJECT_WHICH = 'w',   /* answers the descriptor of its connection */
    SUBJECT_EXEC = 'x',    /* executes the path; the connection stays open */
    SUBJECT_FORK = 'f',    /* a child of its own does SUBJECT_NEW */
    SUBJECT_LEND = 'l',    /* a child of its own does SUBJECT_OPEN on the same connection */
};
enum { SUBJECT_BROKEN = 255 };

struct subject {
    const struct broker *broker;
    pid_t pid;
    int sock; /* orders and answers */
};

/* main() calls it first: returns only where this is an ordinary start of the test. */
void subject_main(int argc, char **argv);

/* broker_prepare(), and bin/ with trusted, bad and copy, all the same bytes. */
void subject_prepare(struct broker *broker);
/* Another policy is in force. */
void subject_reload(const struct broker *broker, const char *policy);
/* A copy of the test at PATH beneath the broker's directory, root's, 0755. */
void subject_install(const struct broker *broker, const char *path);
/* How it is started. Zeroed: nothing special. */
struct subject_start {
    const char *loader;                      /* executed instead, with the path as its argument */
    int memory;                              /* not 0: executed instead of the path */
    bool (*prepare)(const struct broker *b); /* in the child, as its uid; false: it cannot be done */
};
/* Starts PATH (beneath the broker's directory) as uid and waits until it runs. False: it could not be
 * prepared. */
bool subject_begin_as(struct subject *subject, const struct broker *broker, uid_t uid, const char *path,
                      const struct subject_start *how);
/* The same, plainly; holds that it works. */
void subject_begin(struct subject *subject, const struct broker *broker, uid_t uid, const char *path);
/* Gives an order and waits for what it answers. Requests are counted. */
int subject_do(const struct subject *subject, enum subject_order order, const char *path);
void subject_end(struct subject *subject);
/* One answer to an OPEN from a connection that is not its own: an errno, or SUBJECT_BROKEN. */
int subject_receive(int sock);

/* subject_begin(), SUBJECT_OPEN of pub/a, subject_end(): what it answered. */
int subject_ask(const struct broker *broker, uid_t uid, const char *path);
/* The same of how it was started; -1: it could not be prepared. */
int subject_ask_as(const struct broker *broker, uid_t uid, const char *path, const struct subject_start *how);

/* ---- around fobd ---- */

/* From now on fobd begins with this, and then is what it is: the test's own main() again, by the name of
 * fobd, which does what FOB_SHIM says. NULL: no more. */
void fobd_shim(const struct broker *broker, const char *what);
/* A child of fobd by that name, or 0. */
pid_t broker_child(const struct broker *broker, const char *name);

#endif
