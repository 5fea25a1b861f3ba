/*
 * Datagrams: who sends much, never reads, or sits on what hangs. Somebody else is answered meanwhile, by
 * datagram and on connections.
 */
#include "datagram_client.h"
#include "fuse_server.h"

#include <sys/resource.h>

static const char policy[] = "allow user:2001,user:2002 read @/pub/a\n"
                             "allow user:2001 read @/pub/b log=none\n";

enum {
    NOFILE = 4096, /* of the broker */
    FDS_PER_USER = NOFILE / 16,
    REPLIES_PER_USER = 64, /* on their way, with descriptors */
    BATCH = WIRE_MAX_ENTRIES,
    SOCKETS = 200,
    RESEND_MS = 1000,
#ifdef FOB_SANITIZE
    ROUNDS = 2,
#else
    ROUNDS = 4,
#endif
};

/* ---- bob ---- */

/* From each kind of name, connected and not. What is lost he asks for again; little is. */
static void bob_asks_by_datagram(struct client_env *env)
{
    char own[DIR_MAX + 16], path[DIR_MAX + 16];
    snprintf(own, sizeof own, "%s", at(env->broker, "sticky/bob"));
    snprintf(path, sizeof path, "%s", at(env->broker, "pub/a"));
    int fd, asked = 0, lost[3] = { 0 }, socks[] = { asker_new(NULL), asker_new(NULL), asker_new(own) };
    asker_connect(env->broker, socks[1]);
    for (size_t i = 0; i < ARRAY_SIZE(socks); i++)
        be_patient_for(socks[i], RESEND_MS);
    for (uint32_t id = 0; !shared->over; id++, asked++) {
        size_t kind = id % ARRAY_SIZE(socks);
        datagram_open(env->broker, socks[kind], id, path);
        int error = datagram_answer(socks[kind], id, &fd);
        lost[kind] += error < 0;
        CHECK(error <= 0); /* never EAGAIN */
        CHECK(error < 0 || fd_reads(fd, "pub a\n"));
        fd_close(fd);
        usleep(2000);
    }
    unlink(own);
    printf("bob by datagram: %d asked; lost of those from an abstract name, connected, from a path: %d, %d, "
           "%d\n",
           asked, lost[0], lost[1], lost[2]);
    fflush(stdout);
    CHECK(lost[0] + lost[1] + lost[2] <= 2 + asked / 20);
}

static void ask_again_until_answered(struct client_env *env)
{
    int fd, sock = asker_new(NULL), error = -1;
    be_patient_for(sock, RESEND_MS);
    for (uint32_t id = 0; error < 0 && id < 100; id++) {
        datagram_open(env->broker, sock, id, at(env->broker, "pub/a"));
        error = datagram_answer(sock, id, &fd);
        shared->refused += error < 0;
    }
    CHECK_EQ(error, 0);
}

/* ---- connected askers, who have one socket of the broker's in common ---- */

static void check_and_leave_unread(const struct broker *b, unsigned sockets, unsigned requests)
{
    char path[DIR_MAX + 16];
    const char *paths[] = { path };
    snprintf(path, sizeof path, "%s", at(b, "pub/a"));
    for (unsigned i = 0; i < sockets; i++) {
        int sock = asker_new(NULL);
        asker_connect(b, sock);
        for (uint32_t k = 0; k < requests; k++)
            datagram_ask(b, sock, WIRE_CHECK, k, paths, 1);
        CHECK(i > 0 || recv(sock, &(char){ 0 }, 1, MSG_PEEK) == 1);
    }
    usleep(100000);
    shared->step = 1;
    wait_for_step(2);
}

static void leave_one(struct client_env *env)
{
    check_and_leave_unread(env->broker, 1, 1);
}

/* Together more than one socket may have sent. */
static void leave_many(struct client_env *env)
{
    check_and_leave_unread(env->broker, 60, 8);
}

/* More descriptors than may be unread at once; each is read. */
static void open_many(struct client_env *env)
{
    int sock = asker_new(NULL);
    asker_connect(env->broker, sock);
    for (int i = 0; i < FDS_PER_USER + 50; i++)
        expect_datagram(env->broker, sock, "pub/a", "pub a\n");
}

static void while_alice_leaves(client_fn *leave)
{
    struct broker *b = datagram_begin(policy, "workers 2");
    pid_t alice = client_begin(b, ALICE, leave, NULL);
    EXPECT_STEP(1);
    as_user(b, BOB, open_many, NULL);
    as_user(b, BOB, ask_by_datagram, NULL);
    shared->step = 2;
    assert_int_equal(child_wait(alice), 0);
    datagram_finish();
}

static void test_74_one_unread_by_who_connected(void **state)
{
    (void)state;
    while_alice_leaves(leave_one);
}

static void test_74_much_unread_by_who_connected(void **state)
{
    (void)state;
    while_alice_leaves(leave_many);
}

/* ---- who never reads ---- */

