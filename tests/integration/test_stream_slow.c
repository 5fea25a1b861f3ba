/*
 * Slow openers and the stream socket: who asks for what hangs is told so in the connection's own protocol,
 * what was written ahead waits, and nothing comes late.
 */
#define FUSE_SERVER_CLIENTS
#include "stream_client.h"

#include "fuse_server.h"

static const char with_stream[] = CONFIG "slow-openers 16\n" STREAM;

static const char *const protocol_names[] = { [NATIVE] = "native", [APUE] = "apue" };

static void expect_fast(enum protocol p, int sock, const struct broker *broker)
{
    expect_text(p, sock, at(broker, "pub/a"), "pub a\n");
}

/* ETIMEDOUT, at its time, and as its protocol says it. */
static void expect_late(enum protocol p, int sock, const char *path, int64_t begin)
{
    int fd;
    CHECK_EQ(answer(p, sock, &fd), ETIMEDOUT);
    CHECK_EQ(fd, -1);
    int64_t ms = (now_us() - begin) / 1000;
    CHECK(ms >= TIMED_OUT_MIN_MS && ms <= TIMED_OUT_MAX_MS);
    CHECK(p == NATIVE || apue_text_is(path, "Connection timed out"));
}

/* ---- a client for each protocol, at the same time ---- */

static struct {
    pid_t pid;
    enum protocol p;
} clients[PROTOCOLS];

static void begin_both(client_fn *fn, uid_t uid)
{
    fflush(NULL);
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        askers[p].answered = false;
        clients[p].p = p;
        clients[p].pid = fork();
        assert_true(clients[p].pid >= 0);
        if (clients[p].pid == 0)
            _exit(as_user_groups(&b, uid, uid, NULL, 0, fn, &clients[p].p));
    }
}

static void end_both(void)
{
    for (enum protocol p = 0; p < PROTOCOLS; p++)
        if (child_wait(clients[p].pid))
            fail_msg("%s", protocol_names[p]);
}

static void run_both(client_fn *fn, uid_t uid)
{
    begin_both(fn, uid);
    end_both();
}

/* They have come so far. */
static void await_both(void)
{
    asker_wait(&askers[NATIVE]);
    asker_wait(&askers[APUE]);
}

/* ---- served ---- */

static void ask_for_slow_files(struct client_env *env)
{
    enum protocol p = *(enum protocol *)env->data;
    int fd, sock = stream_connect(env->broker);
    for (int round = 0; round < 3; round++) {
        expect_text(p, sock, at(env->broker, "fuse/fast"), "fast\n");
        expect_text(p, sock, at(env->broker, "fuse/later"), "later\n");
        expect_fast(p, sock, env->broker);
        CHECK_EQ(ask_both(p, sock, at(env->broker, "fuse/none"), &fd), ENOENT);
    }
    if (p == APUE) {
        CHECK_EQ(apue_ask(sock, at(env->broker, "fuse/dir/new"), O_RDWR | O_CREAT | O_EXCL, &fd), 0);
        CHECK_EQ(write(fd, "new\n", 4), 4);
        CHECK_EQ(apue_ask(sock, at(env->broker, "fuse/dir/new"), O_RDWR | O_CREAT | O_EXCL, &fd), EEXIST);
    }
    CHECK(is_silent(sock));
}

static void test_served(void **state)
{
    (void)state;
    struct stat st;
    begin(with_stream);
    pid_t bob = others_begin();
    run_both(ask_for_slow_files, ALICE);
    others_end(bob);
    assert_int_equal(stat(at(&b, "fuse/dir/new"), &st), 0);
    assert_int_equal(st.st_uid, ALICE);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    finish();
}

/* ---- hung ---- */

static void ask_for_what_hangs(struct client_env *env)
{
    enum protocol p = *(enum protocol *)env->data;
    const char *const hung[] = { "fuse/slow-open", "fuse/slow-lookup" };
    int sock = stream_connect(env->broker);
    for (size_t i = 0; i < ARRAY_SIZE(hung); i++) {
        const char *path = at(env->broker, hung[i]);
        int64_t begun = now_us();
        ask_for(p, sock, path);
        expect_late(p, sock, path, begun);
        expect_fast(p, sock, env->broker);
    }
    askers[p].answered = true;
    while (!others->over)
        usleep(1000);
    usleep(300000); /* what hung hangs no more, and says nothing */
    CHECK(is_silent(sock));
    expect_fast(p, sock, env->broker);
    expect_text(p, sock, at(env->broker, "fuse/slow-open"), "slow-open\n");
}

static void test_hung(void **state)
{
    (void)state;
    begin(with_stream);
    pid_t bob = others_begin();
    begin_both(ask_for_what_hangs, ALICE);
    await_both();
    expect_slow("stuck", 4);
    expect_timeouts(4);
    assert_int_equal(fuse_server_release(&fs), 0);
    others_end(bob);
    end_both();
    finish();
}

/* ---- written ahead ---- */

