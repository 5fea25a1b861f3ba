/*
 * A place for programs that are installed with more rights than who starts them: a mount namespace of the
 * test's own, in which /etc and /run are file systems of its own, so that there is a system's configuration
 * to find, and set-user-ID means something.
 *
 * In the place: /etc/fob/fobd.conf (audit to the file that harness.h reads, workers as uid 64998) and
 * /etc/fob/policy.d/test.policy; /run/bin with fobd, openfile and opend, the same program.
 */
#ifndef FOB_TESTS_SETUID_PLACE_H
#define FOB_TESTS_SETUID_PLACE_H

#include "spawn.h"

#include <ftw.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <termios.h>

#define PLACE_FOBD "/run/bin/fobd"
#define PLACE_OPENFILE "/run/bin/openfile"
#define PLACE_OPEND "/run/bin/opend"

enum {
    GROUP_DENIED = 5001,
    GROUP_GIVEN = 5002,
    PLACE_WORKER_UID =
        64998, /* descriptors in flight are counted by uid: those of other tests are not ours */
};

static struct broker b;

static inline void place_configure(const char *more)
{
    char text[1024];
    snprintf(text, sizeof text, "user %d\naudit file @/audit.log\nworkers 2\n%s", PLACE_WORKER_UID, more);
    write_with_dir(&b, "/etc/fob/fobd.conf", text, 0644, 0);
}

static inline void place_policy(const char *policy)
{
    write_with_dir(&b, "/etc/fob/policy.d/test.policy", policy, 0644, 0);
}

static const char place_default_policy[] = "allow user:2001 read @/pub/** @/priv/f\n"
                                           "allow user:2001 read,write,append,create @/priv/made/**\n"
                                           "allow group:5002 read @/priv/shared\n"
                                           "deny group:5001 read @/pub/**\n";

/* ---- with which rights ---- */

enum place_rights { PLACE_NONE, PLACE_SETUID, PLACE_CAPS };

static const char *const place_names[] = { PLACE_FOBD, PLACE_OPENFILE, PLACE_OPEND };

/* Those that fobd(8) names. */
static const int place_caps[] = { CAP_SETUID,     CAP_SETGID,       CAP_SETPCAP,         CAP_SYS_ADMIN,
                                  CAP_SYS_CHROOT, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_KILL };

static inline int place_set_caps(const char *path, const int *caps, size_t n)
{
    struct vfs_cap_data data = { .magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE };
    for (size_t i = 0; i < n; i++)
        data.data[caps[i] / 32].permitted |= 1u << caps[i] % 32;
    return setxattr(path, "security.capability", &data, sizeof data, 0);
}

static inline void place_install(const char *path, enum place_rights rights)
{
    removexattr(path, "security.capability");
    assert_int_equal(chmod(path, rights == PLACE_SETUID ? 04755 : 0755), 0);
    if (rights == PLACE_CAPS)
        assert_int_equal(place_set_caps(path, place_caps, ARRAY_SIZE(place_caps)), 0);
}

static inline void place_install_all(enum place_rights rights)
{
    for (size_t i = 0; i < ARRAY_SIZE(place_names); i++)
        place_install(place_names[i], rights);
}

/* ---- making it ---- */

/* What libc needs of /etc. */
static const char *const place_etc[] = { "/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/passwd",
                                         "/etc/group", "/etc/ld.so.preload" };

static inline void place_copy_etc(const char *to)
{
    char path[128], text[256 << 10];
    for (size_t i = 0; i < ARRAY_SIZE(place_etc); i++) {
        int in = open(place_etc[i], O_RDONLY | O_CLOEXEC);
        if (in < 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", to, strrchr(place_etc[i], '/') + 1);
        int out = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        ssize_t n;
        while ((n = read(in, text, sizeof text)) > 0)
            assert_int_equal(fd_write_all(out, text, (size_t)n), 0);
        close(in);
        close(out);
    }
}

/* Why there can be none, or NULL. */
static inline const char *place_mount(void)
{
    if (unshare(CLONE_NEWNS) < 0)
        return "no mount namespace of its own (CAP_SYS_ADMIN)";
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("fob-test", "/run", "tmpfs", MS_NODEV, "mode=755") < 0)
        return "no file system can be mounted";
    mkdir("/run/etc", 0755);
    mkdir("/run/bin", 0755);
    place_copy_etc("/run/etc");
    return mount("/run/etc", "/etc", NULL, MS_BIND, NULL) < 0 ? "nothing can be mounted on /etc" : NULL;
}

