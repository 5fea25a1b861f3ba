/*
 * fob: the parts of the program. It knows nothing but fob.h.
 */
#ifndef FOB_CLI_H
#define FOB_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "../fob.h"

enum { STATUS_DONE = 0, STATUS_FAILED = 1, STATUS_USAGE = 2, STATUS_NO_BROKER = 3 };

struct cli {
    const char *socket; /* -s, or NULL */
    const char *spawn;  /* --spawn, or NULL */
    struct fob *fob;    /* connected before a command runs */
};

/* A command: its own arguments, argv[0] its name. The exit status. */
typedef int command_fn(struct cli *cli, int argc, char **argv);
command_fn command_cat, command_write, command_exec, command_edit, command_check, command_list, command_ls,
    command_ping, command_trace;

/* "fob: PATH: why" on standard error, untrusted bytes escaped. */
void cli_say(const char *path, int error);
/* The same with words of ours for the reason. */
void cli_say_why(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "fob: " and the rest, and the usage of the command that stands before. STATUS_USAGE. */
int cli_usage_error(const char *command, const char *what);
/* bytes with control characters, and bytes that are not ASCII, as \n \t \xHH; to free(3). */
char *cli_escape(const char *text);
/*
 * What the broker is to be asked for: path itself if absolute, else it and the working directory; `.` and
 * `//` taken out. To free(3). NULL and errno: EINVAL for a `..`, which only the file system could resolve.
 */
char *cli_path(const char *path);

#endif
