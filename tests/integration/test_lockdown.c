/*
 * threats.md, section J from outside: what the kernel says of every process of fobd, what others can do to
 * them, which descriptors they hold. From inside: test_confine.c; steps that fail: test_degraded.c; processes
 * that die: test_life.c.
 */
#include "attacks.h"

#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* It makes fobd start all that it has. */
static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n"
                             "allow user:2001 write,create @/al/**\n"
                             "allow user:2001+exe:/nonexistent/program read @/priv/**\n";

/* The supervisor, two workers, a sealer, an identity helper, a courier and a slow opener that waits for work.
 */
enum { PROCESSES = 7 };
static const char config[] = "workers 2\nstream-socket @/stream.sock\ndgram-socket @/dgram.sock";

static void begin_all(struct broker *b)
{
    pid_t pids[2];
    broker_prepare(b);
    broker_start(b, policy, config);
    EXPECT_SOON(are_settled(b, PROCESSES));
    assert_int_equal(find_named(b, "fobd-worker", pids, 2), 2);
    assert_true(find_one(b, "fobd-sealer") && find_one(b, "fobd-identity") && find_one(b, "fobd-opener"));
    assert_true(find_one(b, "fobd-courier"));
    as_user(b, ALICE, expect_served, NULL);
}

enum { FDS_MAX = 64 };

/* ---- 101: what the kernel says ---- */

#define CAP(number) (1ULL << (number))
enum {
    OVERRIDE = 1,
    SEARCH = 2,
    KILL = 5,
    SETGID = 6,
    SETUID = 7,
    SETPCAP = 8,
    CHROOT = 18,
    PTRACE = 19,
    ADMIN = 21
};

static unsigned long long caps_of(pid_t pid, const char *field)
{
    return strtoull(status_of(pid, field), NULL, 16);
}

struct expected {
    const char *name;
    unsigned long long caps;
    bool empty_root;
};
#define WORKER_CAPS (CAP(OVERRIDE) | CAP(SEARCH) | CAP(SETUID) | CAP(SETGID))
static const struct expected expected[] = {
    { "fobd-worker", WORKER_CAPS, true },
    { "fobd-opener", WORKER_CAPS, true },
    { "fobd-sealer", CAP(SEARCH) | CAP(ADMIN), false },
    { "fobd-identity", CAP(PTRACE), false },
    { "fobd-courier", CAP(SETGID) | CAP(SETUID) | CAP(PTRACE), false },
};

static void expect_caps(pid_t pid, unsigned long long caps)
{
    static const char *const exact[] = { "CapPrm:", "CapEff:", "CapBnd:" };
    for (size_t i = 0; i < ARRAY_SIZE(exact); i++)
        assert_int_equal(caps_of(pid, exact[i]), caps);
    assert_int_equal(caps_of(pid, "CapInh:"), 0);
    assert_int_equal(caps_of(pid, "CapAmb:"), 0);
}

static void expect_child(const struct process *p)
{
    const struct expected *want = expected;
    while (strcmp(want->name, p->name) != 0)
        assert_true(++want < expected + ARRAY_SIZE(expected)); /* no process that is not known here */
    char root[64], limits[64], text[4096];
    snprintf(root, sizeof root, "/proc/%d/root/", (int)p->pid);
    snprintf(limits, sizeof limits, "/proc/%d/limits", (int)p->pid);
    assert_string_equal(status_of(p->pid, "Uid:"), "64999\t64999\t64999\t64999");
    assert_string_equal(status_of(p->pid, "Gid:"), "64999\t64999\t64999\t64999");
    assert_string_equal(status_of(p->pid, "Groups:"), "");
    expect_caps(p->pid, want->caps);
    assert_string_equal(status_of(p->pid, "NoNewPrivs:"), "1");
    assert_string_equal(status_of(p->pid, "Seccomp:"), "2");
    assert_string_equal(status_of(p->pid, "Threads:"), "1");
    assert_true(file_read(limits, text, sizeof text) > 0);
    assert_non_null(strstr(text, "Max core file size        0                    0 "));
    if (want->empty_root)
        assert_int_equal(count_names(root), 0);
}

