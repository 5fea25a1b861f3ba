/*
 * threats.md, section A, rows 20 to 22: executables, against the real broker. The number of a test is that of
 * its row.
 *
 * Link: -lseccomp
 */
#include "subject_program.h"

#include <errno.h>
#include <link.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../../common/util.h"

#define ALLOW_TRUSTED "allow user:2001+exe:@/bin/trusted read @/pub/**\n"
#define BOB_PLAINLY "allow user:2002 read @/pub/**\n"
#define DENY_BAD "allow user:2001 read @/pub/**\ndeny user:2001+exe:@/bin/bad read @/pub/**\n"

static struct broker b;

static void begin(const char *policy)
{
    subject_prepare(&b);
    broker_start(&b, policy, "workers 1");
}

static void expect(const char *program, int error)
{
    int got = subject_ask(&b, ALICE, program);
    if (got != error)
        fail_msg("%s: errno %d, wanted %d", program, got, error);
}

/* ---- executables ---- */

static void test_exe(void **state)
{
    (void)state;
    begin(ALLOW_TRUSTED);
    expect("bin/trusted", 0);
    expect("bin/copy", EACCES);
    assert_int_equal(subject_ask(&b, BOB, "bin/trusted"), EACCES);
    assert_int_equal(symlink("trusted", at(&b, "bin/symlink")), 0);
    expect("bin/symlink", 0);
    assert_int_equal(link(at(&b, "bin/trusted"), at(&b, "bin/hardlink")), 0);
    expect("bin/hardlink", EACCES); /* the name by which it was executed */
    struct subject s;
    subject_begin(&s, &b, ALICE, "bin/trusted");
    assert_int_equal(subject_do(&s, SUBJECT_CHECK, "pub/a"), 0);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), 0);
    assert_int_equal(rename(at(&b, "bin/trusted"), at(&b, "bin/elsewhere")), 0);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES);
    assert_int_equal(rename(at(&b, "bin/copy"), at(&b, "bin/trusted")), 0);
    assert_int_equal(subject_do(&s, SUBJECT_CHECK, "pub/a"), EACCES);
    expect("bin/trusted", 0); /* as an upgrade does: what stands there now */
    subject_end(&s);
    assert_int_equal(audit_count(&b, "\"uid\":2001", "\"reason\":\"default\""), 4);
    broker_finish(&b);
}

static void test_exe_globs_sets_and_two_terms(void **state)
{
    (void)state;
    static const char policy[] = "set @programs = exe:%s/bin/c?py exe:/nowhere\n"
                                 "allow user:2001+@programs read %s/pub/a\n"
                                 "allow user:2001+exe:%s/**/{trust,tr*}ed+exe:%s/bin/* read %s/pub/b\n"
                                 "allow group:2001+exe:%s/bin/bad+exe:%s/bin/copy read %s/pub/sub/**\n";
    char text[1024], said[1024];
    begin(ALLOW_TRUSTED);
    snprintf(text, sizeof text, policy, b.dir, b.dir, b.dir, b.dir, b.dir, b.dir, b.dir, b.dir);
    file_write(at(&b, "test.policy"), text, 0644, 0); /* not a template: `@` is of the language */
    assert_int_equal(broker_control(&b, "reload\0", said, sizeof said), 0);
    struct subject s;
    subject_begin(&s, &b, ALICE, "bin/copy");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), 0);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/b"), EACCES);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/sub/c"), EACCES);
    subject_end(&s);
    subject_begin(&s, &b, ALICE, "bin/trusted");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/b"), 0);
    subject_end(&s);
    subject_begin(&s, &b, ALICE, "bin/bad");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/b"), EACCES);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/sub/c"), EACCES);
    subject_end(&s);
    broker_finish(&b);
}

static bool bind_over(const struct broker *broker)
{
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount(at(broker, "bin/copy"), at(broker, "bin/trusted"), NULL, MS_BIND, NULL) == 0;
}