/* Each waits for the one before it; half of one more comes while it does. */
static void ask_in_advance(struct client_env *env)
{
    enum protocol p = *(enum protocol *)env->data;
    static const char *const names[] = { "pub/a", "fuse/slow-open", "pub/b", "fuse/later", "pub/a" };
    uint8_t out[ARRAY_SIZE(names) * 256];
    size_t len = 0;
    int fd, sock = stream_connect(env->broker);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        len += request_bytes(p, out + len, sizeof out - len, at(env->broker, names[i]));
    count_requests(ARRAY_SIZE(names));
    int64_t begun = now_us();
    put(sock, out, len - 100);
    usleep(100000);
    put(sock, out + len - 100, 90);
    CHECK_EQ(answer(p, sock, &fd), 0);
    CHECK(fd_reads(fd, "pub a\n"));
    expect_late(p, sock, at(env->broker, names[1]), begun);
    CHECK_EQ(answer(p, sock, &fd), 0);
    CHECK(fd_reads(fd, "pub b\n"));
    CHECK_EQ(answer(p, sock, &fd), 0);
    CHECK(fd_reads(fd, "later\n"));
    usleep(20000);
    CHECK(is_silent(sock));
    put(sock, out + len - 10, 10);
    CHECK_EQ(answer(p, sock, &fd), 0);
    CHECK(fd_reads(fd, "pub a\n"));
}

/* Of a batch only what hangs is given up. */
static void ask_in_a_batch(struct client_env *env)
{
    const char *paths[] = { at(env->broker, "pub/a"), at(env->broker, "fuse/slow-open-2"),
                            at(env->broker, "pub/b") };
    int sock = stream_connect(env->broker);
    send_open(sock, 9, paths, ARRAY_SIZE(paths));
    expect_reply(sock, 9, (int[]){ 0, ETIMEDOUT, 0 }, ARRAY_SIZE(paths));
    expect_fast(NATIVE, sock, env->broker);
}

static void test_written_ahead(void **state)
{
    (void)state;
    begin(with_stream);
    pid_t bob = others_begin();
    run_both(ask_in_advance, ALICE);
    as_user(&b, ALICE, ask_in_a_batch, NULL);
    expect_timeout(asker_begin(ALICE, "fuse/slow-lookup", WIRE_READ)); /* by packets, as ever */
    others_end(bob);
    expect_timeouts(4);
    finish();
}

/* ---- closed ---- */

/* No more comes, but the answer is waited for. */
static void ask_and_say_no_more(struct client_env *env)
{
    enum protocol p = *(enum protocol *)env->data;
    const char *const names[] = { "fuse/later", "fuse/slow-open" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        int fd, sock = stream_connect(env->broker);
        int64_t begun = now_us();
        ask_for(p, sock, at(env->broker, names[i]));
        shutdown(sock, SHUT_WR);
        if (i == 0) {
            CHECK_EQ(answer(p, sock, &fd), 0);
            CHECK(fd_reads(fd, "later\n"));
        } else {
            expect_late(p, sock, at(env->broker, names[i]), begun);
        }
        CHECK(is_closed(sock));
        close(sock);
    }
}

static void ask_and_go(struct client_env *env)
{
    enum protocol p = *(enum protocol *)env->data;
    for (int i = 0; i < 2; i++) {
        int sock = stream_connect(env->broker);
        ask_for(p, sock, at(env->broker, "fuse/slow-open"));
        usleep(100000);
        if (i == 1)
            shutdown(sock, SHUT_RDWR);
        close(sock);
    }
}

static void test_closed(void **state)
{
    (void)state;
    begin(with_stream);
    pid_t bob = others_begin();
    run_both(ask_and_say_no_more, ALICE);
    run_both(ask_and_go, BOB);
    WAIT_FOR(audit_count(&b, "\"uid\":2002,", "/fuse/slow-open\"") == 4);
    assert_int_equal(audit_count(&b, "\"uid\":2002,", "/fuse/slow-open\""), 4);
    others_end(bob);
    finish();
}

/* ---- reloaded ---- */

/* Begun anew by the next generation at worst; what follows it, too. */
static void ask_over_a_reload(struct client_env *env)
{
    enum protocol p = *(enum protocol *)env->data;
    const char *path = at(env->broker, "fuse/slow-open");
    int fd, sock = stream_connect(env->broker);
    ask_for(p, sock, path);
    ask_for(p, sock, at(env->broker, "pub/b"));
    askers[p].answered = true;
    int error = answer(p, sock, &fd);
    CHECK(error == ETIMEDOUT);
    CHECK(p == NATIVE || apue_text_is(path, "Connection timed out"));
    CHECK_EQ(answer(p, sock, &fd), EACCES);
    expect_fast(p, sock, env->broker);
}

static void test_reload_meanwhile(void **state)
{
    (void)state;
    char next[2 * sizeof policy];
    snprintf(next, sizeof next, "%sdeny user:2001,user:2002 read @/pub/b\n", policy);
    begin(with_stream);
    pid_t bob = others_begin();
    begin_both(ask_over_a_reload, ALICE);
    await_both();
    WAIT_FOR(fuse_server_hung(&fs) == 2);
    reload(next);
    end_both();
    expect_served(BOB, "fuse/fast", "fast\n");
    others_end(bob);
    reload(policy);
    finish();
}

#define TEST(name) cmocka_unit_test_teardown(name, clean_up)

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        TEST(test_served),           TEST(test_hung), TEST(test_written_ahead), TEST(test_closed),
        TEST(test_reload_meanwhile),
    };
    return cmocka_run_group_tests_name("stream_slow", tests, set_up_all, NULL);
}
