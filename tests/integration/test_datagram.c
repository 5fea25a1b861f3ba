/*
 * The datagram socket: one request a datagram, answered to the name that it came from.
 */
#include "datagram_client.h"

#include <time.h>

static const char policy[] = "allow user:2001,user:2002 read @/pub/**\n"
                             "deny user:2001 read @/pub/sub/**\n";

/* ---- names ---- */

static void ask_thrice(const struct broker *b, int sock)
{
    int fd;
    expect_datagram(b, sock, "pub/a", "pub a\n");
    CHECK_EQ(datagram_try(b, sock, at(b, "secret/f"), &fd), EACCES);
    CHECK_EQ(datagram_try(b, sock, at(b, "pub/none"), &fd), ENOENT);
    expect_datagram(b, sock, "pub/b", "pub b\n");
    expect_silence(sock); /* one reply each */
}

/* As it says, and connected as well. */
static void ask_from(const struct broker *b, const char *name)
{
    for (int connected = 0; connected < 2; connected++) {
        int sock = asker_new(name);
        if (connected)
            asker_connect(b, sock);
        ask_thrice(b, sock);
        close(sock);
        if (name && *name == '/')
            CHECK_EQ(unlink(name), 0);
    }
}

static void ask_from_all(struct client_env *env)
{
    char abstract[64], longest[108], path[DIR_MAX + 16], deep[sizeof abstract + 108];
    snprintf(abstract, sizeof abstract, "@fob-test-%d", (int)getpid());
    snprintf(path, sizeof path, "%s", at(env->broker, "al/s"));
    memset(longest, 'x', sizeof longest);
    memcpy(longest, abstract, strlen(abstract));
    longest[sizeof longest - 1] = '\0';
    ask_from(env->broker, NULL);
    ask_from(env->broker, abstract);
    ask_from(env->broker, longest);
    ask_from(env->broker, path);
    int len = snprintf(deep, sizeof deep, "%s/", at(env->broker, "al")); /* with the NUL the most there is */
    memset(deep + len, 'y', 107 - (size_t)len);
    deep[107] = '\0';
    ask_from(env->broker, deep);
    snprintf(path, sizeof path, "%s", at(env->broker, "sticky/al")); /* a directory of others */
    ask_from(env->broker, path);
}

static void test_names(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    as_user(b, ALICE, ask_from_all, NULL);
    assert_int_equal(status_number(b, "undelivered"), 0);
    datagram_finish();
}

/* The kernel names the broker's user with every reply, though names are looked up with the asker's rights. */
static void expect_who_answers(const struct broker *b, int sock)
{
    static struct native_reply reply;
    struct ucred who = { 0 };
    datagram_open(b, sock, 1, at(b, "pub/a"));
    CHECK(datagram_receive(sock, &reply, &who));
    CHECK_EQ(who.uid, WORKER_UID);
    CHECK_EQ(who.gid, WORKER_UID);
    fd_close_many(reply.fds, reply.n_fds);
}

static void look_who_answers(struct client_env *env)
{
    char path[DIR_MAX + 16];
    const char *names[] = { NULL, path };
    snprintf(path, sizeof path, "%s", at(env->broker, "al/s"));
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        int sock = asker_new(names[i]);
        expect_who_answers(env->broker, sock);
        asker_connect(env->broker, sock);
        expect_who_answers(env->broker, sock);
    }
    unlink(path);
}

/* Whoever else knows the name can send there too, but not to a socket that is connected. */
static void others_answer(struct client_env *env)
{
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    int own = asker_new(NULL), stranger = asker_new(NULL);
    CHECK_EQ(getsockname(own, (struct sockaddr *)&name, &len), 0);
    CHECK_EQ(sendto(stranger, "x", 1, 0, (const struct sockaddr *)&name, len), 1);
    CHECK_EQ(recv(own, &(char){ 0 }, 1, 0), 1);
    asker_connect(env->broker, own);
    CHECK_EQ(sendto(stranger, "x", 1, 0, (const struct sockaddr *)&name, len), -1);
    CHECK_EQ(errno, EPERM);
    expect_datagram(env->broker, own, "pub/a", "pub a\n");
}

