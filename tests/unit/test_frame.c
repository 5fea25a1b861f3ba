/*
 * Requests on a stream: split and joined in every way, cut, too long; and that no byte of the next one is
 * read.
 */
#include "../../broker/frame.h"

#include "frame_pair.h"

/* ---- split ---- */

static void test_split_at_every_byte(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        for (size_t i = 0; i < SAMPLES; i++)
            for (size_t cut = 1; cut < s[i].len; cut++) {
                pair_begin();
                send_bytes(s[i].bytes, cut);
                expect_nothing();
                assert_non_null(connection->part);
                assert_int_equal(connection->part->len, cut);
                expect_nothing(); /* asked in vain */
                send_bytes(s[i].bytes + cut, s[i].len - cut);
                expect_whole(&s[i]);
                expect_nothing();
                assert_null(connection->part);
                pair_end();
            }
    }
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        pair_begin();
        for (size_t i = 0; i < SAMPLES; i++) {
            for (size_t at = 0; at < s[i].len - 1; at++) {
                send_bytes(s[i].bytes + at, 1);
                expect_nothing();
            }
            send_bytes(s[i].bytes + s[i].len - 1, 1);
            expect_whole(&s[i]);
        }
        pair_end();
    }
}

/* ---- joined ---- */

struct joined {
    size_t len;
    uint8_t bytes[SAMPLES * 256];
};

static void join(struct joined *j, const struct sample s[SAMPLES])
{
    j->len = 0;
    for (size_t i = 0; i < SAMPLES; i++) {
        memcpy(j->bytes + j->len, s[i].bytes, s[i].len);
        j->len += s[i].len;
    }
}

/* Takes those of the samples that have come whole by now; what follows them stays where it was. */
static void take(const struct sample s[SAMPLES], size_t *next, size_t *taken, size_t sent)
{
    while (*next < SAMPLES && *taken + s[*next].len <= sent) {
        expect_whole(&s[*next]);
        *taken += s[(*next)++].len;
        assert_int_equal(left(), sent - *taken);
    }
    expect_nothing();
    assert_int_equal(connection->part ? connection->part->len : 0, sent - *taken);
}

/* All three at once, in two parts, and in three, wherever they are cut. */
static void test_joined_in_every_way(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    static struct joined j;
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        join(&j, s);
        for (size_t a = 1; a <= j.len; a++)
            for (size_t b = a; b <= j.len; b++) {
                const size_t ends[] = { a, b, j.len };
                size_t next = 0, taken = 0, sent = 0;
                pair_begin();
                for (size_t i = 0; i < ARRAY_SIZE(ends); sent = ends[i++]) {
                    if (ends[i] == sent)
                        continue;
                    send_bytes(j.bytes + sent, ends[i] - sent);
                    take(s, &next, &taken, ends[i]);
                }
                assert_int_equal(next, SAMPLES);
                pair_end();
            }
    }
}

/* One after the other, with none read before all are there. */
static void test_many_at_once(void **state)
{
    (void)state;
    enum { TIMES = 500 };
    static struct sample s[SAMPLES];
    static struct joined j;
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        join(&j, s);
        CLEANUP(free_cleanup) uint8_t *all = malloc(TIMES * j.len);
        assert_non_null(all);
        for (size_t i = 0; i < TIMES; i++)
            memcpy(all + i * j.len, j.bytes, j.len);
        pair_begin();
        send_bytes(all, TIMES * j.len);
        size_t total = TIMES * j.len;
        for (size_t i = 0; i < TIMES * SAMPLES; i++) {
            expect_whole(&s[i % SAMPLES]);
            assert_int_equal(left(), total -= s[i % SAMPLES].len);
        }
        expect_nothing();
        pair_end();
    }
}

/* ---- which protocol ---- */

static void test_first_byte(void **state)
{
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        pair_begin();
        expect_nothing();
        assert_int_equal(connection->kind, FRAME_FRESH);
        send_bytes(&(uint8_t){ (uint8_t)byte }, 1);
        expect_nothing();
        assert_int_equal(connection->kind, byte == 'o' ? FRAME_APUE : FRAME_NATIVE);
        pair_end();
    }
}

