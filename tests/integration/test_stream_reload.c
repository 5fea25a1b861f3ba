/*
 * The stream socket while the policy is reloaded: connections go to the next generation with what they have
 * said so far. A request of which half came before is answered whole, in its connection's own protocol, by
 * the new policy.
 */
#include "attacks.h"
#include "stream_client.h"

static const char policy[] = "allow user:0,user:2001,user:2002 read @/pub/**\n";
static const char without_b[] = "allow user:0,user:2001,user:2002 read @/pub/**\n"
                                "deny user:0,user:2001,user:2002 read @/pub/b\n";

static void begin(struct broker *b)
{
    stream_begin(b, policy, "workers 2");
}

static void reload_with(const struct broker *b, const char *text)
{
    broker_write_policy(b, text);
    reload(b);
}

/* A new generation has workers of its own: descriptors are counted once the last one has gone. */
static void finish(struct broker *b)
{
    EXPECT_SOON(workers_are_quiet(b, 2));
    broker_finish(b);
}

/* The client is at `step`: reload, and let it go on. */
static void reload_at(const struct broker *b, int step, const char *text)
{
    EXPECT_STEP(step);
    reload_with(b, text);
    shared->step = step + 1;
}

static void await_reload(void)
{
    int step = ++shared->step;
    wait_for_step(step + 1);
    CHECK(shared->step > step);
}

/* ---- in the middle of a request ---- */

enum { CUTS = 24 };

struct half {
    enum protocol protocol;
    int sock;
    const char *name;
    size_t len, sent;
    uint8_t bytes[256];
};

/* At the beginning, at the end, and between; of both protocols, and of a file that will be denied. */
static void begin_requests(const struct broker *b, struct half halves[CUTS])
{
    for (size_t i = 0; i < CUTS; i++) {
        struct half *h = &halves[i];
        h->protocol = i % PROTOCOLS;
        h->name = i % 4 < 2 ? "pub/a" : "pub/b";
        h->sock = stream_connect(b);
        if (i >= CUTS / 2) { /* not its first request */
            int fd;
            CHECK_EQ(ask_both(h->protocol, h->sock, at(b, "pub/a"), &fd), 0);
            close(fd);
        }
        h->len = request_bytes(h->protocol, h->bytes, sizeof h->bytes, at(b, h->name));
        h->sent = (i % 12) * (h->len - 1) / 11;
        if (h->sent)
            put(h->sock, h->bytes, h->sent);
    }
}

static void finish_requests(const struct broker *b, struct half halves[CUTS])
{
    int fd;
    for (size_t i = 0; i < CUTS; i++) {
        struct half *h = &halves[i];
        CHECK(is_silent(h->sock));
        put(h->sock, h->bytes + h->sent, h->len - h->sent);
        count_requests(1);
        bool denied = strcmp(h->name, "pub/b") == 0;
        CHECK_EQ(answer(h->protocol, h->sock, &fd), denied ? EACCES : 0);
        CHECK(denied || fd_reads(fd, "pub a\n"));
        CHECK(!denied || h->protocol == NATIVE || apue_text_is(at(b, h->name), "Permission denied"));
        fd_close(fd);
        close(h->sock);
    }
}

/* Read by its worker before, or still in the socket. */
static void ask_in_halves(struct client_env *env)
{
    static struct half halves[CUTS];
    begin_requests(env->broker, halves);
    usleep(*(const bool *)env->data ? 50000 : 0);
    await_reload();
    finish_requests(env->broker, halves);
}

static void test_in_the_middle(void **state)
{
    (void)state;
    struct broker b;
    begin(&b);
    for (int i = 0; i < 6; i++) {
        bool is_read = i % 2;
        shared->step = 0;
        pid_t alice = client_begin(&b, ALICE, ask_in_halves, &is_read);
        reload_at(&b, 1, without_b);
        assert_int_equal(child_wait(alice), 0);
        reload_with(&b, policy);
    }
    finish(&b);
}

