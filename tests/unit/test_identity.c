/*
 * broker/identity.c: the helper as a worker has it, at the other end of a channel.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/identity.h"
#include "leak.h"

enum { ALICE = 2001, FOBD = 64999 };

static char dir[] = "/tmp/fob-identity.XXXXXX";
static char program[64], hidden[64];
static struct identity identity;

struct process {
    pid_t pid;
    int pidfd;
};

static int become(uid_t uid)
{
    if (geteuid() == uid || geteuid() != 0)
        return 0;
    return setresgid(uid, uid, uid) || setresuid(uid, uid, uid);
}

/* Has executed when this returns. */
static struct process start(const char *path, uid_t uid)
{
    int pair[2];
    char byte;
    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (become(uid) == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            execl(path, "sleep", "60", (char *)NULL);
        }
        (void)!write(pair[1], "x", 1);
        _exit(1);
    }
    close(pair[1]);
    assert_int_equal(read(pair[0], &byte, 1), 0);
    close(pair[0]);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    assert_true(pidfd >= 0);
    return (struct process){ pid, pidfd };
}

static void stop(struct process *process)
{
    kill(process->pid, SIGKILL);
    waitpid(process->pid, NULL, 0);
    close(process->pidfd);
}

static int ask(struct identity_channel *channel, const struct process *process)
{
    memset(&identity, 0xff, sizeof identity);
    return identity_ask(channel, process->pidfd, process->pid, &identity);
}

static pid_t start_helper(struct identity_channel *channels, size_t n, bool privileged)
{
    struct confine_plan plan = { .privileged = privileged, .uid = FOBD, .gid = FOBD };
    pid_t pid = identity_start(channels, n, &plan);
    assert_true(pid > 0);
    return pid;
}

/* The last of its ends closes, and so does it. */
static void end_helper(struct identity_channel *channels, size_t n, pid_t pid)
{
    int status;
    for (size_t i = 0; i < n; i++)
        close(channels[i].sock);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_helper(void **state)
{
    (void)state;
    bool root = geteuid() == 0;
    struct identity_channel channels[2] = { { 0 } };
    pid_t pid = start_helper(channels, 2, root);
    struct process process = start(program, ALICE);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(ask(&channels[i % 2], &process), 0);
        assert_true(identity.has_exe && identity.has_cgroup);
        assert_string_equal(identity.exe, program);
    }
    assert_int_equal(identity_ask(&channels[0], -1, process.pid, &identity), -EBADF);
    assert_int_equal(identity_ask(&channels[0], channels[1].sock, process.pid, &identity), -EBADF);
    kill(process.pid, SIGKILL);
    waitpid(process.pid, NULL, 0);
    assert_int_equal(ask(&channels[0], &process), -ESRCH);
    assert_false(identity.has_exe || identity.has_cgroup || identity.has_unit);
    close(process.pidfd);
    end_helper(channels, 2, pid);
}

static void test_helper_reads_no_files(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: needs root, to hide a directory from the helper\n");
        skip();
    }
    struct identity_channel channel = { 0 };
    struct process process = start(hidden, 0);
    pid_t pid = start_helper(&channel, 1, true);
    assert_int_equal(ask(&channel, &process), 0);
    assert_false(identity.has_exe); /* CAP_SYS_PTRACE is no right to any directory */
    assert_true(identity.has_cgroup);
    end_helper(&channel, 1, pid);
    stop(&process);
}

static void expect_status(pid_t pid, const char *line)
{
    char path[32], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = '\0';
    if (!strstr(text, line))
        fail_msg("no line %s in\n%s", line, text);
}

static void test_101_status(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: needs root, to give capabilities\n");
        skip();
    }
    struct identity_channel channel = { 0 };
    struct process process = start(program, ALICE);
    pid_t pid = start_helper(&channel, 1, true);
    assert_int_equal(ask(&channel, &process), 0); /* it is confined before it answers */
    expect_status(pid, "\nUid:\t64999\t64999\t64999\t64999\n");
    expect_status(pid, "\nGid:\t64999\t64999\t64999\t64999\n");
    expect_status(pid, "\nGroups:\t \n");
    expect_status(pid, "\nCapInh:\t0000000000000000\nCapPrm:\t0000000000080000\nCapEff:\t0000000000080000\n"
                       "CapBnd:\t0000000000080000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    end_helper(&channel, 1, pid);
    stop(&process);
}