/* What it is does not change any more. */
static void test_protocol_stays(void **state)
{
    (void)state;
    static struct sample native[SAMPLES], apue[SAMPLES];
    samples_native(native);
    samples_apue(apue);
    pair_begin();
    send_bytes(native[0].bytes, native[0].len);
    send_bytes("open /etc/hosts 0", 18);
    expect_whole(&native[0]);
    assert_int_equal(receive(), -EPROTO);
    pair_end();
    pair_begin();
    send_bytes(apue[0].bytes, apue[0].len);
    send_bytes("FOB1\x10", 6);      /* that is no request */
    send_bytes(" open /a 0\n", 12); /* that is one: the first byte is asked for once */
    expect_whole(&apue[0]);
    expect_whole(&apue[2]);
    expect_whole(&apue[0]);
    expect_nothing();
    pair_end();
}

static void test_packets(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    samples_native(s);
    pair_begin_with(SOCK_SEQPACKET, FRAME_PACKET, true);
    for (size_t i = 0; i < SAMPLES; i++) {
        s[i].kind = FRAME_PACKET;
        send_bytes(s[i].bytes, s[i].len);
        send_bytes("open /a 0", 10);
        expect_whole(&s[i]);
        assert_int_equal(receive(), 1);
        assert_memory_equal(worker->in, "open /a 0", got_len);
    }
    pair_end();
}

/* ---- the end ---- */

static void test_end_at_every_byte(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        for (size_t cut = 0; cut < s[1].len; cut++)
            for (int early = 0; early < 2; early++) {
                pair_begin();
                send_bytes(s[0].bytes, s[0].len);
                if (cut)
                    send_bytes(s[1].bytes, cut);
                if (!early)
                    shutdown(client, SHUT_WR);
                expect_whole(&s[0]);
                if (early) {
                    expect_nothing();
                    shutdown(client, SHUT_WR);
                }
                assert_int_equal(receive(), cut ? -EPROTO : 0);
                pair_end();
            }
    }
    pair_begin();
    shutdown(client, SHUT_WR);
    assert_int_equal(receive(), 0);
    pair_end();
}

/* Closed with the beginning of a request there: what was kept is not lost memory. */
static void test_closed_in_the_middle(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    for (size_t p = 0; p < ARRAY_SIZE(both_protocols); p++) {
        both_protocols[p](s);
        pair_begin();
        send_bytes(s[0].bytes, s[0].len - 1);
        expect_nothing();
        pair_end();
    }
}

/* ---- wrong lengths ---- */

static void test_wrong_lengths(void **state)
{
    (void)state;
    static struct sample s;
    static const uint32_t lengths[] = { 0, 1, 15, 65537, 0x10000000, 0x80000000, 0xffffffff };
    sample_native(&s, "/a", 1);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        pair_begin();
        memcpy(s.bytes + 4, &lengths[i], 4);
        send_bytes(s.bytes, WIRE_HEADER_SIZE - 1);
        expect_nothing();
        send_bytes(s.bytes + WIRE_HEADER_SIZE - 1, 1);
        assert_int_equal(receive(), -EPROTO);
        pair_end();
    }
    memcpy(s.bytes, "FOB2", 4);
    const uint32_t length = (uint32_t)s.len;
    memcpy(s.bytes + 4, &length, 4);
    pair_begin();
    send_bytes(s.bytes, s.len);
    assert_int_equal(receive(), -EPROTO);
    pair_end();
}

/* Any length that may be is waited for, to the byte; whether it is a message is not said here. */
static void test_all_lengths(void **state)
{
    (void)state;
    static const size_t lengths[] = { 16, 17, 4096, 65535, 65536 };
    static uint8_t bytes[WIRE_MAX_MESSAGE + 16] = "FOB1";
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        pair_begin();
        memcpy(bytes + 4, &(uint32_t){ (uint32_t)lengths[i] }, 4);
        for (size_t at = 0; at < lengths[i] - 1;) {
            size_t n = lengths[i] - 1 - at < 5000 ? lengths[i] - 1 - at : 5000;
            send_bytes(bytes + at, n);
            expect_nothing();
            at += n;
        }
        send_bytes(bytes + lengths[i] - 1, 17);
        assert_int_equal(receive(), 1);
        assert_int_equal(got_len, lengths[i]);
        assert_memory_equal(worker->in, bytes, got_len);
        assert_int_equal(left(), 16);
        pair_end();
    }
}

