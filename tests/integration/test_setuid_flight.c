/*
 * The kernel counts descriptors that were sent and not taken by the uid of the sender (unix(7)). Those of the
 * brokers that one user starts must not use up what the system's broker may send to others.
 */
#include "setuid_daemon.h"

#include <poll.h>
#include <sys/resource.h>

enum { BROKERS = 8, BATCH = 253 };

/* Each is asked for as much as one message may have, and nothing is taken. */
static void take_nothing(struct client_env *env)
{
    (void)env;
    static uint8_t out[WIRE_MAX_MESSAGE];
    static struct spawned s[BROKERS];
    const char *paths[BATCH];
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(&b, "pub/a"));
    for (int i = 0; i < BATCH; i++)
        paths[i] = path;
    size_t len = native_batch(out, sizeof out, WIRE_OPEN, 42, WIRE_READ, paths, BATCH);
    for (int i = 0; i < BROKERS; i++) {
        const struct spawn how = elevated(SOCK_SEQPACKET);
        s[i] = spawn(&b, &how);
        put(s[i].sock, out, len);
    }
    for (int i = 0; i < BROKERS; i++) {
        struct pollfd polled = { .fd = s[i].sock, .events = POLLIN };
        CHECK_EQ(poll(&polled, 1, PATIENCE_MS), 1); /* all is on its way, or refused */
    }
    stage->step = 1;
    stage_wait(2);
    for (int i = 0; i < BROKERS; i++)
        close(s[i].sock);
    expect_no_children();
}

static void have_usual_limit(void)
{
    const struct rlimit limit = { 1024, 1024 };
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void test_descriptors_of_many_brokers(void **state)
{
    (void)state;
    const struct start start = { have_usual_limit, 0 };
    begin_daemon(&start);
    as_user(&b, BOB, expect_daemon, NULL);
    pid_t client = client_begin(&b, ALICE, take_nothing, NULL);
    stage_wait(1);
    assert_int_equal(stage->step, 1);
    as_user(&b, BOB, expect_daemon, NULL);
    stage->step = 2;
    assert_int_equal(child_wait(client), 0);
    stop_daemon();
}

int main(void)
{
    RUN_IN_PLACE();
    daemon_prepare();
    const struct CMUnitTest tests[] = { DAEMON(test_descriptors_of_many_brokers) };
    int failed = cmocka_run_group_tests_name("setuid descriptors in flight", tests, place_install_next, NULL);
    place_end();
    return failed;
}
