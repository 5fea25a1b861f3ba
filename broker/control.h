/*
 * The control socket (common/control.h): admins ask for the broker's state, for decisions as they happen, for
 * explanations and for a reload. Served by the supervisor, which waits for none of them: what an admin does
 * not read is kept up to a limit, then he is cut off.
 */
#ifndef FOB_BROKER_CONTROL_H
#define FOB_BROKER_CONTROL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "listener.h"

struct supervisor;

enum { CONTROL_CLIENTS_MAX = 16, CONTROL_POLL_MAX = CONTROL_CLIENTS_MAX + 1 };

enum control_state {
    CONTROL_FREE,
    CONTROL_ASKING,    /* its request has not come yet */
    CONTROL_ANSWERING, /* the answer is complete, and being written */
    CONTROL_WATCHING,
    CONTROL_WAITING,   /* for the reload after the one under way */
    CONTROL_RELOADING, /* for the reload under way */
};

struct control_client {
    enum control_state state;
    int fd;
    bool admin;
    int64_t deadline; /* of the next progress */
    char *out;        /* packets to write: length (uint32_t) and bytes */
    size_t len, cap, at;
    uint64_t not_shown; /* decisions that a slow watcher missed */
};

struct control {
    struct listener listener; /* fd -1: none */
    struct control_client clients[CONTROL_CLIENTS_MAX];
    uint64_t *heard; /* by slot of the board: up to where watchers were told */
    unsigned watchers;
    int64_t accept_at; /* no descriptor was left: accept(2) is tried again then */
};

void control_init(struct control *control);
/* 0, or a negative errno, said by log_error(). A path that is too long for a socket: only said. */
int control_open(struct control *control, const struct supervisor *s);
void control_close(struct control *control);
/* In a forked child: closes the descriptors, and nothing else. */
void control_close_fds(struct control *control);

/* Fills at most CONTROL_POLL_MAX entries; how many. */
nfds_t control_poll(const struct control *control, struct pollfd *polled);
/* Does what became possible, and what became due. */
void control_serve(struct supervisor *s, const struct pollfd *polled, nfds_t n);
/* When something is due, or INT64_MAX. */
int64_t control_deadline(const struct control *control);

/* A reload begins: those who wait are told of it. Then what is wrong, and that it is over. */
void control_reload_begin(struct control *control);
void control_reload_say(struct control *control, const char *text, size_t len);
void control_reload_end(struct supervisor *s, bool done);

#endif