static void test_20_bind_mount(void **state)
{
    (void)state;
    static const struct subject_start bound = { .prepare = bind_over };
    begin(ALLOW_TRUSTED);
    int got = subject_ask_as(&b, ALICE, "bin/trusted", &bound);
    if (got >= 0) {
        assert_int_equal(got, EACCES);
        subject_reload(&b, DENY_BAD); /* not known: the deny holds */
        assert_int_equal(subject_ask_as(&b, ALICE, "bin/trusted", &bound), EACCES);
        expect("bin/trusted", 0);
        subject_reload(&b, ALLOW_TRUSTED);
    }
    expect("bin/trusted", 0);
    broker_finish(&b);
    if (got < 0) {
        print_message("skipped: no user namespace to be had\n");
        skip();
    }
}

static void test_21_deleted(void **state)
{
    (void)state;
    struct subject s;
    begin(ALLOW_TRUSTED "allow \"user:2001+exe:@/bin/trusted (deleted)\" read @/pub/b\n");
    subject_begin(&s, &b, ALICE, "bin/trusted");
    assert_int_equal(unlink(at(&b, "bin/trusted")), 0);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES);
    subject_install(&b, "bin/trusted (deleted)"); /* what its link now says, and it exists */
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/b"), EACCES);
    subject_install(&b, "bin/trusted");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES);
    subject_end(&s);
    subject_begin(&s, &b, ALICE, "bin/trusted (deleted)");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/b"), 0);
    subject_end(&s);
    broker_finish(&b);
}

static int memory_copy(void)
{
    char bytes[65536];
    ssize_t got;
    int to = memfd_create("bin/trusted", MFD_CLOEXEC), from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    while ((got = read(from, bytes, sizeof bytes)) > 0)
        assert_int_equal(fd_write_all(to, bytes, (size_t)got), 0);
    close(from);
    return to;
}

static int find_loader(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_INTERP)
            return realpath((const char *)info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, data) ? 1 : 0;
    return 0;
}

static void test_21_memfd_and_loader(void **state)
{
    (void)state;
    static char loader[4096], policy[5000];
    struct subject_start memory = { .memory = memory_copy() }, loaded = { .loader = loader };
    begin(ALLOW_TRUSTED);
    assert_int_equal(subject_ask_as(&b, ALICE, "bin/trusted", &memory), EACCES);
    if (dl_iterate_phdr(find_loader, loader)) { /* a test that is linked statically has none */
        assert_int_equal(subject_ask_as(&b, ALICE, "bin/trusted", &loaded), EACCES);
        snprintf(policy, sizeof policy, "allow user:2001+exe:%s read @/pub/**\n", loader);
        subject_reload(&b, policy);
        assert_int_equal(subject_ask_as(&b, ALICE, "bin/copy", &loaded), 0);
        expect("bin/trusted", EACCES);
        subject_reload(&b, ALLOW_TRUSTED);
    }
    close(memory.memory);
    broker_finish(&b);
}

/* What cannot be known of an executable denies. */
static void test_21_deny(void **state)
{
    (void)state;
    struct subject_start memory = { .memory = memory_copy() };
    begin(DENY_BAD BOB_PLAINLY);
    expect("bin/trusted", 0);
    expect("bin/bad", EACCES);
    assert_int_equal(subject_ask_as(&b, ALICE, "bin/trusted", &memory), EACCES);
    assert_int_equal(subject_ask_as(&b, BOB, "bin/trusted", &memory), 0);
    struct subject s;
    subject_begin(&s, &b, ALICE, "bin/copy");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), 0);
    assert_int_equal(unlink(at(&b, "bin/copy")), 0);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES);
    subject_end(&s);
    close(memory.memory);
    assert_int_equal(audit_count(&b, "\"refused\"", "test.policy:2"), 3);
    broker_finish(&b);
}

static int explain(const char *subject)
{
    char words[1024], said[8192];
    int len = snprintf(words, sizeof words, "explain%c%s%cread%c%s%c", 0, subject, 0, 0, at(&b, "pub/a"), 0);
    words[len] = '\0';
    return broker_control(&b, words, said, sizeof said);
}

