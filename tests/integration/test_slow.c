/*
 * threats.md, 81 to 83: file systems that are slow, hang, recover or die, and leases. Who asks for what hangs
 * gets ETIMEDOUT; nobody else notices.
 */
#define FUSE_SERVER_CLIENTS
#include "fuse_server.h"

#include <linux/fuse.h>

/* ---- the file system itself, without fobd ---- */

static pid_t open_in_child(const char *path, int flags)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid)
        return pid;
    int fd = open(at(&b, path), flags | O_CLOEXEC, 0600);
    _exit(fd < 0 ? errno : close(fd) < 0 ? errno : 0);
}

/* Root, without fobd. */
static void expect_reads(const char *path, const char *text)
{
    char got[64];
    assert_true(file_read(at(&b, path), got, sizeof got) >= 0);
    assert_string_equal(got, text);
}

static void expect_hangs(const char *path, int flags)
{
    struct stat st;
    pid_t pid = open_in_child(path, flags);
    WAIT_FOR(fuse_server_hung(&fs) == 1);
    assert_int_equal(fuse_server_hung(&fs), 1);
    expect_reads("fuse/fast", "fast\n");
    assert_int_equal(kill(pid, SIGKILL), 0);
    usleep(20000);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* not even that ends it */
    assert_int_equal(fuse_server_release(&fs), 0);
    assert_int_equal(child_wait(pid), 128 + SIGKILL);
    pid = open_in_child(path, flags);
    assert_int_equal(child_wait(pid), 0);
    assert_int_equal(stat(at(&b, path), &st), 0);
    fuse_server_hold(&fs);
}

static void test_server(void **state)
{
    (void)state;
    mount_fuse();
    expect_reads("fuse/fast", "fast\n");
    expect_reads("fuse/dir/fast-7", "fast-7\n");
    int64_t begin = now_us();
    expect_reads("fuse/later", "later\n");
    assert_in_range(now_us() - begin, FUSE_SERVER_LATER_MS * 1000, 3000000);
    assert_int_equal(access(at(&b, "fuse/none"), F_OK), -1);
    file_write(at(&b, "fuse/dir/made"), "made\n", 0600, 0);
    expect_reads("fuse/dir/made", "made\n");
    expect_hangs("fuse/slow-lookup", O_RDONLY);
    expect_hangs("fuse/slow-open", O_RDONLY);
    expect_hangs("fuse/slow-flush", O_RDONLY);
    expect_hangs("fuse/slow-list", O_RDONLY | O_DIRECTORY);
    expect_hangs("fuse/dir/slow-create", O_WRONLY | O_CREAT);
    pid_t pid = open_in_child("fuse/slow-open", O_RDONLY);
    WAIT_FOR(fuse_server_hung(&fs) == 1);
    assert_int_equal(fuse_server_seen(&fs, FUSE_CREATE), 2);
    fuse_server_abort(&fs);
    assert_int_not_equal(child_wait(pid), 0);
    fuse_server_stop(&fs);
    broker_end(&b);
    b.dir[0] = '\0';
}

/* ---- slow, but working ---- */

static void write_new(struct client_env *env)
{
    int fd, flags = WIRE_READ | WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE,
            sock = connect_patiently(env->broker);
    CHECK_EQ(raw_open(sock, at(env->broker, "fuse/dir/new"), (uint32_t)flags, 0640, &fd), 0);
    CHECK_EQ(write(fd, "new\n", 4), 4);
    CHECK(fd_reads(fd, "new\n"));
    close(fd);
    CHECK_EQ(raw_open(sock, at(env->broker, "fuse/dir/new"), (uint32_t)flags, 0640, &fd), EEXIST);
    CHECK_EQ(raw_open(sock, at(env->broker, "fuse/dir/new"), WIRE_WRITE | WIRE_TRUNCATE, 0, &fd), 0);
    close(fd);
    CHECK_EQ(raw_open(sock, at(env->broker, "fuse/none"), WIRE_READ, 0, &fd), ENOENT);
    CHECK_EQ(raw_open(sock, at(env->broker, "fuse/fast/none"), WIRE_READ, 0, &fd), ENOTDIR);
}

