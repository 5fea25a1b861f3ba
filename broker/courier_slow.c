/*
 * Replies of slow openers: close(2) of such a descriptor asks its file system, and may hang as its open(2)
 * might have (FUSE_FLUSH). So the courier never has them: a child receives them, sends them on, and ends.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "../common/util.h"
#include "courier_parts.h"

enum { TAKE_MS = 5000 };

static uint8_t peeked[sizeof(struct courier_head) + WIRE_MAX_MESSAGE];
static size_t peeked_len;

/* With no room for descriptors: none are opened here, whatever comes. */
static ssize_t receive(int sock, void *buf, size_t size, int flags)
{
    struct iovec data = { buf, size };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
    ssize_t n;
    do
        n = recvmsg(sock, &message, flags | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}

static size_t count_fds(const uint8_t *reply, size_t len)
{
    struct wire_result result;
    size_t n = 0;
    for (size_t at = WIRE_HEADER_SIZE; at + WIRE_RESULT_SIZE <= len; at += WIRE_RESULT_SIZE)
        n += wire_decode_result(reply + at, WIRE_RESULT_SIZE, &result) == 0 && result.fd_index != WIRE_NO_FD;
    return n < MSG_MAX_FDS ? n : MSG_MAX_FDS;
}

bool slow_is_next(const struct post *post, struct letter *letter)
{
    struct courier_head head;
    ssize_t n = receive(post->queue, peeked, sizeof peeked, MSG_PEEK);
    if (n <= (ssize_t)sizeof head)
        return false;
    peeked_len = (size_t)n;
    memcpy(&head, peeked, sizeof head);
    letter->to = head.to;
    letter->bytes = peeked + sizeof head;
    letter->len = peeked_len - sizeof head;
    letter->n_fds = 0;
    letter->n_sent = count_fds(letter->bytes, letter->len);
    return head.slow;
}

bool slow_take(const struct post *post, struct letter *letter)
{
    static uint8_t bytes[sizeof peeked];
    static struct msg_in in;
    int got = msg_recv(post->queue, bytes, sizeof bytes, MSG_DONTWAIT, &in);
    if (msg_send(post->taken[1], "t", 1, NULL, 0, NULL, 0) < 0 || got != 1)
        return false;
    letter->n_fds = in.n_fds;
    memcpy(letter->fds, in.fds, in.n_fds * sizeof *in.fds);
    return letter->n_sent <= in.n_fds && in.len == peeked_len && memcmp(bytes, peeked, peeked_len) == 0;
}

void slow_await(const struct post *post)
{
    struct pollfd polled = { .fd = post->taken[0], .events = POLLIN };
    char byte = 0;
    if (poll(&polled, 1, TAKE_MS) != 1 || receive(post->taken[0], &byte, 1, 0) != 1)
        _exit(1); /* the child might take the next one instead */
}

void slow_discard(const struct post *post)
{
    receive(post->queue, peeked, sizeof peeked, 0);
}