static void test_explain_agrees(void **state)
{
    (void)state;
    static const char *const programs[] = { "bin/trusted", "bin/bad", "bin/copy" };
    struct subject_start memory = { .memory = memory_copy() };
    begin(DENY_BAD ALLOW_TRUSTED "deny user:2001+exe:@/bin/c*y all @/pub/**\n");
    for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
        char subject[256];
        snprintf(subject, sizeof subject, "user:2001+exe:%s", at(&b, programs[i]));
        assert_int_equal(explain(subject), subject_ask(&b, ALICE, programs[i]) == 0 ? 0 : 1);
        assert_int_equal(explain(subject), i == 0 ? 0 : 1);
    }
    assert_int_equal(explain("user:2001"), 1); /* nothing is known of it */
    assert_int_equal(subject_ask_as(&b, ALICE, "bin/trusted", &memory), EACCES);
    close(memory.memory);
    broker_finish(&b);
}

static void test_exe_as_caller(void **state)
{
    (void)state;
    subject_prepare(&b);
    file_write(at(&b, "al/f"), "alice's\n", 0600, ALICE);
    broker_start(&b, "allow user:2001+exe:@/bin/trusted read @/pub/** @/al/** as=caller\n", "workers 1");
    struct subject s;
    subject_begin(&s, &b, ALICE, "bin/trusted");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "al/f"), 0);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES); /* root's alone */
    assert_int_equal(audit_count(&b, "\"reason\":\"kernel\"", "/pub/a"), 1);
    assert_int_equal(subject_do(&s, SUBJECT_EXEC, "bin/copy"), 0);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "al/f"), EACCES);
    assert_int_equal(audit_count(&b, "\"reason\":\"default\"", "/al/f"), 1);
    subject_end(&s);
    broker_finish(&b);
}

/* ---- 22: what a process becomes ---- */

static void test_22_exec_after_connect(void **state)
{
    (void)state;
    struct subject s;
    begin(ALLOW_TRUSTED);
    subject_begin(&s, &b, ALICE, "bin/trusted");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), 0);
    assert_int_equal(subject_do(&s, SUBJECT_EXEC, "bin/copy"), 0);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES);
    assert_int_equal(subject_do(&s, SUBJECT_NEW, "pub/a"), EACCES);
    assert_int_equal(subject_do(&s, SUBJECT_EXEC, "bin/trusted"), 0);
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), 0);
    subject_end(&s);
    broker_finish(&b);
}

static void signal_workers(int signal)
{
    pid_t pids[16];
    int n = broker_workers(&b, pids, 16);
    assert_true(n > 0);
    for (int i = 0; i < n; i++)
        kill(pids[i], signal);
}

/* Sent by one program, looked at when it is another. */
static int send_and_become(const char *sender, const char *becomes)
{
    struct subject s;
    subject_begin(&s, &b, ALICE, sender);
    assert_int_equal(subject_do(&s, SUBJECT_CHECK, "secret/f"), EACCES); /* it has connected */
    signal_workers(SIGSTOP);
    assert_int_equal(subject_do(&s, SUBJECT_SEND, "pub/a"), 0);
    assert_int_equal(subject_do(&s, SUBJECT_EXEC, becomes), 0);
    signal_workers(SIGCONT);
    int got = subject_do(&s, SUBJECT_RECEIVE, NULL);
    subject_end(&s);
    return got;
}

/* The limit that fob.policy(5) tells of: what counts is what runs when the broker looks. Whoever may execute
 * the trusted program can send beforehand in its name; but what it may not, it does not get by having sent.
 */
static void test_22_exec_after_send(void **state)
{
    (void)state;
    begin(ALLOW_TRUSTED);
    assert_int_equal(send_and_become("bin/copy", "bin/trusted"), 0);
    assert_int_equal(send_and_become("bin/trusted", "bin/copy"), EACCES);
    broker_finish(&b);
}

/* Of ptrace(2): C libraries have it by several names. */
struct syscall_info {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t instruction, stack, number, arguments[6];
};

/* The worker stands before its openat2(2), that is after its first look at the client. False: no ptrace(2).
 */