static void test_served(void **state)
{
    (void)state;
    struct stat st;
    begin(config);
    pid_t bob = others_begin();
    for (int round = 0; round < 3; round++) { /* nobody knows the names, then the kernel does */
        expect_served(ALICE, "fuse/fast", "fast\n");
        expect_served(BOB, "fuse/later", "later\n");
    }
    as_user(&b, ALICE, write_new, NULL);
    assert_int_equal(stat(at(&b, "fuse/dir/new"), &st), 0);
    assert_int_equal(st.st_uid, ALICE);
    assert_int_equal(st.st_mode, S_IFREG | 0640);
    assert_int_equal(st.st_size, 0);
    others_end(bob);
    assert_int_equal(audit_count(&b, "\"decision\":\"allowed\"", "/fuse/later\""), 3);
    finish();
}

/* The sealer must not hang. */
static void test_list(void **state)
{
    (void)state;
    begin(config);
    expect_asker(asker_begin(ALICE, "fuse/dir", WIRE_DIRECTORY), EACCES, 0, TIMED_OUT_MIN_MS - 1);
    assert_int_equal(audit_count(&b, "\"reason\":\"seal\"", "fuse/dir"), 1);
    finish();
}

/* ---- 81: what hangs ---- */

struct hanging {
    const char *path;
    uint32_t flags;
    bool known; /* the kernel knows the name: RESOLVE_CACHED goes as far as what hangs */
};

static const struct hanging hanging[] = {
    { "fuse/slow-lookup", WIRE_READ, false },
    { "fuse/slow-lookup/below", WIRE_READ, false },
    { "fuse/slow-open", WIRE_READ, false },
    { "fuse/slow-open", WIRE_READ | WIRE_NONBLOCK, true },
    { "fuse/slow-stat", WIRE_READ, true },
    { "fuse/slow-list", WIRE_DIRECTORY, true },
    { "fuse/dir/slow-create", WIRE_WRITE | WIRE_CREATE, false },
};

static void make_known(const char *path)
{
    int fd = open(at(&b, path), O_PATH | O_CLOEXEC);
    assert_true(fd >= 0);
    close(fd);
}

static void test_81_hung(void **state)
{
    (void)state;
    begin(config);
    pid_t bob = others_begin();
    usleep(DEADLINE_MS * 1000);
    unsigned without = others_end(bob), worst = 0;
    for (size_t i = 0; i < ARRAY_SIZE(hanging); i++) {
        if (hanging[i].known)
            make_known(hanging[i].path);
        bob = others_begin();
        struct asker *a = asker_begin(ALICE, hanging[i].path, hanging[i].flags);
        expect_served(BOB, "fuse/fast", "fast\n");
        expect_timeout(a);
        unsigned with = others_end(bob);
        worst = with > worst ? with : worst;
        expect_slow("stuck", 1);
        expect_timeouts((int)i + 1);
        assert_int_equal(fuse_server_release(&fs), 0);
        expect_recovered();
        fuse_server_hold(&fs);
    }
    print_message("p99 of another user's opens: %u us, and %u us while an open hangs\n", without, worst);
    assert_int_equal(fuse_server_release(&fs), 0);
    expect_served(ALICE, "fuse/slow-open", "slow-open\n");
    expect_served(ALICE, "fuse/slow-lookup", "slow-lookup\n");
    finish();
}

/* A link of a client's own leads there. What is behind a link is told by EACCES alone, so that will do too.
 */
static void test_81_behind_a_link(void **state)
{
    (void)state;
    begin(config);
    assert_int_equal(symlink("../fuse/slow-lookup", at(&b, "al/link")), 0);
    pid_t bob = others_begin();
    struct asker *a = asker_begin(ALICE, "al/link", WIRE_READ);
    asker_wait(a);
    expect_asker(a, a->error == EACCES ? EACCES : ETIMEDOUT, TIMED_OUT_MIN_MS, TIMED_OUT_MAX_MS);
    others_end(bob);
    finish();
}

