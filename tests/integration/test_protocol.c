/*
 * threats.md, section B: bytes. The number of a test is that of its row.
 */
#include "harness.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"

static const char policy[] = "allow user:2001,user:2002 read @/pub/**\n";

/* Does the broker close the connection, without a reply? */
static bool is_closed(int sock)
{
    char byte;
    ssize_t n = recv(sock, &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void expect_close(const struct broker *broker, const void *bytes, size_t len)
{
    int sock = raw_connect(broker);
    CHECK_EQ(send(sock, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
    CHECK(is_closed(sock));
    close(sock);
}

static size_t make_request(uint8_t *out, size_t size, const char *path, uint32_t id)
{
    size_t len = WIRE_HEADER_SIZE + wire_encode_entry(out + WIRE_HEADER_SIZE, size - WIRE_HEADER_SIZE,
                                                      WIRE_READ, 0, path, strlen(path));
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, 1, id };
    wire_encode_header(out, size, &header);
    return len;
}

/* ---- 24: garbage ---- */

static void send_garbage(struct client_env *env)
{
    unsigned seed = (unsigned)getpid();
    fprintf(stderr, "garbage: seed %u\n", seed);
    uint8_t bytes[512];
    for (int i = 0; i < 10000; i++) {
        size_t len = 1 + (size_t)rand_r(&seed) % sizeof bytes;
        for (size_t j = 0; j < len; j++)
            bytes[j] = (uint8_t)rand_r(&seed);
        if (i % 2 && len >= 8) { /* past the first checks */
            memcpy(bytes, "FOB1", 4);
            memcpy(bytes + 4, &(uint32_t){ (uint32_t)len }, 4);
        }
        if (i % 4 == 3 && len >= 12)
            memcpy(bytes + 8, &(uint32_t){ 0x00020001 }, 4);
        int sock = raw_connect(env->broker);
        CHECK_EQ(send(sock, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
        char reply[4096];
        recv(sock, reply, sizeof reply, 0);
        close(sock);
    }
}

static void test_24_garbage(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    b.uncounted = true;
    as_user(&b, ALICE, send_garbage, NULL);
    broker_finish(&b);
}

/* ---- 25: lengths that lie ---- */

static void send_lies(struct client_env *env)
{
    uint8_t good[512], bad[512];
    size_t len = make_request(good, sizeof good, at(env->broker, "pub/a"), 1);
    const uint32_t lengths[] = {
        0,     1,     WIRE_HEADER_SIZE - 1, WIRE_HEADER_SIZE, (uint32_t)len - 1, (uint32_t)len + 1,
        65536, 65537, 0x80000000u,          0xffffffffu
    };
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        memcpy(bad, good, len);
        memcpy(bad + 4, &lengths[i], 4);
        expect_close(env->broker, bad, len);
    }
    /* the path's length beyond the message, and trailing bytes */
    memcpy(bad, good, len);
    memcpy(bad + WIRE_HEADER_SIZE + 8, &(uint16_t){ 4000 }, 2);
    expect_close(env->broker, bad, len);
    memset(bad, 0, sizeof bad);
    memcpy(bad, good, len);
    memcpy(bad + 4, &(uint32_t){ (uint32_t)len + 4 }, 4);
    expect_close(env->broker, bad, len + 4);
    for (size_t cut = 1; cut < len; cut++)
        expect_close(env->broker, good, cut);
}

static void test_25_lengths_that_lie(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, send_lies, NULL);
    assert_true(audit_count(&b, "\"op\":\"message\"", "\"malformed\"") > 20);
    broker_finish(&b);
}

/* ---- 26: too long, and empty ---- */

static void send_oversize(struct client_env *env)
{
    static uint8_t big[300000];
    memcpy(big, "FOB1", 4);
    memcpy(big + 4, &(uint32_t){ 200000 }, 4);
    expect_close(env->broker, big, 65537);
    expect_close(env->broker, big, 200000);
    int sock = raw_connect(env->broker);
    CHECK_EQ(send(sock, big, sizeof big, MSG_NOSIGNAL), -1);
    CHECK_EQ(errno, EMSGSIZE);
    close(sock);
    sock = raw_connect(env->broker);
    CHECK_EQ(send(sock, big, 0, MSG_NOSIGNAL), 0);
    CHECK(is_closed(sock));
    close(sock);
}

static void test_26_oversize_and_empty(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, send_oversize, NULL);
    broker_finish(&b);
}

/* ---- 28: types, counts and bits that are not ---- */

static void send_wrong_kinds(struct client_env *env)
{
    uint8_t message[512];
    size_t len = make_request(message, sizeof message, at(env->broker, "pub/a"), 1);
    const uint16_t types[] = { 0, 5, 6, 0x8001, 0x8002, 0x8004, 0xffff };
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        memcpy(message + 8, &types[i], 2);
        expect_close(env->broker, message, len);
    }
    len = make_request(message, sizeof message, at(env->broker, "pub/a"), 1);
    const uint16_t counts[] = { 0, 2, 254, 0xffff };
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        memcpy(message + 10, &counts[i], 2);
        expect_close(env->broker, message, len);
    }
    memcpy(message, "FOB2", 4);
    expect_close(env->broker, message, len);
}