/* It gives capabilities to its children and uses few itself: none that opens a file. */
static void expect_supervisor(pid_t pid)
{
    const unsigned long long given = CAP(OVERRIDE) | CAP(SEARCH) | CAP(PTRACE);
    const unsigned long long used =
        CAP(KILL) | CAP(SETUID) | CAP(SETGID) | CAP(SETPCAP) | CAP(ADMIN) | CAP(CHROOT);
    assert_int_equal(caps_of(pid, "CapEff:") & ~used, 0);
    assert_int_equal(caps_of(pid, "CapPrm:") & ~(used | given), 0);
    assert_int_equal(caps_of(pid, "CapInh:"), 0);
    assert_int_equal(caps_of(pid, "CapAmb:"), 0);
    assert_string_equal(status_of(pid, "NoNewPrivs:"), "1");
}

static void expect_all_confined(const struct broker *b)
{
    struct process all[PROCESSES_MAX];
    EXPECT_SOON(are_settled(b, PROCESSES));
    int n = find_processes(b, all);
    expect_supervisor(all[0].pid);
    for (int i = 1; i < n; i++)
        expect_child(&all[i]);
}

static void test_101_every_process(void **state)
{
    (void)state;
    struct broker b;
    begin_all(&b);
    expect_all_confined(&b);
    reload(&b); /* the next ones are no less so */
    expect_all_confined(&b);
    broker_finish(&b);
}

/* ---- 101: what others can do to them ---- */

static bool opens(pid_t pid, const char *what, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    int fd = open(path, flags | O_CLOEXEC);
    fd_close(fd);
    return fd >= 0;
}

static bool steals_fd(pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), stolen = -1;
    for (int fd = 0; pidfd >= 0 && stolen < 0 && fd < FDS_MAX; fd++)
        stolen = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    fd_close(pidfd);
    return stolen >= 0;
}

static bool reads_memory(pid_t pid)
{
    char byte;
    struct iovec here = { &byte, 1 }, there = { &shared, 1 };
    return process_vm_readv(pid, &here, 1, &there, 1, 0) == 1;
}

/* Whoever it is, of the workers' own uid too: they are not dumpable. */
static void look_inside(struct client_env *env)
{
    const struct process *p = env->data;
    static const char *const files[] = { "mem", "maps", "environ", "fd/0", "root/", "auxv", "stack", "io" };
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        check_in_client(!opens(p->pid, files[i], O_RDONLY), files[i], __FILE__, __LINE__);
    CHECK(!opens(p->pid, "mem", O_RDWR));
    CHECK(!opens(p->pid, "fd", O_RDONLY | O_DIRECTORY));
    CHECK_EQ(ptrace(PTRACE_SEIZE, p->pid, NULL, NULL), -1);
    CHECK(!reads_memory(p->pid));
    CHECK(!steals_fd(p->pid));
}

static void disturb(struct client_env *env)
{
    const struct process *p = env->data;
    const struct rlimit none = { 0, 0 };
    CHECK(kill(p->pid, SIGSTOP) < 0 && errno == EPERM);
    CHECK(kill(p->pid, SIGKILL) < 0 && errno == EPERM);
    CHECK(kill(p->pid, SIGHUP) < 0 && errno == EPERM);
    CHECK(prlimit(p->pid, RLIMIT_NOFILE, &none, NULL) < 0 && errno == EPERM);
    CHECK(setpriority(PRIO_PROCESS, (id_t)p->pid, 19) < 0 && errno == EPERM);
    CHECK(!opens(p->pid, "oom_score_adj", O_WRONLY));
    CHECK(!opens(p->pid, "coredump_filter", O_WRONLY));
    CHECK(!opens(p->pid, "clear_refs", O_WRONLY));
    look_inside(env);
}

