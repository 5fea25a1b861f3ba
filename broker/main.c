/*
 * fobd: the file-open broker (fobd(8)).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/util.h"
#include "config.h"
#include "generation.h"
#include "service.h"
#include "supervisor.h"

enum { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_USAGE = 2 };

struct options {
    const char *config, *policy, *socket;
    bool test, print, help;
};

static const char usage[] = "usage: fobd [-f CONFIG] [-p POLICY] [-s SOCKET] [-n]\n"
                            "       fobd -t [-f CONFIG] [-p POLICY]\n"
                            "\n"
                            "  -f CONFIG  read CONFIG instead of /etc/fob/fobd.conf\n"
                            "  -p POLICY  the policy: a file, or a directory of *.policy files\n"
                            "  -s SOCKET  listen on SOCKET\n"
                            "  -t         check configuration and policy, print their errors, start nothing\n"
                            "  -n         print the configuration in force, check and start nothing\n"
                            "  -h         print this help\n";

static int options_parse(struct options *options, int argc, char **argv)
{
    *options = (struct options){ 0 };
    int option;
    while ((option = getopt(argc, argv, "f:p:s:tnh")) != -1) {
        switch (option) {
        case 'f':
            options->config = optarg;
            break;
        case 'p':
            options->policy = optarg;
            break;
        case 's':
            options->socket = optarg;
            break;
        case 't':
            options->test = true;
            break;
        case 'n':
            options->print = true;
            break;
        case 'h':
            options->help = true;
            break;
        default:
            return -EINVAL;
        }
    }
    return optind == argc && !(options->test && options->print) ? 0 : -EINVAL;
}

static int replace(char **slot, const char *value)
{
    if (!value)
        return 0;
    char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    free(*slot);
    *slot = copy;
    return 0;
}

/* The default file may be missing, and a user's own broker has none by default. */
static int read_config(struct config *config, const struct options *options, bool privileged)
{
    const char *file = options->config ? options->config : privileged ? CONFIG_DEFAULT_FILE : NULL;
    int err = file ? config_read(config, file, stderr) : 0;
    if (err == -ENOENT && !options->config)
        err = 0;
    if (err < 0 && err != -EINVAL)
        log_error("%s: %s", file, strerror(-err));
    if (err == 0)
        err = replace(&config->policy, options->policy);
    if (err == 0)
        err = replace(&config->socket.path, options->socket);
    if (err == 0 && options->socket)
        config->control_is_default = true; /* another place altogether: -s SOCKET has SOCKET.control */
    return err == 0 ? config_place_sockets(config) : err;
}

static int check_only(const struct config *config)
{
    struct generation generation;
    if (generation_load(&generation, config, 1, stderr) < 0)
        return EXIT_ERROR;
    generation_deinit(&generation);
    return EXIT_OK;
}

static int run(const struct options *options, struct config *config, bool privileged)
{
    int err = config_init(config, privileged);
    if (err == 0)
        err = read_config(config, options, privileged);
    if (err < 0)
        return EXIT_ERROR;
    if (options->print) {
        config_print(config, stdout);
        return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
    }
    if (!config->policy || (!config->socket.path && !options->test)) {
        log_error("no %s: neither the environment nor an option names one (-p POLICY -s SOCKET)",
                  config->policy ? "socket" : "policy");
        return EXIT_ERROR;
    }
    if (privileged && config_resolve_user(config, stderr) < 0)
        return EXIT_ERROR;
    return options->test ? check_only(config) : supervisor_run(config, privileged);
}

int main(int argc, char **argv)
{
    log_init("fobd");
    if (getauxval(AT_SECURE) || geteuid() != getuid()) {
        log_error("started with another user's privilege (set-user-ID or file capabilities): not served by "
                  "this version");
        return EXIT_ERROR;
    }
    service_close_inherited();
    struct options options;
    if (options_parse(&options, argc, argv) < 0) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    if (options.help)
        return fputs(usage, stdout) < 0 || fflush(stdout) != 0;
    struct config config = { 0 };
    int status = run(&options, &config, geteuid() == 0);
    config_deinit(&config);
    return status;
}
