/*
 * fobctl watch against a real broker: decisions reach who watches, and no admin who is slow or silent is a
 * burden to the others.
 */
#include "control_client.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#ifdef FOB_SANITIZE
enum { RULES = 5000, MORE_KIB = 16 * 1024 };
#else
enum { RULES = 100000, MORE_KIB = 4 * 1024 };
#endif
enum { PACED = 3000, PATIENCE_MS = 10000, CUT_OFF_MS = 12000 };

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n"
                             "deny user:2001 read @/pub/b id=keep-out\n";

/* ---- what is told ---- */

static void open_a(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL), 0);
}

static void watch_an_open(const struct broker *b)
{
    char path[128];
    int first = begin_watch(b), second = begin_watch(b);
    as_user(b, ALICE, open_a, NULL);
    expect_record(first, "\"uid\":2001,");
    snprintf(path, sizeof path, "\"path\":\"%s\",", at(b, "pub/a"));
    expect_record(second, path);
    close(first);
    as_user(b, ALICE, open_a, NULL);
    expect_record(second, path);
    close(second);
    as_user(b, ALICE, open_a, NULL); /* nobody watches */
    usleep(50000);                   /* a worker tells after it has answered */
    first = begin_watch(b);
    static struct watcher w;
    w = (struct watcher){ 0 };
    assert_true(watch_for(first, &w, 100));
    assert_int_equal(w.records + w.gaps, 0); /* what was before is not told */
    assert_int_equal(ASK(b, "reload\0"), 0);
    as_user(b, ALICE, open_a, NULL);
    expect_record(first, "\"generation\":2,");
    close(first);
}

static void test_watch(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    watch_an_open(&b);
    broker_finish(&b);
}

/* The harness's configuration names an audit file: the broker is stopped and started with none. */
static void begin_without_audit(struct broker *b)
{
    char text[512];
    broker_begin(b, policy);
    assert_int_equal(kill(b->pid, SIGTERM), 0);
    assert_int_equal(child_wait(b->pid), 0);
    snprintf(text, sizeof text, "socket %s/sock\npolicy %s/test.policy\naudit none\nuser %d\nworkers 2\n",
             b->dir, b->dir, WORKER_UID);
    file_write(at(b, "fobd.conf"), text, 0644, 0);
    assert_int_equal(unlink(at(b, "fobd.log")), 0);
    assert_int_equal(unlink(b->audit), 0);
    const char *arguments[] = { "-f", at(b, "fobd.conf"), NULL };
    b->pid = fobd_run(0, at(b, "fobd.log"), arguments);
    b->worker_fds -= 2; /* no file */
    b->uncounted = true;
    WAIT_FOR(file_read(at(b, "fobd.log"), said, sizeof said) > 0 && strstr(said, "serving "));
    assert_non_null(strstr(said, "serving "));
}

static void test_watch_without_audit(void **state)
{
    (void)state;
    struct broker b;
    begin_without_audit(&b);
    watch_an_open(&b);
    assert_int_equal(access(b.audit, F_OK), -1);
    broker_finish(&b);
}

/* ---- watchers that do not keep up ---- */

static long rss_of(const struct broker *b)
{
    return atol(status_of(b->pid, "VmRSS:"));
}

struct load {
    unsigned n;
    useconds_t pause;
    size_t len; /* of the path */
};

static void open_many(struct client_env *env)
{
    const struct load *load = env->data;
    char path[4096];
    int fd, sock = raw_connect(env->broker);
    memset(path, 'x', load->len);
    path[0] = '/';
    path[load->len] = '\0';
    for (size_t i = 200; i < load->len; i += 200)
        path[i] = '/';
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned i = 0; i < load->n; i++) {
        CHECK_EQ(raw_open(sock, path, WIRE_READ, 0, &fd), EACCES);
        if (load->pause)
            usleep(load->pause);
    }
}

static pid_t start_load(const struct broker *b, struct load *load)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(as_user_groups(b, ALICE, ALICE, NULL, 0, open_many, load));
    }
    return pid;
}

/* One does not read: the others get all of it, and he what was kept for him and word of the rest. */
static void test_a_watcher_that_does_not_read(void **state)
{
    (void)state;
    struct broker b;
    static struct watcher reading, stalled;
    struct load load = { .n = PACED, .pause = 500, .len = 500 };
    reading = stalled = (struct watcher){ 0 };
    broker_begin(&b, policy);
    int lazy = begin_watch(&b), eager = begin_watch(&b);
    long rss = rss_of(&b);
    pid_t pid = start_load(&b, &load);
    assert_true(watch_for(eager, &reading, 1000));
    assert_int_equal(child_wait(pid), 0);
    expect_answered_at_once(&b);
    assert_int_equal(reading.records, PACED);
    assert_int_equal(reading.gaps, 0);
    assert_in_range(rss_of(&b), 0, rss + MORE_KIB);
    assert_true(watch_for(lazy, &stalled, 200));
    assert_in_range(stalled.records, 500, PACED - 1);
    assert_true(stalled.gaps > 0);
    as_user(&b, ALICE, open_a, NULL); /* and goes on */
    assert_true(watch_for(lazy, &stalled, 200));
    close(lazy), close(eager);
    broker_finish(&b);
}

