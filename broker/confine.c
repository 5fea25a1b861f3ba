#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/mount.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/util.h"
#include "confine_steps.h"

/* Opened by confine_prepare(), used by every child. */
static int proc_fd = -1, empty_fd = -1;
static int empty_error;

/* ---- the empty root ---- */

/* A tmpfs that nobody can reach, write or fill: no directory of the system has to be kept empty for us. */
static int make_empty_root(void)
{
    CLEANUP(fd_cleanup) int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0)
        return -errno;
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    unsigned flags = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, flags);
    return mount < 0 ? -errno : mount;
}

int confine_prepare(void)
{
    proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (proc_fd < 0)
        return -errno;
    empty_fd = make_empty_root();
    empty_error = empty_fd < 0 ? empty_fd : 0;
    return 0;
}

static int enter_empty_root(void)
{
    if (empty_error)
        return empty_error;
    struct stat want, is;
    if (fchdir(empty_fd) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return -errno;
    if (fstat(empty_fd, &want) < 0 || stat("/", &is) < 0)
        return -errno;
    return want.st_dev == is.st_dev && want.st_ino == is.st_ino ? 0 : -EPERM;
}

/* ---- ids and capabilities ---- */

static int drop_bounding(const cap_value_t *keep, int n)
{
    for (cap_value_t cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        bool kept = false;
        for (int i = 0; i < n; i++)
            kept = kept || keep[i] == cap;
        if (!kept && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return -errno;
    }
    return 0;
}

/* Locked: no exec and no change of uid gives anything back. Needs CAP_SETPCAP, so it comes before the
 * capabilities go. */
static int lock_securebits(void)
{
    unsigned long bits = SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
                         SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                         SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    return prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0 ? -errno : 0;
}

static int change_ids(uid_t uid, gid_t gid)
{
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -errno;
    uid_t real, effective, saved;
    if (getresuid(&real, &effective, &saved) < 0 || real != uid || effective != uid || saved != uid ||
        uid == 0)
        return -EPERM;
    return getgroups(0, NULL) == 0 ? 0 : -EPERM;
}

static int set_capabilities(const cap_value_t *caps, int n)
{
    cap_t set = cap_init();
    if (!set)
        return -ENOMEM;
    int err = 0;
    if (n && (cap_set_flag(set, CAP_PERMITTED, n, caps, CAP_SET) < 0 ||
              cap_set_flag(set, CAP_EFFECTIVE, n, caps, CAP_SET) < 0))
        err = -errno;
    if (err == 0 && cap_set_proc(set) < 0)
        err = -errno;
    cap_t now = err == 0 ? cap_get_proc() : NULL;
    if (err == 0 && (!now || cap_compare(now, set) != 0))
        err = -EPERM; /* what the kernel says counts, not what was asked of it */
    cap_free(now);
    cap_free(set);
    return err;
}

static int become(const struct confine_plan *plan, const cap_value_t *caps, int n)
{
    if (!plan->privileged)
        return 0;
    int err = lock_securebits();
    if (err == 0)
        err = drop_bounding(caps, n);
    return err == 0 ? change_ids(plan->uid, plan->gid) : err;
}

/* ---- bookkeeping ---- */

static int note(struct confine_state *state, unsigned step, int err)
{
    if (err == 0)
        state->done |= step;
    else
        state->errors[__builtin_ctz(step)] = err;
    return err;
}

static int seal_process(void)
{
    struct rlimit none = { 0, 0 };
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
        return -errno;
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : -EPERM;
}

static int set_no_new_privs(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : -EPERM;
}

/* What the kernel says of the clones that files are opened through, not what was asked of it. */
static int look_at_mounts(const struct mounts *mounts)
{
    if (!mounts->sealed)
        return mounts->error;
    for (size_t i = 0; i < mounts->n_roots; i++) {
        const unsigned long sealed = ST_NOSUID | ST_NODEV | ST_NOEXEC;
        const struct mounts_root *root = &mounts->roots[i];
        struct statvfs read_only = { .f_flag = sealed | ST_RDONLY }, read_write = { .f_flag = sealed };
        if (mounts_may_block(mounts, root->path, root->path_len))
            continue; /* it would be asked, and might not answer */
        if ((root->read_only >= 0 && fstatvfs(root->read_only, &read_only) < 0) ||
            (root->read_write >= 0 && fstatvfs(root->read_write, &read_write) < 0))
            return -errno;
        if (~read_only.f_flag & (sealed | ST_RDONLY) || ~read_write.f_flag & sealed)
            return -EPERM;
    }
    return 0;
}

/* Landlock tells nobody what is in force: the root directory, which no policy gives a worker, must be shut.
 */
static int enforce_landlock(const struct mounts *mounts, unsigned *abi)
{
    int err = confine_landlock(mounts, abi);
    if (err < 0 || mounts_find(mounts, "/", 1))
        return err;
    CLEANUP(fd_cleanup) int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 && errno == EACCES ? 0 : -EPERM;
}

/* What privilege is needed for is no failure of a broker that has none. */
static bool is_complete(const struct confine_plan *plan, const struct confine_state *state)
{
    unsigned wanted = plan->privileged ? CONFINE_ALL : CONFINE_ALL & ~(unsigned)CONFINE_CHROOT;
    return (state->done & wanted) == wanted;
}

/* ---- worker ---- */

static int choose_capabilities(const struct policy_needs *needs, cap_value_t caps[4])
{
    int n = 0;
    if (needs->write)
        caps[n++] = CAP_DAC_OVERRIDE;
    if (needs->read)
        caps[n++] = CAP_DAC_READ_SEARCH;
    if (needs->identity) {
        caps[n++] = CAP_SETGID;
        caps[n++] = CAP_SETUID;
    }
    return n;
}

static int open_proc_self(struct confine_state *state)
{
    state->proc_self_fd = openat(proc_fd, "self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return state->proc_self_fd < 0 ? -errno : 0;
}

int confine_worker(const struct confine_plan *plan, struct confine_state *state)
{
    cap_value_t caps[4];
    int n = plan->privileged ? choose_capabilities(&plan->needs, caps) : 0;
    *state = (struct confine_state){ .proc_self_fd = -1 };
    int err = open_proc_self(state);
    if (err < 0)
        return err;
    note(state, CONFINE_CHROOT, plan->privileged ? enter_empty_root() : -EPERM);
    note(state, CONFINE_SEALED, look_at_mounts(plan->mounts));
    fd_close(proc_fd);
    fd_close(empty_fd);
    /* Who it is, and what it may: without these two nothing is served, required or not. */
    err = note(state, CONFINE_UID, become(plan, caps, n));
    if (err == 0)
        err = note(state, CONFINE_CAPABILITIES, set_capabilities(caps, n));
    if (err < 0)
        return err;
    note(state, CONFINE_UNDUMPABLE, seal_process());
    note(state, CONFINE_NO_NEW_PRIVS, set_no_new_privs());
    note(state, CONFINE_LANDLOCK, enforce_landlock(plan->mounts, &state->landlock_abi));
    note(state, CONFINE_SECCOMP, confine_seccomp_worker(plan->privileged && plan->needs.identity));
    return plan->required && !is_complete(plan, state) ? -EPERM : 0;
}

/* ---- sealer ---- */

/* CAP_DAC_READ_SEARCH: it opens the directories that it sealed, which may be root's alone. */
int confine_sealer(const struct confine_plan *plan, struct confine_state *state)
{
    static const cap_value_t caps[] = { CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN };
    *state = (struct confine_state){ .proc_self_fd = -1 };
    int err = open_proc_self(state);
    if (err == 0)
        err = note(state, CONFINE_UID, become(plan, caps, ARRAY_SIZE(caps)));
    if (err == 0)
        err = note(state, CONFINE_CAPABILITIES, set_capabilities(caps, ARRAY_SIZE(caps)));
    if (err < 0)
        return err;
    fd_close(proc_fd);
    fd_close(empty_fd);
    note(state, CONFINE_UNDUMPABLE, seal_process());
    note(state, CONFINE_NO_NEW_PRIVS, set_no_new_privs());
    return note(state, CONFINE_SECCOMP, confine_seccomp_sealer());
}

/* ---- identity helper ---- */

static bool has_ptrace(void)
{
    cap_flag_value_t held = CAP_CLEAR;
    cap_t caps = cap_get_proc();
    bool has = caps && cap_get_flag(caps, CAP_SYS_PTRACE, CAP_PERMITTED, &held) == 0 && held == CAP_SET;
    cap_free(caps);
    return has;
}

/* Of those that look at /proc and at names for others: no other root and no Landlock, every step required. */
static int confine_onlooker(const struct confine_plan *plan, struct confine_state *state,
                            const cap_value_t *caps, int n, int (*seccomp)(void))
{
    *state = (struct confine_state){ .proc_self_fd = -1 };
    int err = note(state, CONFINE_UID, become(plan, caps, n));
    if (err == 0)
        err = note(state, CONFINE_CAPABILITIES, set_capabilities(caps, n));
    if (err == 0)
        err = note(state, CONFINE_UNDUMPABLE, seal_process());
    if (err == 0)
        err = note(state, CONFINE_NO_NEW_PRIVS, set_no_new_privs());
    return err == 0 ? note(state, CONFINE_SECCOMP, seccomp()) : err;
}

int confine_identity(const struct confine_plan *plan, struct confine_state *state)
{
    static const cap_value_t caps[] = { CAP_SYS_PTRACE };
    int n = plan->privileged && has_ptrace() ? ARRAY_SIZE(caps) : 0;
    int err = confine_onlooker(plan, state, caps, n, confine_seccomp_identity);
    if (n == 0)
        state->errors[__builtin_ctz(CONFINE_CAPABILITIES)] = -EPERM;
    return err;
}

/* ---- courier ---- */

int confine_courier(const struct confine_plan *plan, struct confine_state *state)
{
    static const cap_value_t caps[] = { CAP_SETGID, CAP_SETUID, CAP_SYS_PTRACE };
    int n = !plan->privileged ? 0 : has_ptrace() ? 3 : 2;
    return confine_onlooker(plan, state, caps, n, confine_seccomp_courier);
}

/* ---- text ---- */

const char *confine_text(char out[CONFINE_TEXT], unsigned steps)
{
    static const char *const names[] = { "uid",      "capabilities", "chroot",        "no_new_privs",
                                         "landlock", "seccomp",      "sealed-mounts", "undumpable" };
    char *at = out;
    *at = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!(steps & 1u << i))
            continue;
        if (at != out)
            *at++ = ' ';
        at = stpcpy(at, names[i]);
    }
    return out;
}
