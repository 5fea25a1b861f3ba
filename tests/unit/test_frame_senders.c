/*
 * Requests on a stream of one sender or of two, with descriptors, handed over, without memory; and replies.
 *
 * Link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=recvmsg
 */
#include "../../broker/frame.h"

#include "faults.h"
#include "frame_pair.h"

/* ---- who sent it ---- */

/* Of another uid (as root), or another process of the same: neither is who asked. */
static void test_two_senders_of_one_request(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    const uid_t uids[] = { 0, geteuid() == 0 ? ALICE : 0 };
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        for (size_t cut = 1; cut < s[1].len; cut++)
            for (int way = 0; way < 4; way++) {
                const struct sample *one = &s[1];
                bool other_first = way & 1, at_once = way & 2;
                pair_begin();
                if (other_first)
                    send_as_other(uids[cut % 2], one->bytes, cut);
                else
                    send_bytes(one->bytes, cut);
                if (!at_once)
                    expect_nothing();
                if (other_first)
                    send_bytes(one->bytes + cut, one->len - cut);
                else
                    send_as_other(uids[cut % 2], one->bytes + cut, one->len - cut);
                assert_int_equal(receive(), 1);
                expect_sample(one, 0);
                send_bytes(s[0].bytes, s[0].len);
                expect_whole(&s[0]);
                pair_end();
            }
    }
}

/* A byte of somebody else's anywhere in between. */
static void test_a_foreign_byte(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        for (size_t i = 0; i < s[1].len; i++) {
            pair_begin();
            if (i)
                send_bytes(s[1].bytes, i);
            send_as_other(0, s[1].bytes + i, 1);
            if (i + 1 < s[1].len)
                send_bytes(s[1].bytes + i + 1, s[1].len - i - 1);
            assert_int_equal(receive(), 1);
            expect_sample(&s[1], 0);
            pair_end();
        }
    }
}

/* One process, of another uid or gid from some byte on. */
static void test_a_sender_that_changes(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    const struct ucred others[] = { { getpid(), ALICE, getegid() }, { getpid(), geteuid(), ALICE } };
    if (geteuid() != 0) {
        print_message("skipped: needs root\n");
        skip();
    }
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
            pair_begin();
            send_bytes(s[1].bytes, 7);
            assert_int_equal(msg_send(client, s[1].bytes + 7, s[1].len - 7, NULL, 0, &others[i], 0), 0);
            assert_int_equal(receive(), 1);
            expect_sample(&s[1], 0);
            pair_end();
        }
    }
}

/* Whole requests of two senders, one after the other: each has its own. */
static void test_senders_in_turn(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        pair_begin();
        send_bytes(s[0].bytes, s[0].len);
        pid_t other = send_as_other(0, s[1].bytes, s[1].len);
        send_bytes(s[2].bytes, s[2].len);
        expect_whole(&s[0]);
        assert_int_equal(receive(), 1);
        expect_sample(&s[1], other);
        expect_whole(&s[2]);
        expect_nothing();
        pair_end();
    }
}

/* The end of a request that is too long counts as the rest of it. */
static void test_two_senders_of_a_long_request(void **state)
{
    (void)state;
    static uint8_t bytes[20000];
    memset(bytes, 'o', sizeof bytes);
    pair_begin();
    send_bytes(bytes, sizeof bytes);
    expect_nothing();
    send_as_other(0, "", 1);
    assert_int_equal(receive(), 1);
    assert_int_equal(got_sender.pid, 0);
    pair_end();
}

/*
 * What came without credentials, or from who has none here (pid 0, uid and gid 65534), is nobody's: only
 * where there is but one client, who started the broker, it is that one's.
 */
static void test_unsaid_beginning(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    for (int single = 0; single < 2; single++)
        for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++)
            for (int way = 0; way < 2; way++) {
                both_protocols[p](s);
                setup.single = single;
                pair_begin();
                assert_int_equal(
                    setsockopt(connection->fd, SOL_SOCKET, SO_PASSCRED, &(int){ 0 }, sizeof(int)), 0);
                send_bytes(s[1].bytes, 5);
                assert_int_equal(sock_set_receive_options(connection->fd), 0);
                if (way)
                    expect_nothing();
                send_bytes(s[1].bytes + 5, s[1].len - 5);
                assert_int_equal(receive(), 1);
                expect_sample(&s[1], single ? getpid() : 0);
                pair_end();
            }
}

/* ---- descriptors for the broker ---- */

/* As before Linux 6.16, where the kernel does not refuse them to their sender. */
static void test_descriptors(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    int fds[MSG_MAX_FDS];
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = STDERR_FILENO;
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        for (size_t cut = 0; cut < s[1].len; cut++) {
            int open = fd_count();
            pair_begin_with(SOCK_STREAM, FRAME_FRESH, false);
            if (cut)
                send_bytes(s[1].bytes, cut);
            assert_int_equal(
                msg_send(client, s[1].bytes + cut, s[1].len - cut, fds, cut % 2 ? 1 : MSG_MAX_FDS, NULL, 0),
                0);
            assert_int_equal(receive(), -EPROTO);
            pair_end();
            assert_int_equal(fd_count(), open);
        }
    }
}

/* ---- handed over ---- */

