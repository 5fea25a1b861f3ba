/*
 * The stream socket: what is asked natively on it, and both protocols in any order and division of bytes.
 */
#include "stream_client.h"

static const char policy[] = "allow user:2001,user:2002 read @/pub/**\n"
                             "deny user:2001 read @/pub/sub/**\n";

/* Errors of these, asked in turn. */
static const struct {
    const char *path, *text;
    int error;
} files[] = {
    { "pub/a", "pub a\n", 0 },    { "secret/f", NULL, EACCES },  { "pub/b", "pub b\n", 0 },
    { "pub/none", NULL, ENOENT }, { "pub/sub/c", NULL, EACCES },
};

static void expect_file(size_t i, int error, int fd)
{
    CHECK_EQ(error, files[i].error);
    CHECK_EQ(fd >= 0, error == 0);
    CHECK(fd < 0 || fd_reads(fd, files[i].text));
    fd_close(fd);
}

/* ---- every type of message ---- */

static void fill_batch(const struct broker *b, const char *paths[WIRE_MAX_ENTRIES], char all[][DIR_MAX + 16])
{
    for (size_t i = 0; i < WIRE_MAX_ENTRIES; i++) {
        snprintf(all[i], DIR_MAX + 16, "%s", at(b, files[i % ARRAY_SIZE(files)].path));
        paths[i] = all[i];
    }
}

static void ask_batches(struct client_env *env)
{
    static uint8_t out[WIRE_MAX_MESSAGE];
    static char all[WIRE_MAX_ENTRIES][DIR_MAX + 16];
    static struct native_reply reply;
    const char *paths[WIRE_MAX_ENTRIES];
    int sock = stream_connect(env->broker);
    fill_batch(env->broker, paths, all);
    const uint16_t counts[] = { 1, 2, 64, 253, 253, 3 };
    for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
        put(sock, out, native_batch(out, sizeof out, WIRE_OPEN, (uint32_t)c, WIRE_READ, paths, counts[c]));
        count_requests(counts[c]);
        CHECK(native_receive(sock, &reply));
        CHECK_EQ(reply.header.id, c);
        CHECK_EQ(reply.header.count, counts[c]);
        size_t next = 0;
        for (size_t i = 0; i < counts[c]; i++) {
            struct wire_result result = native_result(&reply, i);
            CHECK_EQ(result.fd_index, result.error ? WIRE_NO_FD : next);
            expect_file(i % ARRAY_SIZE(files), result.error, result.error ? -1 : reply.fds[next++]);
        }
        CHECK_EQ(reply.n_fds, next);
    }
}

static void ask_others(struct client_env *env)
{
    static uint8_t out[WIRE_MAX_MESSAGE];
    static char all[WIRE_MAX_ENTRIES][DIR_MAX + 16];
    static struct native_reply reply;
    const char *paths[WIRE_MAX_ENTRIES];
    int sock = stream_connect(env->broker);
    fill_batch(env->broker, paths, all);
    put(sock, out, native_batch(out, sizeof out, WIRE_CHECK, 1, WIRE_READ, paths, 253));
    count_requests(253);
    CHECK(native_receive(sock, &reply));
    CHECK_EQ(reply.header.type, WIRE_CHECK | WIRE_REPLY);
    CHECK_EQ(reply.n_fds, 0);
    for (size_t i = 0; i < 253; i++)
        CHECK_EQ(native_result(&reply, i).error, files[i % ARRAY_SIZE(files)].error == EACCES ? EACCES : 0);
    put(sock, out, native_batch(out, sizeof out, WIRE_LIST, 2, 0, NULL, 0));
    CHECK(native_receive(sock, &reply));
    CHECK_EQ(reply.header.type, WIRE_LIST | WIRE_REPLY);
    reply.bytes[reply.header.length] = '\0';
    CHECK(strstr((char *)reply.bytes + WIRE_HEADER_SIZE, "/pub/**\n"));
    CHECK(strstr((char *)reply.bytes + WIRE_HEADER_SIZE, "deny read "));
    put(sock, out, native_batch(out, sizeof out, WIRE_HELLO, 3, 0, NULL, 0));
    CHECK(native_receive(sock, &reply));
    struct wire_hello hello;
    CHECK_EQ(wire_decode_hello(reply.bytes + WIRE_HEADER_SIZE, WIRE_HELLO_SIZE, &hello), 0);
    CHECK_EQ(hello.version, WIRE_VERSION);
    CHECK_EQ(hello.max_entries, WIRE_MAX_ENTRIES);
}

