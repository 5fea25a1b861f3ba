/*
 * The sockets that clients connect or send to: bound by us, or handed over by socket activation.
 */
#ifndef FOB_BROKER_LISTENER_H
#define FOB_BROKER_LISTENER_H

#include <stdbool.h>

#include "../common/sock.h"
#include "config.h"

enum listener_kind { LISTENER_PACKET, LISTENER_STREAM, LISTENER_DATAGRAM, LISTENERS };

struct listener {
    int fd;     /* -1: closed */
    bool named; /* name is ours to remove */
    struct sock_name name;
    char display[128]; /* for messages */
};

void listener_init(struct listener *listener);
/*
 * All that are configured. A missing directory (its parent exists) is made. With socket activation those that
 * the service manager passed, and of others only those that the configuration names. 0, or a negative errno,
 * said by log_error().
 */
int listeners_open(struct listener listeners[LISTENERS], const struct config *config, bool privileged);
/* Binds a socket of our own, of SOCK_SEQPACKET or another type. 0, or a negative errno, said by log_error().
 */
int listener_bind(struct listener *listener, const struct config_socket *socket, int type, bool privileged);
/* "/run/fob/fob.sock /run/fob/stream.sock", for people, into out; returns out. */
const char *listeners_text(char *out, size_t size, const struct listener listeners[LISTENERS]);
/* Removes the name first, so that nobody comes any more. May be called twice. */
void listener_close(struct listener *listener);

#endif