/* A byte in each generation. */
static void ask_slowly(struct client_env *env)
{
    int socks[PROTOCOLS], fd;
    uint8_t bytes[PROTOCOLS][256];
    size_t len[PROTOCOLS];
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        socks[p] = stream_connect(env->broker);
        len[p] = request_bytes(p, bytes[p], sizeof bytes[p], at(env->broker, "pub/b"));
        await_reload();
        for (size_t i = 0; i < len[p] - 1; i++) {
            put(socks[p], bytes[p] + i, 1);
            if (i % 4 == 0)
                await_reload();
        }
    }
    shared->over = true;
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        put(socks[p], bytes[p] + len[p] - 1, 1);
        count_requests(1);
        CHECK_EQ(answer(p, socks[p], &fd), 0);
        CHECK(fd_reads(fd, "pub b\n"));
    }
}

static void test_over_many_generations(void **state)
{
    (void)state;
    struct broker b;
    begin(&b);
    pid_t alice = client_begin(&b, ALICE, ask_slowly, NULL);
    for (int step = 1; !shared->over; step += 2) {
        WAIT_LONG(shared->step >= step || shared->over);
        if (shared->over)
            break;
        reload_at(&b, step, policy);
    }
    assert_int_equal(child_wait(alice), 0);
    finish(&b);
}

/* ---- as large as can be ---- */

/* All but the last byte of it goes over. */
static void ask_much(struct client_env *env)
{
    enum { ENTRIES = 16 };
    static uint8_t out[WIRE_MAX_MESSAGE];
    static struct native_reply reply;
    char path[WIRE_MAX_PATH + 1];
    const char *paths[ENTRIES];
    memset(path, 'p', sizeof path);
    int len = snprintf(path, sizeof path, "%s/", at(env->broker, "pub"));
    path[len] = 'p';
    path[4064] = '\0';
    for (size_t i = 0; i < ENTRIES; i++)
        paths[i] = path;
    size_t size = native_batch(out, sizeof out, WIRE_CHECK, 5, WIRE_READ, paths, ENTRIES);
    CHECK(size > WIRE_MAX_MESSAGE - 1024);
    int sock = stream_connect(env->broker);
    put(sock, out, size - 1);
    usleep(50000);
    await_reload();
    put(sock, out + size - 1, 1);
    count_requests(ENTRIES);
    CHECK(native_receive(sock, &reply));
    CHECK_EQ(reply.header.count, ENTRIES);
    for (size_t i = 0; i < ENTRIES; i++)
        CHECK_EQ(native_result(&reply, i).error, 0);
}

static void test_large_requests(void **state)
{
    (void)state;
    struct broker b;
    begin(&b);
    pid_t alice = client_begin(&b, ALICE, ask_much, NULL);
    reload_at(&b, 1, without_b);
    assert_int_equal(child_wait(alice), 0);
    finish(&b);
}

/* ---- who sent it ---- */

static void put_the_rest(struct client_env *env)
{
    const struct half *h = env->data;
    put(h->sock, h->bytes + h->sent, h->len - h->sent);
}

/* Root's beginning, alice's end, of which the next generation knows only the latter. */
static void test_two_senders(void **state)
{
    (void)state;
    struct broker b;
    struct half h;
    int fd;
    begin(&b);
    for (enum protocol p = 0; p < PROTOCOLS; p++)
        for (int turned = 0; turned < 2; turned++) {
            h.sock = stream_connect(&b);
            h.len = request_bytes(p, h.bytes, sizeof h.bytes, at(&b, "pub/a"));
            size_t cut = h.len / 2;
            if (turned) {
                struct half first = h;
                first.sent = 0;
                first.len = cut;
                as_user(&b, ALICE, put_the_rest, &first);
            } else {
                put(h.sock, h.bytes, cut);
            }
            usleep(20000);
            reload_with(&b, without_b);
            h.sent = cut;
            if (turned)
                put(h.sock, h.bytes + cut, h.len - cut);
            else
                as_user(&b, ALICE, put_the_rest, &h);
            count_requests(1);
            assert_int_equal(answer(p, h.sock, &fd), EPERM);
            assert_int_equal(ask_both(p, h.sock, at(&b, "pub/a"), &fd), 0);
            close(fd);
            close(h.sock);
        }
    assert_int_equal(audit_count(&b, "\"uid\":0,", "\"reason\":\"credentials\""), 4);
    finish(&b);
}

/* ---- written ahead ---- */

