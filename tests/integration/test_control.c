/*
 * The control socket of a real broker: what is no request, too many at once, explanations, who may.
 */
#include "control_client.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "../../common/sock.h"
#include "../../common/util.h"

enum { SLOTS = 16 };

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n"
                             "deny user:2001 read @/pub/b id=keep-out\n";

static void test_the_check(void **state)
{
    (void)state;
    static const char *const good[] = { "{}\n", "[0,-1.5e+3,\"\\u00e9\\n\",null,{\"a\":[]}]\n" };
    static const char *const bad[] = { "{}",      "{}{}\n",    "[1,]\n",    "{\"a\"}\n",  "{\"a\":1,}\n",
                                       "[01]\n",  "[1\n",      "\"\\x\"\n", "[\"\n\"]\n", "\"\xff\"\n",
                                       "[nul]\n", "[.5]\n",    "[1.]\n",    "[1e]\n",     "{1:2}\n",
                                       "[1 ]\n",  "[\"\\u1]\n" };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(is_json(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (is_json(bad[i]))
            fail_msg("taken for JSON: %s", bad[i]);
}

/* ---- requests that are none ---- */

static void expect_refused(const struct broker *b, const void *bytes, size_t len, const char *why)
{
    int status = control_end(control_send(b, bytes, len), AT_ONCE_MS);
    if (status != 1 || !strstr(said, why))
        fail_msg("%zu bytes: %d, %s", len, status, said);
}

static void test_bad_requests(void **state)
{
    (void)state;
    struct broker b;
    static char big[CONTROL_REQUEST_MAX * 4];
    const char *unknown = "this request is not known here", *bad = "a request that is not well-formed";
    broker_begin(&b, policy);
    expect_refused(&b, "status\0json", 11, bad); /* no NUL at the end */
    expect_refused(&b, "\xff\xfe{garbage}\n", 12, bad);
    expect_refused(&b, "a\0b\0c\0d\0e\0f\0g\0h\0i", 18, bad); /* one word too many */
    expect_refused(&b, "a\0b\0c\0d\0e\0f\0g\0h", 16, unknown);
    expect_refused(&b, "watch\0x", 8, unknown);
    expect_refused(&b, "reload\0now", 11, unknown);
    expect_refused(&b, "status", 7, unknown);
    expect_refused(&b, "", 1, unknown);
    expect_refused(&b, "status\0nonsense", 16, "");
    memset(big, 'x', sizeof big);
    expect_refused(&b, big, CONTROL_REQUEST_MAX, bad);
    expect_refused(&b, big, CONTROL_REQUEST_MAX + 1, bad);
    expect_refused(&b, big, sizeof big, bad);
    big[CONTROL_REQUEST_MAX - 1] = '\0';
    expect_refused(&b, big, CONTROL_REQUEST_MAX, unknown);
    expect_refused(&b, big, CONTROL_REQUEST_MAX + 1, bad);
    memset(big, 0, sizeof big);
    expect_refused(&b, big, CONTROL_REQUEST_MAX, bad);
    assert_int_equal(control_end(control_send(&b, "", 0), AT_ONCE_MS), -1); /* as good as an end */
    close(control_send(&b, "status\0json", 12));                            /* goes before the answer */
    close(control_send(&b, "reload", 7));
    close(control_send(&b, NULL, 0));
    expect_answered_at_once(&b);
    WAIT_FOR(strstr(status_json(&b), "\"generation\":2,"));
    broker_finish(&b);
}

/* ---- more than are served ---- */

static void expect_the_17th_waits(const struct broker *b, bool at_once)
{
    int socks[SLOTS];
    if (at_once)
        assert_int_equal(kill(b->pid, SIGSTOP), 0); /* so that it finds all of them */
    for (int i = 0; i < SLOTS; i++) {
        socks[i] = control_send(b, NULL, 0);
        usleep(at_once ? 0 : 10000);
    }
    int late = control_send(b, "status\0json", 12);
    assert_int_equal(kill(b->pid, SIGCONT), 0);
    struct pollfd polled = { .fd = late, .events = POLLIN };
    assert_int_equal(poll(&polled, 1, 300), 0);
    for (int i = 0; i < SLOTS; i += 2) { /* they are served meanwhile */
        assert_int_equal(send(socks[i], "status\0openmetrics", 19, MSG_NOSIGNAL), 19);
        assert_int_equal(control_end(socks[i], AT_ONCE_MS), 0);
        if (i == 0) {
            assert_int_equal(control_end(late, AT_ONCE_MS), 0);
            assert_true(is_json(said));
        }
    }
    for (int i = 1; i < SLOTS; i += 2)
        close(socks[i]);
    expect_answered_at_once(b);
}

static void test_17_one_by_one(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    expect_the_17th_waits(&b, false);
    broker_finish(&b);
}

static void test_17_at_once(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    expect_the_17th_waits(&b, true);
    broker_finish(&b);
}

/* ---- explain ---- */

static int explain(const struct broker *b, const char *subject, const char *rights, const char *path)
{
    char words[512];
    int len = snprintf(words, sizeof words, "explain%c%s%c%s%c%s%c", 0, subject, 0, rights, 0, path, 0);
    return control_end(control_send(b, words, (size_t)len), AT_ONCE_MS);
}

static void test_explain(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    assert_int_equal(explain(&b, "user:2001", "read", at(&b, "pub/a")), 0);
    assert_non_null(strstr(said, "allowed by test.policy:1: allow user:2001,user:2002 read,list "));
    assert_int_equal(explain(&b, "user:2001", "read", at(&b, "pub/b")), 1);
    assert_non_null(strstr(said, "refused by test.policy:2 (keep-out): deny user:2001 read "));
    assert_non_null(strstr(said, "also matched:\n    test.policy:1: "));
    assert_int_equal(explain(&b, "user:2003", "read", at(&b, "pub/a")), 1);
    assert_non_null(strstr(said, "refused: no rule allows it\n"));
    assert_int_equal(explain(&b, "user:no-such-user", "read", "/x"), 2);
    assert_non_null(strstr(said, "unknown user `no-such-user`"));
    assert_int_equal(explain(&b, "user:2001", "\x1b[2J", "/x"), 2);
    assert_non_null(strstr(said, "`\\x1b[2J`: no rights"));
    assert_int_equal(explain(&b, "user:2001", "read", "../x"), 2);
    assert_int_equal(explain(&b, "", "", ""), 2);
    /* of the policy in force, not of what is on disk */
    broker_write_policy(&b, "# nothing\n");
    assert_int_equal(explain(&b, "user:2001", "read", at(&b, "pub/a")), 0);
    assert_int_equal(ASK(&b, "reload\0"), 0);
    assert_int_equal(explain(&b, "user:2001", "read", at(&b, "pub/a")), 1);
    assert_non_null(strstr(said, "no allow rule comes near\n"));
    broker_write_policy(&b, policy);
    assert_int_equal(ASK(&b, "reload\0"), 0);
    broker_finish(&b);
}

/* ---- who may ---- */

static void knock(struct client_env *env)
{
    CHECK_EQ(sock_connect(at(env->broker, "sock.control"), SOCK_SEQPACKET), -EACCES);
}

static void ask_by_open_door(struct client_env *env)
{
    static const char *const words[] = { "status\0json\0", "status\0text\0", "watch\0", "reload\0",
                                         "explain\0any\0read\0/x\0" };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        CHECK_EQ(ASK(env->broker, words[i]), 1);
        CHECK(strcmp(said, "fobd: Permission denied (root, or the control-group of fobd.conf(5))\n") == 0);
    }
    CHECK_EQ(ASK(env->broker, "x\0x\0x\0x\0x\0x\0x\0x\0x\0"), 1);
}

static void test_wrong_uid(void **state)
{
    (void)state;
    struct broker b;
    struct stat st;
    broker_begin(&b, policy);
    assert_int_equal(stat(at(&b, "sock.control"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    as_user(&b, ALICE, knock, NULL);
    assert_int_equal(chmod(at(&b, "sock.control"), 0666), 0);
    as_user(&b, ALICE, ask_by_open_door, NULL);
    assert_non_null(strstr(status_json(&b), "\"generation\":1,"));
    assert_true(file_read(at(&b, "fobd.log"), said, sizeof said) > 0);
    assert_non_null(strstr(said, "control socket: uid 2001, pid "));
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_check),     cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_17_one_by_one), cmocka_unit_test(test_17_at_once),
        cmocka_unit_test(test_explain),       cmocka_unit_test(test_wrong_uid),
    };
    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
