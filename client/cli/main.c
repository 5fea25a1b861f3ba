/*
 * fob: files from the file-open broker, for people and scripts (fob(1)).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const struct command {
    const char *name, *arguments, *what;
    command_fn *run;
} commands[] = {
    { "cat", "PATH...", "copy files to standard output", command_cat },
    { "write", "[-a] [-c MODE] PATH", "copy standard input to a file; -a append, -c create", command_write },
    { "check", "[-rwacl] PATH...", "may I? -r read -w write -a append -c create -l list", command_check },
    { "list", "", "what may I open?", command_list },
    { "ls", "PATH", "the names in a directory", command_ls },
    { "ping", "", "is the broker there, and how fast?", command_ping },
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_usage(FILE *out, const struct command *only)
{
    fprintf(out, "usage: fob [-s SOCKET] COMMAND [ARGUMENT ...]\n");
    for (int i = 0; i < N_COMMANDS; i++)
        if (!only || only == &commands[i]) {
            char form[64];
            snprintf(form, sizeof form, "%s %s", commands[i].name, commands[i].arguments);
            fprintf(out, "  fob %-27s %s\n", form, commands[i].what);
        }
    fprintf(out, "  -s SOCKET  the broker's socket; else $FOB_SOCKET, else " FOB_DEFAULT_SOCKET
                 "\n  -h         print this help\n");
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

static int no_broker(const struct cli *cli)
{
    const char *variable = secure_getenv("FOB_SOCKET");
    const char *socket = cli->socket ? cli->socket : variable && *variable ? variable : FOB_DEFAULT_SOCKET;
    int error = errno;
    char *shown = cli_escape(socket);
    fprintf(stderr, "fob: %s: %s (is fobd running?)\n", shown ? shown : "", strerror(error));
    free(shown);
    return STATUS_NO_BROKER;
}

static int run(struct cli *cli, const struct command *command, int argc, char **argv)
{
    if (argc > 1 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
        print_usage(stdout, command);
        return fflush(stdout) == 0 ? STATUS_DONE : STATUS_FAILED;
    }
    cli->fob = fob_connect(cli->socket);
    if (!cli->fob)
        return no_broker(cli);
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
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
    return fd;
}

int main(int argc, char **argv)
{
    struct cli cli = { 0 };
    int option;
    if (open_standard_descriptors() < 0)
        return STATUS_FAILED;
    while ((option = getopt(argc, argv, "+s:h")) != -1) {
        if (option == 'h') {
            print_usage(stdout, NULL);
            return fflush(stdout) == 0 ? STATUS_DONE : STATUS_FAILED;
        }
        if (option != 's') {
            print_usage(stderr, NULL);
            return STATUS_USAGE;
        }
        cli.socket = optarg;
    }
    if (optind == argc)
        return cli_usage_error(NULL, "a command is missing");
    const struct command *command = find_command(argv[optind]);
    if (!command)
        return cli_usage_error(NULL, "there is no such command");
    return run(&cli, command, argc - optind, argv + optind);
}
