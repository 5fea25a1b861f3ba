/*
 * Who the connections of a worker belong to. Connections of the same process identity (uid, gid, groups)
 * share one client, so that an idle connection is small; clients of one uid share one user, which quotas are
 * charged to.
 */
#ifndef FOB_BROKER_CLIENT_H
#define FOB_BROKER_CLIENT_H

#include <stddef.h>
#include <sys/types.h>

#include "../common/peer.h"
#include "../policy/policy.h"

struct user {
    struct user *next;
    uid_t uid;
    unsigned refs;
    unsigned connections; /* in this worker */
    unsigned in_flight;   /* descriptors sent that the user's processes have not taken yet, in this worker */
};

struct client {
    struct client *next;
    unsigned refs;
    struct user *user;
    struct policy_subject subject; /* .groups is owned here */
    bool narrows;                  /* its executable, unit and cgroup matter */
};

enum { CLIENT_BUCKETS = 256 };
struct clients {
    const struct policy *policy;
    bool narrow; /* the policy has rules with exe:, unit: or cgroup: */
    struct client *by_identity[CLIENT_BUCKETS];
    struct user *by_uid[CLIENT_BUCKETS];
};

/* The client of that identity, with a reference for the caller; NULL without memory. Copies what it needs of
 * peer. */
struct client *client_ref(struct clients *clients, const struct peer *peer);
void client_unref(struct clients *clients, struct client *client);

#endif
