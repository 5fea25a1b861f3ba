/*
 * Datagrams while the broker's own processes come and go, and what hangs behind one.
 */
#include "datagram_client.h"
#include "fuse_server.h"

#include <poll.h>
#include <sched.h>
#include <sys/mount.h>

static const char policy[] = "allow user:2001,user:2002 read @/pub/**\n"
                             "allow user:2001 read @/priv/**\n";
static const char denying[] = "allow user:2001,user:2002 read @/pub/**\n";

#ifdef FOB_SANITIZE
enum { FLIPS = 6, ASKED = 300 };
#else
enum { FLIPS = 30, ASKED = 1000 };
#endif

/* ---- 90: reloads ---- */

/* shared->step: odd while a reload is under way; step / 2 even: allowed. One at a time, so that what is
 * missing was lost. */
static void ask_while_reloading(struct client_env *env)
{
    const bool *connected = env->data;
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(env->broker, "priv/f"));
    int fd, sock = asker_new(NULL);
    if (*connected)
        asker_connect(env->broker, sock);
    for (uint32_t i = 0; i < ASKED || !shared->over; i++) {
        int before = shared->step;
        datagram_open(env->broker, sock, i, path);
        int error = datagram_answer(sock, i, &fd); /* -1: it is lost, within 20 seconds */
        fd_close(fd);
        CHECK(error == 0 || error == EACCES);
        if (before % 2 == 0 && before == shared->step)
            CHECK_EQ(error, before / 2 % 2 ? EACCES : 0);
        shared->served++;
    }
    expect_silence(sock); /* none is answered twice */
}

static void test_90_reloads(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    static const bool connected[] = { false, true };
    pid_t alice[] = { client_begin(b, ALICE, ask_while_reloading, (void *)(uintptr_t)&connected[0]),
                      client_begin(b, ALICE, ask_while_reloading, (void *)(uintptr_t)&connected[1]) };
    for (int i = 0; i < FLIPS || shared->served < 2 * ASKED; i++) {
        shared->step++;
        broker_write_policy(b, i % 2 ? policy : denying);
        reload(b);
        shared->step++;
        usleep(2000);
    }
    shared->over = true;
    for (size_t i = 0; i < ARRAY_SIZE(alice); i++)
        assert_int_equal(child_wait(alice[i]), 0);
    print_message("%u datagrams during %d reloads: none lost, none stale\n", shared->served,
                  shared->step / 2);
    assert_int_equal(status_number(b, "undelivered"), 0);
    broker_write_policy(b, policy);
    reload(b);
    datagram_finish();
}

/* Read by workers that stand still until their successors are there. */
static void ask_and_wait(struct client_env *env)
{
    enum { SOCKETS = 10 };
    int fd, socks[SOCKETS];
    for (int i = 0; i < SOCKETS; i++) {
        socks[i] = asker_new(NULL);
        datagram_open(env->broker, socks[i], 1, at(env->broker, "priv/f"));
    }
    shared->step = 1;
    for (int i = 0; i < SOCKETS; i++) {
        int error = datagram_answer(socks[i], 1, &fd);
        CHECK_EQ(error, EACCES);
    }
}

static void signal_workers(const struct broker *b, int number)
{
    pid_t pids[8];
    int n = broker_workers(b, pids, 8);
    assert_true(n > 0);
    for (int i = 0; i < n; i++)
        assert_int_equal(kill(pids[i], number), 0);
}

/* Who reloads waits for the workers that are stopped. */
static void reload_in_background(struct client_env *env)
{
    char text[1024];
    CHECK_EQ(broker_control(env->broker, "reload\0", text, sizeof text), 0);
}

static void test_90_read_and_not_answered(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    signal_workers(b, SIGSTOP);
    pid_t alice = client_begin(b, ALICE, ask_and_wait, NULL);
    EXPECT_STEP(1);
    broker_write_policy(b, denying);
    pid_t admin = client_begin(b, 0, reload_in_background, NULL);
    usleep(300000);
    signal_workers(b, SIGCONT);
    assert_int_equal(child_wait(admin), 0);
    assert_int_equal(child_wait(alice), 0);
    broker_write_policy(b, policy);
    reload(b);
    datagram_finish();
}

/* ---- processes that die ---- */

