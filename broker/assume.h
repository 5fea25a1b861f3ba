/*
 * Whose file rights the next open uses: as= of the rule. The file-system ids and groups of the
 * (single-threaded) worker and its effective DAC capabilities; credentials(7), setfsuid(2). The identity of
 * the last request stays until another is wanted, so that a user in a row costs nothing.
 */
#ifndef FOB_BROKER_ASSUME_H
#define FOB_BROKER_ASSUME_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "../policy/policy.h"

struct assume_identity {
    uid_t uid;
    gid_t gid;
    const gid_t *groups; /* sorted */
    size_t n_groups;
    bool dac; /* with the broker's CAP_DAC_*: the kernel's permission checks are passed over */
};

struct assume;

/* After confinement. can_switch: CAP_SETUID and CAP_SETGID are held. NULL without memory. */
struct assume *assume_new(bool can_switch);
void assume_free(struct assume *assume);

/* The broker's own identity, as it is at start. */
int assume_broker(struct assume *assume);
/*
 * 0, or -EPERM: this broker cannot be somebody else (it runs without privilege, or no rule needed it) -
 * unless the identity is its own. If the kernel takes a step and refuses the next, the process aborts: it
 * must not go on as it does not know whom.
 */
int assume_identity(struct assume *assume, const struct assume_identity *identity);

#endif
