/*
 * threats.md, section G: clients who ask for too much, or for nothing at all. What holds in every test:
 * somebody else is answered meanwhile. What one user may have (75, 76, 79): test_quotas.c; file systems that
 * hang (81 to 84): test_slow.c.
 */
#include "attacks.h"

#include <sys/resource.h>

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n";

enum {
#ifdef FOB_SANITIZE
    GROWTH_KB = 200 * 1024, /* of a run time that keeps what was freed */
#else
    GROWTH_KB = 10 * 1024,
#endif
    FLOODERS = 8,
    CONNECTIONS = 300,
    ROOM = 100,    /* descriptors that are left to the worker for them */
    PER_USER = 64, /* connections */
};

/* ---- messages of many entries ---- */

static uint8_t message[WIRE_MAX_MESSAGE];

static size_t message_begin(void)
{
    return WIRE_HEADER_SIZE;
}

static size_t message_add(size_t len, const char *path, size_t path_len)
{
    size_t n = wire_encode_entry(message + len, sizeof message - len, WIRE_READ, 0, path, path_len);
    CHECK(n > 0);
    return len + n;
}

/* Sends and takes the answer; how many descriptors came. */
static size_t message_ask(int sock, size_t len, unsigned count)
{
    static uint8_t in[WIRE_MAX_MESSAGE];
    static struct msg_in reply;
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, (uint16_t)count, 1 };
    wire_encode_header(message, sizeof message, &header);
    CHECK_EQ(msg_send(sock, message, len, NULL, 0, NULL, 0), 0);
    CHECK_EQ(msg_recv(sock, in, sizeof in, 0, &reply), 1);
    CHECK_EQ(reply.len, WIRE_HEADER_SIZE + count * WIRE_RESULT_SIZE);
    count_requests(count);
    fd_close_many(reply.fds, reply.n_fds);
    return reply.n_fds;
}

/* ---- 77: no descriptor left ---- */

