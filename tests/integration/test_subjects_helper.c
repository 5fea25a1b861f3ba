/*
 * threats.md, section A, rows 4, 5 and 23: cgroup:, unit: and label:, and what becomes of exe: when nothing
 * can be found out, or the helper that finds it out is dead or stands still. The number of a test is that of
 * its row.
 *
 * Link: -lseccomp
 */
#include "subject_program.h"

#include <errno.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../../common/util.h"

enum { SECOND_MS = 900, PATIENT_MS = 2000 /* a second, and what a busy machine needs */ };

#define ALLOW_TRUSTED "allow user:2001+exe:@/bin/trusted read @/pub/**\n"
#define BOB_PLAINLY "allow user:2002 read @/pub/**\n"
/* Who is known to be another program may; of whom nothing is known, may not. */
#define DENY_BAD                      \
    "allow user:2003 read @/pub/**\n" \
    "deny user:2003+exe:@/bin/bad read @/pub/**\n"
enum { CAROL = 2003 };

static struct broker b;

static void begin(const char *policy, const char *config)
{
    subject_prepare(&b);
    broker_start(&b, policy, config);
}

static void signal_workers(int signal)
{
    pid_t pids[16];
    int n = broker_workers(&b, pids, 16);
    assert_true(n > 0);
    for (int i = 0; i < n; i++)
        kill(pids[i], signal);
}

/* ---- 4: who sent is no more ---- */

/* Sends, lends its connection, dies; the workers look at it only then. */
static int ask_dead(const char *path, bool reaped)
{
    struct subject s;
    siginfo_t info;
    subject_begin(&s, &b, ALICE, "bin/trusted");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), 0);
    signal_workers(SIGSTOP);
    assert_int_equal(subject_do(&s, SUBJECT_SEND, path), 0);
    int pidfd = (int)syscall(SYS_pidfd_open, s.pid, 0);
    int sock = (int)syscall(SYS_pidfd_getfd, pidfd, subject_do(&s, SUBJECT_WHICH, NULL), 0);
    assert_true(sock >= 0);
    assert_int_equal(kill(s.pid, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)s.pid, &info, WEXITED | (reaped ? 0 : WNOWAIT)), 0);
    signal_workers(SIGCONT);
    int got = subject_receive(sock);
    if (!reaped)
        child_wait(s.pid);
    fd_close(sock);
    fd_close(pidfd);
    fd_close(s.sock);
    return got;
}

static void test_4_zombie(void **state)
{
    (void)state;
    begin(ALLOW_TRUSTED "allow user:2001 read @/priv/**\nallow user:2001 read @/al/**\n"
                        "deny user:2001+exe:@/bin/bad read @/al/**\n",
          "workers 1");
    file_write(at(&b, "al/f"), "f\n", 0600, 0);
    for (int reaped = 0; reaped < 2; reaped++) {
        assert_int_equal(ask_dead("pub/a", reaped), EACCES);
        assert_int_equal(ask_dead("priv/f", reaped), 0); /* a user is a user */
        assert_int_equal(ask_dead("al/f", reaped), EACCES);
    }
    broker_finish(&b);
}

/* ---- 5: no pidfd ---- */

static void test_5_no_pidfd(void **state)
{
    (void)state;
    static const int errors[] = { ENOPROTOOPT, ESRCH, EINVAL, EMFILE };
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        char number[8];
        snprintf(number, sizeof number, "%d", errors[i]);
        subject_prepare(&b);
        fobd_shim(&b, number);
        broker_start(&b, ALLOW_TRUSTED BOB_PLAINLY DENY_BAD, "workers 1");
        assert_int_equal(subject_ask(&b, ALICE, "bin/trusted"), EACCES);
        assert_int_equal(subject_ask(&b, CAROL, "bin/trusted"), EACCES);
        assert_int_equal(subject_ask(&b, BOB, "bin/trusted"), 0);
        broker_finish(&b);
        fobd_shim(&b, NULL);
    }
}

/* ---- the helper ---- */

static pid_t helper(void)
{
    return broker_child(&b, "fobd-identity");
}

