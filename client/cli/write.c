/*
 * fob write [-a] [-c MODE] PATH
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static bool parse_mode(const char *text, mode_t *mode)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 8);
    *mode = (mode_t)value;
    return *text >= '0' && *text <= '7' && *end == '\0' && errno == 0 && value <= 07777;
}

/* 0, or the errno of the file; that of standard input is said here. */
static int copy_in(int fd, bool *input_failed)
{
    static char buffer[1 << 16];
    ssize_t n;
    while ((n = read(STDIN_FILENO, buffer, sizeof buffer)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            fprintf(stderr, "fob: standard input: %s\n", strerror(errno));
            *input_failed = true;
            return 0;
        }
        for (ssize_t done = 0; done < n;) {
            ssize_t wrote = write(fd, buffer + done, (size_t)(n - done));
            if (wrote < 0 && errno != EINTR)
                return errno;
            done += wrote > 0 ? wrote : 0;
        }
    }
    return 0;
}

static int write_file(struct cli *cli, const char *path, int oflags, mode_t mode)
{
    bool input_failed = false;
    int fd = fob_open(cli->fob, path, oflags, mode);
    int error = fd < 0 ? errno : copy_in(fd, &input_failed);
    if (fd >= 0 && close(fd) < 0 && !error)
        error = errno;
    if (error)
        cli_say(path, error);
    return error || input_failed ? STATUS_FAILED : STATUS_DONE;
}

int command_write(struct cli *cli, int argc, char **argv)
{
    int option, oflags = O_WRONLY | O_TRUNC;
    mode_t mode = 0;
    while ((option = getopt(argc, argv, "+ac:")) != -1) {
        if (option == 'a')
            oflags = (oflags & ~O_TRUNC) | O_APPEND;
        else if (option == 'c' && parse_mode(optarg, &mode))
            oflags |= O_CREAT;
        else
            return cli_usage_error(argv[0],
                                   option == 'c' ? "write: -c takes an octal mode" : "write: unknown option");
    }
    if (optind + 1 != argc)
        return cli_usage_error(argv[0], "write: needs one path");
    char *path = cli_path(argv[optind]);
    if (!path) {
        cli_say(argv[optind], errno);
        return STATUS_FAILED;
    }
    int status = write_file(cli, path, oflags, mode);
    free(path);
    return status;
}
