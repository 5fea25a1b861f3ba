/*
 * threats.md, 108 and section M: processes that die, what stands where fobd wants to serve, two of it,
 * service managers that do not listen, its end. More of 143, 144, 146: test_start.c; of 108 and 147:
 * test_lifecycle.c; 148 to 150: test_client_life.c.
 */
#include "attacks.h"

#include <poll.h>
#include <sys/un.h>

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n"
                             "allow user:2001 read,write,create @/al/**\n";

/* It makes fobd start a sealer, an identity helper and slow openers. */
static const char helped[] = "allow user:2001,user:2002 read,list @/pub/**\n"
                             "allow user:2001+exe:/nonexistent/program read @/priv/**\n";

/* ---- 108: processes that die ---- */

enum { HELD = 40, DEATHS = 5 };

/* What was given stays given, and each connection is either ended or as it was. */
static void hold_connections(struct client_env *env)
{
    int socks[HELD], files[HELD], fd;
    for (int i = 0; i < HELD; i++) {
        socks[i] = raw_connect(env->broker);
        CHECK_EQ(raw_open(socks[i], at(env->broker, "pub/a"), WIRE_READ, 0, &files[i]), 0);
    }
    shared->step = 1;
    wait_for_step(2);
    for (int i = 0; i < HELD; i++) {
        struct pollfd end = { .fd = socks[i], .events = POLLIN };
        CHECK(fd_reads(files[i], "pub a\n"));
        if (poll(&end, 1, 0) > 0) {
            CHECK_EQ(recv(socks[i], &(char){ 0 }, 1, 0), 0);
            shared->refused++;
        } else {
            CHECK_EQ(raw_open(socks[i], at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
            close(fd);
            shared->served++;
        }
    }
}

/* Of the first one: it stands first. */
static int connections_of_worker(const struct broker *b)
{
    return status_number(b, "connections");
}

/* Its connections end, and nobody else's. */
static void test_108_one_worker_crashes(void **state)
{
    (void)state;
    struct broker b;
    pid_t workers[2];
    broker_begin(&b, policy);
    assert_int_equal(broker_workers(&b, workers, 2), 2);
    pid_t alice = client_begin(&b, ALICE, hold_connections, NULL);
    EXPECT_STEP(1);
    EXPECT_SOON(abs(connections_of_worker(&b) - HELD / 2) <=
                1); /* they are spread, and stay where they are */
    expect_records(&b, "\"uid\":2001", "\"decision\":\"allowed\"", HELD); /* or it would take them along */
    kill(workers[0], SIGSEGV);
    for (int i = 0; i < 20; i++)
        as_user(&b, BOB, expect_served, NULL);
    shared->step = 2;
    assert_int_equal(child_wait(alice), 0);
    assert_in_range(shared->refused, HELD / 2 - 2, HELD / 2 + 2);
    assert_int_equal(shared->refused + shared->served, HELD);
    EXPECT_SOON(workers_are_quiet(&b, 2));
    assert_true(log_says(&b, "a worker (pid ")); /* how it ended; with sanitizers not by a signal */
    assert_int_equal(kill(workers[1], 0), 0);
    broker_finish(&b);
}

static pid_t find_other_worker(const struct broker *b, pid_t than)
{
    pid_t workers[2];
    int n = broker_workers(b, workers, 2);
    for (int i = 0; i < n; i++)
        if (workers[i] != than)
            return workers[i];
    return 0;
}

/* Whoever dies at once is started less and less often, and the other worker serves all. */
static void test_108_crash_loop(void **state)
{
    (void)state;
    struct broker b;
    pid_t workers[2], pid, last = 0;
    broker_begin(&b, policy);
    assert_int_equal(broker_workers(&b, workers, 2), 2);
    int64_t begin = now_us();
    for (int i = 0; i < DEATHS; i++) {
        EXPECT_SOON((pid = find_other_worker(&b, workers[0])) > 0 && pid != last);
        kill(last = pid, SIGSEGV);
        as_user(&b, BOB, expect_served, NULL);
        expect_records(&b, "\"uid\":2002", "\"decision\":\"allowed\"", i + 1);
    }
    int64_t took = now_us() - begin;
    print_message("%d deaths in %lld ms\n", DEATHS, (long long)took / 1000);
    assert_true(took > 600000); /* it was started after 0, 100, 200, 400 ms */
    EXPECT_SOON(workers_are_quiet(&b, 2));
    broker_finish(&b);
}

static void expect_exe_refused(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "priv/f"), WIRE_READ, NULL), EACCES);
}

