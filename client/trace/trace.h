/*
 * fob trace: a relay between a socket of its own and the broker that prints every message with its ancillary
 * data, and passes the descriptors on (fob(1)).
 */
#ifndef FOB_TRACE_H
#define FOB_TRACE_H

/*
 * Listens on listen_path and relays each connection to upstream (NULL: $FOB_SOCKET, else the default), until
 * SIGINT, SIGTERM or SIGHUP. Prints to standard output; what keeps it from working goes to standard error. Returns the exit
 * status: 0 ended by a signal, 1 failed, 3 no broker. Makes its own connections: no struct fob is needed.
 */
int trace_run(const char *listen_path, const char *upstream);

#endif
