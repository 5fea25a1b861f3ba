/*
 * The user database, asked while a policy is loaded and never later: getpwnam(3), getgrnam(3) and their kin
 * load plug-ins and open files.
 */
#ifndef FOB_POLICY_NAMES_H
#define FOB_POLICY_NAMES_H

#include <grp.h>
#include <pwd.h>

#include "internal.h"

/* Where names come from: the C library, or what a test puts in its place. Results live until the next call.
 */
struct names_source {
    struct passwd *(*user_by_name)(const char *name);
    struct passwd *(*user_by_id)(uid_t uid);
    struct group *(*group_by_name)(const char *name);
    struct group *(*group_by_id)(gid_t gid);
    void (*rewind_users)(void);
    struct passwd *(*next_user)(void);
    void (*rewind_groups)(void);
    struct group *(*next_group)(void);
    void (*end_users)(void);
    void (*end_groups)(void);
};
/* NULL: the C library again. Not for use while a policy is being loaded. */
void names_set_source(const struct names_source *source);

struct names;
struct names *names_new(void);
void names_free(struct names *names);

/* The id of a user or group, by name or number; a number needs no account. 0, -ENOENT, -ENOMEM. Each name is
 * looked up once. */
int names_user(struct names *names, const char *name, size_t len, uid_t *uid);
int names_group(struct names *names, const char *name, size_t len, gid_t *gid);

/*
 * The users of `extra` that the database knows and, with `all`, those that it lists, sorted by uid, with the
 * groups that they are members of; all in the arena. 0 or -ENOMEM.
 */
int names_snapshot(struct arena *arena, bool all, const uid_t *extra, size_t n_extra,
                   struct policy_user **users, size_t *n_users);
/* The name that stands for this uid (gid) and no other, or NULL. Lives until the next call of either. */
const char *names_of_user(uid_t uid);
const char *names_of_group(gid_t gid);

#endif
