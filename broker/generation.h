/*
 * One generation: an immutable policy and what was derived from it when it was loaded. A reload makes the
 * next one; nothing in it changes.
 */
#ifndef FOB_BROKER_GENERATION_H
#define FOB_BROKER_GENERATION_H

#include <stdint.h>

#include "../policy/policy.h"
#include "config.h"
#include "mounts.h"

struct generation {
    uint32_t number; /* 1.. */
    struct policy *policy;
    struct policy_needs needs;
    struct mounts mounts;
    char **pseudo; /* mount points of pseudo file systems, as the policy knows them */
    size_t n_pseudo;
};

/*
 * Loads and compiles the policy that config names, without cloning mounts (fobd -t needs no more). Messages
 * go to standard error. A policy path that does not exist gives an empty policy, which refuses everything,
 * and a warning. 0 or a negative errno (-EINVAL: said already).
 */
int generation_load(struct generation *generation, const struct config *config, uint32_t number);
/* Clones the mounts that the policy needs. 0 or a negative errno. */
int generation_clone_mounts(struct generation *generation);
void generation_deinit(struct generation *generation);

#endif
