/*
 * What is asked of an opened object, whatever its name: type, hard links, owner in a sticky directory,
 * set-user-ID, pseudo file systems. Everything is read from descriptors.
 */
#ifndef FOB_BROKER_VERIFY_H
#define FOB_BROKER_VERIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "generation.h"

/* A path below a tree, ready to be opened. */
struct target {
    const char *path; /* clean, terminated */
    size_t len;
    const struct mounts_root *root;
    const struct policy_rule *rule; /* the one that allows it */
    int tree;                       /* descriptor that rel starts from */
    const char *rel;                /* never empty: "." for the tree itself */
    bool sealed;                    /* the tree is a sealed clone */
    bool known;                     /* opened without a look: a regular file, or nothing comes of it */
};

/* O_PATH of a directory or file beneath tree, no symlink followed. A descriptor or a negative errno. */
int target_pin(int tree, const char *rel, int flags);

/* POLICY_TYPE_* of a file's mode, 0 for a symlink. */
unsigned verify_type(mode_t mode);

/* Can nobody but root (and, without privilege, the broker's own user) put anything else in the target's
 * place, by writing a directory between the tree and it? */
bool verify_directories(const struct target *target);

/*
 * May fd, opened from the target, be handed out? 0, or a positive errno with *reason set: EPERM type: not
 * what the rule's type= allows, a set-user-ID file that could be written or executed, a pseudo file system
 * that the rule did not name; EPERM links: other hard links, in a directory that others can write; EACCES
 * sticky: with WIRE_CREATE, somebody else's file in a sticky directory (as fs.protected_regular=2, proc(5)).
 */
int verify_file(const struct generation *generation, const struct target *target, int fd,
                const struct stat *st, uint32_t flags, uid_t caller, const char **reason);

#endif