static void test_101_attacked_from_outside(void **state)
{
    (void)state;
    struct broker b;
    struct process all[PROCESSES_MAX];
    begin_all(&b);
    int n = find_processes(&b, all);
    for (int i = 0; i < n; i++) {
        as_user(&b, ALICE, disturb, &all[i]);
        as_user(&b, WORKER_UID, look_inside, &all[i]);
    }
    as_user(&b, BOB, expect_served, NULL);
    broker_finish(&b);
}

/* ---- 110: descriptors ---- */

struct fds {
    int n;
    char links[FDS_MAX][128]; /* sorted */
};

static int compare_links(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* O_CLOEXEC on all but the standard ones. */
static void expect_cloexec(pid_t pid, int fd)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)pid, fd);
    if (fd <= STDERR_FILENO || file_read(path, text, sizeof text) <= 0)
        return;
    const char *flags = strstr(text, "flags:");
    assert_non_null(flags);
    assert_true(strtoul(flags + sizeof "flags:", NULL, 8) & O_CLOEXEC);
}

static void read_fds(pid_t pid, struct fds *fds)
{
    char path[64];
    *fds = (struct fds){ 0 };
    for (int fd = 0; fd < 256 && fds->n < FDS_MAX; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
        ssize_t len = readlink(path, fds->links[fds->n], sizeof fds->links[0] - 1);
        if (len < 0)
            continue;
        fds->links[fds->n][len] = '\0';
        fds->n++;
        expect_cloexec(pid, fd);
    }
    qsort(fds->links, (size_t)fds->n, sizeof fds->links[0], compare_links);
}

static bool holds(const struct fds *fds, const char *link)
{
    for (int i = 0; i < fds->n; i++)
        if (strcmp(fds->links[i], link) == 0)
            return true;
    return false;
}

/* Standard descriptors, sockets, events and a worker's timer, the audit, roots of the policy as places (their
 * path within a mount of their own is `/`), and the process's own /proc. No file of anybody's. */
static void expect_documented(const struct broker *b, const struct process *p, const struct fds *fds)
{
    char own[64], log[DIR_MAX + 16];
    snprintf(own, sizeof own, "/proc/%d/fd", (int)p->pid);
    snprintf(log, sizeof log, "%s", at(b, "fobd.log"));
    bool is_worker = strcmp(p->name, "fobd-worker") == 0;
    bool looks_at_proc = !is_worker && strcmp(p->name, "fobd-opener") != 0;
    const char *const known[] = { "/dev/null", log, b->audit, own, "/" };
    for (int i = 0; i < fds->n; i++) {
        const char *link = fds->links[i];
        bool is_known = strncmp(link, "socket:[", 8) == 0 || strcmp(link, "anon_inode:[eventpoll]") == 0 ||
                        strcmp(link, "anon_inode:[eventfd]") == 0 ||
                        strcmp(link, "anon_inode:[timerfd]") == 0;
        for (size_t k = 0; k < ARRAY_SIZE(known); k++)
            is_known |= strcmp(link, known[k]) == 0;
        is_known |= looks_at_proc && strcmp(link, "/proc") == 0;
        is_known |= is_worker && strcmp(link, "anon_inode:[timerfd]") == 0;
        if (!is_known)
            fail_msg("%s holds %s", p->name, link);
    }
}

/* Workers share three listening sockets, the queue of slow openers and that of the courier, and both ends of
 * the queues in which each of the two gets connections from the other; others at most an end of one of the
 * first five. */
static void expect_apart(const struct process *a, const struct fds *of_a, const struct process *c,
                         const struct fds *of_c)
{
    int same = 0,
        most = strcmp(a->name, "fobd-worker") == 0 && strcmp(c->name, "fobd-worker") == 0 ? 5 + 2 * 2 : 1;
    for (int i = 0; i < of_a->n; i++)
        same += strncmp(of_a->links[i], "socket:", 7) == 0 && holds(of_c, of_a->links[i]);
    if (same > most)
        fail_msg("%s and %s share %d sockets", a->name, c->name, same);
}