/* ---- APUE: long ones ---- */

/* `open /ppp... 0` with a path of so many bytes, and blanks up to `len` in all, with the NUL. */
static void make_long(uint8_t *bytes, size_t path_len, size_t len)
{
    memset(bytes, ' ', len - 1);
    memcpy(bytes, "open /", 6);
    memset(bytes + 6, 'p', path_len - 1);
    bytes[5 + path_len + 1] = '0';
    bytes[len - 1] = '\0';
}

/* A path of up to 4095 bytes is asked for; a longer one, or a request too long, is refused, and its path is
 * shown as far as it is known. */
static void test_long_requests(void **state)
{
    (void)state;
    static const struct {
        size_t path, len, shown;
        bool asked;
    } cases[] = {
        { 4094, 4103, 4094, true },
        { 4095, 4104, 4095, true },
        { 4095, APUE_MAX_REQUEST, 4095, true },
        { 4095, APUE_MAX_REQUEST + 1, 4095, false },
        { 10, APUE_MAX_REQUEST + 1, 10, false },
        { 4096, 4105, 4095, false },
        { 4300, 4352, 4095, false },
        { 4352, 4400, 0, false },
        { 5, 20000, 5, false },
        { 60000, 60100, 0, false },
    };
    static uint8_t bytes[70000];
    struct wire_header header;
    struct wire_reader reader;
    struct wire_entry entry;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        for (size_t step = 997; step < 100000; step *= 5) {
            pair_begin();
            make_long(bytes, cases[i].path, cases[i].len);
            memcpy(bytes + cases[i].len, "open /b 0", 10);
            size_t len = cases[i].len + 10;
            int got = -EAGAIN;
            for (size_t at = 0; at < len && got == -EAGAIN; at += step) {
                send_bytes(bytes + at, at + step < len ? step : len - at);
                got = receive();
                assert_true(!connection->part || connection->part->len <= APUE_MAX_REQUEST);
            }
            assert_int_equal(got, 1);
            assert_int_equal(wire_decode_request(worker->in, got_len, &header, &reader), 0);
            assert_int_equal(wire_next_entry(&reader, &entry), 1);
            assert_int_equal(entry.flags, cases[i].asked ? WIRE_READ : 0);
            assert_int_equal(entry.path_len, cases[i].shown);
            pair_end();
        }
}

/* What follows one that is too long is not lost. */
static void test_after_a_long_request(void **state)
{
    (void)state;
    static struct sample s[SAMPLES];
    static uint8_t bytes[50000];
    samples_apue(s);
    memset(bytes, 'o', sizeof bytes);
    for (size_t len = APUE_MAX_REQUEST - 2; len < sizeof bytes; len += len < 4400 ? 1 : 997) {
        pair_begin();
        send_bytes(bytes, len);
        expect_nothing();
        send_bytes("\0open /a 0", 11);
        assert_int_equal(receive(), 1);
        assert_int_equal(left(), 10);
        expect_whole(&s[0]);
        pair_end();
    }
}

/* However much is there: others are waiting. */
static void test_no_end_of_it(void **state)
{
    (void)state;
    static uint8_t bytes[180000];
    memset(bytes, 'o', sizeof bytes);
    pair_begin();
    send_bytes(bytes, sizeof bytes);
    assert_int_equal(frame_receive(worker, connection, &got_len, &got_sender), -EAGAIN);
    assert_in_range(sizeof bytes - left(), 1, WIRE_MAX_MESSAGE);
    expect_nothing();
    assert_true(connection->part->len <= APUE_MAX_REQUEST);
    pair_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_split_at_every_byte),
        TEST(test_byte_by_byte),
        TEST(test_joined_in_every_way),
        TEST(test_many_at_once),
        TEST(test_first_byte),
        TEST(test_protocol_stays),
        TEST(test_packets),
        TEST(test_end_at_every_byte),
        TEST(test_closed_in_the_middle),
        TEST(test_wrong_lengths),
        TEST(test_all_lengths),
        TEST(test_long_requests),
        TEST(test_after_a_long_request),
        TEST(test_no_end_of_it),
    };
    return cmocka_run_group_tests_name("frame", tests, group_setup, group_teardown);
}