/* At the same time, not one after the other. */
static void test_81_three_at_once(void **state)
{
    (void)state;
    static const char *const paths[] = { "fuse/slow-open", "fuse/slow-open-2", "fuse/slow-lookup" };
    struct asker *a[ARRAY_SIZE(paths)];
    begin(config);
    pid_t bob = others_begin();
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        a[i] = asker_begin(ALICE, paths[i], WIRE_READ);
    expect_served(ALICE, "fuse/fast", "fast\n");
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        expect_timeout(a[i]);
    others_end(bob);
    expect_slow("stuck", ARRAY_SIZE(paths));
    expect_timeouts(ARRAY_SIZE(paths));
    finish();
}

/* ---- 82: a close that hangs ---- */

/* The descriptor may have been given before; it is its holder's close then that hangs. */
static void test_82_hung_close(void **state)
{
    (void)state;
    begin(config);
    make_known("fuse/slow-flush");
    pid_t bob = others_begin();
    struct asker *a = asker_begin(ALICE, "fuse/slow-flush", WIRE_READ);
    asker_wait(a);
    assert_true(a->error == 0 || a->error == ETIMEDOUT);
    assert_true(a->error || strcmp(a->text, "slow-flush\n") == 0);
    assert_in_range(a->ms, 0, TIMED_OUT_MAX_MS);
    usleep(2 * DEADLINE_MS * 1000);
    others_end(bob);
    expect_served(ALICE, "fuse/fast", "fast\n");
    assert_int_equal(fuse_server_release(&fs), 0);
    expect_asker(a, a->error, 0, TIMED_OUT_MAX_MS);
    finish();
}

/* ---- budgets ---- */

static void test_budget_of_a_user(void **state)
{
    (void)state;
    struct asker *a[4];
    char path[32];
    begin(config);
    pid_t bob = others_begin();
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "fuse/slow-open-%d", i);
        a[i] = asker_begin(ALICE, path, WIRE_READ);
    }
    expect_asker(asker_begin(ALICE, "fuse/slow-open-5", WIRE_READ), EAGAIN, 0, TIMED_OUT_MIN_MS / 2);
    expect_served(BOB, "fuse/fast", "fast\n");
    for (int i = 0; i < 4; i++)
        expect_timeout(a[i]);
    /* Stuck ones count until they are gone. */
    expect_slow("stuck", 4);
    expect_asker(asker_begin(ALICE, "fuse/slow-open-5", WIRE_READ), EAGAIN, 0, TIMED_OUT_MIN_MS / 2);
    expect_served(BOB, "fuse/later", "later\n");
    assert_int_equal(audit_count(&b, "\"reason\":\"quota\"", "\"errno\":\"EAGAIN\""), 2);
    expect_timeouts(4);
    others_end(bob);
    assert_int_equal(fuse_server_release(&fs), 0);
    expect_recovered();
    expect_served(ALICE, "fuse/slow-open-5", "slow-open-5\n");
    finish();
}

/* One for a user, four in all. */
static void test_budget_of_all(void **state)
{
    (void)state;
    struct asker *a[4];
    begin(CONFIG "slow-openers 4\n");
    for (uid_t i = 0; i < 4; i++)
        a[i] = asker_begin(ALICE + i, "fuse/slow-open", WIRE_READ);
    expect_asker(asker_begin(ALICE + 4, "fuse/fast", WIRE_READ), EAGAIN, 0, TIMED_OUT_MIN_MS / 2);
    for (uid_t i = 0; i < 4; i++)
        expect_timeout(a[i]);
    expect_slow("stuck", 4);
    assert_int_equal(fuse_server_release(&fs), 0);
    expect_recovered();
    expect_served(ALICE + 4, "fuse/fast", "fast\n");
    finish();
}

/* ---- reload and stop ---- */

static void expect_no_b(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL), 0);
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/b"), WIRE_READ, NULL), EACCES);
}