static void test_who_answers(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 1");
    as_user(b, ALICE, look_who_answers, NULL);
    as_user(b, BOB, others_answer, NULL);
    datagram_finish();
}

/* ---- who cannot be answered ---- */

/* Its request is not even looked at. */
static void ask_without_a_name(struct client_env *env)
{
    uint8_t out[512];
    int sock = asker_unbound();
    size_t len = native_open(out, sizeof out, 1, at(env->broker, "pub/a"));
    CHECK_EQ(datagram_send(env->broker, sock, out, len, 0), 0);
    expect_silence(sock);
}

static void ask_from_relative(struct client_env *env)
{
    CHECK_EQ(chdir(at(env->broker, "al")), 0);
    int sock = asker_new("s");
    datagram_open(env->broker, sock, 1, at(env->broker, "pub/a"));
    expect_silence(sock);
    CHECK_EQ(unlink("s"), 0);
}

/* The name leads nowhere any more when the reply comes. */
static void ask_and_unlink(struct client_env *env)
{
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(env->broker, "al/s"));
    int sock = asker_new(path);
    datagram_open(env->broker, sock, 1, at(env->broker, "pub/a"));
    CHECK_EQ(unlink(path), 0);
    shared->step = 1;
    wait_for_step(2);
    expect_silence(sock);
}

static void test_no_answer(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    as_user(b, ALICE, ask_without_a_name, NULL);
    expect_undelivered(b, 1);
    assert_int_equal(audit_count(b, NULL, NULL), 0);
    as_user(b, ALICE, ask_from_relative, NULL);
    expect_undelivered(b, 2);
    pid_t courier = courier_hold(b), alice = client_begin(b, ALICE, ask_and_unlink, NULL);
    EXPECT_STEP(1);
    courier_go(courier);
    expect_undelivered(b, 3);
    shared->step = 2;
    assert_int_equal(child_wait(alice), 0);
    as_user(b, ALICE, ask_by_datagram, NULL);
    datagram_finish();
}

/* ---- every type of message ---- */

static const struct {
    const char *path, *text;
    int error;
} files[] = {
    { "pub/a", "pub a\n", 0 },    { "secret/f", NULL, EACCES },  { "pub/b", "pub b\n", 0 },
    { "pub/none", NULL, ENOENT }, { "pub/sub/c", NULL, EACCES },
};

static void fill_batch(const struct broker *b, const char *paths[WIRE_MAX_ENTRIES])
{
    static char all[ARRAY_SIZE(files)][DIR_MAX + 16];
    for (size_t i = 0; i < WIRE_MAX_ENTRIES; i++) {
        char *path = all[i % ARRAY_SIZE(files)];
        snprintf(path, sizeof all[0], "%s", at(b, files[i % ARRAY_SIZE(files)].path));
        paths[i] = path;
    }
}

static void expect_batch(const struct native_reply *reply, uint32_t id, uint16_t n)
{
    size_t next = 0;
    CHECK_EQ(reply->header.id, id);
    CHECK_EQ(reply->header.type, WIRE_OPEN | WIRE_REPLY);
    CHECK_EQ(reply->header.count, n);
    for (size_t i = 0; i < n; i++) {
        struct wire_result result = native_result(reply, i);
        CHECK_EQ(result.error, files[i % ARRAY_SIZE(files)].error);
        CHECK_EQ(result.fd_index, result.error ? WIRE_NO_FD : next);
        if (!result.error)
            CHECK(fd_reads(reply->fds[next++], files[i % ARRAY_SIZE(files)].text));
    }
    CHECK_EQ(reply->n_fds, next);
}

