/*
 * floor SOCKET LOOPS SPIN_US [DIRECTORY [FEATURE...]]: the least that an open server can do: receive a path,
 * open it, send the descriptor. No policy, no identity, no audit, no confinement. LOOPS 0: one process, which
 * blocks in recv(2) (or first looks for so many microseconds) for one client after the other. Else so many
 * processes, with an epoll loop each.
 *
 * Features add one thing that fobd does, to see what it costs when nothing else is there: see `features`.
 * Files are then beneath DIRECTORY.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../../broker/confine_steps.h"
#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "../../common/wire.h"

enum {
    EPOLL = 1 << 0,    /* wait in epoll_wait(2), not in recv(2) */
    CRED = 1 << 1,     /* credentials with every message */
    REPLY = 1 << 2,    /* a reply of fob's size, not of one byte */
    TREE = 1 << 3,     /* open in a sealed clone of the mount, by openat2(2) that follows nothing */
    LOOK = 1 << 4,     /* what is it? before it is opened */
    STAT = 1 << 5,     /* and after */
    FLAGS = 1 << 6,    /* O_NONBLOCK of the opening taken back */
    UNREAD = 1 << 7,   /* has the client read its last reply? */
    AUDIT = 1 << 8,    /* a record of 400 bytes, written at once */
    SECCOMP = 1 << 9,  /* the filter of fobd's workers (with openat2 for open) */
    LANDLOCK = 1 << 10 /* DIRECTORY alone can be read */
};

static const struct {
    const char *name;
    unsigned bit;
} features[] = {
    { "epoll", EPOLL }, { "cred", CRED },       { "reply", REPLY },       { "tree", TREE },
    { "look", LOOK },   { "stat", STAT },       { "flags", FLAGS },       { "unread", UNREAD },
    { "audit", AUDIT }, { "seccomp", SECCOMP }, { "landlock", LANDLOCK },
};

static unsigned has;
static unsigned spin_us;
static int tree = AT_FDCWD, audit = -1, epoll = -1;
static size_t skip; /* of a path, to be relative to tree */

/* ---- one request ---- */

static int open_file(const char *path)
{
    if (!(has & (TREE | SECCOMP)))
        return openat(tree, path, O_RDONLY | O_CLOEXEC);
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC };
    if (has & TREE)
        how = (struct open_how){
            .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW,
            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        };
    return (int)syscall(SYS_openat2, tree, path, &how, sizeof how);
}

static void record(void)
{
    static char line[400];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\n';
    fd_write_all(audit, line, sizeof line);
}

static int answer(int client, char *path)
{
    static const uint8_t reply[WIRE_HEADER_SIZE + WIRE_RESULT_SIZE];
    struct stat st;
    path += skip;
    if (has & LOOK)
        fstatat(tree, path, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
    int fd = open_file(path);
    if (has & STAT)
        fstat(fd, &st);
    if (has & FLAGS)
        fcntl(fd, F_SETFL, 0);
    int err = msg_send(client, reply, has & REPLY ? sizeof reply : 1, &fd, fd >= 0, NULL, 0);
    if (has & AUDIT)
        record();
    close(fd);
    return err;
}

static ssize_t receive_once(int client, char *path, size_t size, int flags)
{
    struct ucred cred;
    size_t len;
    if (!(has & CRED)) {
        ssize_t n = recv(client, path, size, flags);
        return n < 0 ? -errno : n;
    }
    int got = msg_recv_cred(client, path, size, flags, &len, &cred);
    return got == 1 ? (ssize_t)len : got;
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static ssize_t receive(int client, char *path, size_t size)
{
    struct epoll_event event;
    int64_t end = spin_us ? now_us() + spin_us : 0;
    if (has & EPOLL)
        epoll_wait(epoll, &event, 1, -1);
    if (has & UNREAD)
        msg_unread(client);
    while (spin_us && now_us() < end) {
        ssize_t n = receive_once(client, path, size, MSG_DONTWAIT);
        if (n != -EAGAIN)
            return n;
    }
    return receive_once(client, path, size, has & EPOLL ? MSG_DONTWAIT : 0);
}

static int serve_one(int client)
{
    char path[4096];
    ssize_t n = receive(client, path, sizeof path - 1);
    if (n <= 0)
        return -1;
    path[n] = '\0';
    return n < (ssize_t)skip ? -1 : answer(client, path);
}

/* ---- all requests ---- */

static void block(int listener)
{
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        struct epoll_event event = { .events = EPOLLIN };
        if (has & EPOLL)
            epoll_ctl(epoll, EPOLL_CTL_ADD, client, &event);
        while (client >= 0 && serve_one(client) == 0)
            ;
        close(client);
    }
}

static void loop(int listener)
{
    struct epoll_event events[64], event = { .events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = listener };
    epoll = epoll_create1(EPOLL_CLOEXEC); /* not one that is shared: measured, it gains nothing */
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd,
                client = fd == listener ? accept4(listener, NULL, NULL, SOCK_NONBLOCK) : -1;
            event = (struct epoll_event){ .events = EPOLLIN, .data.fd = client };
            if (client >= 0)
                epoll_ctl(epoll, EPOLL_CTL_ADD, client, &event);
            else if (fd != listener && serve_one(fd) < 0)
                close(fd);
        }
    }
}