/* What came to all sockets: descriptors in served, entries without one in refused. */
static void take_replies(const int *socks, size_t n)
{
    static struct native_reply reply;
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(fcntl(socks[i], F_SETFL, O_NONBLOCK), 0);
        while (datagram_receive(socks[i], &reply, NULL)) {
            shared->served += (unsigned)reply.n_fds;
            shared->refused += reply.header.count - (unsigned)reply.n_fds;
            for (size_t k = 0; k < reply.header.count; k++)
                CHECK(native_result(&reply, k).error == 0 || native_result(&reply, k).error == EAGAIN);
            fd_close_many(reply.fds, reply.n_fds);
        }
    }
}

static void flood(struct client_env *env)
{
    static uint8_t out[WIRE_MAX_MESSAGE];
    char path[DIR_MAX + 16];
    const char *paths[BATCH];
    int socks[SOCKETS], *rounds = env->data;
    snprintf(path, sizeof path, "%s", at(env->broker, "pub/b"));
    for (int i = 0; i < BATCH; i++)
        paths[i] = path;
    for (int i = 0; i < SOCKETS; i++)
        socks[i] = asker_new(NULL);
    for (int round = 0; round < *rounds; round++)
        for (int i = 0; i < SOCKETS; i++) {
            size_t len = native_batch(out, sizeof out, WIRE_OPEN, 1, WIRE_READ, paths, i % 2 ? 1 : BATCH);
            CHECK_EQ(datagram_send(env->broker, socks[i], out, len, 0), 0);
        }
    usleep(200000);
    shared->step = 1;
    wait_for_step(2);
    take_replies(socks, SOCKETS);
}

static int most_fds_until_step(pid_t pid, int step)
{
    int most = 0;
    for (int i = 0; i < 6000 && shared->step < step; i++) {
        int n = count_fds_of(pid);
        most = n > most ? n : most;
        usleep(10000);
    }
    return most;
}

static void test_74_never_reading(void **state)
{
    (void)state;
    int rounds = ROUNDS;
    struct broker *b = datagram_begin(policy, "workers 2");
    b->uncounted = true; /* of alice's entries only those without a rule have records */
    pid_t courier = courier_of(b);
    int fds = count_fds_of(courier);
    pid_t bob = bob_begin(b), other = client_begin(b, BOB, bob_asks_by_datagram, NULL);
    pid_t alice = client_begin(b, ALICE, flood, &rounds);
    int most = most_fds_until_step(courier, 1);
    EXPECT_STEP(1);
    bob_end(bob, "on connections while alice floods with datagrams and reads nothing");
    assert_int_equal(child_wait(other), 0);
    shared->step = 2;
    assert_int_equal(child_wait(alice), 0);
    print_message("alice: %u descriptors, %u entries without; the courier had %d descriptors, at most %d\n",
                  shared->served, shared->refused, fds, most);
    assert_in_range(shared->served, 1, FDS_PER_USER);
    assert_true(shared->refused > 0);
    assert_in_range(most, fds, fds + REPLIES_PER_USER + FDS_PER_USER + BATCH + 16);
    EXPECT_SOON(count_fds_of(courier) == fds);
    assert_int_equal(courier_of(b), courier);
    as_user(b, ALICE, ask_by_datagram, NULL); /* she has read: all is well again */
    datagram_finish();
}

/* ---- a courier that stands still ---- */

/* Descriptors pile up before it: bob's connections need none of theirs. */
static void test_75_courier_held(void **state)
{
    (void)state;
    int rounds = 1;
    struct broker *b = datagram_begin(policy, "workers 2");
    b->uncounted = true; /* of alice's entries only those without a rule have records */
    pid_t courier = courier_hold(b), alice = client_begin(b, ALICE, flood, &rounds);
    EXPECT_STEP(1);
    pid_t bob = bob_begin(b);
    usleep(300000);
    bob_end(bob, "on connections while the courier is held");
    courier_go(courier);
    as_user(b, BOB, ask_again_until_answered, NULL);
    shared->step = 2;
    assert_int_equal(child_wait(alice), 0);
    datagram_finish();
}

enum { MANY = 900 };

static void ask_many(struct client_env *env)
{
    int fd, socks[MANY];
    for (int i = 0; i < MANY; i++) {
        socks[i] = asker_new(NULL);
        datagram_open(env->broker, socks[i], 1, at(env->broker, "pub/a"));
    }
    shared->step = 1;
    wait_for_step(2);
    for (int i = 0; i < MANY; i++) {
        be_patient_for(socks[i], 1);
        int error = datagram_answer(socks[i], 1, &fd);
        CHECK(error <= 0 || error == EAGAIN);
        shared->served += error >= 0;
        fd_close(fd);
    }
}