static void ask_batches(struct client_env *env)
{
    static struct native_reply reply;
    const char *paths[WIRE_MAX_ENTRIES], *same[WIRE_MAX_ENTRIES];
    const uint16_t counts[] = { 1, 2, 64, 253, 253, 3 };
    int sock = asker_new(NULL);
    fill_batch(env->broker, paths);
    for (uint32_t c = 0; c < ARRAY_SIZE(counts); c++) {
        datagram_ask(env->broker, sock, WIRE_OPEN, c, paths, counts[c]);
        CHECK(datagram_receive(sock, &reply, NULL));
        expect_batch(&reply, c, counts[c]);
        fd_close_many(reply.fds, reply.n_fds);
    }
    for (size_t i = 0; i < WIRE_MAX_ENTRIES; i++)
        same[i] = paths[0];
    datagram_ask(env->broker, sock, WIRE_OPEN, 9, same, WIRE_MAX_ENTRIES);
    CHECK(datagram_receive(sock, &reply, NULL));
    CHECK_EQ(reply.n_fds, WIRE_MAX_ENTRIES); /* as many as one message can take */
    datagram_ask(env->broker, sock, WIRE_CHECK, 10, paths, WIRE_MAX_ENTRIES);
    CHECK(datagram_receive(sock, &reply, NULL));
    CHECK_EQ(reply.header.type, WIRE_CHECK | WIRE_REPLY);
    CHECK_EQ(reply.n_fds, 0);
    for (size_t i = 0; i < WIRE_MAX_ENTRIES; i++)
        CHECK_EQ(native_result(&reply, i).error, files[i % ARRAY_SIZE(files)].error == EACCES ? EACCES : 0);
}

static void test_batches(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    as_user(b, ALICE, ask_batches, NULL);
    datagram_finish();
}

/* The same text as on a connection, and as long as a message can be. */
static void ask_list_and_hello(struct client_env *env)
{
    static struct native_reply reply;
    static uint8_t other[WIRE_MAX_MESSAGE], out[WIRE_HEADER_SIZE];
    struct wire_hello hello;
    int sock = asker_new(NULL), packet = raw_connect(env->broker);
    datagram_ask(env->broker, sock, WIRE_LIST, 5, NULL, 0);
    CHECK(datagram_receive(sock, &reply, NULL));
    CHECK_EQ(reply.header.id, 5);
    CHECK(reply.header.length > 60000);
    CHECK_EQ(send(packet, out, native_batch(out, sizeof out, WIRE_LIST, 5, 0, NULL, 0), 0), sizeof out);
    CHECK_EQ(recv(packet, other, sizeof other, 0), reply.header.length);
    CHECK(memcmp(other, reply.bytes, reply.header.length) == 0);
    datagram_ask(env->broker, sock, WIRE_HELLO, 6, NULL, 0);
    CHECK(datagram_receive(sock, &reply, NULL));
    CHECK_EQ(wire_decode_hello(reply.bytes + WIRE_HEADER_SIZE, WIRE_HELLO_SIZE, &hello), 0);
    CHECK_EQ(hello.version, WIRE_VERSION);
    CHECK_EQ(hello.max_entries, WIRE_MAX_ENTRIES);
    CHECK_EQ(hello.generation, 1);
}

static void test_list_and_hello(void **state)
{
    (void)state;
    enum { RULES = 3000, RULE_MAX = 64 };
    struct broker *b;
    char *text = calloc(RULES, RULE_MAX);
    assert_non_null(text);
    for (size_t i = 0, len = 0; i < RULES; i++)
        len += (size_t)snprintf(text + len, RULE_MAX, "allow user:2001 read @/pub/%zu\n", i);
    b = datagram_begin(text, "workers 1");
    free(text);
    as_user(b, ALICE, ask_list_and_hello, NULL);
    datagram_finish();
}

/* ---- what is no request ---- */

