/*
 * What the tests of the system's broker that an ordinary user starts share.
 */
#ifndef FOB_TESTS_SETUID_DAEMON_H
#define FOB_TESTS_SETUID_DAEMON_H

#include "setuid_place.h"

#include "../../common/sock.h"

static const char daemon_policy[] = "allow user:2001,user:2002 read @/pub/**\n";

/* ---- starting it ---- */

struct start {
    void (*prepare)(void); /* as the user, before it is executed; or NULL */
    int input;             /* its standard input; 0: /dev/null */
};

static inline void become_starter(const struct start *start, uid_t uid)
{
    const char *const argv[] = { "fobd", NULL }, *const none[] = { NULL };
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
        _exit(126);
    say_to_file(&b);
    dup2(start->input ? start->input : null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    if (start->prepare)
        start->prepare();
    execve(PLACE_FOBD, words(argv), words(none));
    _exit(127);
}

static inline pid_t begin_start(const struct start *start, uid_t uid)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        become_starter(start, uid);
    return pid;
}

static inline int start_as(uid_t uid, const struct start *start)
{
    return child_wait(begin_start(start, uid));
}

/* Setup of each test. */
static inline int daemon_reset(void **state)
{
    place_reset(state);
    place_policy(daemon_policy);
    mkdir("/run/fob", 0755);
    return chmod("/run/fob", 0755);
}

static const struct start plainly = { NULL, 0 };

/* Who listens on its socket; 0: nobody. It is ours to wait for (PR_SET_CHILD_SUBREAPER). */
static inline pid_t daemon_pid(void)
{
    struct ucred peer = { 0 };
    socklen_t len = sizeof peer;
    int sock = sock_connect(b.socket, SOCK_SEQPACKET);
    if (sock >= 0)
        getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len);
    fd_close(sock);
    return peer.pid;
}

static inline void begin_daemon(const struct start *start)
{
    int status = start_as(ALICE, start);
    if (status)
        print_error("said: %s\n", said(&b));
    assert_int_equal(status, 0);
    b.pid = daemon_pid();
    assert_true(b.pid > 0);
}

static inline void stop_daemon(void)
{
    assert_int_equal(kill(b.pid, SIGTERM), 0);
    assert_int_equal(child_wait(b.pid), 0);
    b.pid = 0;
    assert_int_equal(access(b.socket, F_OK), -1);
    assert_int_equal(access("/run/fob/control.sock", F_OK), -1);
}

static inline void expect_daemon(struct client_env *env)
{
    (void)env;
    int sock = sock_connect(b.socket, SOCK_SEQPACKET);
    CHECK(sock >= 0);
    expect_content(NATIVE, patient(sock), at(&b, "pub/a"), "pub a\n");
    expect_error(sock, at(&b, "priv/f"), EACCES);
    close(sock);
    sock = sock_connect("/run/fob/stream.sock", SOCK_STREAM);
    CHECK(sock >= 0);
    expect_content(APUE, patient(sock), at(&b, "pub/a"), "pub a\n");
    close(sock);
}

static inline void expect_served(void)
{
    as_user(&b, BOB, expect_daemon, NULL);
    as_user(&b, ALICE, expect_daemon, NULL);
}

enum { PROCESSES = 16 };

static inline int daemon_processes(pid_t pids[PROCESSES])
{
    char path[64], text[1024], *save = NULL;
    int n = 0;
    pids[n++] = b.pid;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)b.pid, (int)b.pid);
    assert_true(file_read(path, text, sizeof text) > 0);
    for (char *word = strtok_r(text, " ", &save); word && n < PROCESSES; word = strtok_r(NULL, " ", &save))
        pids[n++] = (pid_t)atoi(word);
    assert_in_range(n, 2, PROCESSES - 1);
    return n;
}

/* Nothing lives on, also what comes to serve only now. */
static inline void daemon_kill_all(void)
{
    for (int i = 0; i < PATIENCE_MS && waitpid(-1, NULL, WNOHANG) >= 0; i++) {
        pid_t pid = daemon_pid();
        if (pid > 0) { /* with all its processes: its group */
            kill(-pid, SIGKILL);
            kill(pid, SIGKILL);
        }
        usleep(1000);
    }
    b.pid = 0;
}

static inline int daemon_clean_up(void **state)
{
    (void)state;
    daemon_kill_all();
    return 0;
}

#define DAEMON(name) cmocka_unit_test_setup_teardown(name, daemon_reset, daemon_clean_up)

/* For main(), in the place. */
static inline void daemon_prepare(void)
{
    strcpy(b.socket, "/run/fob/fob.sock");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

#endif
