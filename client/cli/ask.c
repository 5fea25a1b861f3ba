/*
 * fob check, list, ping
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli.h"

/* ---- check ---- */

enum { ASK_READ = 1, ASK_WRITE = 2, ASK_APPEND = 4, ASK_CREATE = 8, ASK_LIST = 16 };

static int flags_of(unsigned asked)
{
    if (asked & ASK_LIST)
        return O_RDONLY | O_DIRECTORY;
    int access =
        asked & (ASK_WRITE | ASK_APPEND | ASK_CREATE) ? (asked & ASK_READ ? O_RDWR : O_WRONLY) : O_RDONLY;
    bool append = asked & ASK_APPEND || (asked & ASK_CREATE && !(asked & ASK_WRITE));
    return access | (append ? O_APPEND : 0) | (asked & ASK_CREATE ? O_CREAT : 0);
}

static int check_one(struct cli *cli, const char *name, int oflags)
{
    char *path = cli_path(name);
    int error = !path ? errno : fob_check(cli->fob, path, oflags) < 0 ? errno : 0;
    char *shown = cli_escape(path ? path : name);
    if (error == 0 || error == EACCES)
        printf("%s: %s\n", shown ? shown : "", error ? "refused" : "allowed");
    else
        cli_say(path ? path : name, error);
    free(shown);
    free(path);
    return error ? STATUS_FAILED : STATUS_DONE;
}

int command_check(struct cli *cli, int argc, char **argv)
{
    static const char letters[] = "rwacl";
    unsigned asked = 0;
    int option, status = STATUS_DONE;
    while ((option = getopt(argc, argv, "+rwacl")) != -1) {
        const char *letter = strchr(letters, option);
        if (option == '?' || !letter)
            return cli_usage_error(argv[0], "check: unknown option");
        asked |= 1u << (letter - letters);
    }
    if (optind == argc)
        return cli_usage_error(argv[0], "check: needs a path");
    for (int i = optind; i < argc; i++)
        status |= check_one(cli, argv[i], flags_of(asked ? asked : ASK_READ));
    return status;
}

/* ---- list ---- */

int command_list(struct cli *cli, int argc, char **argv)
{
    if (argc > 1)
        return cli_usage_error(argv[0], "list: takes no argument");
    char *text = fob_list(cli->fob);
    if (!text) {
        cli_say("list", errno);
        return STATUS_FAILED;
    }
    fputs(text, stdout);
    free(text);
    return STATUS_DONE;
}

/* ---- ping ---- */

enum { PINGS = 9, MIDDLE = PINGS / 2 };

static int compare_times(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return x < y ? -1 : x > y;
}

static long ping_once(struct cli *cli, struct fob_info *info)
{
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (fob_hello(cli->fob, info) < 0)
        return -1;
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (end.tv_sec - begin.tv_sec) * 1000000000L + end.tv_nsec - begin.tv_nsec;
}

int command_ping(struct cli *cli, int argc, char **argv)
{
    long times[PINGS];
    struct fob_info info;
    struct ucred server = { .pid = 0 };
    if (argc > 1)
        return cli_usage_error(argv[0], "ping: takes no argument");
    for (int i = 0; i < PINGS; i++) {
        times[i] = ping_once(cli, &info);
        if (times[i] < 0) {
            cli_say("ping", errno);
            return STATUS_FAILED;
        }
    }
    qsort(times, PINGS, sizeof *times, compare_times);
    fob_server(cli->fob, &server);
    printf("protocol %u, policy generation %u, %.3f ms, ", info.version, info.generation,
           (double)times[MIDDLE] / 1e6);
    if (cli->spawn)
        puts("served by a broker of its own");
    else
        printf("served by pid %d of uid %u\n", (int)server.pid, (unsigned)server.uid);
    return STATUS_DONE;
}
