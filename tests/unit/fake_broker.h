/*
 * A broker that follows a script, for tests of libfob: what it answers, right or wrong, and when it closes.
 */
#ifndef FOB_TESTS_FAKE_BROKER_H
#define FOB_TESTS_FAKE_BROKER_H

#include <sys/types.h>

#include "../../client/fob.h"

enum { FEW = 3 };

enum behaviour {
    HONEST, /* paths with "no" in them are refused, all others are /dev/null */
    WRONG_ID,
    INDEX_TWICE,
    NO_DESCRIPTOR, /* says there is one */
    SHORT_REPLY,
    CLOSE_UNREAD, /* closes when a connection comes, once; then honest */
    CLOSE_AFTER,  /* closes after the request was read, once; then honest */
    CLOSE_ALWAYS,
    LONG_LIST,
    LATE,             /* answers after 5 ms */
    CLOSE_AFTER_FEW,  /* answers FEW requests, reads another and closes, once; then honest */
    CLOSE_BEFORE_ONE, /* answers FEW requests and closes, once; then honest */
};

/* What it counts, in shared memory. */
struct fake_broker {
    unsigned requests; /* messages read */
    unsigned connections;
    unsigned largest;    /* entries in one message */
    struct ucred sender; /* of the last message */
};
extern struct fake_broker *shared;

extern char fake_path[64]; /* its socket */
extern pid_t fake_pid;

/* Memory and a directory for the socket: 0 or -1. */
int fake_setup(void **state);
int fake_teardown(void **state);
/* Starts it, and connects. */
struct fob *fake_begin(enum behaviour behaviour);
/* Closes fob, kills it. */
void fake_finish(struct fob *fob);

#endif
