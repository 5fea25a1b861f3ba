/*
 * Installed set-user-ID and started by an ordinary user without a client: it starts the system's broker,
 * once, for all users, which goes on when who started it has gone.
 */
#include "setuid_daemon.h"

#include <sys/ioctl.h>

/* ---- once, for all ---- */

static void test_daemon_for_all(void **state)
{
    (void)state;
    begin_daemon(&plainly);
    assert_true(says(&b, "serving /run/fob/fob.sock"));
    expect_served();
    for (uid_t uid = ALICE; uid <= BOB; uid++) {
        said_reset(&b);
        assert_int_equal(start_as(uid, &plainly), 1);
        assert_true(says(&b, "serves it already"));
    }
    expect_served();
    stop_daemon();
    assert_int_equal(opens_recorded(NULL), 12);
}

/* The directory of its sockets is for all, whoever starts it, with whatever umask. */
static void test_daemon_makes_its_directory(void **state)
{
    (void)state;
    struct stat st;
    nftw("/run/fob", place_remove, 8, FTW_PHYS | FTW_DEPTH);
    assert_int_equal(rmdir("/run/fob"), 0);
    begin_daemon(&plainly);
    assert_int_equal(stat("/run/fob", &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0755);
    expect_served();
    stop_daemon();
}

enum { AT_THE_SAME_TIME = 10 };

static void test_daemon_started_by_many(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        pid_t pids[AT_THE_SAME_TIME];
        int started = 0;
        for (uid_t i = 0; i < AT_THE_SAME_TIME; i++)
            pids[i] = begin_start(&plainly, ALICE + i);
        for (int i = 0; i < AT_THE_SAME_TIME; i++) {
            int status = child_wait(pids[i]);
            assert_in_range(status, 0, 1);
            started += status == 0;
        }
        assert_int_equal(started, 1);
        b.pid = daemon_pid();
        expect_served();
        stop_daemon();
    }
}

static void test_daemon_not_started(void **state)
{
    (void)state;
    place_policy("alow any read /x\n");
    assert_int_equal(start_as(ALICE, &plainly), 1);
    place_policy(daemon_policy);
    write_with_dir(&b, "/etc/fob/fobd.conf", "sokcet /x\n", 0644, 0);
    assert_int_equal(start_as(ALICE, &plainly), 1);
    assert_true(says(&b, "error"));
    place_configure("");
    assert_int_equal(daemon_pid(), 0);
    begin_daemon(&plainly);
    expect_served();
    stop_daemon();
}

/* ---- who started it is gone ---- */

static int terminal_of(pid_t pid)
{
    char path[64], text[1024];
    int terminal = -1;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    assert_true(file_read(path, text, sizeof text) > 0);
    assert_int_equal(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %d", &terminal), 1);
    return terminal;
}

static void take_terminal(void)
{
    setsid();
    ioctl(STDIN_FILENO, TIOCSCTTY, 0);
    dup2(STDIN_FILENO, STDOUT_FILENO);
}

static void test_daemon_from_a_terminal(void **state)
{
    (void)state;
    pid_t pids[PROCESSES];
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(master >= 0);
    unlockpt(master);
    chmod(ptsname(master), 0666);
    struct start start = { take_terminal, open(ptsname(master), O_RDWR | O_NOCTTY) };
    begin_daemon(&start);
    for (int i = 0, n = daemon_processes(pids); i < n; i++)
        assert_int_equal(terminal_of(pids[i]), 0);
    assert_int_equal(write(master, "\003\034\032", 3), 3); /* ^C, ^\, ^Z */
    close(start.input);
    close(master);
    usleep(50000);
    expect_served();
    stop_daemon();
}

/* Until it serves its starter may be stopped or killed by keys. */
static int start_in_terminal(void)
{
    const char *const argv[] = { "fobd", NULL }, *const none[] = { NULL };
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        for (int number = SIGHUP; number <= SIGTTOU; number++)
            signal(number, SIG_DFL);
        say_to_file(&b);
        execve(PLACE_FOBD, words(argv), words(none));
        _exit(127);
    }
    stage->pid = pid;
    for (int64_t begin = now_us(); now_us() - begin < PATIENCE_MS * 1000;) {
        int status = wait_child(&pid, 5);
        if (status >= 0)
            return status;
        kill(pid, SIGCONT);
    }
    return -1;
}

