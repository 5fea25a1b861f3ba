/*
 * Started with more rights than its caller has, by a caller that sends it signals, or has set it up to get
 * some: at every moment, from timers, from a terminal (threats.md, 120, 123, 124), and with any umask and
 * directory (118). Each with set-user-ID root and with file capabilities.
 */
#include "setuid_place.h"

#include <sys/time.h>

/* ---- 118: umask and directory ---- */

static const char policy_of_modes[] = "allow user:2001 read,write,create @/priv/made/**\n";

struct umask_case {
    mode_t umask;
    bool deleted, unreadable;
};

static void prepare_place(void *data)
{
    const struct umask_case *c = data;
    if (c->deleted &&
        (mkdir(at(&b, "al/gone"), 0700) || chdir(at(&b, "al/gone")) || rmdir(at(&b, "al/gone"))))
        _exit(120);
    if (c->unreadable &&
        (mkdir(at(&b, "al/shut"), 0700) || chdir(at(&b, "al/shut")) || chmod(at(&b, "al/shut"), 0)))
        _exit(120);
    umask(c->umask);
}

static void create_everywhere(struct client_env *env)
{
    (void)env;
    static const struct umask_case cases[] = { { 0777, false, false },
                                               { 0, false, false },
                                               { 022, true, false },
                                               { 077, false, true },
                                               { 0777, true, false } };
    static const mode_t modes[] = { 0644, 0600, 0666, 0, 0660 };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct umask_case c = cases[i];
        const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, prepare_place, &c };
        struct spawned s = spawn(&b, &how);
        for (size_t m = 0; m < ARRAY_SIZE(modes); m++) {
            struct stat st;
            int fd;
            char name[32];
            snprintf(name, sizeof name, "priv/made/%zu-%zu", i, m);
            CHECK_EQ(ask_native(s.sock, at(&b, name), WIRE_WRITE | WIRE_CREATE, modes[m], &fd), 0);
            CHECK_EQ(fstat(fd, &st), 0);
            CHECK_EQ(st.st_mode, S_IFREG | modes[m]);
            CHECK_EQ(st.st_uid, ALICE);
            close(fd);
        }
        CHECK_EQ(spawn_end(&s), 0);
        rmdir(at(&b, "al/shut"));
    }
}

static void test_118_umask_and_directory(void **state)
{
    (void)state;
    struct stat st;
    place_policy(policy_of_modes);
    as_user(&b, ALICE, create_everywhere, NULL);
    assert_int_equal(stat(b.audit, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
}

/* ---- signals that are pending, blocked, ignored; timers ---- */

static void leave_pending(void *number)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    kill(getpid(), *(int *)number);
}

/* Whatever it is: it was sent to another program. */
static void start_with_pending(struct client_env *env)
{
    (void)env;
    for (int number = 1; number < NSIG; number++) {
        if (number == SIGKILL || number == SIGSTOP || number == 32 ||
            number == 33) /* the last two are libc's */
            continue;
        const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, leave_pending, &number };
        struct spawned s = spawn(&b, &how);
        int fd;
        if (ask(NATIVE, s.sock, at(&b, "priv/f"), &fd))
            fprintf(stderr, "signal %d was pending\n", number);
        else
            close(fd);
        CHECK_EQ(spawn_end(&s), 0);
    }
}

static void test_120_pending_signals(void **state)
{
    (void)state;
    as_user(&b, ALICE, start_with_pending, NULL);
}

static void ignore_all(void *none)
{
    (void)none;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_IGN);
}

static void block_all(void *none)
{
    (void)none;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
}

/* SIGCHLD ignored would reap its processes unseen. */
static void start_without_signals(struct client_env *env)
{
    (void)env;
    void (*const prepare[])(void *) = { ignore_all, block_all };
    for (size_t i = 0; i < ARRAY_SIZE(prepare); i++) {
        const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, prepare[i], NULL };
        expect_service(&how);
    }
}

static void test_120_ignored_and_blocked_signals(void **state)
{
    (void)state;
    as_user(&b, ALICE, start_without_signals, NULL);
}