/* Mistakes of one entry are that entry's: EINVAL, and the connection lives. */
static void send_wrong_entries(struct client_env *env)
{
    const char *path = at(env->broker, "pub/a");
    int sock = raw_connect(env->broker), fd;
    for (int bit = 11; bit < 32; bit++)
        CHECK_EQ(raw_open(sock, path, WIRE_READ | UINT32_C(1) << bit, 0, &fd), EINVAL);
    CHECK_EQ(raw_open(sock, path, 0, 0, &fd), EINVAL);
    CHECK_EQ(raw_open(sock, path, WIRE_NOFOLLOW | WIRE_SYNC, 0, &fd), EINVAL);
    CHECK_EQ(raw_open(sock, path, WIRE_READ, 0644, &fd), EINVAL);
    CHECK_EQ(raw_open(sock, path, WIRE_WRITE | WIRE_CREATE, 010000, &fd), EINVAL);
    CHECK_EQ(raw_open(sock, path, WIRE_READ, 0, &fd), 0);
    CHECK(fd_reads(fd, "pub a\n"));
}

static void test_28_wrong_kinds(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, send_wrong_kinds, NULL);
    as_user(&b, ALICE, send_wrong_entries, NULL);
    broker_finish(&b);
}

/* ---- 29: descriptors sent to the broker ---- */

static void smuggle(struct client_env *env)
{
    int fds[253];
    uint8_t message[512];
    size_t len = make_request(message, sizeof message, at(env->broker, "pub/a"), 1);
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = 2;
    int refused = 0;
    for (int i = 0; i < 10000; i++) {
        int sock = raw_connect(env->broker);
        int err = msg_send(sock, message, len, fds, i % 2 ? 253 : 1, NULL, 0);
        refused += err == -EPERM;
        /* before Linux 6.16 they go out, and the broker closes them and the connection */
        CHECK(err == -EPERM || (err == 0 && is_closed(sock)));
        close(sock);
    }
    fprintf(stderr, "descriptors sent to the broker: %d of 10000 were refused to the sender by the kernel\n",
            refused);
}

static void test_29_descriptors_for_the_broker(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, smuggle, NULL);
    broker_finish(&b);
}

/* ---- 30: a client without room for the descriptor ---- */

static void receive_without_room(struct client_env *env)
{
    int sock = raw_connect(env->broker);
    uint8_t message[512], in[256];
    size_t len = make_request(message, sizeof message, at(env->broker, "pub/a"), 1);
    struct rlimit limit = { (rlim_t)sock + 1, 4096 };
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    static struct msg_in reply;
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(msg_send(sock, message, len, NULL, 0, NULL, 0), 0);
        count_requests(1);
        CHECK_EQ(msg_recv(sock, in, sizeof in, 0, &reply), -EMFILE);
    }
}

static void test_30_no_room_at_the_client(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, receive_without_room, NULL);
    assert_int_equal(audit_count(&b, "\"allowed\"", "/pub/a"), 100);
    broker_finish(&b);
}

/* ---- 31: requests without reading ---- */

static void pipeline(struct client_env *env)
{
    int sock = raw_connect(env->broker);
    uint8_t message[512], in[256];
    size_t len = make_request(message, sizeof message, at(env->broker, "pub/a"), 1);
    unsigned sent = 0;
    while (sent < 10000 && msg_send(sock, message, len, NULL, 0, NULL, MSG_DONTWAIT) == 0)
        sent++;
    CHECK(sent > 0);
    count_requests(sent);
    usleep(200000);
    /* What is unread holds the rest back. */
    CHECK_EQ(audit_count(env->broker, "\"op\":\"open\"", NULL), UNREAD_MAX);
    static struct msg_in reply;
    for (unsigned i = 0; i < sent; i++) {
        CHECK_EQ(msg_recv(sock, in, sizeof in, 0, &reply), 1);
        CHECK_EQ(reply.n_fds, 1);
        close(reply.fds[0]);
    }
    CHECK_EQ(recv(sock, in, sizeof in, MSG_DONTWAIT), -1);
}

static void test_31_pipelining(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:0 read @/pub/**\n");
    as_user(&b, 0, pipeline, NULL); /* who may read the audit */
    broker_finish(&b);
}

/* ---- 32: the client goes between request and reply ---- */

