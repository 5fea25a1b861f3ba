/*
 * How a process of fobd is shut in, in the order that works (architecture.md's text is man fobd(8),
 * CONFINEMENT): /proc and an empty root, securebits, bounding set, ids, capabilities, not dumpable, rlimits,
 * no_new_privs, Landlock, seccomp. Nothing is undone, nothing can be widened: another policy means another
 * process.
 */
#ifndef FOB_BROKER_CONFINE_H
#define FOB_BROKER_CONFINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../policy/policy.h"
#include "mounts.h"

enum confine_step {
    CONFINE_UID = 1 << 0,          /* own uid and gid, no groups */
    CONFINE_CAPABILITIES = 1 << 1, /* only what the policy needs, bounding set as small, securebits locked */
    CONFINE_CHROOT = 1 << 2,       /* the root directory is an empty, read-only, detached file system */
    CONFINE_NO_NEW_PRIVS = 1 << 3,
    CONFINE_LANDLOCK =
        1 << 4, /* files beneath the policy's roots only, no signals or abstract sockets out of the domain */
    CONFINE_SECCOMP = 1 << 5, /* allow-list, everything else kills the process */
    CONFINE_SEALED = 1 << 6,  /* clones of the mounts (mounts.c) */
    CONFINE_UNDUMPABLE = 1 << 7,
    CONFINE_ALL = 0xff,
};

struct confine_plan {
    bool privileged; /* started as root: uid and gid are to be changed */
    uid_t uid;
    gid_t gid; /* never 0 */
    struct policy_needs needs;
    const struct mounts *mounts;
    bool required; /* any step that fails is fatal */
};

/* What a confined worker gets back. */
struct confine_state {
    unsigned done;    /* CONFINE_* in force in this process */
    int errors[8];    /* negative errno by bit number, 0 = fine */
    int proc_self_fd; /* O_PATH of /proc/self/fd of this process (the real path of a descriptor: readlinkat)
                       */
    unsigned landlock_abi; /* 0: none */
};

/* Supervisor, once, before the first worker: opens what confine_worker() will need later (the empty root;
 * /proc). 0 or a negative errno. */
int confine_prepare(void);

/* Worker, after fork and before its first byte. 0, or a negative errno when a step failed that is required
 * (uid, capabilities always when privileged; all when plan->required). */
int confine_worker(const struct confine_plan *plan, struct confine_state *state);

/* The sealer's: CAP_SYS_ADMIN alone, and the handful of syscalls that it makes. 0 or a negative errno. */
int confine_sealer(const struct confine_plan *plan, struct confine_state *state);

/*
 * The identity helper's: CAP_SYS_PTRACE alone, which reads what others' /proc/PID/exe names. No Landlock,
 * which would take just that away, and no other root directory. Every step is required but the capability:
 * where that is not to be had there is none, and its error says so. 0 or a negative errno.
 */
int confine_identity(const struct confine_plan *plan, struct confine_state *state);

/*
 * The courier's: CAP_SETUID and CAP_SETGID, to look names up with the rights of who is answered, and
 * CAP_SYS_PTRACE, to see whether they live in the same namespaces (without it those who have privileges are
 * not answered). No other root and no Landlock, as above. Every step is required. 0 or a negative errno.
 */
int confine_courier(const struct confine_plan *plan, struct confine_state *state);

/* Supervisor, before its first child: gives up the capabilities that it never needs, and uses CAP_DAC_* no
 * more itself (they stay permitted, to be given to workers). 0 or a negative errno. */
int confine_supervisor(void);

/* Supervisor, after confine_supervisor(): may it read what root may (policies, and the way to their
 * directories)? */
void confine_supervisor_may_read(bool may);

/* "uid capabilities chroot ..." of the bits set, into out; returns out. */
enum { CONFINE_TEXT = 128 };
const char *confine_text(char out[CONFINE_TEXT], unsigned steps);

#endif
