/*
 * fob cat PATH...
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

enum { GROUP = 253, CHUNK = 1 << 30 }; /* a group is one message, if the paths are not very long */

static char buffer[1 << 16];

static bool write_all(const char *bytes, size_t len)
{
    while (len) {
        ssize_t n = write(STDOUT_FILENO, bytes, len);
        if (n < 0 && errno != EINTR)
            return false;
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* 0; a positive errno of reading, or -1: standard output failed. */
static int copy_by_hand(int fd)
{
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return errno;
        if (n > 0 && !write_all(buffer, (size_t)n))
            return -1;
    }
}

/* In the kernel where it can: sendfile(2) to a pipe, a socket or a file. What it cannot is finished by hand,
 * from where it stands. A small file is quicker by hand: sendfile(2) has its own pipe to set up. */
static int copy(int fd, const struct stat *st)
{
    ssize_t n;
    if (S_ISREG(st->st_mode) && st->st_size <= (off_t)sizeof buffer)
        return copy_by_hand(fd);
    do
        n = sendfile(STDOUT_FILENO, fd, NULL, CHUNK);
    while (n > 0 || (n < 0 && errno == EINTR));
    if (n == 0)
        return 0;
    if (errno == EPIPE || errno == ENOSPC)
        return -1;
    return copy_by_hand(fd);
}

static int copy_one(const char *path, int fd)
{
    struct stat st;
    int error = fstat(fd, &st) < 0 ? errno : S_ISDIR(st.st_mode) ? EISDIR : copy(fd, &st);
    close(fd);
    if (error > 0)
        cli_say(path, error);
    return error;
}

/* ---- in groups, opened together ---- */

struct group {
    char **names;
    size_t n;
    char *paths[GROUP]; /* NULL: errors[] says why */
    int errors[GROUP];
    struct fob_request requests[GROUP];
};

static void group_open(struct cli *cli, struct group *group)
{
    for (size_t i = 0; i < group->n; i++) {
        group->paths[i] = cli_path(group->names[i]);
        group->errors[i] = errno;
        group->requests[i] = (struct fob_request){ .path = group->paths[i] ? group->paths[i] : "" };
    }
    fob_open_many(cli->fob, group->requests, group->n);
}

/* 0; a positive number: it failed, and that was said; -1: standard output failed. */
static int print_one(struct cli *cli, struct group *group, size_t i)
{
    struct fob_request *request = &group->requests[i];
    const char *path = group->paths[i];
    int error = path ? request->error : group->errors[i];
    if (path && error == EMFILE) { /* no room for all of them together: those before it are closed now */
        request->fd = fob_open(cli->fob, path, O_RDONLY, 0);
        error = errno;
    }
    if (request->fd >= 0)
        return copy_one(path, request->fd);
    cli_say(path ? path : group->names[i], error);
    return error;
}

/* STATUS_DONE, STATUS_FAILED; -1: standard output failed, and what is left open goes with the process. */
static int group_print(struct cli *cli, struct group *group)
{
    int status = STATUS_DONE;
    for (size_t i = 0; i < group->n && status >= 0; i++) {
        int error = print_one(cli, group, i);
        status = error < 0 ? -1 : error > 0 ? STATUS_FAILED : status;
        free(group->paths[i]);
    }
    return status;
}

/* Half of the descriptors that this process may have; the other half is for those that it was given. */
static size_t group_size(size_t names)
{
    struct rlimit limit;
    size_t most = GROUP;
    if (names > 1 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 2 < GROUP)
        most = limit.rlim_cur / 2;
    return names < most ? names : most;
}

int command_cat(struct cli *cli, int argc, char **argv)
{
    static struct group group; /* not on the stack, where to reserve it is to touch it */
    int status = STATUS_DONE;
    if (getopt(argc, argv, "+") != -1 || optind == argc)
        return cli_usage_error(argv[0], "cat: needs a path");
    for (int i = optind; i < argc; i += (int)group.n) {
        group.names = argv + i;
        group.n = group_size((size_t)(argc - i));
        group_open(cli, &group);
        int got = group_print(cli, &group);
        if (got < 0) {
            fprintf(stderr, "fob: standard output: %s\n", strerror(errno));
            return STATUS_FAILED;
        }
        status = got ? got : status;
    }
    return status;
}
