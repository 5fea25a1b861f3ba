/*
 * threats.md, 74: descriptors that a client has not taken, of connections that have ended meanwhile. In the
 * kernel they are on their way still, and counted for the broker's user (unix(7), ETOOMANYREFS): with enough
 * of them nobody could be sent any.
 */
#include "attacks.h"

#include <poll.h>
#include <sys/resource.h>

enum {
    LIMIT = 1024, /* what may be on its way of one user: RLIMIT_NOFILE */
    FEW = 15,     /* so many may be unread when the next message is read */
    ROUNDS = 6,   /* of what one user may have on its way, all of them together would be too much */
};

static const char policy[] = "allow user:2001 read @/pub/**\n"
                             "allow user:2002 read @/pub/**\n";

static void send_open(const struct broker *broker, int sock, unsigned entries)
{
    static uint8_t out[WIRE_MAX_MESSAGE];
    const char *path = at(broker, "pub/a");
    size_t len = WIRE_HEADER_SIZE;
    for (unsigned i = 0; i < entries; i++)
        len += wire_encode_entry(out + len, sizeof out - len, WIRE_READ, 0, path, strlen(path));
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, (uint16_t)entries, 1 };
    wire_encode_header(out, sizeof out, &header);
    CHECK_EQ(msg_send(sock, out, len, NULL, 0, NULL, 0), 0);
}

/* A connection whose reply is there, and stays there. */
static int ask_unread(const struct broker *broker, unsigned entries)
{
    int sock = raw_connect(broker);
    send_open(broker, sock, entries);
    struct pollfd polled = { .fd = sock, .events = POLLIN };
    CHECK_EQ(poll(&polled, 1, 10000), 1);
    return sock;
}

static void hang_up(const struct broker *broker)
{
    shutdown(ask_unread(broker, WIRE_MAX_ENTRIES), SHUT_RDWR);
}

static void stop_sending(const struct broker *broker)
{
    shutdown(ask_unread(broker, FEW), SHUT_WR);
}

/* The next reply cannot be sent. */
static void stop_receiving(const struct broker *broker)
{
    int sock = ask_unread(broker, FEW);
    shutdown(sock, SHUT_RD);
    send_open(broker, sock, 1);
}

static void be_malformed(const struct broker *broker)
{
    static const char message[] = "no message at all";
    int sock = ask_unread(broker, FEW);
    CHECK_EQ(send(sock, message, sizeof message, MSG_NOSIGNAL), sizeof message);
}

typedef void end_fn(const struct broker *broker);
static const struct way {
    const char *name;
    end_fn *end;
    unsigned entries;
} ways[] = {
    { "shutdown(SHUT_RDWR)", hang_up, WIRE_MAX_ENTRIES },
    { "shutdown(SHUT_WR)", stop_sending, FEW },
    { "shutdown(SHUT_RD)", stop_receiving, FEW },
    { "a malformed message", be_malformed, FEW },
};

/* More than enough in each round; what is left of the last one stays. */
static void pile_up(struct client_env *env)
{
    const struct way *way = env->data;
    for (int round = 0; round < ROUNDS; round++) {
        wait_for_step(2 * round);
        for (unsigned n = 0; n < 2 * WIRE_MAX_ENTRIES; n += way->entries)
            way->end(env->broker);
        usleep(100000); /* the last end is noticed */
        shared->step = 2 * round + 1;
    }
    pause();
}

static void expect_bob_is_served(const struct way *way)
{
    struct broker b;
    print_message("%s\n", way->name);
    begin_as(&b, own_uid(), policy, "workers 1\nmax-connections-per-user 400\n");
    b.uncounted = true;
    shared->step = 0;
    pid_t alice = client_begin(&b, ALICE, pile_up, (void *)(uintptr_t)way);
    for (int round = 0; round < ROUNDS; round++) {
        EXPECT_STEP(2 * round + 1);
        as_user(&b, BOB, expect_served, NULL);
        reload(&b); /* what waits is counted by the next worker too */
        shared->step = 2 * round + 2;
    }
    client_kill(alice);
    EXPECT_SOON(workers_are_quiet(&b, 1));
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

/* The limit is not raised again. */
static void test_74_connections_that_ended(void **state)
{
    (void)state;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ LIMIT, LIMIT }), 0);
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
        expect_bob_is_served(&ways[i]);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_74_connections_that_ended),
    };
    return cmocka_run_group_tests_name("descriptors in flight", tests, shared_setup, NULL);
}