static void test_every_type(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, ask_batches, NULL);
    as_user(&b, ALICE, ask_others, NULL);
    broker_finish(&b);
}

/* The two sockets and the two protocols give the same answers. */
static void ask_everywhere(struct client_env *env)
{
    int native = stream_connect(env->broker), apue = stream_connect(env->broker), fd;
    int packet = raw_connect(env->broker);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        const char *path = at(env->broker, files[i].path);
        int error = raw_open(packet, path, WIRE_READ, 0, &fd);
        expect_file(i, error, fd);
        error = native_ask(native, path, &fd);
        expect_file(i, error, fd);
        error = apue_ask(apue, path, O_RDONLY, &fd);
        expect_file(i, error, fd);
    }
}

static void test_same_answers(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, ask_everywhere, NULL);
    assert_int_equal(audit_count(&b, "\"uid\":2001,\"gid\":2001,", "\"op\":\"open\""), 3 * ARRAY_SIZE(files));
    broker_finish(&b);
}

/* ---- in order ---- */

enum { PIPELINED = 1000 };

static void pipeline(const struct broker *b, enum protocol protocol)
{
    static uint8_t out[PIPELINED * 128];
    size_t len = 0;
    int fd, sock = stream_connect(b);
    for (uint32_t i = 0; i < PIPELINED; i++) {
        const char *path = at(b, files[i % ARRAY_SIZE(files)].path);
        len += protocol == NATIVE ? native_open(out + len, sizeof out - len, i, path)
                                  : request_bytes(APUE, out + len, sizeof out - len, path);
    }
    put(sock, out, len);
    count_requests(PIPELINED);
    for (uint32_t i = 0; i < PIPELINED; i++) {
        int error = protocol == APUE ? apue_next(sock, &fd) : native_answer(sock, i, &fd);
        expect_file(i % ARRAY_SIZE(files), error, fd);
        if (protocol == APUE && error)
            CHECK(apue_text_is(at(b, files[i % ARRAY_SIZE(files)].path), strerror(error)));
    }
    CHECK(is_silent(sock));
    close(sock);
}

static void ask_in_advance(struct client_env *env)
{
    for (int i = 0; i < 5; i++) {
        pipeline(env->broker, NATIVE);
        pipeline(env->broker, APUE);
    }
}

static void test_pipelined(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, ask_in_advance, NULL);
    broker_finish(&b);
}

/*
 * Whoever reads the last answer lets the next one come, at any moment: the kernel wakes the worker before it
 * has counted that nothing is unread any more.
 */
static void ask_and_ask(struct client_env *env)
{
    enum { AHEAD = 200, ROUNDS = 500 };
    static uint8_t out[AHEAD * 128];
    uint8_t reply[64];
    const bool is_stream = env->data;
    const char *path = at(env->broker, "pub/none");
    int sock = is_stream ? stream_connect(env->broker) : patient(raw_connect(env->broker));
    size_t len = native_open(out, sizeof out, 42, path);
    for (size_t i = 1; i < AHEAD; i++)
        memcpy(out + i * len, out, len);
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; is_stream ? i < 1 : i < AHEAD; i++)
            put(sock, out, is_stream ? AHEAD * len : len);
        for (size_t i = 0; i < AHEAD; i++)
            CHECK_EQ(recv(sock, reply, WIRE_HEADER_SIZE + WIRE_RESULT_SIZE, MSG_WAITALL),
                     WIRE_HEADER_SIZE + WIRE_RESULT_SIZE);
    }
    count_requests(AHEAD * ROUNDS);
}