/* An ordinary user's: of others the cgroup alone is known. */
static int ask_as_alice(const struct process *roots, const struct process *own)
{
    struct identity_channel channel = { 0 };
    struct confine_plan plan = { 0 };
    if (become(ALICE) || identity_start(&channel, 1, &plan) <= 0)
        return 1;
    if (ask(&channel, roots) < 0 || identity.has_exe || !identity.has_cgroup)
        return 2;
    if (ask(&channel, own) < 0 || !identity.has_exe)
        return 3;
    return 0;
}

static void test_helper_without_privilege(void **state)
{
    (void)state;
    int status;
    if (geteuid() != 0) {
        print_message("skipped: needs root, to have processes of two users\n");
        skip();
    }
    struct process roots = start(program, geteuid()), own = start(program, ALICE);
    pid_t pid = fork();
    if (pid == 0)
        _exit(ask_as_alice(&roots, &own));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    stop(&roots);
    stop(&own);
}

static void test_helper_that_is_dead_or_silent(void **state)
{
    (void)state;
    int pair[2];
    struct timespec begin, end;
    struct identity_channel channel = { .sock = -1 };
    struct process process = start(program, geteuid());
    assert_int_equal(ask(&channel, &process), -ENOTCONN);
    pid_t pid = start_helper(&channel, 1, geteuid() == 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_true(ask(&channel, &process) < 0);
    close(channel.sock);

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    channel.sock = pair[0];
    assert_int_equal(send(pair[1], "somebody else's", 15, 0), 15);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    assert_int_equal(ask(&channel, &process), -ETIMEDOUT);
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true(end.tv_sec - begin.tv_sec <= 2);
    close(pair[0]);
    close(pair[1]);
    stop(&process);
}

/* The predecessor in the slot asked as many questions, and did not wait for its last answer. */
static void test_answers_of_others(void **state)
{
    (void)state;
    struct identity_channel channel = { 0 };
    pid_t helper = start_helper(&channel, 1, geteuid() == 0);
    struct process first = start(program, ALICE), second = start("/bin/sleep", ALICE);
    pid_t pid = fork();
    if (pid == 0) { /* this question's answer comes when nobody waits any more */
        kill(helper, SIGSTOP);
        _exit(ask(&channel, &first) == -ETIMEDOUT ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    kill(helper, SIGCONT);
    assert_int_equal(ask(&channel, &second), 0);
    assert_true(identity.has_exe);
    assert_string_not_equal(identity.exe, program);
    end_helper(&channel, 1, helper);
    stop(&first);
    stop(&second);
}

/* What all this is for: a worker, that itself can no longer read a link of /proc. */
static int ask_as_worker(struct identity_channel *channel, const struct process *process)
{
    static const char text[] = "allow any read /usr/share/**\n";
    struct policy *policy;
    struct mounts mounts;
    struct policy_messages messages = { 0 };
    struct confine_plan plan = {
        .privileged = true, .uid = FOBD, .gid = FOBD, .mounts = &mounts, .required = true
    };
    struct confine_state state;
    if (policy_load_text(&policy, "t", text, sizeof text - 1, &(struct policy_env){ 0 }, &messages) < 0 ||
        mounts_open(&mounts, policy) < 0)
        return 1;
    policy_get_needs(policy, &plan.needs);
    if (confine_prepare() < 0 || confine_worker(&plan, &state) < 0)
        return 2;
    return ask(channel, process) == 0 && identity.has_exe && strcmp(identity.exe, program) == 0 ? 0 : 3;
}

static void test_asked_by_a_worker(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: needs root, to confine a worker\n");
        skip();
    }
    struct identity_channel channel = { 0 };
    struct process process = start(program, ALICE);
    pid_t helper = start_helper(&channel, 1, true), pid = fork();
    if (pid == 0)
        _exit(ask_as_worker(&channel, &process));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    end_helper(&channel, 1, helper);
    stop(&process);
}

/* ---- all ---- */

static int setup(void **state)
{
    (void)state;
    char command[256];
    if (!mkdtemp(dir) || chmod(dir, 0755) < 0)
        return -1;
    snprintf(program, sizeof program, "%s/program", dir);
    snprintf(hidden, sizeof hidden, "%s/hidden/program", dir);
    snprintf(command, sizeof command, "mkdir -m 700 %s/hidden && cp /bin/sleep %s && cp /bin/sleep %s", dir,
             program, hidden);
    return system(command);
}

static int teardown(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, leak_setup, leak_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_helper),
        TEST(test_101_status),
        TEST(test_helper_reads_no_files),
        TEST(test_helper_without_privilege),
        TEST(test_helper_that_is_dead_or_silent),
        TEST(test_answers_of_others),
        TEST(test_asked_by_a_worker),
    };
    return cmocka_run_group_tests_name("identity", tests, setup, teardown);
}