static void ask_and_go(struct client_env *env)
{
    uint8_t message[512];
    size_t len = make_request(message, sizeof message, at(env->broker, "pub/a"), 1);
    for (int i = 0; i < 1000; i++) {
        int sock = raw_connect(env->broker);
        CHECK_EQ(msg_send(sock, message, len, NULL, 0, NULL, 0), 0);
        if (i % 3 == 0)
            shutdown(sock, SHUT_RD);
        if (i % 3 == 1)
            shutdown(sock, SHUT_RDWR);
        close(sock);
    }
}

static void test_32_client_goes(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    b.uncounted = true;
    as_user(&b, ALICE, ask_and_go, NULL);
    broker_finish(&b);
}

/* ---- 34: connections without a byte ---- */

static void churn(struct client_env *env)
{
    for (int i = 0; i < 50000; i++)
        close(raw_connect(env->broker));
}

static void test_34_connect_and_close(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    b.uncounted = true;
    as_user(&b, ALICE, churn, NULL);
    broker_finish(&b);
}

/* ---- 35: a socket seen from another mount namespace ---- */

static void ask_through_bind_mount(struct client_env *env)
{
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        skip_in_client("no mount namespaces here");
    CHECK_EQ(mkdir(at(env->broker, "sticky/ns"), 0755), 0);
    CHECK_EQ(mount(env->broker->dir, at(env->broker, "sticky/ns"), NULL, MS_BIND, NULL), 0);
    struct broker there = *env->broker;
    snprintf(there.socket, sizeof there.socket, "%s", at(env->broker, "sticky/ns/sock"));
    CHECK_EQ(setresgid(ALICE, ALICE, ALICE) | setresuid(ALICE, ALICE, ALICE), 0);
    CHECK_EQ(open_once(&there, at(env->broker, "pub/a"), WIRE_READ, NULL), 0);
    CHECK_EQ(open_once(&there, at(env->broker, "secret/f"), WIRE_READ, NULL), EACCES);
}

static void test_35_other_mount_namespace(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, 0, ask_through_bind_mount, NULL);
    assert_int_equal(rmdir(at(&b, "sticky/ns")), 0);
    broker_finish(&b);
}

/* ---- batches ---- */

static size_t make_batch(uint8_t *out, size_t size, const struct broker *broker, unsigned count)
{
    size_t len = WIRE_HEADER_SIZE;
    for (unsigned i = 0; i < count; i++) {
        const char *path = at(broker, i % 3 == 0 ? "pub/a" : i % 3 == 1 ? "secret/f" : "pub/none");
        len += wire_encode_entry(out + len, size - len, WIRE_READ, 0, path, strlen(path));
    }
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, (uint16_t)count, 99 };
    wire_encode_header(out, size, &header);
    return len;
}

static void ask_batch(struct client_env *env)
{
    static uint8_t out[WIRE_MAX_MESSAGE], in[WIRE_MAX_MESSAGE];
    static struct msg_in reply;
    int sock = raw_connect(env->broker);
    const unsigned counts[] = { 1, 2, 64, 253 };
    for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
        size_t len = make_batch(out, sizeof out, env->broker, counts[c]);
        CHECK_EQ(msg_send(sock, out, len, NULL, 0, NULL, 0), 0);
        count_requests(counts[c]);
        CHECK_EQ(msg_recv(sock, in, sizeof in, 0, &reply), 1);
        CHECK_EQ(reply.len, WIRE_HEADER_SIZE + counts[c] * WIRE_RESULT_SIZE);
        CHECK_EQ(reply.n_fds, (counts[c] + 2) / 3);
        for (unsigned i = 0; i < counts[c]; i++) {
            struct wire_result result;
            CHECK_EQ(
                wire_decode_result(in + WIRE_HEADER_SIZE + i * WIRE_RESULT_SIZE, WIRE_RESULT_SIZE, &result),
                0);
            CHECK_EQ(result.error, i % 3 == 0 ? 0 : i % 3 == 1 ? EACCES : ENOENT);
            CHECK_EQ(result.fd_index, i % 3 == 0 ? i / 3 : WIRE_NO_FD);
        }
        for (size_t i = 0; i < reply.n_fds; i++)
            CHECK(fd_reads(reply.fds[i], "pub a\n"));
        fd_close_many(reply.fds, reply.n_fds);
    }
}

static void test_batches(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, ask_batch, NULL);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_24_garbage),
        cmocka_unit_test(test_25_lengths_that_lie),
        cmocka_unit_test(test_26_oversize_and_empty),
        cmocka_unit_test(test_28_wrong_kinds),
        cmocka_unit_test(test_29_descriptors_for_the_broker),
        cmocka_unit_test(test_30_no_room_at_the_client),
        cmocka_unit_test(test_31_pipelining),
        cmocka_unit_test(test_32_client_goes),
        cmocka_unit_test(test_34_connect_and_close),
        cmocka_unit_test(test_35_other_mount_namespace),
        cmocka_unit_test(test_batches),
    };
    return cmocka_run_group_tests_name("protocol", tests, NULL, NULL);
}
