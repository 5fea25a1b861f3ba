/*
 * A broker that its client starts with no other rights than the client's: when it serves the socket on its
 * standard input and when not, what it says and how it ends; and the form that opens one file.
 */
#include "spawn_own.h"

#include <signal.h>

#include "../../common/sock.h"

/* ---- who made the socket ---- */

struct person {
    uid_t uid;
    gid_t gid;
    gid_t group; /* 0: none */
};

static void become(const struct person *person)
{
    CHECK_EQ(setgroups(person->group != 0, &person->group), 0);
    CHECK_EQ(setresgid(person->gid, person->gid, person->gid), 0);
    CHECK_EQ(setresuid(person->uid, person->uid, 0), 0);
}

/* One makes the socket, the other starts it: nobody is served. */
static void start_by_another(const struct person *maker, const struct person *starter)
{
    int pair[2];
    uint8_t out[512];
    become(maker);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_EQ(setresuid(0, 0, 0), 0);
    become(starter);
    const struct spawn how = plain(SOCK_STREAM);
    pid_t pid = spawn_on(&b, &how, pair[1]);
    close(pair[1]);
    (void)!send(pair[0], out, request_bytes(NATIVE, out, sizeof out, at(&b, "pub/b")), MSG_NOSIGNAL);
    CHECK(is_closed(patient(pair[0])));
    close(pair[0]);
    CHECK_EQ(status_at_end(pid), 1);
    CHECK_EQ(setresuid(0, 0, 0), 0);
}

static void start_by_others(struct client_env *env)
{
    (void)env;
    static const struct person root = { 0, 0, 0 }, alice = { ALICE, ALICE, 0 }, bob = { BOB, BOB, 0 },
                               alice_of_bobs = { ALICE, BOB, 0 }, alice_in_group = { ALICE, ALICE, 5001 };
    start_by_another(&root, &alice);
    start_by_another(&alice, &root);
    start_by_another(&bob, &alice);
    start_by_another(&alice, &bob);
    start_by_another(&alice_of_bobs, &alice);
    start_by_another(&alice_in_group, &alice);
    start_by_another(&alice, &alice_in_group);
}

static void test_111_socket_of_another(void **state)
{
    (void)state;
    as_user(&b, 0, start_by_others, NULL);
    assert_true(says(&b, "was connected by uid 0"));
    assert_int_equal(audit_count(&b, NULL, NULL), 0);
}

/* Connected by way of a name, in either direction. */
static void serve_named(struct client_env *env)
{
    (void)env;
    for (int direction = 0; direction < 2; direction++) {
        struct sockaddr_un address;
        char path[DIR_MAX + 16];
        snprintf(path, sizeof path, "%s", at(&b, "al/name"));
        unlink(path);
        int length = sock_address(&address, path), listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_EQ(bind(listener, (struct sockaddr *)&address, (socklen_t)length), 0);
        CHECK_EQ(listen(listener, 1), 0);
        int ends[2] = { sock_connect(path, SOCK_STREAM), accept4(listener, NULL, NULL, SOCK_CLOEXEC) };
        const struct spawn how = plain(SOCK_STREAM);
        pid_t pid = spawn_on(&b, &how, ends[direction]);
        close(listener);
        close(ends[direction]);
        expect_content(APUE, patient(ends[!direction]), at(&b, "pub/b"), "pub b\n");
        close(ends[!direction]);
        CHECK_EQ(status_at_end(pid), 0);
    }
}

static void test_named_socket(void **state)
{
    (void)state;
    as_user(&b, ALICE, serve_named, NULL);
}

/* ---- what is not served ---- */

/* With a socket of its own it serves that one, and not its standard input. */
static void serve_its_own_socket(struct client_env *env)
{
    (void)env;
    char own[DIR_MAX + 16];
    snprintf(own, sizeof own, "%s", at(&b, "al/own.sock"));
    const char *const argv[] = { "fobd", "-p", own_policy, "-s", own, NULL };
    struct spawn how = plain(SOCK_STREAM);
    how.argv = argv;
    struct spawned s = spawn(&b, &how);
    send_request(NATIVE, s.sock, at(&b, "pub/b"));
    int sock = -1;
    for (int i = 0; i < PATIENCE_MS && (sock = sock_connect(own, SOCK_SEQPACKET)) < 0; i++)
        usleep(1000);
    expect_content(NATIVE, patient(sock), at(&b, "pub/b"), "pub b\n");
    CHECK(is_silent(s.sock));
    close(sock);
    close(s.sock);
    usleep(50000);
    CHECK_EQ(waitpid(s.pid, NULL, WNOHANG), 0); /* nor does it end with it */
    CHECK_EQ(kill(s.pid, SIGTERM), 0);
    CHECK_EQ(status_at_end(s.pid), 0);
    expect_no_children();
}