static void test_helper_killed(void **state)
{
    (void)state;
    struct subject s;
    begin(ALLOW_TRUSTED BOB_PLAINLY DENY_BAD, "workers 2");
    subject_begin(&s, &b, ALICE, "bin/trusted");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), 0);
    assert_int_equal(subject_ask(&b, CAROL, "bin/copy"), 0);
    pid_t first = helper();
    assert_true(first > 0);
    kill(b.pid, SIGSTOP); /* or there would be another at once */
    kill(first, SIGKILL);
    int64_t begin = now_us();
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES);
    assert_int_equal(subject_ask(&b, CAROL, "bin/copy"), EACCES);
    assert_int_equal(subject_ask(&b, BOB, "bin/copy"), 0);
    assert_true(now_us() - begin < SECOND_MS * 1000);
    kill(b.pid, SIGCONT);
    WAIT_FOR(subject_do(&s, SUBJECT_OPEN, "pub/a") == 0);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), 0);
    assert_int_equal(subject_ask(&b, CAROL, "bin/copy"), 0);
    assert_int_equal(subject_ask(&b, CAROL, "bin/bad"), EACCES);
    assert_true(helper() > 0 && helper() != first);
    subject_end(&s);
    broker_finish(&b);
}

static int timed(const struct subject *s, int wanted)
{
    int64_t begin = now_us();
    assert_int_equal(subject_do(s, SUBJECT_OPEN, "pub/a"), wanted);
    return (int)((now_us() - begin) / 1000);
}

/* Each request of a user whom such a rule may concern waits a second, and its worker with it: then nothing is
 * known. Nobody else's does. */
static void test_helper_stopped(void **state)
{
    (void)state;
    struct subject alice, bob;
    begin(ALLOW_TRUSTED BOB_PLAINLY, "workers 2");
    subject_begin(&alice, &b, ALICE, "bin/trusted");
    subject_begin(&bob, &b, BOB, "bin/copy");
    assert_true(timed(&alice, 0) < SECOND_MS);
    kill(helper(), SIGSTOP);
    assert_in_range(timed(&alice, EACCES), SECOND_MS, PATIENT_MS);
    assert_true(timed(&bob, 0) < SECOND_MS);
    int64_t began = now_us();
    assert_int_equal(subject_do(&alice, SUBJECT_SEND, "pub/a"), 0);
    assert_int_equal(subject_do(&bob, SUBJECT_SEND, "pub/a"), 0);
    assert_int_equal(subject_do(&alice, SUBJECT_RECEIVE, NULL), EACCES);
    assert_int_equal(subject_do(&bob, SUBJECT_RECEIVE, NULL), 0);
    assert_true(now_us() - began < (SECOND_MS + PATIENT_MS) * 1000); /* the same worker's at the worst */
    kill(helper(), SIGCONT);
    assert_true(timed(&alice, 0) < SECOND_MS); /* answers to others' questions are nobody's */
    assert_true(timed(&bob, 0) < SECOND_MS);
    subject_end(&alice);
    subject_end(&bob);
    broker_finish(&b);
}

/* Only a policy that has such terms pays for them. */
static void test_reload_with_and_without(void **state)
{
    (void)state;
    struct subject s;
    begin("allow user:2001 read @/pub/**\n", "workers 2");
    assert_int_equal(helper(), 0);
    subject_begin(&s, &b, ALICE, "bin/copy");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), 0);
    for (int i = 0; i < 3; i++) {
        subject_reload(&b, ALLOW_TRUSTED);
        assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES);
        assert_int_equal(subject_ask(&b, ALICE, "bin/trusted"), 0);
        assert_true(helper() > 0);
        assert_string_equal(status_of(helper(), "CapEff:"), "0000000000080000"); /* CAP_SYS_PTRACE */
        assert_string_equal(status_of(helper(), "CapBnd:"), "0000000000080000");
        assert_string_equal(status_of(helper(), "Seccomp:"), "2");
        assert_int_equal(atoi(status_of(helper(), "Uid:")), WORKER_UID);
        subject_reload(&b, "allow user:2001 read @/pub/**\n");
        assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), 0);
        WAIT_FOR(helper() == 0);
        assert_int_equal(helper(), 0);
    }
    subject_end(&s);
    broker_finish(&b);
}

/* No reload and no end of the broker's takes a descriptor back. */
static void test_what_was_given_stays(void **state)
{
    (void)state;
    int fd;
    begin("allow user:0 read @/pub/**\n", "workers 2");
    assert_int_equal(open_once(&b, at(&b, "pub/a"), WIRE_READ, &fd), 0);
    subject_reload(&b, BOB_PLAINLY);
    assert_int_equal(open_once(&b, at(&b, "pub/a"), WIRE_READ, NULL), EACCES);
    assert_true(fd_reads(fd, "pub a\n"));
    broker_finish(&b);
    assert_true(fd_reads(fd, "pub a\n"));
    close(fd);
}

