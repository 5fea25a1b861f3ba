/*
 * The system's broker, started by an ordinary user: it has nothing of that user's in the end, and that user
 * cannot make it worse for others by how it was started.
 */
#include "setuid_daemon.h"

#include <dirent.h>
#include <linux/ioprio.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* None of its processes has a descriptor, a directory or a word of the environment of who started it. */
static void expect_nothing_of(pid_t pid, const char *what)
{
    static const char *const links[] = { "cwd", "root" };
    char path[320], target[512];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));) {
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        if (strstr(target, what))
            print_error("%s/%s is %s\n", path, entry->d_name, target);
        assert_null(strstr(target, what));
    }
    closedir(dir);
    for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, links[i]);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        assert_null(strstr(target, what));
    }
}

static void enter_own_directory(void)
{
    if (chdir(at(&b, "al")))
        _exit(120);
    dup2(open(at(&b, "al/held"), O_RDWR | O_CREAT, 0600), 77);
    umask(0);
}

static void test_daemon_keeps_nothing(void **state)
{
    (void)state;
    pid_t pids[PROCESSES];
    const struct start start = { enter_own_directory, 0 };
    begin_daemon(&start);
    for (int i = 0, n = daemon_processes(pids); i < n; i++) {
        expect_nothing_of(pids[i], "/al");
        expect_nothing_of(pids[i], "/said"); /* its standard error */
        assert_int_not_equal(getsid(pids[i]), getsid(0));
    }
    stop_daemon();
}

/* Starts it as $(fobd 2>&1) does; what it says can be read from the result. */
static int begin_with_pipe(int *write_end)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        const char *const argv[] = { "fobd", NULL };
        if (setgroups(0, NULL) || setresgid(ALICE, ALICE, ALICE) || setresuid(ALICE, ALICE, ALICE))
            _exit(126);
        dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        execv(PLACE_FOBD, words(argv));
        _exit(127);
    }
    assert_int_equal(child_wait(pid), 0);
    b.pid = daemon_pid();
    *write_end = ends[1];
    return ends[0];
}

static void test_daemon_lets_go_of_a_pipe(void **state)
{
    (void)state;
    char bytes[4096];
    int write_end, read_end = begin_with_pipe(&write_end);
    close(write_end);
    fcntl(read_end, F_SETFL, O_NONBLOCK);
    ssize_t n = -1;
    WAIT_FOR((n = read(read_end, bytes, sizeof bytes)) == 0);
    assert_int_equal(n, 0);
    close(read_end);
    stop_daemon();
}

/* Each of them is worth a line of the log: the connection is used by another process. */
static void be_warned_of(struct client_env *env)
{
    (void)env;
    uint8_t out[512];
    for (int i = 0; i < 8; i++) {
        int sock = sock_connect(b.socket, SOCK_SEQPACKET);
        CHECK(sock >= 0);
        pid_t pid = fork();
        if (pid == 0) {
            put(sock, out, request_bytes(NATIVE, out, sizeof out, at(&b, "pub/a")));
            _exit(0);
        }
        CHECK_EQ(status_at_end(pid), 0);
        usleep(20000);
        close(sock);
    }
}

/* Who started it reads nothing of what it says, for ever. */
static void test_daemon_does_not_wait_for_its_starter(void **state)
{
    (void)state;
    char bytes[4096] = "", path[64];
    int write_end, read_end = begin_with_pipe(&write_end);
    snprintf(path, sizeof path, "/proc/self/fd/%d", write_end);
    int another = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC); /* which leaves theirs as it is */
    while (write(another, bytes, sizeof bytes) > 0 || write(another, bytes, 1) > 0)
        ;
    close(another);
    as_user(&b, ALICE, be_warned_of, NULL);
    as_user(&b, BOB, expect_daemon, NULL);
    close(read_end);
    close(write_end);
    stop_daemon();
}

/* ---- what it inherits ---- */

static void be_slow(void)
{
    const struct sched_param param = { 0 };
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    if (fd >= 0 && write(fd, "1000", 4) != 4)
        _exit(120);
    setpriority(PRIO_PROCESS, 0, 19);
    sched_setaffinity(0, sizeof first, &first);
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
    sched_setscheduler(0, SCHED_IDLE, &param);
    prctl(PR_SET_TIMERSLACK, 1000000000L);
}

static void test_daemon_is_not_slow(void **state)
{
    (void)state;
    const struct start start = { be_slow, 0 };
    pid_t pids[PROCESSES];
    cpu_set_t ours, its;
    char path[64], text[64];
    sched_getaffinity(0, sizeof ours, &ours);
    begin_daemon(&start);
    for (int i = 0, n = daemon_processes(pids); i < n; i++) {
        assert_int_equal(getpriority(PRIO_PROCESS, (id_t)pids[i]), 0);
        assert_int_equal(sched_getscheduler(pids[i]), SCHED_OTHER);
        assert_int_equal(sched_getaffinity(pids[i], sizeof its, &its), 0);
        assert_true(CPU_EQUAL(&its, &ours));
        snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pids[i]);
        assert_true(file_read(path, text, sizeof text) > 0);
        assert_int_equal(atoi(text), 0);
        assert_int_equal(IOPRIO_PRIO_CLASS(syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, pids[i])), 0);
    }
    stop_daemon();
}

static void have_few_descriptors(void)
{
    const struct rlimit limit = { 260, 260 };
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* One user's limit is not all users'; root without CAP_SYS_RESOURCE cannot help it. */
static void test_daemon_is_not_limited(void **state)
{
    (void)state;
    if (prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE) != 1) {
        print_message("skipped: no CAP_SYS_RESOURCE\n");
        skip();
    }
    const struct start start = { have_few_descriptors, 0 };
    struct rlimit limit;
    begin_daemon(&start);
    assert_int_equal(prlimit(b.pid, RLIMIT_NOFILE, NULL, &limit), 0);
    assert_in_range(limit.rlim_max, 1024, RLIM_INFINITY);
    stop_daemon();
}

int main(void)
{
    RUN_IN_PLACE();
    daemon_prepare();
    const struct CMUnitTest tests[] = {
        DAEMON(test_daemon_keeps_nothing),
        DAEMON(test_daemon_lets_go_of_a_pipe),
        DAEMON(test_daemon_does_not_wait_for_its_starter),
        /* What file capabilities cannot undo. */
        DAEMON(test_daemon_is_not_slow),
        DAEMON(test_daemon_is_not_limited),
    };
    int failed = cmocka_run_group_tests_name("setuid daemon inherits", tests, place_install_next, NULL);
    failed += _cmocka_run_group_tests("daemon with file capabilities inherits", tests, ARRAY_SIZE(tests) - 2,
                                      place_install_next, NULL);
    place_end();
    return failed;
}