static void test_own_socket_instead(void **state)
{
    (void)state;
    as_user(&b, ALICE, serve_its_own_socket, NULL);
}

struct start {
    const char *argv[8];
    const char *envp[3];
    int status;
    const char *said;
};

static void start_wrongly(struct client_env *env)
{
    const struct start *start = env->data;
    const struct spawn how = { own_fobd, start->argv, start->envp, SOCK_STREAM, NULL, NULL };
    expect_no_service(&b, &how, start->status);
}

static void test_not_served(void **state)
{
    (void)state;
    file_write(at(&b, "al/bad.policy"), "alow\n", 0644, ALICE);
    file_write(at(&b, "al/bobs.policy"), "", 0644, BOB);
    char bad[DIR_MAX + 16], bobs[DIR_MAX + 16];
    snprintf(bad, sizeof bad, "%s/al/bad.policy", b.dir);
    snprintf(bobs, sizeof bobs, "%s/al/bobs.policy", b.dir);
    const struct start starts[] = {
        { { "fobd", "-x" }, { NULL }, 2, "usage: fobd" },
        { { "fobd", "operand" }, { NULL }, 2, "usage: fobd" },
        { { "fobd" }, { NULL }, 1, "no policy" },
        { { "fobd", "-p", bad }, { NULL }, 1, "bad.policy:1:" },
        { { "fobd", "-p", bobs }, { NULL }, 1, "bobs.policy" },
        { { "fobd", "-f", "/nonexistent/fobd.conf", "-p", own_policy }, { NULL }, 1, "/nonexistent" },
        { { "fobd", "-t", "-p", bad }, { NULL }, 1, "bad.policy:1:" },
        { { "fobd", "-t", "-p", own_policy }, { NULL }, 0, "" },
        { { "fobd", "-p", own_policy }, { "LISTEN_FDS=1", "LISTEN_PID=1" }, 1, "no socket" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
        struct start start = starts[i];
        said_reset(&b);
        as_user(&b, ALICE, start_wrongly, &start);
        if (!says(&b, start.said))
            print_error("start %zu said: %s\n", i, said(&b));
        assert_true(says(&b, start.said));
    }
}

/* A policy that does not exist refuses; the client is served. */
static void serve_nothing(struct client_env *env)
{
    (void)env;
    const char *const argv[] = { "fobd", "-p", "/nonexistent/policy.d", NULL };
    struct spawn how = plain(SOCK_STREAM);
    how.argv = argv;
    struct spawned s = spawn(&b, &how);
    expect_error(s.sock, at(&b, "pub/b"), EACCES);
    CHECK_EQ(spawn_end(&s), 0);
}

static void test_no_policy(void **state)
{
    (void)state;
    as_user(&b, ALICE, serve_nothing, NULL);
    assert_true(says(&b, "every request is refused"));
}

/* ---- descriptors ---- */

static void close_some(void *which)
{
    for (int fd = 1; fd <= STDERR_FILENO; fd++) {
        if (*(int *)which >> fd & 1)
            close(fd);
        if (*(int *)which >> fd & 4)
            dup2(STDIN_FILENO, fd);
    }
}

static void serve_with_closed(struct client_env *env)
{
    (void)env;
    for (int which = 0; which < 32; which += 2) {
        struct spawn how = plain(SOCK_STREAM);
        how.prepare = close_some;
        how.data = &which;
        struct spawned s = spawn(&b, &how);
        expect_content(NATIVE, s.sock, at(&b, "pub/b"), "pub b\n");
        CHECK_EQ(spawn_end(&s), 0);
    }
}

static void test_114_closed_descriptors(void **state)
{
    (void)state;
    as_user(&b, 0, serve_with_closed, NULL);
}

static void inherit(void *fd)
{
    dup2(*(int *)fd, 900);
    dup2(*(int *)fd, 3);
}

/* What it inherits it closes: the end of a pipe is seen while it serves. */
static void serve_without_inherited(struct client_env *env)
{
    (void)env;
    int ends[2];
    char byte;
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    struct spawn how = plain(SOCK_STREAM);
    how.prepare = inherit;
    how.data = &ends[1];
    struct spawned s = spawn(&b, &how);
    close(ends[1]);
    CHECK_EQ(read(ends[0], &byte, 1), 0);
    expect_content(NATIVE, s.sock, at(&b, "pub/b"), "pub b\n");
    CHECK_EQ(spawn_end(&s), 0);
}

static void test_115_inherited_descriptors(void **state)
{
    (void)state;
    as_user(&b, ALICE, serve_without_inherited, NULL);
    as_user(&b, 0, serve_without_inherited, NULL);
}

/* ---- signals ---- */

static void send_signals(struct client_env *env)
{
    (void)env;
    static const int ignored[] = { SIGINT, SIGHUP, SIGPIPE };
    const struct spawn how = plain(SOCK_STREAM);
    struct spawned s = spawn(&b, &how);
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++) {
        expect_content(NATIVE, s.sock, at(&b, "pub/b"), "pub b\n");
        CHECK_EQ(kill(s.pid, ignored[i]), 0);
    }
    expect_content(NATIVE, s.sock, at(&b, "pub/b"), "pub b\n");
    CHECK_EQ(kill(s.pid, SIGTERM), 0);
    CHECK(is_closed(s.sock));
    CHECK_EQ(spawn_end(&s), 0);
}

