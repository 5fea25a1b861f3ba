/*
 * fobctl: what an admin does with a policy and a running broker (fobctl(8)).
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../common/escape.h"
#include "../../common/mountinfo.h"
#include "../../common/util.h"
#include "fobctl.h"

static const struct {
    const char *name;
    command_fn *run;
    const char *usage, *what;
} commands[] = {
    { "check", command_check, "check [POLICY]", "errors and warnings of a policy" },
    { "explain", command_explain, "explain [-p POLICY] SUBJECT RIGHTS PATH", "may who do what, and why" },
    { "print", command_print, "print [-p POLICY]", "the policy as it is understood" },
    { "test", command_test, "test [-p POLICY] TESTFILE...", "hold assertions against a policy" },
    { "diff", command_diff, "diff [-p OLD] NEW", "who gains and who loses what" },
    { "suggest", command_suggest, "suggest [--ceiling POLICY] AUDITFILE...", "rules for what was refused" },
    { "status", command_status, "status [--json|--openmetrics]", "how the broker does" },
    { "watch", command_watch, "watch [--refused] [--user USER] [--json]", "decisions as they happen" },
    { "reload", command_reload, "reload", "put the policy on disk in force" },
    { "edit", command_edit, "edit FILE", "change a policy file: checked, atomic, reloaded" },
};

void say(const char *format, ...)
{
    char plain[2048], shown[4 * sizeof plain];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(plain, sizeof plain, format, arguments);
    va_end(arguments);
    if (len < 0)
        return;
    escape_text(shown, sizeof shown, plain, (size_t)len < sizeof plain ? (size_t)len : sizeof plain - 1);
    fprintf(stderr, "fobctl: %s\n", shown);
}

int usage_error(const char *command, const char *format, ...)
{
    char plain[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(plain, sizeof plain, format, arguments);
    va_end(arguments);
    say("%s", plain);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        if (command && strcmp(commands[i].name, command) == 0)
            fprintf(stderr, "usage: fobctl %s\n", commands[i].usage);
    return STATUS_USAGE;
}

int read_policy(struct policy **out, const char *path, struct policy_messages *messages)
{
    char **pseudo = NULL;
    size_t n_pseudo = 0;
    if (mountinfo_pseudo(&pseudo, &n_pseudo) < 0)
        say("/proc/self/mountinfo cannot be read: procfs and its like are not treated as such");
    struct policy_env env = {
        .trusted_uid = geteuid(),
        .pseudo = (const char *const *)pseudo,
        .n_pseudo = n_pseudo,
    };
    int err = policy_load(out, path, &env, messages);
    mountinfo_pseudo_free(pseudo, n_pseudo);
    return err;
}

int load_policy(struct policy **out, const char *path)
{
    struct policy_messages messages = { 0 };
    int err = read_policy(out, path, &messages);
    if (messages.text)
        fwrite(messages.text, 1, messages.len, stderr);
    else if (err < 0)
        say("%s: %s", path, strerror(-err));
    policy_messages_deinit(&messages);
    return err < 0 ? STATUS_ERRORS : STATUS_YES;
}

static void print_usage(FILE *out)
{
    fputs("usage: fobctl [-s CONTROL-SOCKET] COMMAND\n\n", out);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        fprintf(out, "  %-40s  %s\n", commands[i].usage, commands[i].what);
    fputs("\nexit status: 0 yes, 1 no or refused, 2 usage, 3 no broker, 4 the policy has errors\n", out);
}

static int run(struct fobctl *ctl, int argc, char **argv)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(commands[i].name, argv[0]) != 0)
            continue;
        optind = 0;
        int status = commands[i].run(ctl, argc, argv);
        if (fflush(stdout) != 0 || ferror(stdout)) {
            say("standard output: %s", strerror(errno));
            return status == STATUS_YES ? STATUS_NO : status;
        }
        return status;
    }
    say("%s: no such command (fobctl -h lists them)", argv[0]);
    return STATUS_USAGE;
}

int main(int argc, char **argv)
{
    const char *environment = getenv("FOB_CONTROL");
    struct fobctl ctl = { environment && *environment ? environment : DEFAULT_CONTROL };
    int option;
    opterr = 0; /* getopt(3) would not escape what it shows */
    while ((option = getopt(argc, argv, "+s:h")) != -1) {
        if (option == 'h') {
            print_usage(stdout);
            return fflush(stdout) != 0;
        }
        if (option != 's') {
            say("-%c: %s", optopt, optopt == 's' ? "a socket is missing" : "unknown option");
            print_usage(stderr);
            return STATUS_USAGE;
        }
        ctl.control = optarg;
    }
    if (optind == argc) {
        print_usage(stderr);
        return STATUS_USAGE;
    }
    return run(&ctl, argc - optind, argv + optind);
}
