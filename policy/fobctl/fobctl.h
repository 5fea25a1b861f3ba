/*
 * fobctl: the parts of the program. It sees the policy as others do, through policy.h.
 */
#ifndef FOB_POLICY_FOBCTL_H
#define FOB_POLICY_FOBCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "../policy.h"

/* fobctl(8), EXIT STATUS */
enum { STATUS_YES = 0, STATUS_NO = 1, STATUS_USAGE = 2, STATUS_NO_BROKER = 3, STATUS_ERRORS = 4 };

#define DEFAULT_POLICY "/etc/fob/policy.d"
#define DEFAULT_CONTROL "/run/fob/control.sock"

struct fobctl {
    const char *control; /* -s, $FOB_CONTROL or the default: where the broker's control socket is */
};

/* A command: its own arguments, argv[0] its name. The exit status. */
typedef int command_fn(struct fobctl *ctl, int argc, char **argv);
command_fn command_check, command_explain, command_print, command_test, command_diff, command_suggest,
    command_status, command_watch, command_reload, command_edit;

/* "fobctl: " and the rest, escaped (escape.h), and the usage of the command. STATUS_USAGE. */
__attribute__((format(printf, 2, 3))) int usage_error(const char *command, const char *format, ...);
/* "fobctl: what: why" on standard error, escaped. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

/* policy_load() with what fobctl knows of this machine. */
int read_policy(struct policy **out, const char *path, struct policy_messages *messages);
/*
 * Loads a file or directory as policy_load() does; its errors go to standard error. STATUS_YES and *out (to
 * policy_free()); STATUS_ERRORS: the policy has errors, or cannot be read.
 */
int load_policy(struct policy **out, const char *path);

#endif
