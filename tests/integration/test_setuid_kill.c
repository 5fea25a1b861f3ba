/*
 * Started with more rights than its caller has, and killed or stopped by that caller at every moment of its
 * start (threats.md, 120): nothing is left half done, and once it serves it is out of the caller's reach.
 */
#include "setuid_place.h"

#include <poll.h>

enum {
#ifdef FOB_SANITIZE
    KILLS = 100,
    STOPS = 30,
#else
    KILLS = 300,
    STOPS = 60,
#endif
};

static unsigned times; /* to be tried */

/* Asks for a file at once, and kills it `us` later. True: it was done for. */
static bool kill_after(int number, int us, unsigned file)
{
    const struct spawn how = elevated(SOCK_STREAM);
    struct spawned s = spawn(&b, &how);
    char name[32];
    uint8_t out[512];
    int fd, error = -1;
    snprintf(name, sizeof name, "priv/made/%u", file);
    size_t len = encode_open(out, sizeof out, at(&b, name), WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE, 0640);
    put(s.sock, out, len);
    usleep((useconds_t)us);
    int killed = kill(s.pid, number);
    CHECK(killed == 0 || errno == EPERM);
    if (number == SIGSTOP && killed == 0) { /* in the middle of its start; then it goes on */
        usleep(2000);
        kill(s.pid, SIGCONT);
    }
    error = receive_native(s.sock, &fd);
    struct stat st;
    if (error == 0) {
        CHECK_EQ(fstat(fd, &st), 0);
        CHECK_EQ(st.st_mode, S_IFREG | 0640);
        CHECK_EQ(st.st_uid, ALICE);
        close(fd);
    }
    int status = spawn_end(&s);
    CHECK_EQ(error, status == 0 ? 0 : -1);
    CHECK(status == 0 || status == 128 + SIGKILL);
    return killed == 0 && number == SIGKILL;
}

static void kill_at_random(struct client_env *env)
{
    const int number = *(const int *)env->data;
    unsigned seed = (unsigned)now_us(), killed = 0, span = 4000;
    for (unsigned i = 0; i < times; i++) {
        bool early = kill_after(number, (int)(rand_r(&seed) % span), i);
        killed += early;
        if (early && span < 50000)
            span += span / 16; /* the moments that matter are about that of its last deed as the caller's */
        else if (!early && span > 400)
            span -= span / 16;
    }
    if (number == SIGKILL)
        print_message("killed %u of %u times, before it was root\n", killed, times);
    CHECK(number != SIGKILL || (killed > 0 && killed < times));
}

static int files, strange;

static int look_at_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path, (void)ftw;
    files += type == FTW_F;
    strange += type == FTW_F && (st->st_uid != ALICE || (st->st_mode & 07777) != 0640);
    return 0;
}

static void expect_whole_files(void)
{
    files = strange = 0;
    assert_int_equal(nftw(at(&b, "priv/made"), look_at_file, 8, FTW_PHYS), 0);
    assert_int_equal(strange, 0);
    assert_int_equal(opens_recorded(NULL), files);
}

static void test_120_killed(void **state)
{
    (void)state;
    int number = SIGKILL;
    times = place_installed == PLACE_SETUID ? KILLS : STOPS;
    as_user(&b, ALICE, kill_at_random, &number);
    expect_whole_files();
}

static void test_120_stopped(void **state)
{
    (void)state;
    int number = SIGSTOP;
    times = STOPS;
    as_user(&b, ALICE, kill_at_random, &number);
    expect_whole_files();
    assert_int_equal(files, STOPS);
}

/* ---- 123: the keys of its caller's terminal, at every moment ---- */

static void lead_group(void *none)
{
    (void)none;
    for (int number = SIGHUP; number <= SIGTTOU; number++)
        signal(number, SIG_DFL);
    setpgid(0, 0);
}

