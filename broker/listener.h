/*
 * The socket that clients connect to: bound by us, or handed over by socket activation.
 */
#ifndef FOB_BROKER_LISTENER_H
#define FOB_BROKER_LISTENER_H

#include <stdbool.h>

#include "../common/sock.h"
#include "config.h"

struct listener {
    int fd;     /* -1: closed */
    bool named; /* name is ours to remove */
    struct sock_name name;
    char display[128]; /* for messages */
};

void listener_init(struct listener *listener);
/* 0, or a negative errno, said by log_error(). A missing directory (its parent exists) is made. */
int listener_open(struct listener *listener, const struct config_socket *socket, bool privileged);
/* Binds a socket of our own. 0, or a negative errno, said by log_error(). */
int listener_bind(struct listener *listener, const struct config_socket *socket, bool privileged);
/* Removes the name first, so that nobody comes any more. May be called twice. */
void listener_close(struct listener *listener);

#endif
