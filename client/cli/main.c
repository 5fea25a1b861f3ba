/*
 * fob: files from the file-open broker, for people and scripts (fob(1)).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const struct command {
    const char *name, *arguments, *what;
    command_fn *run;
    bool alone; /* makes its own connections */
} commands[] = {
    { "cat", "PATH...", "copy files to standard output", command_cat, false },
    { "write", "[-a] [-c MODE] PATH", "copy standard input to a file; -a append, -c create", command_write,
      false },
    { "exec", "[--stdin|--stdout|--append PATH] [--fd N=PATH[:RIGHTS]] [--] COMMAND...",
      "COMMAND with files as its descriptors; RIGHTS: r w rw a ra l", command_exec, false },
    { "edit", "PATH", "a private copy in $VISUAL or $EDITOR, put back if changed", command_edit, false },
    { "check", "[-rwacl] PATH...", "may I? -r read -w write -a append -c create -l list", command_check,
      false },
    { "list", "", "what may I open?", command_list, false },
    { "ls", "PATH", "the names in a directory", command_ls, false },
    { "ping", "", "is the broker there, and how fast?", command_ping, false },
    { "trace", "LISTEN [UPSTREAM]", "a relay that shows all messages and descriptors", command_trace, true },
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

/* What is said of a long form stands beneath it. */
#define TO_NEXT_COLUMN "\n                                  "

static void print_usage(FILE *out, const struct command *only)
{
    fprintf(out, "usage: fob [-s SOCKET | --spawn=FOBD] COMMAND [ARGUMENT ...]\n");
    for (int i = 0; i < N_COMMANDS; i++)
        if (!only || only == &commands[i]) {
            char form[96];
            int len = snprintf(form, sizeof form, "%s %s", commands[i].name, commands[i].arguments);
            fprintf(out, "  fob %-27s%s%s\n", form, len > 27 ? TO_NEXT_COLUMN : " ", commands[i].what);
        }
    fprintf(out, "  -s SOCKET     the broker's socket; else $FOB_SOCKET, else " FOB_DEFAULT_SOCKET
                 "\n  --spawn=FOBD  a broker of its own, this program, instead\n  -h            print "
                 "this help\n");
}

static const struct command *find_command(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

int cli_usage_error(const char *command, const char *what)
{
    char *shown = cli_escape(what);
    fprintf(stderr, "fob: %s\n", shown ? shown : "");
    free(shown);
    print_usage(stderr, command ? find_command(command) : NULL);
    return STATUS_USAGE;
}

void cli_say_why(const char *path, const char *format, ...)
{
    char *shown = cli_escape(path);
    va_list arguments;
    fprintf(stderr, "fob: %s: ", shown ? shown : "");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    free(shown);
}

static int no_spawn(const struct cli *cli)
{
    cli_say_why(cli->spawn, "%s (it cannot be started as a broker)", strerror(errno));
    return STATUS_NO_BROKER;
}

/* Why fob_connect() failed, and what to do. */
static const char *reason(int error)
{
    switch (error) {
    case EPERM:
        return "not believed: neither root nor you serve it (FOB_SERVER=UID if you trust who does)";
    case EREMOTE:
        return "not believed: who serves it cannot be told from inside this user namespace (bind this socket "
               "itself into the sandbox, where nobody else can write, or set FOB_SERVER=65534: libfob(3))";
    default:
        return strerror(error);
    }
}

static int no_broker(const struct cli *cli)
{
    const char *variable = secure_getenv("FOB_SOCKET");
    const char *socket = cli->socket ? cli->socket : variable && *variable ? variable : FOB_DEFAULT_SOCKET;
    int error = errno;
    char *shown = cli_escape(socket);
    fprintf(stderr, "fob: %s: %s%s\n", shown ? shown : "", reason(error),
            error == EPERM || error == EREMOTE ? "" : " (is fobd running?)");
    free(shown);
    return STATUS_NO_BROKER;
}

static int run(struct cli *cli, const struct command *command, int argc, char **argv)
{
    if (argc > 1 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
        print_usage(stdout, command);
        return fflush(stdout) == 0 ? STATUS_DONE : STATUS_FAILED;
    }
    if (!command->alone && !cli->spawn && !(cli->fob = fob_connect(cli->socket)))
        return no_broker(cli);
    if (!command->alone && cli->spawn && !(cli->fob = fob_spawn(cli->spawn)))
        return no_spawn(cli);
    optind = 1;
    int status = command->run(cli, argc, argv);
    fob_close(cli->fob);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "fob: standard output: %s\n", strerror(errno));
        status = STATUS_FAILED;
    }
    return status;
}

/* Makes sure that 0, 1 and 2 are open: no file that is got must end up there. */
static int open_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        /* A sandbox need not have a /dev; the other one cannot be read or written either. */
        if (open("/dev/null", O_RDWR) < 0 && open("/", O_PATH) < 0)
            return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct cli cli = { 0 };
    static const struct option options[] = { { "spawn", required_argument, NULL, 'S' },
                                             { NULL, 0, NULL, 0 } };
    int option;
    if (open_standard_descriptors() < 0)
        return STATUS_FAILED;
    while ((option = getopt_long(argc, argv, "+s:h", options, NULL)) != -1) {
        if (option == 'h') {
            print_usage(stdout, NULL);
            return fflush(stdout) == 0 ? STATUS_DONE : STATUS_FAILED;
        }
        if (option != 's' && option != 'S') {
            print_usage(stderr, NULL);
            return STATUS_USAGE;
        }
        *(option == 's' ? &cli.socket : &cli.spawn) = optarg;
    }
    if (cli.socket && cli.spawn)
        return cli_usage_error(NULL, "-s and --spawn: a socket or a program, not both");
    if (optind == argc)
        return cli_usage_error(NULL, "a command is missing");
    const struct command *command = find_command(argv[optind]);
    if (!command)
        return cli_usage_error(NULL, "there is no such command");
    return run(&cli, command, argc - optind, argv + optind);
}
