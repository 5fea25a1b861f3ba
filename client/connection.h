/*
 * The connection behind a struct fob: one request, one reply, for all threads of a process.
 */
#ifndef FOB_CLIENT_CONNECTION_H
#define FOB_CLIENT_CONNECTION_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "../common/msg.h"
#include "../common/wire.h"
#include "fob.h"
#include "spin.h"

struct fob {
    pthread_mutex_t lock; /* around every exchange; the fields below are read and written under it */
    pid_t pid;            /* whose connection it is */
    int sock;             /* -1: none */
    uint32_t next_id;
    bool send_cred; /* real and effective ids differ: the kernel would send the real ones, and the broker
                       knows the effective */
    char *path;
    bool served;  /* it has answered once */
    bool spawned; /* path is the broker's program, not its socket */
    struct spin spin;
    struct msg_in message;
    uint8_t out[WIRE_MAX_MESSAGE]; /* from here on it is not zeroed at first */
    uint8_t in[WIRE_MAX_MESSAGE];
};

/* Takes the lock, in a forked child on a connection of its own. */
void connection_lock(struct fob *fob);
void connection_unlock(struct fob *fob);

/* Connects if there is no connection. 0 or a negative errno. Called locked. */
int connection_need(struct fob *fob);

/*
 * Sends the request in fob->out (header.length bytes, its id filled in here) and receives its reply into
 * fob->in and fob->message. Connects anew when the connection is gone; repeats the request only if
 * `repeatable`, or if it never left. 0 with a header that is the answer to it (the descriptors are the
 * caller's), or a negative errno: -ECONNRESET: it was sent and nobody knows what became of it.
 */
int connection_exchange(struct fob *fob, struct wire_header *header, bool repeatable);

/* -1 with errno set from a negative errno; the value itself otherwise. */
int connection_result(int err);

#endif