static void test_courier_killed(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    pid_t bob = bob_begin(b);
    for (int i = 0; i < 3; i++) {
        pid_t before = courier_of(b), workers[8], now[8];
        int n = broker_workers(b, workers, 8);
        assert_int_equal(kill(before, SIGKILL), 0);
        as_user(b, ALICE, ask_by_datagram, NULL); /* what is asked meanwhile waits */
        assert_int_not_equal(courier_of(b), before);
        assert_int_equal(broker_workers(b, now, 8), n);
        assert_memory_equal(workers, now, (size_t)n * sizeof *now);
    }
    bob_end(bob, "while the courier is killed");
    wait_for_log(b, "the courier (pid ");
    datagram_finish();
}

static void ask_until_over(struct client_env *env)
{
    int sock = asker_new(NULL), lost = 0, fd;
    be_patient_for(sock, 500);
    for (uint32_t id = 0; !shared->over; id++) {
        datagram_open(env->broker, sock, id, at(env->broker, "pub/a"));
        int error = datagram_answer(sock, id, &fd);
        lost += error < 0;
        CHECK(error <= 0);
        fd_close(fd);
        shared->served += error == 0;
    }
    CHECK(lost <= 3); /* one with each worker */
}

static void test_worker_killed(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    b->uncounted = true; /* what died with it has no record */
    pid_t alice = client_begin(b, ALICE, ask_until_over, NULL), courier = courier_of(b);
    for (int i = 0; i < 3; i++) {
        pid_t worker;
        unsigned before = shared->served;
        assert_true(broker_workers(b, &worker, 1) == 1);
        assert_int_equal(kill(worker, SIGKILL), 0);
        EXPECT_SOON(shared->served > before + 20);
    }
    shared->over = true;
    assert_int_equal(child_wait(alice), 0);
    assert_int_equal(courier_of(b), courier);
    EXPECT_SOON(workers_are_quiet(b, 2));
    datagram_finish();
}

/* ---- stop ---- */

enum { BEFORE_STOP = 60 /* within what a user may leave unread */, QUEUE = 512 };

static void ask_before_the_end(struct client_env *env)
{
    int fd, socks[BEFORE_STOP];
    for (int i = 0; i < BEFORE_STOP; i++) {
        socks[i] = asker_new(NULL);
        datagram_open(env->broker, socks[i], 1, at(env->broker, "pub/a"));
    }
    shared->step = 1;
    for (int i = 0; i < BEFORE_STOP; i++) {
        CHECK_EQ(datagram_answer(socks[i], 1, &fd), 0);
        CHECK(fd_reads(fd, "pub a\n"));
        close(fd);
    }
    CHECK_EQ(access(at(env->broker, "dgram"), F_OK), -1);
}

/* As many as a service manager lets wait there (net.unix.max_dgram_qlen), which is the network namespace's.
 */
static bool raise_queue(void)
{
    char number[16];
    snprintf(number, sizeof number, "%d", QUEUE);
    int fd =
        unshare(CLONE_NEWNET) == 0 ? open("/proc/sys/net/unix/max_dgram_qlen", O_WRONLY | O_CLOEXEC) : -1;
    bool done = fd >= 0 && write(fd, number, strlen(number)) > 0;
    fd_close(fd);
    return done;
}

static void test_stop(void **state)
{
    (void)state;
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (!raise_queue())
        skip();
    struct broker *b = datagram_begin(policy, "workers 2");
    signal_workers(b, SIGSTOP);
    pid_t alice = client_begin(b, ALICE, ask_before_the_end, NULL);
    EXPECT_STEP(1);
    assert_int_equal(kill(b->pid, SIGTERM), 0);
    usleep(100000);
    signal_workers(b, SIGCONT);
    assert_int_equal(child_wait(b->pid), 0);
    assert_int_equal(child_wait(alice), 0);
    assert_int_equal(audit_count(b, "\"op\":\"open\"", NULL), BEFORE_STOP);
    b->pid = 0;
    broker_end(b);
    assert_int_equal(setns(own, CLONE_NEWNET), 0);
    close(own);
}

/* ---- what hangs ---- */