/* One reads always, and never enough. */
static void test_a_watcher_that_is_slow(void **state)
{
    (void)state;
    struct broker b;
    static char packet[CONTROL_PACKET_MAX + 1];
    struct load load = { .n = 60000, .pause = 100, .len = 500 };
    size_t sum = 0;
    begin_without_audit(&b);
    int sock = begin_watch(&b);
    long most = 0, rss = rss_of(&b);
    pid_t pid = start_load(&b, &load);
    sleep(1); /* what is kept for him is full */
    for (int64_t end = now_us() + 4000000; now_us() < end; usleep(15000)) {
        ssize_t got = control_packet(sock, packet, 2000);
        assert_true(got > 0);
        sum += (size_t)got;
        most = rss_of(&b) > most ? rss_of(&b) : most;
    }
    printf("%zu KiB read, %ld KiB more memory\n", sum / 1024, most - rss);
    assert_in_range(most, 0, rss + MORE_KIB);
    expect_answered_at_once(&b);
    close(sock);
    kill(pid, SIGKILL);
    child_wait(pid);
    broker_finish(&b);
}

/* ---- those who keep the broker waiting ---- */

static void hit_every_rule(struct client_env *env)
{
    char path[128];
    int fd, sock = raw_connect(env->broker);
    for (int i = 0; i < RULES; i++) {
        snprintf(path, sizeof path, "/many/%d", i);
        CHECK_EQ(raw_ask(sock, WIRE_CHECK, path, strlen(path), WIRE_READ, 0, &fd), EACCES);
    }
}

static void begin_with_many_rules(struct broker *b)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    for (int i = 0; i < RULES; i++)
        fprintf(out, "deny any read /many/%d log=none\n", i);
    fprintf(out, "allow user:2001 read @/pub/**\n");
    fclose(out);
    broker_begin(b, text);
    free(text);
    b->uncounted = true; /* log=none */
    as_user(b, ALICE, hit_every_rule, NULL);
}

/* Nothing comes, and the end after its time. */
static void expect_cut_off(int sock, int64_t begin)
{
    static char packet[CONTROL_PACKET_MAX + 1];
    int64_t left = CUT_OFF_MS - (now_us() - begin) / 1000;
    struct pollfd polled = { .fd = sock, .events = POLLRDHUP };
    assert_int_equal(poll(&polled, 1, left < 0 ? 0 : (int)left), 1);
    assert_in_range(now_us() - begin, (PATIENCE_MS - 1000) * 1000, CUT_OFF_MS * 1000);
    while (control_packet(sock, packet, 0) > 0)
        assert_int_not_equal(*packet, CONTROL_EXIT);
    close(sock);
}

/* All wait at once: who says nothing, who does not read a long answer, who watches and does not read. */
static void test_patience(void **state)
{
    (void)state;
    struct broker b;
    struct load load = { .n = 2000, .pause = 200, .len = 1000 };
    begin_with_many_rules(&b);
    int quiet = begin_watch(&b); /* who has nothing to read is not cut off */
    int silent = control_send(&b, NULL, 0), lazy = begin_watch(&b);
    int64_t begin = now_us();
    int full = control_send(&b, "status\0json", 12);
    as_user(&b, ALICE, open_many, &load);
    expect_answered_at_once(&b);
    static struct watcher w;
    w = (struct watcher){ 0 };
    assert_true(watch_for(quiet, &w, 100));
    as_user(&b, ALICE, open_a, NULL);
    for (int64_t now; now = now_us(), now - begin < 8500000;) {
        expect_answered_at_once(&b);
        assert_true(watch_for(quiet, &w, 100));
    }
    expect_cut_off(silent, begin);
    expect_cut_off(full, begin);
    expect_cut_off(lazy, begin);
    as_user(&b, ALICE, open_a, NULL);
    expect_record(quiet, "pub/a");
    close(quiet);
    expect_answered_at_once(&b);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_watch_without_audit),
        cmocka_unit_test(test_a_watcher_that_does_not_read),
        cmocka_unit_test(test_a_watcher_that_is_slow),
        cmocka_unit_test(test_patience),
    };
    return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
