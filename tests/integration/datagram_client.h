/*
 * What the tests of datagrams share: a broker that has such a socket, and who asks it, one request a
 * datagram, written from fob-protocol(7).
 */
#ifndef FOB_TESTS_DATAGRAM_CLIENT_H
#define FOB_TESTS_DATAGRAM_CLIENT_H

#include "attacks.h"
#include "stream_client.h"

#define COURIER "fobd-courier"

enum {
    QUIET_MS = 300, /* what has not come by then, and is not to come, does not */
};

/* ---- around every test ---- */

static struct broker tested;

static inline struct broker *datagram_begin(const char *policy_text, const char *more_config)
{
    char config[512];
    snprintf(config, sizeof config, "dgram-socket @/dgram\n%s", more_config);
    broker_prepare(&tested);
    broker_start(&tested, policy_text, config);
    return &tested;
}

static inline void datagram_finish(void)
{
    broker_finish(&tested);
    tested.pid = 0;
}

/* After a failure: nothing goes on running, nor stays stopped. */
static inline void datagram_end_all(void)
{
    struct process all[PROCESSES_MAX];
    int n = find_processes(&tested, all);
    for (int i = 1; i < n; i++)
        kill(all[i].pid, SIGCONT);
    kill(tested.pid, SIGTERM);
    for (int i = 0; i < 800 && waitpid(tested.pid, NULL, WNOHANG) == 0; i++)
        usleep(10000);
    kill(tested.pid, SIGKILL);
    tested.pid = 0;
}

static inline int datagram_clean_up(void **state)
{
    if (tested.pid > 0 && waitpid(tested.pid, NULL, WNOHANG) == 0)
        datagram_end_all();
    return shared_end(state);
}

#define DATAGRAMS(name) cmocka_unit_test_setup_teardown(name, shared_new, datagram_clean_up)

/* ---- who asks ---- */

/* Not bound, and so without an answer. */
static inline int asker_unbound(void)
{
    return patient(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

static inline int asker_try(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int sock = asker_unbound(), len = name ? sock_address(&address, name) : (int)sizeof(sa_family_t);
    CHECK(len > 0);
    CHECK_EQ(setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)), 0);
    if (bind(sock, (const struct sockaddr *)&address, (socklen_t)len) == 0)
        return sock;
    int err = -errno;
    close(sock);
    return err;
}

/* Bound to a path, to an abstract name ("@..."), or, when NULL, to one that the kernel chooses. */
static inline int asker_new(const char *name)
{
    int sock = asker_try(name);
    CHECK(sock >= 0);
    return sock;
}

/* From now on only the broker's own socket can answer. */
static inline void asker_connect(const struct broker *b, int sock)
{
    struct sockaddr_un address;
    int len = sock_address(&address, at(b, "dgram"));
    CHECK(len > 0);
    CHECK_EQ(connect(sock, (const struct sockaddr *)&address, (socklen_t)len), 0);
}

/* ---- asking ---- */

/* 0 or a negative errno. flags: MSG_DONTWAIT or 0. */
static inline int datagram_send(const struct broker *b, int sock, const void *bytes, size_t len, int flags)
{
    struct sockaddr_un address;
    int name_len = sock_address(&address, at(b, "dgram"));
    CHECK(name_len > 0);
    ssize_t n = sendto(sock, bytes, len, flags | MSG_NOSIGNAL, (const struct sockaddr *)&address,
                       (socklen_t)name_len);
    return n < 0 ? -errno : 0;
}

/* A whole request of n entries. */
static inline void datagram_ask(const struct broker *b, int sock, uint16_t type, uint32_t id,
                                const char *const *paths, uint16_t n)
{
    static uint8_t out[WIRE_MAX_MESSAGE];
    size_t len = native_batch(out, sizeof out, type, id, WIRE_READ, paths, n);
    CHECK_EQ(datagram_send(b, sock, out, len, 0), 0);
    count_requests(n);
}

static inline void datagram_open(const struct broker *b, int sock, uint32_t id, const char *path)
{
    datagram_ask(b, sock, WIRE_OPEN, id, &path, 1);
}

/* The reply; who sent it is in *who (or NULL). False: none came while the socket waits. */
static inline bool datagram_receive(int sock, struct native_reply *reply, struct ucred *who)
{
    static struct msg_in in;
    int got = msg_recv(sock, reply->bytes, sizeof reply->bytes, 0, &in);
    reply->n_fds = 0;
    if (got == -EAGAIN)
        return false;
    CHECK_EQ(got, 1);
    CHECK_EQ(in.has_cred, 1);
    for (size_t i = 0; i < in.n_fds; i++)
        reply->fds[reply->n_fds++] = in.fds[i];
    CHECK_EQ(wire_decode_header(reply->bytes, in.len, &reply->header), 0);
    CHECK(reply->header.type & WIRE_REPLY);
    if (who)
        *who = in.cred;
    return true;
}

/* The reply to one entry with this id: its error, and its descriptor. -1: none came. */
static inline int datagram_answer(int sock, uint32_t id, int *fd)
{
    static struct native_reply reply;
    *fd = -1;
    if (!datagram_receive(sock, &reply, NULL))
        return -1;
    CHECK_EQ(reply.header.id, id);
    CHECK_EQ(reply.header.count, 1);
    struct wire_result result = native_result(&reply, 0);
    *fd = reply.n_fds ? reply.fds[0] : -1;
    CHECK_EQ(*fd >= 0, result.fd_index == 0);
    return result.error;
}

static inline int datagram_try(const struct broker *b, int sock, const char *path, int *fd)
{
    datagram_open(b, sock, 42, path);
    return datagram_answer(sock, 42, fd);
}

/* Opens PATH beneath the directory, which reads as this. */
static inline void expect_datagram(const struct broker *b, int sock, const char *path, const char *text)
{
    int fd;
    CHECK_EQ(datagram_try(b, sock, at(b, path), &fd), 0);
    CHECK(fd_reads(fd, text));
    close(fd);
}

static inline void be_patient_for(int sock, int ms)
{
    struct timeval patience = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
    CHECK_EQ(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
}

/* Nothing comes. */
static inline void expect_silence(int sock)
{
    be_patient_for(sock, QUIET_MS);
    CHECK_EQ(recv(sock, &(char){ 0 }, 1, 0), -1);
    CHECK_EQ(errno, EAGAIN);
    patient(sock);
}

/* Somebody else is answered, whatever goes on: a client_fn. */
static inline void ask_by_datagram(struct client_env *env)
{
    int sock = asker_new(NULL);
    expect_datagram(env->broker, sock, "pub/a", "pub a\n");
    close(sock);
}

/* ---- the broker's side ---- */

/* The replies that went nowhere, and the datagrams that had no name. */
static inline void expect_undelivered(const struct broker *b, int n)
{
    WAIT_LONG(status_number(b, "undelivered") >= n);
    assert_int_equal(status_number(b, "undelivered"), n);
}

static inline pid_t courier_of(const struct broker *b)
{
    pid_t pid = 0;
    EXPECT_SOON((pid = find_one(b, COURIER)) > 0);
    return pid;
}

static inline char state_of(pid_t pid)
{
    return *status_of(pid, "State:");
}

/* Nothing is sent until courier_go(). */
static inline pid_t courier_hold(const struct broker *b)
{
    pid_t pid = courier_of(b);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    EXPECT_SOON(state_of(pid) == 'T');
    return pid;
}

static inline void courier_go(pid_t pid)
{
    assert_int_equal(kill(pid, SIGCONT), 0);
}

#endif