/* ---- 23: cgroups ---- */

static const char *const groups[] = {
    "",
    "/app",
    "/app/sub",
    "/app-evil",
    "/app (deleted)",
    "/report.service",
    "/.service",
    "/broker",
    "/report.service/worker",
    "/other",
    "/broker/inside",
    "/user@2001.service",
    "/other/app",
    "/user@2001.service/report.service",
};
static char group_dir[128];  /* of all of them */
static char group_path[128]; /* the same as the broker names it */

static int remove_groups(void **state)
{
    (void)state;
    char path[256];
    for (size_t i = ARRAY_SIZE(groups); *group_dir && i-- > 0;) {
        snprintf(path, sizeof path, "%s%s", group_dir, groups[i]);
        for (int tries = 0; rmdir(path) < 0 && errno == EBUSY && tries < 100; tries++)
            usleep(10000);
    }
    return 0;
}

/* A slice of our own, or the reason why not. */
static const char *make_groups(void)
{
    static const char *const points[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
    struct statfs fs;
    const char *point = NULL;
    char path[256];
    for (size_t i = 0; i < ARRAY_SIZE(points); i++)
        if (statfs(points[i], &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
            point = points[i];
    if (!point)
        return "no cgroup v2 is mounted";
    snprintf(group_dir, sizeof group_dir, "%s/fob-test-%d.slice", point, (int)getpid());
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        snprintf(path, sizeof path, "%s%s", group_dir, groups[i]);
        if (mkdir(path, 0755) < 0)
            return "no cgroup can be made";
    }
    return NULL;
}

static void move(const struct subject *s, const char *group)
{
    char path[256], pid[16];
    snprintf(path, sizeof path, "%s%s/cgroup.procs", group_dir, group);
    snprintf(pid, sizeof pid, "%d", (int)s->pid);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, pid, strlen(pid)), strlen(pid));
    close(fd);
}