/* As kill_after(). */
static bool create_under_keys(unsigned file)
{
    const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, file % 2 ? lead_group : NULL, NULL };
    struct spawned s = spawn(&b, &how);
    char name[32];
    uint8_t out[512];
    int fd = -1, error = -1;
    stage->pid = s.pid;
    snprintf(name, sizeof name, "priv/made/%u", file);
    size_t len = encode_open(out, sizeof out, at(&b, name), WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE, 0640);
    if (send(s.sock, out, len, MSG_NOSIGNAL) == (ssize_t)len) {
        struct pollfd polled = { .fd = s.sock, .events = POLLIN };
        while (poll(&polled, 1, 5) == 0)
            kill(s.pid, SIGCONT); /* it may have been stopped before it was root */
        error = receive_native(s.sock, &fd);
    }
    fd_close(fd);
    close(s.sock);
    for (int64_t begin = now_us(); now_us() - begin < PATIENCE_MS * 1000;) {
        int status = wait_child(&s.pid, 5);
        kill(s.pid, SIGCONT);
        if (status < 0)
            continue;
        CHECK_EQ(error == 0, status == 0);
        return error == 0;
    }
    CHECK(false);
    return false;
}

static void press_keys_at_random(struct client_env *env)
{
    (void)env;
    int master = make_terminal(), served = 0;
    stage->pid = getpid();
    pid_t tormentor = torment(master, &stage->pid);
    stage->status = tormentor;
    for (unsigned i = 0; i < STOPS; i++)
        served += create_under_keys(i);
    kill(tormentor, SIGKILL);
    CHECK_EQ(status_at_end(tormentor), 128 + SIGKILL);
    fprintf(stderr, "served %d of %d times under keys\n", served, STOPS);
}

static void test_123_keys_at_random(void **state)
{
    (void)state;
#ifdef FOB_SANITIZE
    print_message("skipped: with a sanitizer it starts so slowly that the keys come before main()\n");
    skip();
#endif
    as_user(&b, ALICE, press_keys_at_random, NULL);
    expect_whole_files();
    assert_false(says(&b, "killed by signal"));
}

/* ---- afterwards ---- */

/* Once it serves, its caller cannot signal any of its processes. */
static void signal_all(struct client_env *env)
{
    (void)env;
    const struct spawn how = elevated(SOCK_STREAM);
    struct spawned s = spawn(&b, &how);
    expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
    stage->pid = s.pid;
    stage->step = 1;
    stage_wait(2);
    for (int number = 0; number < NSIG; number++) {
        CHECK(kill(s.pid, number) < 0 && errno == EPERM);
        CHECK(kill(stage->status, number) < 0 && errno == EPERM); /* a worker */
        CHECK(number == 0 || kill(-getpgrp(), 0) == 0);
    }
    CHECK(getsid(s.pid) != getsid(0));
    CHECK(getpgid(s.pid) != getpgrp()); /* nor with a signal to the group */
    expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
    CHECK_EQ(spawn_end(&s), 0);
}

static void test_120_not_once_it_serves(void **state)
{
    (void)state;
    pid_t client = client_begin(&b, ALICE, signal_all, NULL), worker = 0;
    stage_wait(1);
    b.pid = stage->pid;
    assert_int_equal(broker_workers(&b, &worker, 1), 1);
    b.pid = 0;
    stage->status = worker;
    stage->step = 2;
    assert_int_equal(child_wait(client), 0);
}

int main(void)
{
    RUN_IN_PLACE();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_120_killed, place_reset),
        cmocka_unit_test_setup(test_120_stopped, place_reset),
        cmocka_unit_test_setup(test_123_keys_at_random, place_reset),
        cmocka_unit_test_setup(test_120_not_once_it_serves, place_reset),
    };
    int failed = cmocka_run_group_tests_name("setuid killed", tests, place_install_next, NULL);
    failed += cmocka_run_group_tests_name("killed with file capabilities", tests, place_install_next, NULL);
    place_end();
    return failed;
}
