/*
 * The safe open: the only place in the tree that opens a client's path. A path is opened after the policy
 * allowed that very text, through a sealed clone of its mount, following no symlink; then the descriptor, not
 * the name, is verified (verify.h); then it is truncated if that was asked.
 */
#ifndef FOB_BROKER_OPENER_H
#define FOB_BROKER_OPENER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "../common/path.h"
#include "assume.h"
#include "generation.h"
#include "sealer.h"

struct opener {
    const struct generation *generation;
    struct policy_scratch *scratch;
    struct assume *assume;
    struct sealer_channel *sealer; /* NULL, or sock -1: no directory can be sealed */
    struct known *known;           /* or NULL: every name is looked at */
    bool may_wait;                 /* a slow opener: file systems that block, leases, look-ups on disk */
    int proc_self_fd;              /* O_PATH /proc/self/fd */
};

struct opener_request {
    const struct policy_subject *subject;
    const char *path; /* clean; len bytes and a NUL */
    size_t len;
    uint32_t flags; /* WIRE_*: known and consistent (wire_check_flags()) */
    mode_t mode;
    time_t now;
};

struct opener_result {
    bool allowed; /* by the policy and by the checks of the file; what the kernel then said is in error */
    int error;    /* 0 or a positive errno */
    const char *reason;             /* audit: what decided */
    const struct policy_rule *rule; /* or NULL */
    int fd;                         /* the caller's to close, or -1 */
    bool has_file;                  /* dev and ino are those of the object that was looked at */
    dev_t dev;
    ino_t ino;
    bool slow;       /* nothing was done: it may block, and is a slow opener's */
    bool sealed;     /* opened through a sealed clone */
    size_t real_len; /* real path, when it is known and not what was asked; 0 otherwise */
    char *real;      /* PATH_TEXT_MAX + 1 bytes given by the caller */
};

/* The rights that flags ask for: RIGHT_*. */
unsigned opener_rights(uint32_t flags);

/* Is it known beforehand that the request may block? */
bool opener_is_slow(const struct opener *opener, const char *path, size_t len);
/* Decides alone: no file is touched. */
void opener_check(struct opener *opener, const struct opener_request *request, struct opener_result *result);
/* Decides, opens, verifies. Without may_wait it may say result->slow instead. */
void opener_open(struct opener *opener, const struct opener_request *request, struct opener_result *result);

#endif