/* ---- setting up ---- */

static int fail(const char *what, int err)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(-err));
    return err;
}

/* By the steps that fobd itself takes. */
static int confine(char *directory)
{
    struct mounts_root root = { .path = directory,
                                .path_len = strlen(directory),
                                .rights = RIGHT_READ,
                                .read_only = -1,
                                .read_write = -1,
                                .plain = open(directory, O_PATH | O_CLOEXEC) };
    struct mounts mounts = { .roots = &root, .n_roots = 1, .slash = -1 };
    unsigned abi;
    int err = root.plain < 0 ? -errno : 0;
    if (err == 0 && has & TREE) {
        tree = root.read_only = mounts_clone(root.plain, true);
        skip = root.path_len + 1;
        err = tree < 0 ? tree : 0;
    }
    if (err == 0 && has & (LANDLOCK | SECCOMP) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        err = -errno;
    if (err == 0 && has & LANDLOCK)
        err = confine_landlock(&mounts, &abi);
    if (err == 0 && has & SECCOMP)
        err = confine_seccomp_worker(true);
    return err < 0 ? fail("cannot be confined", err) : 0;
}

static int parse_features(char **words, int n)
{
    for (int w = 0; w < n; w++) {
        unsigned before = has;
        for (size_t i = 0; i < ARRAY_SIZE(features); i++)
            if (strcmp(words[w], features[i].name) == 0)
                has |= features[i].bit;
        if (has == before)
            return fail(words[w], -EINVAL);
    }
    return 0;
}

static int open_listener(const char *path, bool blocks)
{
    struct sockaddr_un address;
    int len = sock_address(&address, path);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | (blocks ? 0 : SOCK_NONBLOCK), 0);
    if (len < 0 || listener < 0 || (has & CRED && sock_set_receive_options(listener) < 0) ||
        bind(listener, (struct sockaddr *)&address, (socklen_t)len) < 0 || listen(listener, 1024) < 0)
        return fail(path, -errno);
    return listener;
}

static int open_audit(const char *socket)
{
    char path[256];
    snprintf(path, sizeof path, "%s.audit", socket);
    audit = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return audit < 0 ? fail(path, -errno) : 0;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fputs("usage: floor SOCKET LOOPS SPIN_US [DIRECTORY [FEATURE...]]\n", stderr);
        return 2;
    }
    const int loops = atoi(argv[2]);
    spin_us = (unsigned)atoi(argv[3]);
    signal(SIGPIPE, SIG_IGN);
    if (argc > 5 && parse_features(argv + 5, argc - 5) < 0)
        return 2;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    int listener = open_listener(argv[1], loops == 0);
    if (listener < 0 || (has & AUDIT && open_audit(argv[1]) < 0) || (has && confine(argv[4]) < 0))
        return 1;
    for (int i = 1; i < loops; i++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            break;
        }
    if (loops > 0)
        loop(listener);
    block(listener);
}
