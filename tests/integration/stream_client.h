/*
 * What the tests of the stream socket share: a broker that has one, the native protocol on it, and a client
 * of APUE's open server, written from fob-protocol(7).
 */
#ifndef FOB_TESTS_STREAM_CLIENT_H
#define FOB_TESTS_STREAM_CLIENT_H

#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"

#define STREAM "stream-socket @/stream\n"

static inline void stream_begin(struct broker *b, const char *policy, const char *more_config)
{
    char config[512];
    snprintf(config, sizeof config, STREAM "%s", more_config);
    broker_prepare(b);
    broker_start(b, policy, config);
}

/* A broker that never answers fails the test, in place of stopping it. */
static inline int patient(int sock)
{
    struct timeval patience = { .tv_sec = 20 };
    CHECK(sock >= 0);
    CHECK_EQ(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    CHECK_EQ(setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), 0);
    return sock;
}

static inline int stream_connect(const struct broker *b)
{
    return patient(sock_connect(at(b, "stream"), SOCK_STREAM));
}

static inline void put(int sock, const void *bytes, size_t len)
{
    CHECK_EQ(send(sock, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Does the broker close the connection, without a reply? */
static inline bool is_closed(int sock)
{
    char byte;
    ssize_t n = recv(sock, &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static inline bool is_silent(int sock)
{
    return recv(sock, &(char){ 0 }, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* ---- native ---- */

static inline size_t native_batch(uint8_t *out, size_t size, uint16_t type, uint32_t id, uint32_t flags,
                                  const char *const *paths, uint16_t n)
{
    size_t len = WIRE_HEADER_SIZE;
    for (uint16_t i = 0; i < n; i++)
        len += wire_encode_entry(out + len, size - len, flags, 0, paths[i], strlen(paths[i]));
    struct wire_header header = { (uint32_t)len, type, n, id };
    CHECK_EQ(wire_encode_header(out, size, &header), WIRE_HEADER_SIZE);
    return len;
}

static inline size_t native_open(uint8_t *out, size_t size, uint32_t id, const char *path)
{
    return native_batch(out, size, WIRE_OPEN, id, WIRE_READ, &path, 1);
}

struct native_reply {
    struct wire_header header;
    size_t n_fds;
    int fds[MSG_MAX_FDS];
    uint8_t bytes[WIRE_MAX_MESSAGE];
};

/* All of it: the header, with the descriptors, and what belongs to it. False: the connection has ended. */
static inline bool native_receive(int sock, struct native_reply *reply)
{
    static struct msg_in in;
    size_t have = 0, want = WIRE_HEADER_SIZE;
    reply->n_fds = 0;
    while (have < want) {
        int got = msg_recv(sock, reply->bytes + have, want - have, 0, &in);
        if (got == 0 || got == -ECONNRESET)
            return CHECK_EQ(have, 0), false;
        CHECK_EQ(got, 1);
        CHECK(in.n_fds == 0 || have == 0);
        for (size_t i = 0; i < in.n_fds; i++)
            reply->fds[reply->n_fds++] = in.fds[i];
        have += in.len;
        if (have == WIRE_HEADER_SIZE && want == have)
            want = (size_t)wire_message_length(reply->bytes);
    }
    CHECK_EQ(wire_decode_header(reply->bytes, have, &reply->header), 0);
    CHECK(reply->header.type & WIRE_REPLY);
    return true;
}

static inline struct wire_result native_result(const struct native_reply *reply, size_t i)
{
    struct wire_result result;
    CHECK_EQ(
        wire_decode_result(reply->bytes + WIRE_HEADER_SIZE + i * WIRE_RESULT_SIZE, WIRE_RESULT_SIZE, &result),
        0);
    return result;
}

/* The reply to an OPEN of one entry, with this id: its error, and its descriptor. -1: none came. */
static inline int native_answer(int sock, uint32_t id, int *fd)
{
    static struct native_reply reply;
    *fd = -1;
    if (!native_receive(sock, &reply))
        return -1;
    CHECK_EQ(reply.header.id, id);
    CHECK_EQ(reply.header.type, WIRE_OPEN | WIRE_REPLY);
    CHECK_EQ(reply.header.count, 1);
    struct wire_result result = native_result(&reply, 0);
    CHECK_EQ(reply.n_fds, result.error == 0);
    *fd = reply.n_fds ? reply.fds[0] : -1;
    return result.error;
}

static inline int native_ask(int sock, const char *path, int *fd)
{
    uint8_t out[5000];
    put(sock, out, native_open(out, sizeof out, 42, path));
    count_requests(1);
    return native_answer(sock, 42, fd);
}

/* ---- APUE ---- */

enum { APUE_LINE = 4096 };

/* Text and status of the last reply that failed. */
static char apue_said[APUE_LINE];
static size_t apue_said_len;

/* "open PATH OFLAG" with its NUL, in one writev(2). */
static inline void apue_send(int sock, const char *path, int oflag)
{
    char number[16];
    int len = snprintf(number, sizeof number, " %d", oflag) + 1;
    struct iovec parts[] = { { (char *)(uintptr_t) "open ", 5 },
                             { (char *)(uintptr_t)path, strlen(path) },
                             { number, (size_t)len } };
    CHECK_EQ(writev(sock, parts, ARRAY_SIZE(parts)), (ssize_t)(5 + strlen(path)) + len);
    count_requests(1);
}

/*
 * As its clients do it: reads up to 4,096 bytes with room for one descriptor; text for people comes first;
 * then a zero and, as the last byte of all that was read, the status. With status 0 there is a descriptor,
 * which must have been the only thing in the control buffer.
 */
static inline int apue_receive(int sock, int *fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_LEN(sizeof(int))];
    } control;
    char line[APUE_LINE] = "";
    *fd = -1;
    apue_said_len = 0;
    for (;;) {
        struct iovec data = { line, sizeof line };
        struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_LEN(sizeof(int));
        ssize_t n = recvmsg(sock, &message, 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return -1;
        CHECK(n > 0);
        const char *zero = memchr(line, '\0', (size_t)n);
        size_t text = zero ? (size_t)(zero - line) : (size_t)n;
        CHECK(apue_said_len + text <= sizeof apue_said);
        memcpy(apue_said + apue_said_len, line, text);
        apue_said_len += text;
        if (!zero) {
            CHECK_EQ(message.msg_controllen, 0);
            continue;
        }
        CHECK_EQ(zero - line, n - 2);
        int status = (unsigned char)zero[1];
        CHECK_EQ(message.msg_controllen, status ? 0 : CMSG_LEN(sizeof(int)));
        CHECK_EQ(message.msg_flags & ~MSG_CMSG_CLOEXEC, 0);
        if (status == 0) {
            CHECK_EQ(control.align.cmsg_type, SCM_RIGHTS);
            memcpy(fd, CMSG_DATA(&control.align), sizeof *fd);
        }
        return status;
    }
}

/* The same for who writes ahead, and whose reads might take the beginning of the next reply too: by bytes. */
static inline int apue_next(int sock, int *fd)
{
    static struct msg_in in;
    char byte;
    apue_said_len = 0;
    *fd = -1;
    for (;;) {
        int got = msg_recv(sock, &byte, 1, 0, &in);
        if (got == 0 || got == -ECONNRESET)
            return CHECK_EQ(apue_said_len, 0), -1;
        CHECK_EQ(got, 1);
        if (byte == '\0')
            break;
        CHECK_EQ(in.n_fds, 0);
        CHECK(apue_said_len < sizeof apue_said);
        apue_said[apue_said_len++] = byte;
    }
    if (in.n_fds)
        *fd = in.fds[0];
    CHECK(in.n_fds <= 1);
    CHECK_EQ(recv(sock, &byte, 1, 0), 1);
    CHECK_EQ(byte == 0, *fd >= 0);
    return (unsigned char)byte;
}

static inline int apue_ask(int sock, const char *path, int oflag, int *fd)
{
    apue_send(sock, path, oflag);
    return apue_receive(sock, fd);
}

static inline bool apue_text_is(const char *path, const char *error)
{
    char text[APUE_LINE + 64];
    int len = snprintf(text, sizeof text, "can't open %s: %s\n", path, error);
    return apue_said_len == (size_t)len && memcmp(apue_said, text, apue_said_len) == 0;
}

/* ---- either ---- */

enum protocol { NATIVE, APUE, PROTOCOLS };

static inline void ask_for(enum protocol protocol, int sock, const char *path)
{
    uint8_t out[5000];
    if (protocol == APUE) {
        apue_send(sock, path, O_RDONLY);
        return;
    }
    put(sock, out, native_open(out, sizeof out, 42, path));
    count_requests(1);
}

/* No byte of the next one is read. */
static inline int answer(enum protocol protocol, int sock, int *fd)
{
    return protocol == APUE ? apue_next(sock, fd) : native_answer(sock, 42, fd);
}

static inline int ask_both(enum protocol protocol, int sock, const char *path, int *fd)
{
    ask_for(protocol, sock, path);
    return answer(protocol, sock, fd);
}

/* The bytes of a request to read `path`. */
static inline size_t request_bytes(enum protocol protocol, uint8_t *out, size_t size, const char *path)
{
    if (protocol == NATIVE)
        return native_open(out, size, 42, path);
    return (size_t)snprintf((char *)out, size, "open %s %d", path, O_RDONLY) + 1;
}

static inline void expect_text(enum protocol protocol, int sock, const char *path, const char *text)
{
    int fd;
    CHECK_EQ(ask_both(protocol, sock, path, &fd), 0);
    CHECK(fd_reads(fd, text));
    close(fd);
}

#endif
