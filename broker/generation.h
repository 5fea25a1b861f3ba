/*
 * One generation: an immutable policy and what was derived from it when it was loaded. A reload makes the
 * next one; nothing in it changes.
 */
#ifndef FOB_BROKER_GENERATION_H
#define FOB_BROKER_GENERATION_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "../policy/policy.h"
#include "config.h"
#include "mounts.h"

/* How often a rule decided. */
struct generation_hit {
    _Atomic uint64_t count;
    _Atomic int64_t last; /* seconds of CLOCK_REALTIME */
};

struct generation {
    uint32_t number; /* 1.. */
    time_t loaded;
    struct policy *policy;
    struct policy_needs needs;
    struct mounts mounts;
    char **pseudo; /* mount points of pseudo file systems, as the policy knows them */
    size_t n_pseudo;
    struct generation_hit *hits; /* shared memory: for each worker one for each rule, 0 being the default */
    unsigned workers;
};

/*
 * Loads and compiles the policy that config names and holds its assertions, without cloning mounts (fobd -t
 * needs no more). What is wrong is written to `messages`. A policy path that does not exist gives the first
 * generation an empty policy, which refuses everything, and a warning; later ones are not loaded then. 0 or a
 * negative errno.
 */
int generation_load(struct generation *generation, const struct config *config, uint32_t number,
                    FILE *messages);
/* The next one with the same policy: nothing is loaded. 0 or a negative errno. */
int generation_renew(struct generation *generation, const struct generation *from, FILE *messages);
/* Makes the counters of so many workers. 0 or -ENOMEM. */
int generation_share(struct generation *generation, unsigned workers);
/* Worker `index` decided by rule, or by the default (NULL). */
void generation_count(const struct generation *generation, unsigned index, const struct policy_rule *rule,
                      time_t now);
/* The sum of all workers for rule number `rule` (0: the default); the latest in *last, 0: never. */
uint64_t generation_hits(const struct generation *generation, uint32_t rule, time_t *last);
/* Clones the mounts that the policy needs. 0 or a negative errno. */
int generation_clone_mounts(struct generation *generation);
void generation_deinit(struct generation *generation);

#endif