static void set_timers(void *us)
{
    const struct itimerval soon = { { 0, *(int *)us }, { 0, *(int *)us } };
    setitimer(ITIMER_REAL, &soon, NULL);
    setitimer(ITIMER_PROF, &soon, NULL);
    setitimer(ITIMER_VIRTUAL, &soon, NULL);
}

/* Those that end before it has begun may kill it; it is not killed once it serves. */
static void start_with_timers(struct client_env *env)
{
    (void)env;
    int served = 0;
    for (int us = 100; us < 300000; us += us / 2) {
        const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, set_timers, &us };
        struct spawned s = spawn(&b, &how);
        uint8_t out[512];
        int fd, error = -1;
        size_t len = request_bytes(NATIVE, out, sizeof out, at(&b, "priv/f"));
        if (send(s.sock, out, len, MSG_NOSIGNAL) == (ssize_t)len)
            error = receive_native(s.sock, &fd);
        if (error == 0) {
            usleep(50000);
            expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
            served++;
        }
        int status = spawn_end(&s);
        CHECK(error == 0 ? status == 0
                         : status == 128 + SIGALRM || status == 128 + SIGPROF || status == 128 + SIGVTALRM);
    }
    CHECK(served > 0);
}

static void test_120_timers(void **state)
{
    (void)state;
    as_user(&b, ALICE, start_with_timers, NULL);
}

/* ---- 123: its caller's terminal ---- */

static void set_foreground(pid_t group)
{
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC);
    if (terminal < 0 || tcsetpgrp(terminal, group))
        _exit(120);
    close(terminal);
}

static void as_group_leader(void *none)
{
    (void)none;
    setpgid(0, 0);
    for (int number = SIGHUP; number <= SIGTTOU; number++)
        signal(number, number == SIGTTOU ? SIG_IGN : SIG_DFL);
    set_foreground(getpgrp()); /* as a shell does it for a job */
    signal(SIGTTOU, SIG_DFL);
}

/* The terminal may be told of a group that is yet to be made: the one of this pid. */
static void as_future_leader(void *none)
{
    (void)none;
    set_foreground(getpid());
    for (int number = SIGHUP; number <= SIGTTOU; number++)
        signal(number, SIG_DFL);
}

static void as_group_member(void *none)
{
    (void)none;
    for (int number = SIGHUP; number <= SIGTTOU; number++)
        signal(number, SIG_DFL);
}

/* Keys that send SIGINT, SIGQUIT and SIGTSTP to all in the foreground; then the terminal is gone. */
static void press_keys(struct client_env *env)
{
    int master = make_terminal();
    void (*const prepare[])(void *) = { as_group_member, as_group_leader, as_future_leader };
    const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, prepare[*(int *)env->data], NULL };
    int pair[2];
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    struct spawned s = { fork(), patient(pair[0]) };
    if (s.pid == 0) {
        say_to_file(&b);
        dup2(pair[1], STDIN_FILENO);
        dup2(pair[1], STDOUT_FILENO);
        spawn_exec(&how);
    }
    close(pair[1]);
    static const char *const keys[] = { "", "\003", "\034", "\032", "\003\003" };
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        CHECK_EQ(write(master, keys[i], strlen(keys[i])), (ssize_t)strlen(keys[i]));
        usleep(20000);
        expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
    }
    close(master);
    usleep(20000);
    expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
    int fd;
    CHECK_EQ(ask_native(s.sock, at(&b, "pub/sub"), WIRE_READ | WIRE_DIRECTORY, 0, &fd), 0);
    CHECK_EQ(spawn_end(&s), 0);
}

/* No process of any kind minds: with a sealer for directories, and with a helper for programs. */
static void press_keys_of(int which)
{
    place_policy("allow user:2001 read @/priv/f\n"
                 "allow user:2001 list,read @/pub/**\n"
                 "allow user:2001+exe:/nonexistent read @/secret/**\n");
    as_user(&b, ALICE, press_keys, &which);
    if (says(&b, "signal"))
        print_error("said: %s\n", said(&b));
    assert_false(says(&b, "signal"));
}

static void test_123_keys(void **state)
{
    (void)state;
    press_keys_of(0);
}