static bool stop_at_open(pid_t worker, const struct subject *s)
{
    struct syscall_info info;
    int status;
    if (ptrace(PTRACE_SEIZE, worker, NULL, (void *)PTRACE_O_TRACESYSGOOD) < 0)
        return false;
    assert_int_equal(ptrace(PTRACE_INTERRUPT, worker, NULL, NULL), 0);
    assert_int_equal(waitpid(worker, &status, __WALL), worker);
    assert_int_equal(subject_do(s, SUBJECT_SEND, "pub/a"), 0);
    do {
        assert_int_equal(ptrace(PTRACE_SYSCALL, worker, NULL, NULL), 0);
        assert_int_equal(waitpid(worker, &status, __WALL), worker);
        assert_true(WIFSTOPPED(status));
        memset(&info, 0, sizeof info);
        ptrace(PTRACE_GET_SYSCALL_INFO, worker, (void *)sizeof info, &info);
    } while (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.number != SYS_openat2);
    return true;
}

static void test_22_exec_while_it_opens(void **state)
{
    (void)state;
    struct subject s;
    pid_t worker;
    begin(ALLOW_TRUSTED);
    assert_int_equal(broker_workers(&b, &worker, 1), 1);
    subject_begin(&s, &b, ALICE, "bin/trusted");
    bool can = stop_at_open(worker, &s);
    if (can) {
        assert_int_equal(subject_do(&s, SUBJECT_EXEC, "bin/copy"), 0);
        assert_int_equal(ptrace(PTRACE_DETACH, worker, NULL, NULL), 0);
        assert_int_equal(subject_do(&s, SUBJECT_RECEIVE, NULL), EACCES);
        assert_int_equal(audit_count(&b, "\"refused\"", "\"reason\":\"identity\""), 1);
    }
    subject_end(&s);
    broker_finish(&b);
    if (!can) {
        print_message("skipped: no ptrace(2) to be had\n");
        skip();
    }
}

/* A slow opener, here for a lease, looks no second time: as fob.policy(5) says. */
static void test_22_exec_while_it_waits(void **state)
{
    (void)state;
    struct subject s;
    signal(SIGIO, SIG_IGN);
    begin(ALLOW_TRUSTED);
    subject_begin(&s, &b, ALICE, "bin/trusted");
    int fd = open(at(&b, "pub/a"), O_RDWR | O_CLOEXEC);
    bool can = fd >= 0 && fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
    if (can) {
        assert_int_equal(subject_do(&s, SUBJECT_SEND, "pub/a"), 0);
        WAIT_FOR(fcntl(fd, F_GETLEASE) != F_WRLCK);
        assert_int_equal(subject_do(&s, SUBJECT_EXEC, "bin/copy"), 0);
        usleep(50000);
        assert_int_equal(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
        assert_int_equal(subject_do(&s, SUBJECT_RECEIVE, NULL), EACCES);
        assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), EACCES);
    }
    close(fd);
    subject_end(&s);
    broker_finish(&b);
    if (!can) {
        print_message("skipped: no leases on this file system\n");
        skip();
    }
}

static void test_10_fork_of_the_program(void **state)
{
    (void)state;
    struct subject s;
    begin(ALLOW_TRUSTED);
    subject_begin(&s, &b, ALICE, "bin/trusted");
    assert_int_equal(subject_do(&s, SUBJECT_OPEN, "pub/a"), 0);
    assert_int_equal(subject_do(&s, SUBJECT_FORK, "pub/a"), 0); /* it runs the same */
    assert_int_equal(subject_do(&s, SUBJECT_LEND, "pub/a"), EPERM);
    subject_end(&s);
    broker_finish(&b);
}

int main(int argc, char **argv)
{
    subject_main(argc, argv);
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exe),
        cmocka_unit_test(test_exe_globs_sets_and_two_terms),
        cmocka_unit_test(test_20_bind_mount),
        cmocka_unit_test(test_21_deleted),
        cmocka_unit_test(test_21_memfd_and_loader),
        cmocka_unit_test(test_21_deny),
        cmocka_unit_test(test_explain_agrees),
        cmocka_unit_test(test_exe_as_caller),
        cmocka_unit_test(test_22_exec_after_connect),
        cmocka_unit_test(test_22_exec_after_send),
        cmocka_unit_test(test_22_exec_while_it_opens),
        cmocka_unit_test(test_22_exec_while_it_waits),
        cmocka_unit_test(test_10_fork_of_the_program),
    };
    return cmocka_run_group_tests_name("subjects", tests, NULL, NULL);
}
