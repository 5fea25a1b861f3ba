#include "opener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/util.h"
#include "../common/wire.h"
#include "known.h"
#include "verify.h"

enum {
    RACE_ROUNDS = 8, /* a name that comes and goes between two looks: how often we look again */
    WRITING = WIRE_WRITE | WIRE_APPEND | WIRE_CREATE | WIRE_TRUNCATE,
};

/* ---- decide ---- */

unsigned opener_rights(uint32_t flags)
{
    if (flags & WIRE_PATH)
        return RIGHT_STAT;
    if (flags & WIRE_DIRECTORY)
        return RIGHT_LIST;
    unsigned rights = 0;
    if (flags & WIRE_READ)
        rights |= RIGHT_READ;
    if (flags & (WIRE_WRITE | WIRE_TRUNCATE))
        rights |= RIGHT_WRITE;
    if (flags & WIRE_APPEND)
        rights |= RIGHT_APPEND;
    if (flags & WIRE_CREATE)
        rights |= RIGHT_CREATE | (flags & (WIRE_WRITE | WIRE_APPEND) ? 0 : RIGHT_APPEND);
    return rights;
}

/* 0, or a refusal in the result. */
static int decide(struct opener *o, const struct opener_request *rq, unsigned rights, const char *path,
                  size_t len, struct opener_result *res)
{
    struct policy_decision decision;
    policy_decide(o->generation->policy, o->scratch, rq->subject, rights, path, len, rq->now, &decision);
    res->rule = decision.rule;
    res->reason = decision.rule ? "rule" : "default";
    res->allowed = decision.allowed;
    res->error = decision.allowed ? 0 : EACCES;
    return -res->error;
}

static int refuse(struct opener_result *res, int error, const char *reason)
{
    res->allowed = false;
    res->error = error;
    res->reason = reason;
    return -error;
}

/* The policy allowed it; the kernel says no. */
static int kernel_says(struct opener_result *res, int err)
{
    res->error = -err;
    res->reason = "kernel";
    return err;
}

/* ---- slow file systems ---- */

bool opener_is_slow(const struct opener *o, const char *path, size_t len)
{
    return !o->may_wait && mounts_may_block(&o->generation->mounts, path, len);
}

/* Not here: a slow opener is to do it, from the beginning. */
static int be_slow(struct opener_result *res)
{
    res->slow = true;
    return -EINPROGRESS;
}

/* ---- open ---- */

