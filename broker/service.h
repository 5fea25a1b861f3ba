/*
 * The service manager's two interfaces without libsystemd: sd_listen_fds(3), sd_notify(3).
 */
#ifndef FOB_BROKER_SERVICE_H
#define FOB_BROKER_SERVICE_H

#include <stddef.h>

/* Closes what else was inherited above standard error: whoever started us had its reasons for it, we have
 * none. First of all. */
void service_close_inherited(void);

/*
 * AF_UNIX sockets handed over by socket activation (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES), made
 * close-on-exec; the variables are unset. fds[i] is one of types[i] that listens (SOCK_DGRAM: that has a
 * name), or -1. How many there are; -ENOENT: not activated; -EINVAL: activated with something else, as said
 * by log_error().
 */
int service_listen_fds(const int *types, int *fds, size_t n);

/* Connects to $NOTIFY_SOCKET once (before chroot and seccomp) and unsets it. Never fatal: without it, or when
 * it is gone, service_notify() does nothing. */
void service_notify_open(void);
/* Sends "READY=1", "STOPPING=1", ...; never blocks. */
void service_notify(const char *state);
int service_notify_fd(void); /* or -1 */
void service_notify_close(void);

#endif