/* Of a process group of its own it is the leader, and setsid(2) fails. */
static void test_123_keys_to_a_job(void **state)
{
    (void)state;
    press_keys_of(1);
}

/* It leads one that the terminal knew before, once setsid(2) has made it. */
static void test_123_keys_to_its_pid(void **state)
{
    (void)state;
    press_keys_of(2);
}

static void look_at_terminal(struct client_env *env)
{
    int master = make_terminal();
    const struct spawn how = {
        PLACE_FOBD, NULL, NULL, SOCK_STREAM, env->data ? as_group_leader : as_group_member, NULL
    };
    struct spawned s = spawn(&b, &how);
    expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
    char path[64], text[1024];
    int terminal = -1;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)s.pid);
    CHECK(file_read(path, text, sizeof text) > 0);
    CHECK_EQ(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %d", &terminal), 1);
    CHECK_EQ(terminal, 0);
    CHECK_EQ(spawn_end(&s), 0);
    close(master);
}

static void test_123_no_terminal(void **state)
{
    (void)state;
    as_user(&b, ALICE, look_at_terminal, NULL);
    as_user(&b, ALICE, look_at_terminal, &b);
}

/* ---- 124: its client ends ---- */

static void kill_client(struct client_env *env)
{
    (void)env;
    int64_t best = INT64_MAX;
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    for (int i = 0; i < 6; i++) {
        stage->step = 0;
        pid_t client = fork();
        if (client == 0) {
            const struct spawn how = elevated(i % 2 ? SOCK_STREAM : SOCK_SEQPACKET);
            struct spawned s = spawn(&b, &how);
            expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
            for (int n = 0; n < i; n++)
                send_request(NATIVE, s.sock, at(&b, "priv/f")); /* descriptors are on their way */
            stage->step = 1;
            pause();
        }
        stage_wait(1);
        int64_t begin = now_us();
        CHECK_EQ(kill(client, SIGKILL), 0);
        CHECK_EQ(status_at_end(client), 128 + SIGKILL);
        expect_no_children();
        best = now_us() - begin < best ? now_us() - begin : best;
    }
    CHECK(best < AT_ONCE_MS * 1000);
}

static void test_124_client_is_killed(void **state)
{
    (void)state;
    as_user(&b, ALICE, kill_client, NULL);
    assert_in_range(opens_recorded("\"reason\":\"rule\""), 6, 6 + 15);
}

/* ---- children of its caller's, which are its own then ---- */

static void have_children(void *none)
{
    (void)none;
    for (int i = 0; i < 30; i++)
        if (fork() == 0) {
            close_range(0, ~0u, 0);
            usleep(i % 3 ? (useconds_t)i * 3000 : 0);
            _exit(i);
        }
}

static void start_with_children(struct client_env *env)
{
    (void)env;
    const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, have_children, NULL };
    struct spawned s = spawn(&b, &how);
    for (int i = 0; i < 20; i++) {
        expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
        usleep(5000);
    }
    CHECK_EQ(spawn_end(&s), 0);
}

static void test_120_children_of_others(void **state)
{
    (void)state;
    as_user(&b, ALICE, start_with_children, NULL);
    assert_string_equal(said(&b), "");
}

int main(void)
{
    RUN_IN_PLACE();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_118_umask_and_directory, place_reset),
        cmocka_unit_test_setup(test_120_pending_signals, place_reset),
        cmocka_unit_test_setup(test_120_ignored_and_blocked_signals, place_reset),
        cmocka_unit_test_setup(test_120_timers, place_reset),
        cmocka_unit_test_setup(test_120_children_of_others, place_reset),
        cmocka_unit_test_setup(test_123_keys, place_reset),
        cmocka_unit_test_setup(test_123_keys_to_a_job, place_reset),
        cmocka_unit_test_setup(test_123_keys_to_its_pid, place_reset),
        cmocka_unit_test_setup(test_123_no_terminal, place_reset),
        cmocka_unit_test_setup(test_124_client_is_killed, place_reset),
    };
    int failed = cmocka_run_group_tests_name("setuid signals", tests, place_install_next, NULL);
    failed += cmocka_run_group_tests_name("signals with file capabilities", tests, place_install_next, NULL);
    place_end();
    return failed;
}