static void test_resumed(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        for (size_t cut = 1; cut < s[1].len; cut++)
            for (int foreign = 0; foreign < 2; foreign++) {
                struct ucred sender = { getpid() + foreign, geteuid(), getegid() };
                pair_begin_with(SOCK_STREAM, s[1].kind, true);
                memcpy(worker->in, s[1].bytes, cut);
                frame_resume(worker, connection, cut, &sender);
                memset(worker->in, 0xff, sizeof worker->in);
                expect_nothing();
                send_bytes(s[1].bytes + cut, s[1].len - cut);
                assert_int_equal(receive(), 1);
                expect_sample(&s[1], foreign ? 0 : getpid());
                pair_end();
            }
    }
}

/* ---- replies ---- */

static void expect_sent(const void *bytes, size_t len, size_t n_fds)
{
    static uint8_t got[WIRE_MAX_MESSAGE];
    static struct msg_in in;
    assert_int_equal(msg_recv(client, got, sizeof got, MSG_DONTWAIT, &in), 1);
    assert_int_equal(in.len, len);
    assert_int_equal(in.n_fds, n_fds);
    assert_memory_equal(got, bytes, len);
    fd_close_many(in.fds, in.n_fds);
    assert_int_equal(recv(client, got, 1, MSG_DONTWAIT), -1);
}

static void test_replies(void **state)
{
    (void)state;
    static const char refused[] = "can't open /a b: Permission denied\n\0\x0d";
    struct exchange *exchange = &worker->exchanges[0];
    const int fds[] = { STDERR_FILENO, STDERR_FILENO };
    pair_begin();
    connection->kind = FRAME_NATIVE;
    memcpy(worker->out, "FOB1 reply", 10);
    assert_int_equal(frame_send(worker, connection, 10, fds, 2), 0);
    expect_sent("FOB1 reply", 10, 2);
    assert_int_equal(frame_send(worker, connection, 10, NULL, 0), 0);
    expect_sent("FOB1 reply", 10, 0);
    connection->kind = FRAME_APUE;
    assert_int_equal(frame_send(worker, connection, 10, fds, 1), 0);
    expect_sent("\0", 2, 1);
    exchange->entry = (struct wire_entry){ .path = "/a bcd", .path_len = 4 };
    exchange->result = (struct opener_result){ .error = EACCES, .fd = -1 };
    assert_int_equal(frame_send(worker, connection, 10, NULL, 0), 0);
    expect_sent(refused, sizeof refused - 1, 0);
    exchange->entry = (struct wire_entry){ .error = EINVAL };
    exchange->result.error = EINVAL;
    assert_int_equal(frame_send(worker, connection, 10, NULL, 0), 0);
    expect_sent("usage: <pathname> <oflag>\n\0\x16", 28, 0);
    pair_end();
}

/* Nobody is waited for. */
static void test_replies_to_nobody(void **state)
{
    (void)state;
    struct exchange *exchange = &worker->exchanges[0];
    exchange->entry = (struct wire_entry){ .path = "/a", .path_len = 2 };
    exchange->result = (struct opener_result){ .error = EACCES, .fd = -1 };
    for (int apue = 0; apue < 2; apue++) {
        int err = 0;
        pair_begin();
        connection->kind = apue ? FRAME_APUE : FRAME_NATIVE;
        for (int i = 0; i < 10000 && err == 0; i++)
            err = frame_send(worker, connection, 1000, NULL, 0);
        assert_true(err == -EAGAIN || err == -ENOBUFS);
        client = fd_close(client);
        assert_int_equal(frame_send(worker, connection, 1000, NULL, 0), -EPIPE);
        pair_end();
    }
}

/* ---- without memory ---- */

/* Every call fails once: the request is received all the same, or its connection is to be closed. */
static void test_failures(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    unsigned failed = 0;
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        FAULTS_EACH(round, n)
        {
            int got = -EAGAIN;
            pair_begin();
            for (size_t at = 0; at < s[1].len && got == -EAGAIN; at += 9) {
                send_bytes(s[1].bytes + at, s[1].len - at < 9 ? s[1].len - at : 9);
                at == 0 ? faults_begin(n, round) : faults_resume();
                got = receive();
                faults_pause();
            }
            faults_resume();
            if (got == -EAGAIN) /* what failed was the last one */
                got = receive();
            faults_end();
            failed += got != 1;
            if (got == 1)
                expect_sample(&s[1], getpid());
            else
                assert_true(faults_failed() && got < 0 && got != -EAGAIN);
            pair_end();
        }
    }
    assert_true(failed >= 8);
}

/* The connection is closed, and its client sees it. */
static void test_resumed_without_memory(void **state)
{
    (void)state;
    char byte;
    pair_begin_with(SOCK_STREAM, FRAME_NATIVE, true);
    memcpy(worker->in, "FOB1", 4);
    faults_begin(1, 0);
    frame_resume(worker, connection, 4, &(struct ucred){ getpid(), geteuid(), getegid() });
    faults_end();
    assert_non_null(faults_failed());
    assert_null(worker->connections);
    connection = NULL;
    assert_int_equal(recv(client, &byte, 1, MSG_DONTWAIT), 0);
    client = fd_close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_two_senders_of_one_request),
        TEST(test_a_foreign_byte),
        TEST(test_a_sender_that_changes),
        TEST(test_senders_in_turn),
        TEST(test_two_senders_of_a_long_request),
        TEST(test_unsaid_beginning),
        TEST(test_descriptors),
        TEST(test_resumed),
        TEST(test_replies),
        TEST(test_replies_to_nobody),
        TEST(test_failures),
        TEST(test_resumed_without_memory),
    };
    return cmocka_run_group_tests_name("frame: senders", tests, group_setup, group_teardown);
}
