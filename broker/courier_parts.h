/*
 * What the parts of the courier share. It is one process, which never waits for anything but its queue: what
 * may hang is done by children of its own (courier_letter.c).
 */
#ifndef FOB_BROKER_COURIER_PARTS_H
#define FOB_BROKER_COURIER_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "../common/msg.h"
#include "../common/wire.h"
#include "courier.h"

enum {
    OWN_MAX = 4096, /* replies with descriptors that nobody has taken yet */
    OWN_PER_USER = 64,
    CONNECTED_MAX = 4096, /* askers who are connected, and known */
};

/* ---- what is kept of what was sent ---- */

/* Descriptors on their way count against the limit of all processes of this user (unix(7), ETOOMANYREFS)
 * until they are taken. Each such reply has a socket of its own, which says so (SIOCOUTQ). */
struct own {
    int sock;
    uid_t uid;
    unsigned fds;
    bool held; /* a child is still to send there */
};

/*
 * An asker that has connected its socket takes datagrams from where it is connected to alone: from the
 * listener. What that socket sends is unread of all together: of whom is known by asking the kernel about the
 * asker's own (unix_diag.h).
 */
struct connected {
    uint32_t ino, cookie[2];
    uid_t uid;
    size_t name_len;
    char name[sizeof((struct sockaddr_un){ 0 }.sun_path)];
    size_t bytes;  /* sent, and unread perhaps: 0 is sure */
    unsigned fds;  /* among them */
    int64_t seen;  /* microseconds */
    unsigned held; /* children that are still to send there */
    bool doubtful; /* it seems to be empty, and yet nothing was read: see connected_sent() */
};

/* ---- a reply ---- */

/* Before it, in the queue. */
struct courier_head {
    struct courier_address to;
    bool slow; /* to close one of its descriptors may hang: who receives it must not be missed */
};

enum letter_stage {
    LETTER_TO_PATH,      /* waits for a child that looks the path up */
    LETTER_TO_CONNECTED, /* waits until that socket is known */
    LETTER_WITH_CHILD,
};

struct letter {
    struct letter *next;
    enum letter_stage stage;
    struct courier_address to;
    bool connected;  /* the child is to send from the listener */
    uint32_t ino;    /* ... to this one */
    int sock;        /* or from this one */
    int sent_before; /* unread bytes of the listener's */
    pid_t child;
    int64_t since; /* microseconds */
    bool in_queue; /* it is still there; the child is to take it */
    bool tried;    /* among those that are known: it is not there */
    size_t len;
    uint8_t *bytes;
    size_t n_fds, n_sent; /* those that it has, and of them those that go */
    int fds[MSG_MAX_FDS];
};

struct post {
    int queue, listener, diag; /* diag: or a negative errno */
    int taken[2];              /* a child says that it took what is in the queue */
    int proc;                  /* O_PATH of /proc */
    bool privileged;
    struct stat net, mnt, root; /* our own */
    uint32_t listener_ino;
    size_t listener_room; /* bytes that may be unread of what it sent */
    struct board_counters *counters;
    unsigned max_fds, max_fds_per_user;
    struct own own[OWN_MAX];
    unsigned n_own, n_own_fds;
    struct connected connected[CONNECTED_MAX];
    unsigned n_connected;
    struct letter *letters; /* those that wait, oldest first */
    int64_t look_at;        /* not before this all sockets are looked at again */
};

/* ---- courier.c ---- */

/* Every result that had a descriptor says EAGAIN instead. */
void letter_withdraw(struct post *post, struct letter *letter);
/* To a name, or, name NULL, where sock is connected to. 0 or a negative errno. */
int letter_send(struct post *post, struct letter *letter, int sock, const struct sockaddr_un *name,
                socklen_t name_len);

/* ---- courier_address.c: where an asker is ---- */

/* Of what is not of the same name spaces, or not the asker's: -EREMOTE, -EACCES. */

/* Connects sock to an abstract name. -EPERM: that socket is itself connected. */
int address_connect(struct post *post, const struct courier_address *to, int sock);
/* May hang. A path as it is called here; *target is kept open until it is sent to. */
int address_find(const struct post *post, const struct courier_address *to, struct sockaddr_un *name,
                 socklen_t *len, int *target);
/* For good: with the asker's rights. */
int address_wear(const struct post *post, const struct courier_address *to);

/* ---- courier_own.c ---- */

/* Or a negative errno. */
int own_socket(void);
bool own_has_room(struct post *post, uid_t uid, size_t n_fds);
void own_add(struct post *post, int sock, uid_t uid, size_t n_fds, bool held);
/* The child has sent what sock is for, or will not. Takes it. */
void own_settle(struct post *post, int sock, bool sent);
void own_sweep(struct post *post);

/* ---- courier_connected.c ---- */

/* NULL: not known, or not connected any more. */
struct connected *connected_find(struct post *post, const struct courier_address *to);
struct connected *connected_by_ino(struct post *post, uint32_t ino);
/* Remembers those whom letters are for. */
void connected_look(struct post *post);
/* 0: it may be sent, perhaps without descriptors; -EAGAIN: it must not. */
int connected_admit(struct post *post, struct connected *c, struct letter *letter);
/* The listener had `before` unread bytes when it was sent. */
void connected_sent(struct post *post, struct connected *c, const struct letter *letter, int before);
/* About to be sent by a child; it was sent, or not. */
void connected_hold(struct connected *c, const struct letter *letter);
void connected_release(struct post *post, struct connected *c, const struct letter *letter, bool sent);

/* ---- courier_letter.c ---- */

/* It waits: 0, or a negative errno: there are too many. Its descriptors are the copy's then. */
int letters_add(struct post *post, struct letter *letter, enum letter_stage stage);
/* The same of what is still in the queue. 0: it was taken from there; else it is there still, and lost. */
int letters_add_slow(struct post *post, struct letter *letter);
/* Goes on with those that wait. */
void letters_step(struct post *post);
/* When that is due, microseconds from now; -1: not before a child ends. */
int64_t letters_wait_us(const struct post *post);
/* All that are left are lost. */
void letters_drop(struct post *post);

/* ---- courier_slow.c: what is in the queue, and must not be closed here ---- */

/* Is the next one such? Then *letter is filled, but for the descriptors: it stays where it is. */
bool slow_is_next(const struct post *post, struct letter *letter);
/* In a child: takes it. False: it is not the same any more, or cannot be had. */
bool slow_take(const struct post *post, struct letter *letter);
/* Waits until a child has taken it. */
void slow_await(const struct post *post);
/* Takes it out, without its descriptors. */
void slow_discard(const struct post *post);

/* ---- courier_queue.c: descriptors in the queue ---- */

/* Before the first process that shares it. 0 or a negative errno. */
int queue_open(void);
void queue_close(void);
/* max_fds: as courier_start(). */
void queue_limit(unsigned max_fds);
/* The courier has them now. */
void queue_took(uid_t uid, size_t n);
bool queue_is_counted(void);
/* The queue is empty: those whose worker died before they were sent are not there. */
void queue_forget(void);

#endif
