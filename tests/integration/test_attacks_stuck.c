/*
 * threats.md, 84: the client of an open that hangs. The process that hangs has its connection too, and cannot
 * be killed; the client is not to wait for that one.
 */
#define FUSE_SERVER_CLIENTS
#include "fuse_server.h"

/* The worker is killed; the client must see the end of its connection, though the slow opener has it still.
 */
static void test_84_worker_dies(void **state)
{
    (void)state;
    pid_t worker;
    begin("workers 1\nopen-timeout 1\nslow-openers 16\n");
    struct asker *a = asker_begin(ALICE, "fuse/slow-open", WIRE_READ);
    assert_int_equal(fuse_server_hung(&fs), 1);
    assert_int_equal(broker_workers(&b, &worker, 1), 1);
    kill(worker, SIGKILL);
    asker_wait(a);
    assert_true(a->error == -1 || a->error == ETIMEDOUT);
    assert_in_range(a->ms, 0, TIMED_OUT_MAX_MS);
    asker_end(a);
    WAIT_FOR(broker_workers(&b, &worker, 1) == 1);
    expect_served(BOB, "pub/a", "pub a\n");
    expect_served(ALICE, "fuse/fast", "fast\n");
    b.uncounted = true; /* who was to write its record has gone */
    finish();
}

/* ETIMEDOUT comes on the same connection, and what hangs says nothing on it when it hangs no more. */
static void ask_again_and_again(struct client_env *env)
{
    const char *slow[] = { at(env->broker, "fuse/slow-open") };
    const char *fast[] = { at(env->broker, "pub/a") };
    int sock = connect_patiently(env->broker);
    send_open(sock, 1, slow, 1);
    expect_reply(sock, 1, (int[]){ ETIMEDOUT }, 1);
    send_open(sock, 2, fast, 1);
    expect_reply(sock, 2, (int[]){ 0 }, 1);
    CHECK_EQ(fuse_server_release(&fs), 0);
    usleep(300000);
    char byte;
    CHECK_EQ(recv(sock, &byte, 1, MSG_DONTWAIT), -1);
    CHECK_EQ(errno, EAGAIN);
    send_open(sock, 3, fast, 1);
    expect_reply(sock, 3, (int[]){ 0 }, 1);
}

static void test_84_late_answer_is_not_sent(void **state)
{
    (void)state;
    begin(config);
    as_user(&b, ALICE, ask_again_and_again, NULL);
    expect_timeouts(1);
    finish();
}

/* It hangs up in each of its ways while its open hangs; nothing of it stays but the process that hangs. */
static void hang_up(struct client_env *env)
{
    const struct asker *a = env->data;
    const char *slow[] = { a->path };
    for (int i = 0; i < 3; i++) {
        int sock = connect_patiently(env->broker);
        send_open(sock, 1, slow, 1);
        usleep(100000);
        if (i == 1)
            shutdown(sock, SHUT_RD);
        if (i == 2)
            shutdown(sock, SHUT_RDWR);
        close(sock);
    }
}

static void test_84_client_hangs_up(void **state)
{
    (void)state;
    begin(config);
    struct asker a;
    snprintf(a.path, sizeof a.path, "%s", at(&b, "fuse/slow-open"));
    pid_t bob = others_begin();
    as_user(&b, ALICE, hang_up, &a);
    expect_served(ALICE, "fuse/fast", "fast\n");
    reload(policy); /* what hangs is of the generation before */
    expect_timeout(asker_begin(ALICE, "fuse/slow-lookup", WIRE_READ));
    WAIT_FOR(audit_count(&b, "/fuse/slow-open\"", NULL) == 3);
    assert_int_equal(audit_count(&b, "/fuse/slow-open\"", "\"uid\":2001,"), 3);
    others_end(bob);
    finish();
}

#define TEST(name) cmocka_unit_test_teardown(name, clean_up)

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        TEST(test_84_worker_dies),
        TEST(test_84_late_answer_is_not_sent),
        TEST(test_84_client_hangs_up),
    };
    return cmocka_run_group_tests_name("attacks_stuck", tests, set_up_all, NULL);
}