static void test_reload_meanwhile(void **state)
{
    (void)state;
    char next[2 * sizeof policy];
    snprintf(next, sizeof next, "%sdeny user:2001,user:2002 read @/pub/b\n", policy);
    begin(config);
    pid_t bob = others_begin();
    struct asker *a = asker_begin(ALICE, "fuse/slow-open", WIRE_READ);
    reload(next);
    as_user(&b, BOB, expect_no_b, NULL);
    as_user(&b, ALICE, expect_no_b, NULL);
    expect_served(BOB, "fuse/fast", "fast\n");
    /* begun anew by the next generation, at worst */
    expect_asker(a, ETIMEDOUT, TIMED_OUT_MIN_MS, TIMED_OUT_MAX_MS + DEADLINE_MS);
    others_end(bob);
    reload(policy);
    finish();
}

/* Decided by the old policy, opened under the new one, which denies it. */
static void test_reload_that_denies(void **state)
{
    (void)state;
    begin(config);
    struct asker *a = asker_begin(ALICE, "fuse/slow-open", WIRE_READ);
    reload(WITHOUT_FUSE);
    assert_int_equal(fuse_server_release(&fs), 0);
    asker_wait(a);
    assert_true(a->error == EACCES || a->error == ETIMEDOUT);
    expect_asker(a, a->error, 0, TIMED_OUT_MAX_MS + DEADLINE_MS);
    reload(policy);
    finish();
}

/* A root of the policy is in there: the supervisor has to answer. */
static void test_reload_with_a_hung_root(void **state)
{
    (void)state;
    begin(config);
    pid_t bob = others_begin();
    fuse_server_freeze(&fs), broker_write_policy(&b, WITHOUT_FUSE "allow user:2001 read @/fuse/dir/**\n");
    assert_in_range(control_end(control_send(&b, "reload", sizeof "reload"), 3000), 0, 4);
    expect_answered_at_once(&b);
    usleep(100000), others_end(bob);
    assert_int_equal(fuse_server_release(&fs), 0);
    reload(policy);
    finish();
}

/* Before its deadline and after it. Its client is not left waiting, on the same connection too. */
static void stop_meanwhile(bool is_stuck)
{
    int status = -1, ms = 0;
    begin(config);
    struct asker *a = asker_begin(ALICE, "fuse/slow-open", WIRE_READ);
    if (is_stuck)
        asker_wait(a);
    assert_int_equal(kill(b.pid, SIGTERM), 0);
    while (ms++ < DEADLINE_MS + 1000 && waitpid(b.pid, &status, WNOHANG) == 0)
        usleep(1000);
    assert_int_equal(status, 0);
    b.pid = 0;
    assert_int_equal(access(b.socket, F_OK), -1);
    assert_int_equal(access(at(&b, "sock.control"), F_OK), -1);
    asker_wait(a);
    assert_int_not_equal(a->error, 0);
    asker_end(a);
    assert_in_range(audit_count(&b, "/fuse/slow-open\"", NULL), is_stuck, 1);
    assert_int_equal(fuse_server_release(&fs), 0);
    fuse_server_stop(&fs);
    assert_true(reap_all(2000));
    broker_end(&b);
    b.dir[0] = '\0';
}

static void test_stop_meanwhile(void **state)
{
    (void)state;
    stop_meanwhile(false);
    stop_meanwhile(true);
}

/* ---- 83: the file system dies ---- */

static void test_83_abort(void **state)
{
    (void)state;
    begin(config);
    pid_t bob = others_begin();
    expect_timeout(asker_begin(ALICE, "fuse/slow-lookup", WIRE_READ));
    struct asker *a = asker_begin(ALICE, "fuse/slow-open", WIRE_READ);
    expect_slow("stuck", 1);
    fuse_server_abort(&fs);
    asker_wait(a);
    assert_true(a->error == ENOTCONN || a->error == ECONNABORTED || a->error == EIO);
    expect_asker(a, a->error, 0, TIMED_OUT_MAX_MS);
    expect_recovered();
    expect_asker(asker_begin(ALICE, "fuse/fast", WIRE_READ), ENOTCONN, 0, TIMED_OUT_MIN_MS);
    others_end(bob);
    expect_timeouts(1);
    finish();
}

/* ---- clients ---- */

