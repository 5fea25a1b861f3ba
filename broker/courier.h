/*
 * The courier: the process that sends replies to datagrams. Workers cannot: their root is empty, and Landlock
 * keeps them from abstract names. It sends only where the name of the asker means to it what it means to the
 * asker, and to nobody's socket but the asker's: an abstract name within one network namespace that the
 * kernel says a socket of the asker's uid has; a path of one mount namespace and root that leads to such a
 * socket.
 *
 * It opens nothing and reads no request; of a reply it knows which descriptors to leave out when its user has
 * too many on their way already.
 */
#ifndef FOB_BROKER_COURIER_H
#define FOB_BROKER_COURIER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "board.h"
#include "confine.h"
#include "restart.h"

/* Who asked, before the bytes of the reply. */
struct courier_address {
    struct ucred asker; /* as the kernel named them: SCM_CREDENTIALS */
    socklen_t len;
    struct sockaddr_un name;
};

struct courier {
    pid_t pid;    /* 0: none */
    int queue[2]; /* what workers write to, what the courier reads from: it outlives a courier */
    struct restart restart;
};

void courier_init(struct courier *courier);
/* 0 or a negative errno; courier_deinit() is due in any case. */
int courier_open(struct courier *courier);
/* Starts the process, which may have max_fds descriptors on their way; listener is where datagrams come in.
 * Its losses are counted on the board, in `slot`. */
void courier_start(struct courier *courier, const struct confine_plan *plan, struct board *board,
                   unsigned slot, int listener, unsigned max_fds, int64_t now);
/* Was it this that died? It is started again at courier->restart.at. */
bool courier_reaped(struct courier *courier, pid_t pid, int status, int64_t now);
/* Sends what is in the queue, and ends; waits for that two seconds at most. */
void courier_deinit(struct courier *courier);

/* In a worker: may n more descriptors for this user go into the queue? */
bool courier_has_room(uid_t uid, unsigned n);
/* In a worker: puts a reply into the queue. 0 or a negative errno: it is lost. */
int courier_post(int queue, const struct courier_address *to, const void *reply, size_t len, const int *fds,
                 size_t n_fds);
/* The same of descriptors that may hang when they are closed. */
int courier_post_slow(int queue, const struct courier_address *to, const void *reply, size_t len,
                      const int *fds, size_t n_fds);

#endif