static void ask_for_what_hangs(struct client_env *env)
{
    int fd, sock = asker_new(NULL);
    const char *paths[] = { at(env->broker, "pub/a"), at(env->broker, "fuse/slow-open") };
    static struct native_reply reply;
    int64_t begin = now_us();
    CHECK_EQ(datagram_try(env->broker, sock, paths[1], &fd), ETIMEDOUT);
    CHECK(now_us() - begin > 900000);
    datagram_ask(env->broker, sock, WIRE_OPEN, 2, paths, 2); /* each has its own answer */
    CHECK(datagram_receive(sock, &reply, NULL));
    CHECK_EQ(native_result(&reply, 0).error, 0);
    CHECK_EQ(native_result(&reply, 1).error, ETIMEDOUT);
    expect_datagram(env->broker, sock, "fuse/fast", "fast\n");
    expect_datagram(env->broker, sock, "fuse/later", "later\n");
    shared->step = 1;
    wait_for_step(2); /* it works again */
    expect_datagram(env->broker, sock, "fuse/slow-open", "slow-open\n");
}

static struct fuse_server fs;

static void test_81_hung(void **state)
{
    (void)state;
    struct broker *b = &tested;
    broker_prepare(b);
    assert_int_equal(mkdir(at(b, "fuse"), 0755), 0);
    int err = fuse_server_start(&fs, at(b, "fuse"));
    if (err < 0) {
        print_message("skipped: no FUSE file system can be mounted here: %s\n", strerror(-err));
        broker_end(b);
        skip();
    }
    broker_start(b, "allow user:2001,user:2002 read @/pub/**\nallow user:2001 read @/fuse/**\n",
                 "dgram-socket @/dgram\nworkers 2\nopen-timeout 1\nslow-openers 16");
    pid_t alice = client_begin(b, ALICE, ask_for_what_hangs, NULL), bob = bob_begin(b);
    for (int i = 0; i < 20; i++)
        as_user(b, BOB, ask_by_datagram, NULL);
    EXPECT_STEP(1);
    bob_end(bob, "while what alice asked for by datagram hangs");
    assert_int_equal(audit_count(b, "\"reason\":\"timeout\"", "\"uid\":2001,"), 2);
    assert_int_equal(fuse_server_release(&fs), 0);
    shared->step = 2;
    assert_int_equal(child_wait(alice), 0);
    EXPECT_SOON(status_number(b, "stuck") == 0);
    fuse_server_stop(&fs);
    datagram_finish();
}

static int fuse_clean_up(void **state)
{
    fuse_server_stop(&fs);
    return datagram_clean_up(state);
}

/* ---- confinement ---- */

static void test_101_courier(void **state)
{
    (void)state;
    enum { SETGID = 1 << 6, SETUID = 1 << 7, PTRACE = 1 << 19 };
    static const char *const sets[] = { "CapPrm:", "CapEff:", "CapBnd:" };
    struct broker *b = datagram_begin(policy, "workers 1");
    as_user(b, ALICE, ask_by_datagram, NULL);
    pid_t pid = courier_of(b);
    for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
        assert_int_equal(strtoull(status_of(pid, sets[i]), NULL, 16), SETGID | SETUID | PTRACE);
    assert_string_equal(status_of(pid, "CapAmb:"), "0000000000000000");
    assert_string_equal(status_of(pid, "Uid:"), "64999\t64999\t64999\t64999"); /* alice's no more */
    assert_string_equal(status_of(pid, "Gid:"), "64999\t64999\t64999\t64999");
    assert_string_equal(status_of(pid, "Groups:"), "");
    assert_string_equal(status_of(pid, "NoNewPrivs:"), "1");
    assert_string_equal(status_of(pid, "Seccomp:"), "2");
    datagram_finish();
}

/* Without a datagram socket there is no courier. */
static void test_off(void **state)
{
    (void)state;
    broker_begin(&tested, policy);
    EXPECT_SOON(are_settled(&tested, find_processes(&tested, (struct process[PROCESSES_MAX]){ 0 })));
    assert_int_equal(find_one(&tested, COURIER), 0);
    assert_int_equal(access(at(&tested, "dgram"), F_OK), -1);
    datagram_finish();
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        DATAGRAMS(test_90_reloads),
        DATAGRAMS(test_90_read_and_not_answered),
        DATAGRAMS(test_courier_killed),
        DATAGRAMS(test_worker_killed),
        DATAGRAMS(test_stop),
        cmocka_unit_test_setup_teardown(test_81_hung, shared_new, fuse_clean_up),
        DATAGRAMS(test_101_courier),
        DATAGRAMS(test_off),
    };
    return cmocka_run_group_tests_name("datagrams, life", tests, shared_setup, NULL);
}