static void kill_it(struct client_env *env)
{
    (void)env;
    const struct spawn how = plain(SOCK_STREAM);
    struct spawned s = spawn(&b, &how);
    expect_content(NATIVE, s.sock, at(&b, "pub/b"), "pub b\n");
    CHECK_EQ(kill(s.pid, SIGKILL), 0);
    CHECK(is_closed(s.sock));
    CHECK_EQ(spawn_end(&s), 128 + SIGKILL);
}

/* The process that serves: its connection ends, and the whole with it. */
static void kill_worker(struct client_env *env)
{
    (void)env;
    const struct spawn how = plain(SOCK_STREAM);
    struct spawned s = spawn(&b, &how);
    struct broker its = b;
    pid_t worker = 0;
    expect_content(NATIVE, s.sock, at(&b, "pub/b"), "pub b\n");
    its.pid = s.pid;
    CHECK_EQ(broker_workers(&its, &worker, 1), 1);
    CHECK_EQ(kill(worker, SIGKILL), 0);
    CHECK(is_closed(s.sock));
    CHECK_EQ(spawn_end(&s), 1);
}

static void test_signals(void **state)
{
    (void)state;
    for (uid_t uid = 0; uid <= ALICE; uid += ALICE) {
        as_user(&b, uid, send_signals, NULL);
        as_user(&b, uid, kill_it, NULL);
        as_user(&b, uid, kill_worker, NULL);
    }
}

/* ---- openfile ---- */

static int run_openfile(const char *path, const char *const *environment, int *fd)
{
    int pair[2];
    char byte = 'x';
    static struct msg_in in;
    const char *const argv[] = { "openfile", "7", path, "0", NULL };
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid_t pid = fork();
    if (pid == 0) {
        say_to_file(&b);
        dup2(pair[1], 7);
        execve(own_fobd, words(argv), words(environment));
        _exit(127);
    }
    close(pair[1]);
    int status = status_at_end(pid);
    expect_no_children();
    int got = msg_recv(pair[0], &byte, 1, 0, &in);
    CHECK_EQ(got, status == 0);
    CHECK_EQ(byte, got ? 0 : 'x');
    *fd = got ? in.fds[0] : -1;
    close(pair[0]);
    return status;
}

static void open_one(struct client_env *env)
{
    int fd;
    CHECK_EQ(run_openfile(at(&b, "pub/b"), env->data, &fd), 0);
    CHECK(fd_reads(fd, "pub b\n"));
    close(fd);
    CHECK_EQ(run_openfile(at(&b, "pub/a"), env->data, &fd), EACCES); /* root's alone */
    CHECK_EQ(run_openfile(at(&b, "secret/f"), env->data, &fd), EACCES);
    CHECK_EQ(run_openfile(at(&b, "pub/none"), env->data, &fd), ENOENT);
    CHECK_EQ(run_openfile("pub/b", env->data, &fd), EINVAL);
}

static void test_openfile(void **state)
{
    (void)state;
    const char *const *environment = own_environment("allow user:2001 read @/pub/**\n");
    as_user(&b, ALICE, open_one, (void *)(uintptr_t)environment);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_111_socket_of_another, own_reset),
        cmocka_unit_test_setup(test_named_socket, own_reset),
        cmocka_unit_test_setup(test_own_socket_instead, own_reset),
        cmocka_unit_test_setup(test_not_served, own_reset),
        cmocka_unit_test_setup(test_no_policy, own_reset),
        cmocka_unit_test_setup(test_114_closed_descriptors, own_reset),
        cmocka_unit_test_setup(test_115_inherited_descriptors, own_reset),
        cmocka_unit_test_setup(test_signals, own_reset),
        cmocka_unit_test_setup(test_openfile, own_reset),
    };
    return cmocka_run_group_tests_name("spawn start", tests, own_setup, own_teardown);
}