static void send_nonsense(struct client_env *env)
{
    static uint8_t out[200000];
    const struct broker *b = env->broker;
    int *sent = env->data, sock = asker_new(NULL);
    size_t len = native_open(out, sizeof out, 1, at(b, "pub/a"));
    const size_t lens[] = { 0, 1, 15, 16, len - 1, len + 1, len + 4, WIRE_MAX_MESSAGE + 1, sizeof out };
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++, ++*sent)
        CHECK_EQ(datagram_send(b, sock, out, lens[i], 0), 0);
    const struct {
        size_t at;
        uint8_t byte;
    } wrong[] = { { 0, 'f' }, { 5, 1 },    { 7, 0x80 }, { 8, 0 }, { 8, 3 },
                  { 8, 5 },   { 9, 0x80 }, { 10, 0 },   { 10, 2 } };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++, ++*sent) { /* magic, length, type, count */
        uint8_t before = out[wrong[i].at];
        out[wrong[i].at] = wrong[i].byte;
        CHECK_EQ(datagram_send(b, sock, out, len, 0), 0);
        out[wrong[i].at] = before;
    }
    expect_silence(sock);
    expect_datagram(b, sock, "pub/a", "pub a\n"); /* the same socket is as good as before */
}

static void send_garbage(struct client_env *env)
{
    static uint8_t out[2048];
    int *sent = env->data, sock = asker_new(NULL);
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    for (int i = 0; i < 2000; i++, ++*sent) {
        size_t len = (size_t)rand_r(&seed) % sizeof out;
        for (size_t k = 0; k < len; k++)
            out[k] = (uint8_t)rand_r(&seed);
        memcpy(out, "FOB1", i % 2 ? 4 : 0);
        CHECK_EQ(datagram_send(env->broker, sock, out, len, 0), 0);
    }
    expect_datagram(env->broker, sock, "pub/a", "pub a\n");
}

static void test_malformed(void **state)
{
    (void)state;
    struct broker *b;
    int *sent = mmap(NULL, sizeof *sent, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    b = datagram_begin(policy, "workers 2");
    as_user(b, ALICE, send_nonsense, sent);
    EXPECT_SOON(status_number(b, "malformed") >= *sent);
    assert_int_equal(status_number(b, "malformed"), *sent);
    as_user(b, ALICE, send_garbage, sent);
    EXPECT_SOON(status_number(b, "malformed") >= *sent);
    assert_int_equal(status_number(b, "malformed"), *sent);
    as_user(b, BOB, ask_by_datagram, NULL);
    munmap(sent, sizeof *sent);
    datagram_finish();
}

/* 29: descriptors do not even get in (SO_PASSRIGHTS, Linux 6.16). */
static void send_descriptors(struct client_env *env)
{
    struct sockaddr_un to;
    uint8_t out[512];
    int fds[WIRE_MAX_ENTRIES], sock = asker_new(NULL), len = sock_address(&to, at(env->broker, "dgram"));
    size_t size = native_open(out, sizeof out, 1, at(env->broker, "pub/a"));
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = STDIN_FILENO;
    if (msg_send_to(sock, &to, (socklen_t)len, out, size, fds, 1) == 0)
        skip_in_client("this kernel lets descriptors in");
    CHECK_EQ(msg_send_to(sock, &to, (socklen_t)len, out, size, fds, 1), -EPERM);
    CHECK_EQ(msg_send_to(sock, &to, (socklen_t)len, out, size, fds, ARRAY_SIZE(fds)), -EPERM);
    expect_silence(sock);
    expect_datagram(env->broker, sock, "pub/a", "pub a\n");
}

static void test_29_descriptors(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(policy, "workers 2");
    as_user(b, ALICE, send_descriptors, NULL);
    datagram_finish();
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        DATAGRAMS(test_names),          DATAGRAMS(test_who_answers),    DATAGRAMS(test_no_answer),
        DATAGRAMS(test_batches),        DATAGRAMS(test_list_and_hello), DATAGRAMS(test_malformed),
        DATAGRAMS(test_29_descriptors),
    };
    return cmocka_run_group_tests_name("datagrams", tests, shared_setup, NULL);
}
