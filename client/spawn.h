/*
 * A broker of one's own, started on a socketpair: the open server of which libfob is the only client.
 */
#ifndef FOB_CLIENT_SPAWN_H
#define FOB_CLIENT_SPAWN_H

/* Starts the program at path with one end of a pair of packet sockets as standard input. It is no child of
 * this process, and ends when the other end is closed. That end, or a negative errno: why it could not be
 * started. */
int spawn_broker(const char *path);

#endif