/* As this process sees the path, of whose namespace the broker is. */
static void find_group_path(const struct subject *s)
{
    char path[64], text[4096];
    move(s, "");
    snprintf(path, sizeof path, "/proc/%d/cgroup", (int)s->pid);
    assert_true(file_read(path, text, sizeof text) > 0);
    const char *line = strstr(text, "0::");
    assert_non_null(line);
    snprintf(group_path, sizeof group_path, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
}

static void expect_in(const struct subject *s, const char *group, int error)
{
    move(s, group);
    int got = subject_do(s, SUBJECT_OPEN, "pub/a");
    if (got != error)
        fail_msg("in %s: errno %d, wanted %d", group, got, error);
}

#define SKIP_WITHOUT_GROUPS()                        \
    do {                                             \
        const char *why_not = make_groups();         \
        if (why_not) {                               \
            print_message("skipped: %s\n", why_not); \
            skip();                                  \
        }                                            \
    } while (0)

static void test_23_cgroup(void **state)
{
    (void)state;
    struct subject s;
    char policy[512];
    SKIP_WITHOUT_GROUPS();
    begin(ALLOW_TRUSTED, "workers 1");
    subject_begin(&s, &b, ALICE, "bin/trusted");
    find_group_path(&s);
    snprintf(policy, sizeof policy, "allow user:2001+cgroup:%s/app read @/pub/**\n", group_path);
    subject_reload(&b, policy);
    expect_in(&s, "", EACCES);
    expect_in(&s, "/app", 0);
    expect_in(&s, "/app-evil", EACCES); /* anew for each request */
    expect_in(&s, "/app/sub", 0);
    expect_in(&s, "/app (deleted)", EACCES);
    expect_in(&s, "/other/app", EACCES);
    expect_in(&s, "/app", 0);
    snprintf(policy, sizeof policy,
             "allow user:2001 read @/pub/**\ndeny user:2001+cgroup:%s/{app,none}/** read @/pub/**\n",
             group_path);
    subject_reload(&b, policy);
    expect_in(&s, "/app", 0);
    expect_in(&s, "/app/sub", EACCES);
    expect_in(&s, "/app-evil", 0);
    expect_in(&s, "/app (deleted)", EACCES); /* no name of a cgroup can be told from a deleted one */
    subject_end(&s);
    broker_finish(&b);
}

/* The broker's cgroup namespace begins at broker/: others are at `/../`, which is no path. */
static void test_23_outside_of_the_namespace(void **state)
{
    (void)state;
    struct subject s;
    char procs[192];
    SKIP_WITHOUT_GROUPS();
    subject_prepare(&b);
    snprintf(procs, sizeof procs, "%s/broker/cgroup.procs", group_dir);
    fobd_shim(&b, procs);
    broker_start(&b, "allow user:2001+cgroup:/** read @/pub/**\n", "workers 1");
    subject_begin(&s, &b, ALICE, "bin/trusted");
    expect_in(&s, "/app", EACCES);
    expect_in(&s, "/broker/inside", 0);
    expect_in(&s, "", EACCES);
    subject_reload(&b, "allow user:2001 read @/pub/**\ndeny user:2001+cgroup:/other read @/pub/**\n");
    expect_in(&s, "/broker/inside", 0);
    expect_in(&s, "/other", EACCES); /* whatever it is called there */
    expect_in(&s, "/app", EACCES);
    subject_end(&s);
    broker_finish(&b);
    fobd_shim(&b, NULL);
}

static void test_23_unit(void **state)
{
    (void)state;
    struct subject s;
    SKIP_WITHOUT_GROUPS();
    begin("allow user:2001+unit:report.service read @/pub/**\n", "workers 1");
    subject_begin(&s, &b, ALICE, "bin/trusted");
    find_group_path(&s);
    bool in_slices = strcspn(group_path + 1, "/") == strlen(group_path + 1);
    expect_in(&s, "/report.service", in_slices ? 0 : EACCES); /* in a container there are no units */
    expect_in(&s, "/report.service/worker", in_slices ? 0 : EACCES);
    expect_in(&s, "/app", EACCES);
    expect_in(&s, "", EACCES);
    expect_in(&s, "/user@2001.service/report.service", EACCES); /* named by that user */
    expect_in(&s, "/.service", EACCES);
    subject_reload(&b, "allow user:2001 read @/pub/**\ndeny user:2001+unit:report.service read @/pub/**\n");
    expect_in(&s, "/report.service", EACCES);
    expect_in(&s, "/user@2001.service/report.service", in_slices ? 0 : EACCES);
    subject_end(&s);
    broker_finish(&b);
}

/* ---- labels ---- */

/* What the kernel says of a socket of our own. Empty without a security module. */
static void own_label(char out[256])
{
    int pair[2];
    socklen_t len = 255;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    memset(out, 0, 256);
    if (getsockopt(pair[0], SOL_SOCKET, SO_PEERSEC, out, &len) < 0)
        *out = '\0';
    close(pair[0]);
    close(pair[1]);
}

static void test_label(void **state)
{
    (void)state;
    char label[256];
    own_label(label);
    begin("allow user:2001+label:* read @/pub/**\n", "workers 1");
    assert_int_equal(subject_ask(&b, ALICE, "bin/trusted"), *label ? 0 : EACCES);
    subject_reload(&b, "allow user:2001 read @/pub/**\ndeny user:2001+label:nobodys read @/pub/**\n");
    assert_int_equal(subject_ask(&b, ALICE, "bin/trusted"), *label ? 0 : EACCES);
    subject_reload(&b, "allow user:2001+label:nobodys read @/pub/**\n");
    assert_int_equal(subject_ask(&b, ALICE, "bin/trusted"), EACCES);
    assert_int_equal(helper(), 0); /* which knows nothing of labels */
    broker_finish(&b);
}

int main(int argc, char **argv)
{
    subject_main(argc, argv);
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_4_zombie),
        cmocka_unit_test(test_5_no_pidfd),
        cmocka_unit_test(test_helper_killed),
        cmocka_unit_test(test_helper_stopped),
        cmocka_unit_test(test_reload_with_and_without),
        cmocka_unit_test(test_what_was_given_stays),
        cmocka_unit_test_teardown(test_23_cgroup, remove_groups),
        cmocka_unit_test_teardown(test_23_outside_of_the_namespace, remove_groups),
        cmocka_unit_test_teardown(test_23_unit, remove_groups),
        cmocka_unit_test(test_label),
    };
    return cmocka_run_group_tests_name("subjects_helper", tests, NULL, NULL);
}