/* One at a time; the others do without it, and another one comes. */
static void test_108_helpers_die(void **state)
{
    (void)state;
    static const char *const names[] = { "fobd-opener", "fobd-identity", "fobd-sealer", "fobd-courier" };
    struct broker b;
    broker_prepare(&b);
    broker_start(&b, helped, "workers 2\ndgram-socket @/dgram.sock");
    pid_t bob = bob_begin(&b);
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
            EXPECT_SOON(find_one(&b, names[i]) > 0);
            pid_t old = find_one(&b, names[i]);
            kill(old, round ? SIGSEGV : SIGKILL);
            as_user(&b, ALICE, expect_exe_refused, NULL);
            EXPECT_SOON(find_one(&b, names[i]) > 0 && find_one(&b, names[i]) != old);
        }
    bob_end(bob, "while helpers die");
    EXPECT_SOON(workers_are_quiet(&b, 2));
    broker_finish(&b);
}

/* ---- 143: what others put in the way ---- */

static int bind_socket(const char *path, int type)
{
    struct sockaddr_un address;
    int len = sock_address(&address, path), sock = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    assert_true(len > 0);
    assert_int_equal(bind(sock, (struct sockaddr *)&address, (socklen_t)len), 0);
    return sock;
}

static void begin_stopped(struct broker *b)
{
    prepare_with(b, policy, "workers 1\naudit none\n");
}