/* Also where its starter was killed before it could say so. */
static bool is_there(void)
{
    int sock = sock_connect(b.socket, SOCK_SEQPACKET);
    fd_close(sock);
    return sock >= 0;
}

static void start_under_keys(struct client_env *env)
{
    (void)env;
    int master = make_terminal();
    stage->pid = getpid();
    pid_t tormentor = torment(master, &stage->pid);
    for (int64_t begin = now_us(); start_in_terminal() != 0 && !is_there();)
        CHECK(now_us() - begin < PATIENCE_MS * 1000);
    usleep(50000);
    kill(tormentor, SIGKILL);
    CHECK_EQ(status_at_end(tormentor), 128 + SIGKILL);
}

/* Once it serves no key of that terminal reaches it. */
static void test_123_daemon_started_under_keys(void **state)
{
    (void)state;
    for (int round = 0; round < 8; round++) {
        as_user(&b, ALICE, start_under_keys, NULL);
        b.pid = daemon_pid();
        if (b.pid == 0)
            print_error("round %d, said: %s\n", round, said(&b));
        assert_true(b.pid > 0);
        expect_served();
        daemon_kill_all();
    }
}

/* ---- standard input ---- */

static void close_standard(void)
{
    close_range(0, 2, 0);
}

static void close_first(void)
{
    close(0);
}

static void test_114_daemon_closed_descriptors(void **state)
{
    (void)state;
    void (*const prepare[])(void) = { close_standard, close_first };
    for (size_t i = 0; i < ARRAY_SIZE(prepare); i++) {
        const struct start start = { prepare[i], 0 };
        begin_daemon(&start);
        expect_served();
        stop_daemon();
    }
}

enum { INPUTS = 8 };

/* Nothing of these is a client that is connected; nobody is accepted from one that listens. */
static int make_input(int which)
{
    static int pairs[2][2];
    switch (which) {
    case 0:
        return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    case 1:
        return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    case 2:
        socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pairs[0]);
        return pairs[0][1];
    case 3:
        return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    case 4:
        return pipe2(pairs[1], O_CLOEXEC) < 0 ? -1 : pairs[1][0];
    case 5:
        return open("/", O_PATH | O_CLOEXEC);
    case 6:
        return open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
    default:
        return open(at(&b, "al"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
}

static void test_daemon_with_other_inputs(void **state)
{
    (void)state;
    for (int i = 0; i < INPUTS; i++) {
        const struct start start = { NULL, make_input(i) };
        assert_true(start.input >= 0);
        begin_daemon(&start);
        expect_served();
        stop_daemon();
    }
}

static void test_daemon_accepts_nobody_on_its_input(void **state)
{
    (void)state;
    struct sockaddr_un address;
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(&b, "al/listener"));
    unlink(path);
    int length = sock_address(&address, path), listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, (socklen_t)length), 0);
    assert_int_equal(listen(listener, 5), 0);
    int client = sock_connect(path, SOCK_STREAM);
    assert_true(client >= 0);
    const struct start start = { NULL, listener };
    begin_daemon(&start);
    put(client, "open /etc/passwd 0", 19);
    expect_served();
    assert_true(is_silent(client));
    close(client);
    close(listener);
    stop_daemon();
}

int main(void)
{
    RUN_IN_PLACE();
    daemon_prepare();
    const struct CMUnitTest tests[] = {
        DAEMON(test_daemon_for_all),
        DAEMON(test_daemon_makes_its_directory),
        DAEMON(test_daemon_started_by_many),
        DAEMON(test_daemon_not_started),
        DAEMON(test_daemon_from_a_terminal),
        DAEMON(test_123_daemon_started_under_keys),
        DAEMON(test_114_daemon_closed_descriptors),
        DAEMON(test_daemon_with_other_inputs),
        DAEMON(test_daemon_accepts_nobody_on_its_input),
    };
    int failed = cmocka_run_group_tests_name("setuid daemon", tests, place_install_next, NULL);
    failed += cmocka_run_group_tests_name("daemon with file capabilities", tests, place_install_next, NULL);
    place_end();
    return failed;
}