/* Does the program get the rights of its file? Its complaint about an option tells. */
static inline const char *place_probe(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        const char *const argv[] = { "fobd", "-x", NULL };
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd <= 2; fd++)
            dup2(null, fd);
        if (setgroups(0, NULL) || setresgid(ALICE, ALICE, ALICE) || setresuid(ALICE, ALICE, ALICE))
            _exit(126);
        execv(PLACE_FOBD, words(argv));
        _exit(127);
    }
    switch (child_wait(pid)) {
    case 2:
        return NULL;
    case 1:
        return "set-user-ID has no effect here (no_new_privs, nosuid)";
    default:
        return "set-user-ID programs do not run here (sanitizer, loader)";
    }
}

/* For main(): NULL, or the reason why the tests are skipped. */
static inline const char *place_make(void)
{
    broker_prepare(&b);
    const char *reason = place_mount();
    if (reason)
        return reason;
    umask(022);
    assert_int_equal(mkdir("/etc/fob", 0755), 0);
    assert_int_equal(mkdir("/etc/fob/policy.d", 0755), 0);
    assert_int_equal(mkdir(at(&b, "priv/made"), 0755), 0);
    for (size_t i = 0; i < ARRAY_SIZE(place_names); i++)
        copy_program("fobd", place_names[i], 0755);
    place_install_all(PLACE_SETUID);
    place_configure("");
    place_policy(place_default_policy);
    said_reset(&b);
    stage_setup(NULL);
    return place_probe();
}

static inline void place_end(void)
{
    b.pid = 0;
    broker_end(&b);
}

static inline int place_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type;
    return ftw->level ? remove(path) : 0;
}

static inline int place_reset(void **state)
{
    (void)state;
    nftw(at(&b, "priv/made"), place_remove, 8, FTW_PHYS | FTW_DEPTH);
    said_reset(&b);
    unlink(b.audit);
    place_configure("");
    place_policy(place_default_policy);
    return 0;
}

static enum place_rights place_installed;

/* Setup of a group of tests: the first has set-user-ID root, the second file capabilities. */
static inline int place_install_next(void **state)
{
    place_installed = place_installed == PLACE_NONE ? PLACE_SETUID : PLACE_CAPS;
    place_install_all(place_installed);
    return place_reset(state);
}

#define RUN_IN_PLACE()                             \
    do {                                           \
        RUN_AS_ROOT();                             \
        const char *place_reason = place_make();   \
        if (place_reason) {                        \
            place_end();                           \
            printf("skipped: %s\n", place_reason); \
            puts("0 passed, 0 failed, 1 skipped"); \
            return 0;                              \
        }                                          \
    } while (0)

/* ---- using it ---- */

static inline struct spawn elevated(int type)
{
    return (struct spawn){ .path = PLACE_FOBD, .type = type };
}

/* It serves, with root's rights and the system's policy, and ends with its client. */
static inline void expect_service(const struct spawn *how)
{
    struct spawned s = spawn(&b, how);
    expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
    expect_error(s.sock, at(&b, "secret/f"), EACCES);
    CHECK_EQ(spawn_end(&s), 0);
}

static inline int opens_recorded(const char *what)
{
    return audit_count(&b, "\"op\":\"open\"", what);
}

/* ---- a terminal that an attacker has in hand ---- */

/* Makes it the controlling one of this process, which leads a session then, and does not mind its signals.
 * The other side of it. */
static inline int make_terminal(void)
{
    CHECK(setsid() > 0);
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    CHECK(master >= 0);
    CHECK_EQ(unlockpt(master), 0);
    int terminal = open(ptsname(master), O_RDWR);
    CHECK(terminal >= 0);
    ioctl(terminal, TIOCSCTTY, 0);
    CHECK_EQ(tcgetpgrp(terminal), getpgrp());
    for (int fd = 0; fd <= STDOUT_FILENO; fd++)
        dup2(terminal, fd);
    for (int number = SIGHUP; number <= SIGTTOU; number++)
        if (number != SIGCHLD && number != SIGALRM && number != SIGSEGV && number != SIGABRT)
            signal(number, SIG_IGN);
    return master;
}

/*
 * Tells the terminal of groups that do not exist yet, those of the pids behind `first`, and presses keys,
 * until it is killed.
 */
static inline pid_t torment(int master, const _Atomic int *first)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fcntl(master, F_SETFL, O_NONBLOCK);
    for (unsigned i = 0;; i++) {
        tcsetpgrp(STDIN_FILENO, *first + (int)(i % 6));
        if (i % 2048 == 2047) /* seldom enough for it to come far */
            (void)!write(master, "\003\034\032" + i / 2048 % 3, 1);
        char bytes[64];
        if (i % 64 == 0)
            (void)!read(master, bytes, sizeof bytes); /* its echo */
    }
}

#endif
