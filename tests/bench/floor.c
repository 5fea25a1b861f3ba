/*
 * The floor: what it costs to pass a descriptor, and nothing else. No policy, no identity, no audit, no confinement.
 *
 *     floor [-p N] [-f] SOCKET
 *         serves one connection after the other: blocking recvmsg, open, sendmsg
 *     -p N    N processes share the listening socket, each with an epoll loop
 *     -f      speaks fob's protocol (batches too) and checks nothing: tells what of fob's price is its protocol's
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/wire.h"

static void fail(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- the floor: a path comes in, one byte (0 or an errno) goes out, with the descriptor ---- */

static int serve_path(int sock)
{
    char path[4096];
    struct iovec data = { .iov_base = path, .iov_len = sizeof path - 1 };
    struct msghdr in = { .msg_iov = &data, .msg_iovlen = 1 };
    ssize_t n = recvmsg(sock, &in, 0);
    if (n <= 0)
        return -1;
    path[n] = '\0';

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control = { .header = { CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS } };
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    uint8_t status = fd < 0 ? (uint8_t)errno : 0;
    data = (struct iovec){ .iov_base = &status, .iov_len = 1 };
    struct msghdr out = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control };
    out.msg_controllen = fd < 0 ? 0 : sizeof control;
    n = sendmsg(sock, &out, MSG_NOSIGNAL);
    if (fd >= 0)
        close(fd);
    return n < 0 ? -1 : 0;
}

/* ---- the same in fob's protocol ---- */

static uint8_t message[WIRE_MAX_MESSAGE];

static int open_entry(const struct wire_entry *entry, struct wire_result *result, int *fds, size_t *n_fds)
{
    char path[WIRE_MAX_PATH + 1];
    memcpy(path, entry->path, entry->path_len);
    path[entry->path_len] = '\0';
    int fd = open(path, wire_flags_to_open(entry->flags) | O_CLOEXEC);
    *result = (struct wire_result){ .error = fd < 0 ? errno : 0, .fd_index = WIRE_NO_FD };
    if (fd >= 0) {
        result->fd_index = (uint32_t)*n_fds;
        fds[(*n_fds)++] = fd;
    }
    return fd;
}

static int serve_fob(int sock)
{
    uint8_t reply[WIRE_MAX_RESULTS_MESSAGE];
    struct wire_header header;
    struct wire_reader reader;
    struct wire_entry entry;
    struct wire_result result;
    int fds[WIRE_MAX_ENTRIES];
    size_t n_fds = 0, at = WIRE_HEADER_SIZE;
    ssize_t n = recv(sock, message, sizeof message, 0);
    if (n <= 0 || wire_decode_request(message, (size_t)n, &header, &reader) < 0 || header.type != WIRE_OPEN)
        return -1;
    while (wire_next_entry(&reader, &entry)) {
        open_entry(&entry, &result, fds, &n_fds);
        at += wire_encode_result(reply + at, sizeof reply - at, &result);
    }
    header.type |= WIRE_REPLY;
    header.length = (uint32_t)at;
    wire_encode_header(reply, sizeof reply, &header);
    int err = msg_send(sock, reply, at, fds, n_fds, NULL, 0);
    while (n_fds)
        close(fds[--n_fds]);
    return err;
}

/* ---- who is served when ---- */

static int (*serve)(int sock) = serve_path;

static void serve_one_after_another(int listener)
{
    for (;;) {
        int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (sock < 0)
            fail("accept");
        while (serve(sock) == 0)
            ;
        close(sock);
    }
}

static void watch(int loop, int fd, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.fd = fd };
    if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
}

static void accept_one(int loop, int listener)
{
    int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (sock >= 0)
        watch(loop, sock, EPOLLIN);
    else if (errno != EAGAIN)
        fail("accept");
}

static void serve_all(int listener)
{
    struct epoll_event events[64];
    int loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0)
        fail("epoll_create1");
    watch(loop, listener, EPOLLIN | EPOLLEXCLUSIVE);
    for (;;) {
        int n = epoll_wait(loop, events, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_one(loop, listener);
            else if (serve(fd) < 0)
                close(fd);
        }
    }
}

static int listen_on(const char *path, int flags)
{
    struct sockaddr_un address;
    int len = sock_address(&address, path);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
    if (len < 0 || listener < 0 || bind(listener, (struct sockaddr *)&address, (socklen_t)len) < 0 ||
        chmod(path, 0666) < 0 || listen(listener, 4096) < 0)
        fail(path);
    return listener;
}

int main(int argc, char **argv)
{
    int processes = 0, option;
    while ((option = getopt(argc, argv, "p:f")) != -1) {
        if (option == 'p')
            processes = atoi(optarg);
        else if (option == 'f')
            serve = serve_fob;
        else
            return 2;
    }
    if (optind != argc - 1 || processes < 0) {
        fputs("usage: floor [-p PROCESSES] [-f] SOCKET\n", stderr);
        return 2;
    }
    int listener = listen_on(argv[optind], processes ? SOCK_NONBLOCK : 0);
    if (!processes)
        serve_one_after_another(listener);
    for (int i = 1; i < processes; i++) {
        pid_t pid = fork();
        if (pid < 0)
            fail("fork");
        if (pid == 0)
            break;
    }
    serve_all(listener);
}