static int highest_fd(pid_t pid)
{
    char path[64];
    int highest = 2;
    for (int fd = 3; fd < 1024; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
        if (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            highest = fd;
    }
    return highest;
}

struct room {
    pid_t worker;
    rlim_t max;
};

/* As the worker's user: of others' limits root is no master without CAP_SYS_RESOURCE. */
static void set_limit(struct client_env *env)
{
    const struct room *room = env->data;
    CHECK_EQ(prlimit(room->worker, RLIMIT_NOFILE, &(struct rlimit){ room->max, room->max }, NULL), 0);
}

static void leave_room(const struct broker *b, uid_t uid)
{
    struct room room;
    assert_int_equal(broker_workers(b, &room.worker, 1), 1);
    room.max = (rlim_t)highest_fd(room.worker) + 1 + ROOM;
    as_user(b, uid, set_limit, &room);
}

static bool has_ended(int sock, int flags)
{
    return recv(sock, &(char){ 0 }, 1, flags) == 0;
}

/* Connections that are over are closed, and those that are held are refused files: there is no descriptor for
 * these either. */
static void take_all_descriptors(struct client_env *env)
{
    int socks[CONNECTIONS], fd, held = 0;
    for (int i = 0; i < CONNECTIONS; i++)
        socks[i] = raw_connect(env->broker);
    CHECK(has_ended(socks[CONNECTIONS - 1], 0)); /* so all before it were accepted */
    for (int i = 0; i < CONNECTIONS - 1; i++)
        if (!has_ended(socks[i], MSG_DONTWAIT)) {
            CHECK_EQ(raw_open(socks[i], at(env->broker, "pub/a"), WIRE_READ, 0, &fd), EMFILE);
            held++;
        }
    CHECK(held > ROOM / 2 && held <= ROOM + 20);
    shared->step = 1;
    pause();
}

static void test_77_no_descriptor_left(void **state)
{
    (void)state;
    struct broker b;
    const uid_t uid = own_uid();
    begin_as(&b, uid, policy, "workers 1\nmax-connections-per-user 400\n");
    leave_room(&b, uid);
    pid_t alice = client_begin(&b, ALICE, take_all_descriptors, NULL);
    EXPECT_STEP(1);
    expect_idle(&b);
    client_kill(alice);
    EXPECT_SOON(workers_are_quiet(&b, 1));
    as_user(&b, ALICE, expect_served, NULL); /* by itself */
    broker_finish(&b);
}

/* ---- 78: who says nothing ---- */

static void say_nothing(struct client_env *env)
{
    int socks[PER_USER], fd;
    for (int i = 0; i < PER_USER; i++)
        socks[i] = raw_connect(env->broker);
    /* A packet is whole or wrong: a request that comes byte by byte is none. */
    CHECK_EQ(send(socks[0], "FOB1", 4, MSG_NOSIGNAL), 4);
    CHECK_EQ(send(socks[1], "F", 1, MSG_NOSIGNAL), 1);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(recv(socks[i], &(char){ 0 }, 1, 0), 0);
    socks[0] = raw_connect(env->broker);
    socks[1] = raw_connect(env->broker);
    int over = raw_connect(env->broker);
    CHECK_EQ(recv(over, &(char){ 0 }, 1, 0), 0);
    shared->step = 1;
    wait_for_step(2);
    for (int i = 0; i < PER_USER; i++) /* who was quiet is served as ever */
        CHECK_EQ(raw_open(socks[i], at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
}

static void test_78_quiet_connections(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    broker_start(&b, policy, "workers 1\nmax-connections-per-user 64"); /* PER_USER */
    pid_t alice = client_begin(&b, ALICE, say_nothing, NULL);
    EXPECT_STEP(1);
    expect_idle(&b);
    pid_t bob = bob_begin(&b);
    usleep(500000);
    bob_end(bob, "while 64 connections say nothing");
    shared->step = 2;
    assert_int_equal(child_wait(alice), 0);
    expect_records(&b, "\"reason\":\"malformed\"", "\"op\":\"message\"", 2);
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

/* ---- 79: requests ---- */

static void ask_without_end(struct client_env *env)
{
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(env->broker, "pub/b"));
    int fd, sock = raw_connect(env->broker);
    while (!shared->over) {
        CHECK_EQ(raw_open(sock, path, WIRE_READ, 0, &fd), 0);
        close(fd);
        shared->served++;
    }
}

static void test_79_request_flood(void **state)
{
    (void)state;
    struct broker b;
    pid_t flooders[FLOODERS];
    broker_begin(&b, policy);
    pid_t bob = bob_begin(&b);
    usleep(500000);
    bob_end(bob, "alone");
    bob = bob_begin(&b);
    for (int i = 0; i < FLOODERS; i++)
        flooders[i] = client_begin(&b, ALICE, ask_without_end, NULL);
    usleep(1000000);
    bob_end(bob, "while 8 processes of alice ask without end");
    for (int i = 0; i < FLOODERS; i++)
        assert_int_equal(child_wait(flooders[i]), 0);
    print_message("alice: %u opens\n", shared->served);
    broker_finish(&b);
}

/* ---- 80: memory ---- */

static void ask_for_many_paths(const struct client_env *env, int sock, unsigned first, unsigned n)
{
    char path[DIR_MAX + 64];
    size_t len = message_begin();
    for (unsigned i = first; i < first + n; i++) {
        int path_len = snprintf(path, sizeof path, "%s/pub/%08x", env->broker->dir, i);
        len = message_add(len, path, (size_t)path_len);
    }
    CHECK_EQ(message_ask(sock, len, n), 0);
}

/* As large as a message can be: 15 paths that are as long as they can be. */
static void ask_for_long_paths(const struct client_env *env, int sock, unsigned round)
{
    char path[WIRE_MAX_PATH];
    int begin = snprintf(path, sizeof path, "%s/pub/%08x", env->broker->dir, round);
    for (size_t i = (size_t)begin; i < sizeof path; i++)
        path[i] = i % 200 == 0 ? '/' : 'x';
    size_t len = message_begin();
    for (unsigned i = 0; i < 15; i++)
        len = message_add(len, path, sizeof path);
    CHECK_EQ(message_ask(sock, len, 15), 0);
}

static void ask_for_100000(struct client_env *env)
{
    enum { ROUNDS = 396 }; /* 100,188 paths */
    int sock = raw_connect(env->broker);
    const unsigned *first = env->data, rounds = *first ? ROUNDS : 4;
    for (unsigned i = 0; i < rounds; i++)
        ask_for_many_paths(env, sock, *first + i * WIRE_MAX_ENTRIES, WIRE_MAX_ENTRIES);
    for (unsigned i = 0; i < rounds / 2; i++)
        ask_for_long_paths(env, sock, *first + i);
}

static void test_80_memory(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    for (int i = 0; i < 8; i++) /* both workers have had such messages */
        as_user(&b, ALICE, ask_for_100000, &(unsigned){ 0 });
    long before = resident_kb(&b);
    as_user(&b, ALICE, ask_for_100000, &(unsigned){ 1000000 });
    long growth = resident_kb(&b) - before;
    print_message("100,188 paths, and 2,970 of 4,095 bytes: %ld kB more\n", growth);
    assert_true(growth < GROWTH_KB);
    broker_finish(&b);
}

/* ---- 86: rules and paths made to be slow ---- */

/* For alice none of them matches, and all that could have to be looked at. */
static char *make_slow_policy(void)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    fputs(policy, out);
    for (int i = 0; i < 10000; i++)
        fprintf(out, "allow user:2001,user:%d read @/priv/%d/*/a*a*a*b @/pub/**/%d\n", 10000 + i, i, i);
    for (int i = 0; i < 64; i++)
        fprintf(out, "%s user:2001 read @/priv/**/**/a*/**/a*a*a*a*/**/?*a/**/no-such-name-%d\n",
                i % 2 ? "allow" : "deny", i);
    fclose(out);
    return text;
}

/* Which the last rule's `**` can divide in so many ways. */
static size_t make_slow_path(const struct broker *b, char *path, size_t size)
{
    size_t len = (size_t)snprintf(path, size, "%s/priv", b->dir);
    while (len + 2 <= size) {
        path[len++] = '/';
        path[len++] = 'a';
    }
    return len;
}

static void ask_for_the_slow_one(struct client_env *env)
{
    char path[4000];
    size_t len = make_slow_path(env->broker, path, sizeof path);
    int64_t longest = 0;
    int fd, sock = raw_connect(env->broker);
    for (int i = 0; i < 1000; i++) {
        int64_t begin = now_us();
        CHECK_EQ(raw_ask(sock, i % 2 ? WIRE_OPEN : WIRE_CHECK, path, len, WIRE_READ, 0, &fd), EACCES);
        int64_t us = now_us() - begin;
        longest = us > longest ? us : longest;
    }
    print_message("10,000 rules, 64 made to be slow, a path of %zu bytes: at most %lld us\n", len,
                  (long long)longest);
    CHECK(longest < AT_ONCE_MS * 1000);
}

static void test_86_slow_patterns(void **state)
{
    (void)state;
    struct broker b;
    char *text = make_slow_policy();
    broker_begin(&b, text);
    free(text);
    pid_t bob = bob_begin(&b);
    as_user(&b, ALICE, ask_for_the_slow_one, NULL);
    bob_end(bob, "while alice asks for what is hard to match");
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_77_no_descriptor_left), ATTACK(test_78_quiet_connections),
        ATTACK(test_79_request_flood),      ATTACK(test_80_memory),
        ATTACK(test_86_slow_patterns),
    };
    return cmocka_run_group_tests_name("floods", tests, shared_setup, NULL);
}