static void test_killed_client(void **state)
{
    (void)state;
    begin(config);
    pid_t bob = others_begin();
    struct asker *a = asker_begin(ALICE, "fuse/slow-open", WIRE_READ);
    assert_int_equal(kill(a->client, SIGKILL), 0);
    assert_int_equal(child_wait(a->pid), 128 + SIGKILL);
    a->pid = 0;
    expect_served(ALICE, "fuse/fast", "fast\n");
    WAIT_FOR(audit_count(&b, "/fuse/slow-open\"", NULL) == 1);
    assert_int_equal(audit_count(&b, "/fuse/slow-open\"", NULL), 1);
    others_end(bob);
    finish();
}

/* In order. */
static void ask_in_advance(struct client_env *env)
{
    const char *slow[] = { at(env->broker, "fuse/slow-open") };
    const char *fast[] = { at(env->broker, "pub/a") };
    int sock = connect_patiently(env->broker);
    const char *both[] = { fast[0], slow[0] };
    send_open(sock, 0, both, 2); /* each has its own answer */
    expect_reply(sock, 0, (int[]){ 0, ETIMEDOUT }, 2);
    send_open(sock, 1, slow, 1);
    send_open(sock, 2, fast, 1);
    expect_reply(sock, 1, (int[]){ ETIMEDOUT }, 1);
    expect_reply(sock, 2, (int[]){ 0 }, 1);
    send_open(sock, 3, slow, 1);
    send_open(sock, 4, fast, 1);
    expect_reply(sock, 3, (int[]){ ETIMEDOUT }, 1);
    expect_reply(sock, 4, (int[]){ 0 }, 1);
}

static void test_pipelined(void **state)
{
    (void)state;
    begin(config);
    pid_t bob = others_begin();
    as_user(&b, ALICE, ask_in_advance, NULL);
    others_end(bob);
    expect_timeouts(3);
    finish();
}

/* ---- leases ---- */

static void hold_lease(struct client_env *env)
{
    struct asker *a = env->data;
    signal(SIGIO, SIG_IGN);
    int fd = open(a->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    CHECK(fd >= 0);
    a->error = fcntl(fd, F_SETLEASE, F_WRLCK) < 0 ? errno : 0;
    a->answered = true;
    for (int ms = 0; ms < 10000 && !a->may_end; ms++)
        usleep(1000);
}

static void test_lease(void **state)
{
    (void)state;
    broker_prepare(&b);
    broker_start(&b, WITHOUT_FUSE, config);
    struct asker *holder = begin_client(ALICE, hold_lease, "al/leased", 0);
    asker_wait(holder);
    if (holder->error) {
        print_message("skipped: no leases here: %s\n", strerror(holder->error));
        skip();
    }
    pid_t bob = others_begin();
    struct asker *a = begin_client(BOB, ask, "al/leased", WIRE_READ);
    asker_wait(a);
    expect_asker(a, a->error == ETIMEDOUT ? ETIMEDOUT : EAGAIN, 0, TIMED_OUT_MAX_MS);
    others_end(bob);
    asker_end(holder);
    expect_asker(begin_client(BOB, ask, "al/leased", WIRE_READ), 0, 0, TIMED_OUT_MIN_MS);
    broker_finish(&b);
    memset(&b, 0, sizeof b);
}

#define TEST(name) cmocka_unit_test_teardown(name, clean_up)

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        TEST(test_server),
        TEST(test_served),
        TEST(test_list),
        TEST(test_81_hung),
        TEST(test_81_behind_a_link),
        TEST(test_81_three_at_once),
        TEST(test_82_hung_close),
        TEST(test_budget_of_a_user),
        TEST(test_budget_of_all),
        TEST(test_reload_meanwhile),
        TEST(test_reload_that_denies),
        TEST(test_reload_with_a_hung_root),
        TEST(test_stop_meanwhile),
        TEST(test_83_abort),
        TEST(test_killed_client),
        TEST(test_pipelined),
        TEST(test_lease),
    };
    return cmocka_run_group_tests_name("slow", tests, set_up_all, NULL);
}