static int target_open(const struct target *target, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
        .mode = mode,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd = syscall(SYS_openat2, target->tree, target->rel, &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

static int target_init(struct target *target, const struct generation *generation,
                       const struct policy_rule *rule, const char *path, size_t len, bool writes)
{
    const struct mounts_root *root = mounts_find(&generation->mounts, path, len);
    if (!root)
        return -ENOENT;
    *target = (struct target){ .path = path, .len = len, .root = root, .rule = rule };
    target->sealed = rule->sealed && generation->mounts.sealed;
    target->tree = !target->sealed ? root->plain : writes ? root->read_write : root->read_only;
    if (target->tree < 0)
        return -EACCES;
    target->rel = path + root->path_len;
    while (*target->rel == '/')
        target->rel++;
    if (*target->rel == '\0')
        target->rel = ".";
    return 0;
}

/*
 * What stands there, before it is opened: opening a FIFO or a device is seen on its other side. A sealed tree
 * follows no symlink (MOUNT_ATTR_NOSYMFOLLOW), so a plain fstatat(2) will do; elsewhere the look itself must
 * be pinned.
 */
static int target_look(const struct target *target, struct stat *st)
{
    if (target->sealed)
        return fstatat(target->tree, target->rel, st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0 ? -errno : 0;
    CLEANUP(fd_cleanup) int fd = target_pin(target->tree, target->rel, 0);
    if (fd < 0)
        return fd;
    return fstat(fd, st) < 0 ? -errno : 0;
}

static struct assume_identity identity_of(const struct policy_subject *subject)
{
    return (struct assume_identity){ subject->uid, subject->gid, subject->groups, subject->n_groups, false };
}

static int assume_for(struct opener *o, const struct opener_request *rq, const struct policy_rule *rule,
                      bool create)
{
    struct assume_identity identity = identity_of(rq->subject);
    switch (rule->as) {
    case POLICY_AS_CALLER:
        return assume_identity(o->assume, &identity);
    case POLICY_AS_USER:
        identity = (struct assume_identity){ rule->as_user->uid, rule->as_user->gid, rule->as_user->groups,
                                             rule->as_user->n_groups, false };
        return assume_identity(o->assume, &identity);
    case POLICY_AS_BROKER:
        break;
    }
    if (!create)
        return assume_broker(o->assume);
    /* The file is the caller's from its first moment (quota too), though the broker's rights make it: no
     * chown, no window. */
    identity.dac = true;
    return assume_identity(o->assume, &identity);
}

static void note_file(struct opener_result *res, const struct stat *st, bool sealed)
{
    res->has_file = true;
    res->dev = st->st_dev;
    res->ino = st->st_ino;
    res->sealed = sealed;
}

/* The flags that the client asked for, and no others: O_NONBLOCK was ours, against FIFOs and leases. */
static int settle_flags(int fd, uint32_t flags)
{
    if (flags & (WIRE_PATH | WIRE_NONBLOCK))
        return 0;
    return fcntl(fd, F_SETFL, wire_flags_to_open(flags) & O_APPEND) < 0 ? -errno : 0;
}

static int give(struct opener_result *res, int fd)
{
    res->fd = fd;
    res->error = 0; /* an earlier round's */
    res->reason = "rule";
    return 0;
}

/* Whom a file that O_CREAT finds should belong to: who would own it had it been created. */
static uid_t expected_owner(const struct opener_request *rq, const struct policy_rule *rule)
{
    return rule->as == POLICY_AS_USER ? rule->as_user->uid : rq->subject->uid;
}

/* Takes `opened`. `flags` are what its checks need to know of the request. */
static int finish_file(struct opener *o, const struct opener_request *rq, const struct target *target,
                       int opened, uint32_t flags, struct opener_result *res)
{
    CLEANUP(fd_cleanup) int fd = opened;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return kernel_says(res, -errno);
    if (target->known && !S_ISREG(st.st_mode))
        return kernel_says(res, -ESTALE);
    note_file(res, &st, target->sealed);
    const char *reason;
    int error = verify_file(o->generation, target, fd, &st, flags, expected_owner(rq, target->rule), &reason);
    if (error)
        return refuse(res, error, reason);
    if ((rq->flags & WIRE_TRUNCATE) && S_ISREG(st.st_mode) && ftruncate(fd, 0) < 0)
        return kernel_says(res, -errno);
    int err = settle_flags(fd, rq->flags);
    return err < 0 ? kernel_says(res, err) : give(res, fd_take(&fd));
}

/* waits: for a lease to be given up; never for the other side of a FIFO. */
static int open_existing(struct opener *o, const struct opener_request *rq, const struct target *target,
                         bool waits, struct opener_result *res)
{
    int flags = wire_flags_to_open(rq->flags & ~(uint32_t)(WIRE_CREATE | WIRE_EXCLUSIVE | WIRE_TRUNCATE));
    flags |= rq->flags & WIRE_PATH ? O_NOFOLLOW : O_NOCTTY | O_NOFOLLOW;
    if (!(rq->flags & WIRE_PATH) && !waits)
        flags |= O_NONBLOCK;
    int fd = target_open(target, flags, 0);
    if (fd == -EAGAIN && !o->may_wait && !(rq->flags & WIRE_NONBLOCK))
        return be_slow(res); /* somebody holds a lease (fcntl(2)): whoever may wait for him */
    if (fd < 0)
        return kernel_says(res, fd);
    return finish_file(o, rq, target, fd, rq->flags, res);
}

/* O_EXCL always: what is there already goes the way of an existing file, with its checks. */
static int create_file(struct opener *o, const struct opener_request *rq, const struct target *target,
                       struct opener_result *res)
{
    if (assume_for(o, rq, target->rule, true) < 0)
        return refuse(res, EPERM, "identity");
    int flags = wire_flags_to_open(rq->flags & ~(uint32_t)WIRE_TRUNCATE) | O_EXCL | O_NONBLOCK | O_NOCTTY |
                O_NOFOLLOW;
    int fd = target_open(target, flags, rq->mode & target->rule->mode & 0777);
    if (fd < 0)
        return kernel_says(res, fd);
    return finish_file(o, rq, target, fd, rq->flags & ~(uint32_t)WIRE_CREATE, res);
}

/* ---- directories ---- */

/* The directory on its ordinary mount, which the sealer can clone on every kernel; it must be the one that
 * was opened in our clone. */
static int pin_ordinary(struct opener *o, const struct target *target, const struct stat *st)
{
    const char *rel = target->path[1] ? target->path + 1 : ".";
    CLEANUP(fd_cleanup) int fd = target_pin(o->generation->mounts.slash, rel, O_DIRECTORY);
    struct stat same;
    if (fd < 0)
        return fd;
    if (fstat(fd, &same) < 0)
        return -errno;
    return same.st_dev == st->st_dev && same.st_ino == st->st_ino ? fd_take(&fd) : -ESTALE;
}

static int seal_directory(struct opener *o, const struct opener_request *rq, const struct target *target,
                          const struct stat *st, struct opener_result *res)
{
    if (mounts_may_block(&o->generation->mounts, target->path, target->len))
        return refuse(res, EACCES, "seal"); /* the sealer must not wait */
    CLEANUP(fd_cleanup) int twin = pin_ordinary(o, target, st);
    if (twin < 0)
        return refuse(res, EACCES, "seal");
    CLEANUP(fd_cleanup)
    int fd = !o->sealer ? -ENOTCONN : sealer_seal(o->sealer, twin, (rq->flags & WIRE_PATH) != 0);
    struct stat sealed;
    if (fd < 0 || fstat(fd, &sealed) < 0 || sealed.st_dev != st->st_dev || sealed.st_ino != st->st_ino)
        return refuse(res, EACCES, "seal");
    res->sealed = true;
    return give(res, fd_take(&fd));
}

/* Opened in the clone first: the kernel's checks of as= and the file's own, before the sealer makes a mount
 * of it. */
static int open_directory(struct opener *o, const struct opener_request *rq, const struct target *target,
                          struct opener_result *res)
{
    int flags = O_DIRECTORY | O_NOFOLLOW | (rq->flags & WIRE_PATH ? O_PATH : O_RDONLY | O_NONBLOCK);
    CLEANUP(fd_cleanup) int fd = target_open(target, flags, 0);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return kernel_says(res, fd < 0 ? fd : -errno);
    note_file(res, &st, false);
    const char *reason;
    int error =
        verify_file(o->generation, target, fd, &st, rq->flags, expected_owner(rq, target->rule), &reason);
    if (error)
        return refuse(res, error, reason);
    if (target->rule->sealed)
        return seal_directory(o, rq, target, &st, res);
    int err = settle_flags(fd, rq->flags);
    return err < 0 ? kernel_says(res, err) : give(res, fd_take(&fd));
}

/* ---- the ways through ---- */

/* A directory needs more than its name's right: `list`, or, for O_PATH, a rule that says type=dir. */
static int decide_directory(struct opener *o, const struct opener_request *rq, struct target *target,
                            struct opener_result *res)
{
    unsigned rights = opener_rights(rq->flags);
    if (rights & RIGHT_LIST || (rights == RIGHT_STAT && target->rule->types & POLICY_TYPE_DIR))
        return 0;
    if (decide(o, rq, rights | RIGHT_LIST, target->path, target->len, res) < 0)
        return res->error ? -res->error : -EACCES;
    return target_init(target, o->generation, res->rule, target->path, target->len, false);
}

/* One look, one open. -EAGAIN with error 0: the name changed in between, look again. */
static int open_once(struct opener *o, const struct opener_request *rq, struct target *target,
                     struct opener_result *res)
{
    bool creates = rq->flags & WIRE_CREATE;
    if (assume_for(o, rq, target->rule, false) < 0)
        return refuse(res, EPERM, "identity");
    struct stat st;
    int err = target_look(target, &st);
    if (err == -ENOENT && creates)
        return create_file(o, rq, target, res);
    if (err < 0)
        return kernel_says(res, err);
    if (S_ISLNK(st.st_mode))
        return kernel_says(res, -ELOOP);
    if (creates && rq->flags & WIRE_EXCLUSIVE)
        return kernel_says(res, -EEXIST);
    if (S_ISDIR(st.st_mode)) {
        if (rq->flags & WRITING)
            return kernel_says(res, -EISDIR);
        err = decide_directory(o, rq, target, res);
        if (err == 0 && assume_for(o, rq, target->rule, false) < 0) /* another rule, another as= */
            err = refuse(res, EPERM, "identity");
        return err < 0 ? err : open_directory(o, rq, target, res);
    }
    if (rq->flags & WIRE_DIRECTORY)
        return kernel_says(res, -ENOTDIR);
    if (!(verify_type(st.st_mode) & target->rule->types))
        return refuse(res, EPERM, "type");
    bool waits = o->may_wait && S_ISREG(st.st_mode) && !(rq->flags & WIRE_NONBLOCK);
    err = open_existing(o, rq, target, waits, res);
    if (err == 0 && o->known && S_ISREG(st.st_mode) && !(rq->flags & WIRE_PATH))
        known_saw_file(o->known, target);
    return err;
}

/*
 * Without a look, where none is needed (known.h). False: nothing came of it, and the result is as it was; a
 * name that does not stand for a regular file any more is to be asked for in the usual way.
 */
static bool open_known(struct opener *o, const struct opener_request *rq, struct target *target,
                       struct opener_result *res)
{
    const uint32_t others = WIRE_PATH | WIRE_DIRECTORY | WIRE_EXCLUSIVE;
    const struct opener_result before = *res;
    if (!o->known || rq->flags & others || !target->sealed || !(target->rule->types & POLICY_TYPE_FILE) ||
        !known_has(o->known, target) || assume_for(o, rq, target->rule, false) < 0)
        return false;
    target->known = true;
    open_existing(o, rq, target, false, res);
    target->known = false;
    if (res->fd >= 0 || res->slow)
        return true;
    known_forget(o->known, target);
    *res = before;
    return false;
}

/* Allowed by res->rule: opens path as a real path. */
static int open_real(struct opener *o, const struct opener_request *rq, const char *path, size_t len,
                     struct opener_result *res)
{
    struct target target;
    if (opener_is_slow(o, path, len))
        return be_slow(res);
    int err = target_init(&target, o->generation, res->rule, path, len, rq->flags & WRITING);
    if (err < 0)
        return kernel_says(res, err);
    if (open_known(o, rq, &target, res))
        return 0;
    for (int round = 0; round < RACE_ROUNDS; round++) {
        err = open_once(o, rq, &target, res);
        bool raced =
            (err == -EEXIST && !(rq->flags & WIRE_EXCLUSIVE)) || (err == -ENOENT && rq->flags & WIRE_CREATE);
        if (!raced)
            break;
    }
    return err;
}

/* ---- symlinks ---- */

/* Follows every symlink of the request once, without opening anything; "/" stands for the root that the
 * broker was started in. */
static int pin_through_links(struct opener *o, const struct opener_request *rq)
{
    struct open_how how = {
        .flags = (uint64_t)(O_PATH | O_CLOEXEC | (rq->flags & WIRE_NOFOLLOW ? O_NOFOLLOW : 0)),
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (o->may_wait ? 0 : RESOLVE_CACHED),
    };
    long fd;
    int tries = o->may_wait ? RACE_ROUNDS : 1;
    do /* EAGAIN: somebody renamed anything while `..` was walked */
        fd = syscall(SYS_openat2, o->generation->mounts.slash, rq->path + 1, &how, sizeof how);
    while (fd < 0 && errno == EAGAIN && --tries);
    return fd < 0 ? -errno : (int)fd;
}

static int real_path(struct opener *o, int pin, struct opener_result *res)
{
    char name[16];
    snprintf(name, sizeof name, "%d", pin);
    ssize_t len = readlinkat(o->proc_self_fd, name, res->real, PATH_TEXT_MAX + 1);
    if (len < 0)
        return -errno;
    if (len > PATH_TEXT_MAX || !path_is_clean(res->real, (size_t)len))
        return -ENAMETOOLONG;
    res->real[len] = '\0';
    res->real_len = (size_t)len;
    return 0;
}

/* The object that was found behind the links must be the one that its real path opens. */
static bool is_pinned(int pin, const struct opener_result *res)
{
    struct stat st;
    return fstat(pin, &st) == 0 && res->has_file && st.st_dev == res->dev && st.st_ino == res->ino;
}

/*
 * There are symlinks: the policy decides on the real path too. A link planted by a client can lead it only to
 * what it may open anyhow; and whatever goes wrong behind the link is one and the same EACCES, or links would
 * tell what exists.
 */
static int open_through_links(struct opener *o, const struct opener_request *rq, struct opener_result *res)
{
    if (assume_for(o, rq, res->rule, false) < 0)
        return refuse(res, EPERM, "identity");
    CLEANUP(fd_cleanup) int pin = pin_through_links(o, rq);
    if (pin == -EAGAIN && !o->may_wait)
        return be_slow(res); /* the links may lead anywhere */
    if (pin < 0 || real_path(o, pin, res) < 0)
        return refuse(res, EACCES, "symlink");
    int err = decide(o, rq, opener_rights(rq->flags), res->real, res->real_len, res);
    if (err < 0)
        return err;
    err = open_real(o, rq, res->real, res->real_len, res);
    if (res->fd >= 0 && !is_pinned(pin, res)) {
        res->fd = fd_close(res->fd);
        return refuse(res, EACCES, "symlink");
    }
    return err;
}

/* ---- entry points ---- */

static void result_init(struct opener_result *res)
{
    char *real = res->real;
    *res = (struct opener_result){ .fd = -1, .real = real };
}

void opener_check(struct opener *opener, const struct opener_request *request, struct opener_result *result)
{
    result_init(result);
    decide(opener, request, opener_rights(request->flags), request->path, request->len, result);
}

void opener_open(struct opener *opener, const struct opener_request *request, struct opener_result *result)
{
    opener_check(opener, request, result);
    if (!result->allowed)
        return;
    int err = open_real(opener, request, request->path, request->len, result);
    bool root_is_linked =
        err == -ENOENT && !mounts_find(&opener->generation->mounts, request->path, request->len);
    if ((err == -ELOOP || root_is_linked) && !(request->flags & WIRE_CREATE)) {
        const struct policy_rule *rule = result->rule;
        result_init(result);
        result->allowed = true;
        result->rule = rule;
        open_through_links(opener, request, result);
    } else if (root_is_linked) {
        result->error = ELOOP;
    }
}