/* None is lost, none comes twice or in another order; answers that are not read yet stay. */
static void ask_in_advance(struct client_env *env)
{
    enum { AHEAD = 400 };
    static uint8_t out[AHEAD * 128];
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        int fd, sock = stream_connect(env->broker);
        size_t len = 0;
        for (uint32_t i = 0; i < AHEAD; i++) {
            const char *path = at(env->broker, i % 3 == 0 ? "pub/a" : i % 3 == 1 ? "secret/f" : "pub/none");
            len += p == NATIVE ? native_open(out + len, sizeof out - len, i, path)
                               : request_bytes(p, out + len, sizeof out - len, path);
        }
        put(sock, out, len - 1); /* the last one is not whole */
        count_requests(AHEAD);
        for (uint32_t i = 0; i < AHEAD; i++) {
            if (i % 50 == 49)
                await_reload();
            if (i == AHEAD - 1)
                put(sock, out + len - 1, 1);
            int error = p == NATIVE ? native_answer(sock, i, &fd) : apue_next(sock, &fd);
            CHECK_EQ(error, i % 3 == 0 ? 0 : i % 3 == 1 ? EACCES : ENOENT);
            CHECK(fd < 0 || fd_reads(fd, "pub a\n"));
            fd_close(fd);
        }
        CHECK(is_silent(sock));
    }
    shared->over = true;
}

static void test_written_ahead(void **state)
{
    (void)state;
    struct broker b;
    begin(&b);
    pid_t alice = client_begin(&b, ALICE, ask_in_advance, NULL);
    for (int step = 1; step <= 2 * 16; step += 2)
        reload_at(&b, step, policy);
    assert_int_equal(child_wait(alice), 0);
    finish(&b);
}

/* ---- all the time ---- */

/* In two parts, with reloads at any moment. */
static void ask_all_along(struct client_env *env)
{
    uint8_t out[PROTOCOLS][256];
    size_t len[PROTOCOLS];
    int socks[PROTOCOLS], fd;
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        socks[p] = stream_connect(env->broker);
        len[p] = request_bytes(p, out[p], sizeof out[p], at(env->broker, "pub/a"));
    }
    for (unsigned i = 1; !shared->over; i++)
        for (enum protocol p = 0; p < PROTOCOLS; p++) {
            put(socks[p], out[p], i % len[p] ? i % len[p] : 1);
            put(socks[p], out[p] + (i % len[p] ? i % len[p] : 1), len[p] - (i % len[p] ? i % len[p] : 1));
            count_requests(1);
            CHECK_EQ(answer(p, socks[p], &fd), 0);
            CHECK(fd_reads(fd, "pub a\n"));
            close(fd);
            shared->served++;
            usleep(200);
        }
}

static void test_under_load(void **state)
{
    (void)state;
    struct broker b;
    pid_t clients[4];
    begin(&b);
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
        clients[i] = client_begin(&b, ALICE, ask_all_along, NULL);
    for (int i = 0; i < 100; i++)
        reload_with(&b, i % 2 ? policy : without_b);
    shared->over = true;
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
        assert_int_equal(child_wait(clients[i]), 0);
    print_message("%u requests in parts, and 100 reloads\n", shared->served);
    assert_true(shared->served > 100);
    finish(&b);
}

/* ---- the end ---- */

/* Its client went before, with half a request said: the record is written, once. */
static void ask_half_and_stop(struct client_env *env)
{
    uint8_t out[256];
    for (enum protocol p = 0; p < PROTOCOLS; p++) {
        int sock = stream_connect(env->broker);
        put(sock, out, request_bytes(p, out, sizeof out, at(env->broker, "pub/a")) - 1);
        usleep(20000);
        await_reload();
        CHECK(is_silent(sock));
        shutdown(sock, SHUT_WR);
        CHECK(is_closed(sock));
    }
}

static void test_cut_off(void **state)
{
    (void)state;
    struct broker b;
    begin(&b);
    pid_t alice = client_begin(&b, ALICE, ask_half_and_stop, NULL);
    reload_at(&b, 1, policy);
    reload_at(&b, 3, policy);
    assert_int_equal(child_wait(alice), 0);
    expect_records(&b, "\"op\":\"message\"", "\"malformed\"", 2);
    finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_in_the_middle), ATTACK(test_over_many_generations), ATTACK(test_large_requests),
        ATTACK(test_two_senders),   ATTACK(test_written_ahead),         ATTACK(test_under_load),
        ATTACK(test_cut_off),
    };
    return cmocka_run_group_tests_name("stream_reload", tests, shared_setup, NULL);
}