/* It ends with 1, and what stood there stands there still. */
static void expect_no_start(const struct broker *b, const char *in_the_way)
{
    struct stat before, after;
    char path[DIR_MAX + 32];
    snprintf(path, sizeof path, "%s", in_the_way); /* at() gives its buffers to others */
    assert_int_equal(lstat(path, &before), 0);
    unlink(at(b, "fobd.log"));
    expect_not_started(b, start_again(b, at(b, "fobd.log")), path);
    assert_true(log_says(b, "socket"));
    assert_int_equal(lstat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(before.st_mode, after.st_mode);
}

static void test_143_somebody_elses_socket(void **state)
{
    (void)state;
    struct broker b;
    begin_stopped(&b);
    int sock = bind_socket(b.socket, SOCK_SEQPACKET);
    assert_int_equal(chown(b.socket, ALICE, ALICE), 0);
    expect_no_start(&b, b.socket); /* alive */
    close(sock);
    expect_no_start(&b, b.socket); /* stale, but not ours to remove */
    assert_int_equal(unlink(b.socket), 0);
    sock = bind_socket(b.socket, SOCK_STREAM); /* root's, alive, of another kind */
    expect_no_start(&b, b.socket);
    close(sock);
    assert_int_equal(unlink(b.socket), 0);
    broker_end(&b);
}

/* In a sticky directory she could hold the lock for ever, or have it made where she likes. */
static void test_143_planted_lock(void **state)
{
    (void)state;
    struct broker b;
    char lock[DIR_MAX + 32];
    begin_stopped(&b);
    snprintf(lock, sizeof lock, "%s.lock", b.socket);
    file_write(lock, "", 0600, ALICE);
    expect_no_start(&b, lock);
    assert_int_equal(unlink(lock), 0);
    assert_int_equal(mkfifo(lock, 0600), 0);
    expect_no_start(&b, lock);
    assert_int_equal(unlink(lock), 0);
    assert_int_equal(symlink(at(&b, "secret/f"), lock), 0);
    expect_no_start(&b, lock);
    assert_int_equal(unlink(lock), 0);
    assert_int_equal(mkdir(lock, 0700), 0);
    expect_no_start(&b, lock);
    assert_int_equal(rmdir(lock), 0);
    char kept[16];
    assert_int_equal(file_read(at(&b, "secret/f"), kept, sizeof kept), 7);
    broker_end(&b);
}

static void test_143_her_directory(void **state)
{
    (void)state;
    struct broker b;
    char text[1024];
    begin_stopped(&b);
    snprintf(text, sizeof text, "socket %s/al/sock\npolicy %s/test.policy\nuser %d\naudit none\n", b.dir,
             b.dir, WORKER_UID);
    file_write(at(&b, "fobd.conf"), text, 0644, 0);
    expect_no_start(&b, at(&b, "al"));
    assert_int_equal(access(at(&b, "al/sock"), F_OK), -1);
    broker_end(&b);
}

/* ---- 144: several at once ---- */

enum { RIVALS = 8 };

/* One serves, the others end with 1; the winner is b->pid. */
static void race(struct broker *b)
{
    pid_t pids[RIVALS];
    int ended = 0, status;
    unlink(at(b, "fobd.log"));
    for (int i = 0; i < RIVALS; i++)
        pids[i] = start_again(b, at(b, "fobd.log"));
    for (int round = 0; round < 2000 && ended < RIVALS - 1; round++) {
        for (int i = 0; i < RIVALS; i++)
            if (pids[i] && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
                pids[i] = 0;
                ended++;
            }
        usleep(10000);
    }
    assert_int_equal(ended, RIVALS - 1);
    for (int i = 0; i < RIVALS; i++)
        b->pid = pids[i] ? pids[i] : b->pid;
    wait_for_log(b, "serving ");
    as_user(b, ALICE, expect_served, NULL);
}

static void test_144_race(void **state)
{
    (void)state;
    struct broker b;
    begin_stopped(&b);
    for (int round = 0; round < 3; round++) {
        race(&b);
        if (round == 2)
            break;
        if (round) /* the next ones find its socket, or not */
            crash_broker(&b);
        else
            stop_broker(&b);
    }
    broker_end(&b);
}

/* ---- 146: service managers ---- */

static void serve_with(struct broker *b, const char *notify)
{
    unlink(at(b, "fobd.log"));
    setenv("NOTIFY_SOCKET", notify, 1);
    b->pid = start_again(b, at(b, "fobd.log"));
    unsetenv("NOTIFY_SOCKET");
    wait_for_log(b, "serving ");
    as_user(b, ALICE, expect_served, NULL);
    stop_broker(b);
}

static void expect_message(int sock, const char *what)
{
    char message[256] = "";
    struct pollfd polled = { .fd = sock, .events = POLLIN };
    assert_int_equal(poll(&polled, 1, AT_ONCE_MS), 1);
    assert_true(recv(sock, message, sizeof message - 1, 0) > 0);
    assert_non_null(strstr(message, what));
}

static void test_146_abstract(void **state)
{
    (void)state;
    struct broker b;
    char name[64];
    begin_stopped(&b);
    snprintf(name, sizeof name, "@fob-test-notify-%d", (int)getpid());
    int sock = bind_socket(name, SOCK_DGRAM);
    serve_with(&b, name);
    expect_message(sock, "READY=1");
    expect_message(sock, "STOPPING=1");
    close(sock);
    broker_end(&b);
}

/* Until it takes no more. */
static void fill(const char *path)
{
    struct sockaddr_un address;
    int len = sock_address(&address, path),
        sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    while (sendto(sock, "x", 1, 0, (struct sockaddr *)&address, (socklen_t)len) == 1)
        ;
    assert_int_equal(errno, EAGAIN);
    close(sock);
}

static void test_146_nobody_listens(void **state)
{
    (void)state;
    struct broker b;
    char name[DIR_MAX + 32], longest[300];
    begin_stopped(&b);
    memset(longest, 'x', sizeof longest - 1);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    snprintf(name, sizeof name, "%s", at(&b, "notify"));
    const char *const wrong[] = {
        "", "@", "relative", longest, b.dir, "/nonexistent/notify", "vsock:2:1234"
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        serve_with(&b, wrong[i]);
    int sock = bind_socket(name, SOCK_DGRAM);
    fill(name);
    serve_with(&b, name); /* full */
    close(sock);
    serve_with(&b, name); /* gone */
    broker_end(&b);
}

/* ---- 147: the end ---- */

static void leave_unread(struct client_env *env)
{
    int sock = raw_connect(env->broker);
    const char *path = at(env->broker, "pub/a");
    uint8_t out[512];
    size_t len = WIRE_HEADER_SIZE;
    len += wire_encode_entry(out + len, sizeof out - len, WIRE_READ, 0, path, strlen(path));
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, 1, 1 };
    wire_encode_header(out, sizeof out, &header);
    while (send(sock, out, len, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ;
    shared->step = 1;
    pause();
}

/* Who sends and never reads is not waited for. */
static void test_147_client_that_does_not_read(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    b.uncounted = true;
    pid_t alice = client_begin(&b, ALICE, leave_unread, NULL);
    EXPECT_STEP(1);
    stop_broker(&b);
    client_kill(alice);
    broker_end(&b);
}

/* An admin has put another one there. */
static void test_147_socket_of_another(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    assert_int_equal(rename(b.socket, at(&b, "away")), 0);
    int sock = bind_socket(b.socket, SOCK_SEQPACKET);
    stop_broker(&b);
    assert_int_equal(access(b.socket, F_OK), 0);
    close(sock);
    assert_int_equal(unlink(b.socket), 0);
    broker_end(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_108_one_worker_crashes),
        ATTACK(test_108_crash_loop),
        ATTACK(test_108_helpers_die),
        ATTACK(test_143_somebody_elses_socket),
        ATTACK(test_143_planted_lock),
        ATTACK(test_143_her_directory),
        ATTACK(test_144_race),
        ATTACK(test_146_abstract),
        ATTACK(test_146_nobody_listens),
        ATTACK(test_147_client_that_does_not_read),
        ATTACK(test_147_socket_of_another),
    };
    return cmocka_run_group_tests_name("life", tests, shared_setup, NULL);
}
