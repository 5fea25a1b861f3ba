/*
 * fob cat PATH...
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

enum { GROUP = 64, CHUNK = 1 << 30 };

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
    static char buffer[1 << 16];
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
 * from where it stands. */
static int copy(int fd)
{
    ssize_t n;
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
    int error = fstat(fd, &st) < 0 ? errno : S_ISDIR(st.st_mode) ? EISDIR : copy(fd);
    close(fd);
    if (error > 0)
        cli_say(path, error);
    return error;
}

/* Opens up to GROUP paths in as few messages as there can be. STATUS_DONE, STATUS_FAILED; -1: standard output
 * failed. */
static int cat_group(struct cli *cli, char **paths, size_t n)
{
    struct fob_request requests[GROUP];
    int status = STATUS_DONE;
    for (size_t i = 0; i < n; i++)
        requests[i] = (struct fob_request){ .path = paths[i] ? paths[i] : "", .oflags = O_RDONLY };
    fob_open_many(cli->fob, requests, n);
    for (size_t i = 0; i < n; i++) {
        if (status < 0) {
            if (requests[i].fd >= 0)
                close(requests[i].fd);
        } else if (requests[i].fd < 0) {
            cli_say(requests[i].path, requests[i].error);
            status = STATUS_FAILED;
        } else {
            int error = copy_one(requests[i].path, requests[i].fd);
            status = error < 0 ? -1 : error > 0 ? STATUS_FAILED : status;
        }
    }
    return status;
}

static int cat_names(struct cli *cli, char **names, size_t n)
{
    char *paths[GROUP], *good[GROUP];
    size_t n_good = 0;
    int status = STATUS_DONE;
    for (size_t i = 0; i < n; i++) {
        paths[i] = cli_path(names[i]);
        if (paths[i]) {
            good[n_good++] = paths[i];
        } else {
            cli_say(names[i], errno);
            status = STATUS_FAILED;
        }
    }
    int got = cat_group(cli, good, n_good);
    for (size_t i = 0; i < n; i++)
        free(paths[i]);
    return got == STATUS_DONE ? status : got;
}

int command_cat(struct cli *cli, int argc, char **argv)
{
    int status = STATUS_DONE;
    if (getopt(argc, argv, "+") != -1 || optind == argc)
        return cli_usage_error(argv[0], "cat: needs a path");
    for (int i = optind; i < argc; i += GROUP) {
        size_t n = (size_t)(argc - i) < GROUP ? (size_t)(argc - i) : GROUP;
        int got = cat_names(cli, argv + i, n);
        if (got < 0) {
            fprintf(stderr, "fob: standard output: %s\n", strerror(errno));
            return STATUS_FAILED;
        }
        status = got ? got : status;
    }
    return status;
}