static void test_no_answer_is_forgotten(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, ask_and_ask, NULL);
    as_user(&b, ALICE, ask_and_ask, &b);
    broker_finish(&b);
}

/* ---- divided ---- */

static void ask_byte_by_byte(struct client_env *env)
{
    uint8_t out[512];
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        int fd, sock = stream_connect(env->broker);
        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
            size_t len = request_bytes(p, out, sizeof out, at(env->broker, files[i].path));
            for (size_t byte = 0; byte < len; byte++) {
                put(sock, out + byte, 1);
                usleep(byte % 8 ? 0 : 2000); /* together, and alone */
                CHECK(byte == len - 1 || is_silent(sock));
            }
            count_requests(1);
            int error = answer(p, sock, &fd);
            expect_file(i, error, fd);
        }
    }
}

/* Each part has the end of one and the beginning of the next. */
static void ask_in_parts(struct client_env *env)
{
    uint8_t out[ARRAY_SIZE(files) * 128];
    for (enum protocol p = 0; p < PROTOCOLS; p++)
        for (size_t part = 1; part < 200; part += 7) {
            size_t len = 0;
            int fd, sock = stream_connect(env->broker);
            for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                len += request_bytes(p, out + len, sizeof out - len, at(env->broker, files[i].path));
            for (size_t begin = 0; begin < len; begin += part)
                put(sock, out + begin, len - begin < part ? len - begin : part);
            count_requests(ARRAY_SIZE(files));
            for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                int error = answer(p, sock, &fd);
                expect_file(i, error, fd);
            }
            close(sock);
        }
}

static void test_divided(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, ask_byte_by_byte, NULL);
    as_user(&b, ALICE, ask_in_parts, NULL);
    broker_finish(&b);
}

/* ---- closed to one side ---- */

/* All that was sent before is answered; then the end. */
static void ask_and_say_no_more(struct client_env *env)
{
    uint8_t out[ARRAY_SIZE(files) * 128];
    for (enum protocol p = 0; p < PROTOCOLS; p++)
        for (size_t n = 0; n <= ARRAY_SIZE(files); n++) {
            size_t len = 0;
            int fd, sock = stream_connect(env->broker);
            for (size_t i = 0; i < n; i++)
                len += request_bytes(p, out + len, sizeof out - len, at(env->broker, files[i].path));
            if (len)
                put(sock, out, len);
            count_requests((unsigned)n);
            CHECK_EQ(shutdown(sock, SHUT_WR), 0);
            usleep(n % 2 ? 20000 : 0);
            for (size_t i = 0; i < n; i++) {
                int error = answer(p, sock, &fd);
                expect_file(i, error, fd);
            }
            CHECK_EQ(recv(sock, out, 1, 0), 0);
            close(sock);
        }
}

static void test_half_closed(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, ask_and_say_no_more, NULL);
    assert_int_equal(audit_count(&b, "\"op\":\"message\"", NULL), 0);
    broker_finish(&b);
}

/* ---- the socket itself ---- */

static void test_stopped(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 1");
    struct stat st;
    char path[DIR_MAX + 16];
    assert_int_equal(stat(at(&b, "stream"), &st), 0);
    assert_int_equal(st.st_mode, S_IFSOCK | 0666);
    snprintf(path, sizeof path, "%s", at(&b, "stream"));
    int sock = stream_connect(&b);
    put(sock, "open ", 5); /* half a request is nothing to wait for */
    usleep(50000);
    assert_int_equal(kill(b.pid, SIGTERM), 0);
    assert_int_equal(child_wait(b.pid), 0);
    assert_true(is_closed(sock));
    assert_int_equal(access(path, F_OK), -1);
    close(sock);
    b.pid = 0;
    broker_end(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type), cmocka_unit_test(test_same_answers),
        cmocka_unit_test(test_pipelined),  cmocka_unit_test(test_no_answer_is_forgotten),
        cmocka_unit_test(test_divided),    cmocka_unit_test(test_half_closed),
        cmocka_unit_test(test_stopped),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