struct counts {
    int worker, opener, sealer, identity, courier, supervisor;
};

static int *count_of(struct counts *counts, const char *name)
{
    return strcmp(name, "fobd-worker") == 0     ? &counts->worker
           : strcmp(name, "fobd-opener") == 0   ? &counts->opener
           : strcmp(name, "fobd-sealer") == 0   ? &counts->sealer
           : strcmp(name, "fobd-identity") == 0 ? &counts->identity
           : strcmp(name, "fobd-courier") == 0  ? &counts->courier
                                                : &counts->supervisor;
}

/* How many each has: every worker as many as the next. */
static struct counts look_at_fds(const struct broker *b)
{
    static struct fds fds[PROCESSES_MAX];
    struct process all[PROCESSES_MAX];
    struct counts counts = { 0 };
    int n = find_processes(b, all);
    for (int i = 0; i < n; i++) {
        read_fds(all[i].pid, &fds[i]);
        int *count = count_of(&counts, all[i].name);
        assert_true(*count == 0 || *count == fds[i].n);
        *count = fds[i].n;
        if (i)
            expect_documented(b, &all[i], &fds[i]);
        for (int j = 1; j < i; j++)
            expect_apart(&all[j], &fds[j], &all[i], &fds[i]);
    }
    return counts;
}

static int count_all_fds(const struct broker *b)
{
    struct process all[PROCESSES_MAX];
    int n = find_processes(b, all), sum = 0;
    for (int i = 0; i < n; i++)
        sum += count_fds_of(all[i].pid);
    return sum;
}

static void expect_same_fds(const struct broker *b, const struct counts *want, int sum)
{
    EXPECT_SOON(are_settled(b, PROCESSES) && count_all_fds(b) == sum);
    struct counts got = look_at_fds(b);
    assert_memory_equal(&got, want, sizeof got);
}

/* Not more of them after who died was started anew, and after reloads. */
static void test_110_descriptors(void **state)
{
    (void)state;
    struct broker b;
    pid_t worker;
    begin_all(&b);
    const struct counts counts = look_at_fds(&b);
    const int sum = count_all_fds(&b);
    print_message(
        "descriptors: supervisor %d, worker %d, opener %d, sealer %d, identity helper %d, courier %d\n",
        counts.supervisor, counts.worker, counts.opener, counts.sealer, counts.identity, counts.courier);
    worker = find_one(&b, "fobd-worker");
    kill(worker, SIGKILL);
    EXPECT_SOON(find_one(&b, "fobd-worker") != worker);
    expect_same_fds(&b, &counts, sum);
    for (int i = 0; i < 3; i++)
        reload(&b);
    expect_same_fds(&b, &counts, sum);
    broker_finish(&b);
}

/* What whoever starts fobd has left open. */
static void test_110_inherited(void **state)
{
    (void)state;
    static struct fds fds;
    struct broker b;
    struct process all[PROCESSES_MAX];
    int leaked[20];
    broker_prepare(&b);
    for (size_t i = 0; i < ARRAY_SIZE(leaked); i++)
        leaked[i] = open(at(&b, "secret/f"), O_RDWR); /* not O_CLOEXEC */
    broker_start(&b, policy, config);
    fd_close_many(leaked, ARRAY_SIZE(leaked));
    EXPECT_SOON(are_settled(&b, PROCESSES));
    int n = find_processes(&b, all);
    for (int i = 0; i < n; i++) {
        read_fds(all[i].pid, &fds);
        assert_false(holds(&fds, at(&b, "secret/f")));
    }
    as_user(&b, BOB, expect_served, NULL);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_101_every_process),
        ATTACK(test_101_attacked_from_outside),
        ATTACK(test_110_descriptors),
        ATTACK(test_110_inherited),
    };
    return cmocka_run_group_tests_name("lockdown", tests, shared_setup, NULL);
}