/* What has no room before it is lost, and counted. */
static void test_losses_are_counted(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    pid_t courier = courier_hold(b), alice = client_begin(b, ALICE, ask_many, NULL);
    EXPECT_STEP(1);
    expect_records(b, "\"op\":\"open\"", NULL, MANY);
    courier_go(courier);
    as_user(b, BOB, ask_again_until_answered, NULL); /* behind all others: they are sent */
    shared->step = 2;
    assert_int_equal(child_wait(alice), 0);
    print_message("%u of %d answered, %d lost\n", shared->served, MANY, status_number(b, "undelivered"));
    assert_int_equal(shared->served + (unsigned)status_number(b, "undelivered"), MANY + shared->refused);
    datagram_finish();
}

/* ---- 81: a path that hangs ---- */

static struct fuse_server fs;

enum { HANGING = 8 };

/* Her sockets' names lead there once she has asked. */
static void ask_from_what_hangs(struct client_env *env)
{
    char path[DIR_MAX + 32];
    const struct broker *b = env->broker;
    CHECK_EQ(mkdir(at(b, "al/d"), 0755), 0);
    for (int i = 0; i < HANGING; i++) {
        snprintf(path, sizeof path, "%s-%d", at(b, "al/d/slow-lookup"), i);
        datagram_open(b, asker_new(path), 1, at(b, "pub/a"));
    }
    CHECK_EQ(rename(at(b, "al/d"), at(b, "al/e")), 0);
    CHECK_EQ(symlink(at(b, "fuse"), at(b, "al/d")), 0);
    shared->step = 1;
    wait_for_step(2);
}

static void ask_by_path(struct client_env *env)
{
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(env->broker, "sticky/s"));
    expect_datagram(env->broker, asker_new(path), "pub/a", "pub a\n");
    CHECK_EQ(unlink(path), 0);
}

static bool mount_fuse(const struct broker *b)
{
    assert_int_equal(mkdir(at(b, "fuse"), 0755), 0);
    int err = fuse_server_start(&fs, at(b, "fuse"));
    if (err < 0)
        print_message("skipped: no FUSE file system can be mounted here: %s\n", strerror(-err));
    return err == 0;
}

/* None of them gets an answer, and nobody else has to wait for one. */
static void test_81_paths_that_hang(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    bool mounted = mount_fuse(b);
    if (mounted) {
        pid_t courier = courier_hold(b);
        int fds = count_fds_of(courier);
        pid_t alice = client_begin(b, ALICE, ask_from_what_hangs, NULL);
        EXPECT_STEP(1);
        courier_go(courier);
        EXPECT_SOON(fuse_server_hung(&fs) > 0);
        as_user(b, BOB, ask_by_datagram, NULL);
        as_user(b, BOB, ask_by_path, NULL);
        as_user(b, ALICE, ask_by_datagram, NULL);
        as_user(b, BOB, expect_served, NULL);
        assert_true(fuse_server_hung(&fs) > 0);
        assert_int_equal(courier_of(b), courier);
        assert_int_equal(fuse_server_release(&fs), 0);
        shared->step = 2;
        assert_int_equal(child_wait(alice), 0);
        expect_undelivered(b, HANGING);
        EXPECT_SOON(count_fds_of(courier) == fds);
        as_user(b, ALICE, ask_by_path, NULL);
        fuse_server_stop(&fs);
    }
    datagram_finish();
    if (!mounted)
        skip();
}

static void test_81_stop_meanwhile(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    bool mounted = mount_fuse(b);
    if (mounted) {
        pid_t courier = courier_hold(b), alice = client_begin(b, ALICE, ask_from_what_hangs, NULL);
        EXPECT_STEP(1);
        courier_go(courier);
        EXPECT_SOON(fuse_server_hung(&fs) > 0);
        int64_t begin = now_us();
        assert_int_equal(kill(b->pid, SIGTERM), 0);
        assert_int_equal(child_wait(b->pid), 0);
        assert_in_range(now_us() - begin, 0, AT_ONCE_MS * 1000 + 5000000);
        b->pid = 0;
        shared->step = 2;
        assert_int_equal(child_wait(alice), 0);
        fuse_server_stop(&fs);
        broker_end(b);
        return;
    }
    datagram_finish();
    skip();
}

static int fuse_clean_up(void **state)
{
    fuse_server_stop(&fs);
    return datagram_clean_up(state);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct rlimit limit = { NOFILE, NOFILE };
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        perror("RLIMIT_NOFILE");
        return 1;
    }
    const struct CMUnitTest tests[] = {
        DATAGRAMS(test_74_one_unread_by_who_connected),
        DATAGRAMS(test_74_much_unread_by_who_connected),
        DATAGRAMS(test_74_never_reading),
        DATAGRAMS(test_75_courier_held),
        DATAGRAMS(test_losses_are_counted),
        cmocka_unit_test_setup_teardown(test_81_paths_that_hang, shared_new, fuse_clean_up),
        cmocka_unit_test_setup_teardown(test_81_stop_meanwhile, shared_new, fuse_clean_up),
    };
    return cmocka_run_group_tests_name("datagram floods", tests, shared_setup, NULL);
}
