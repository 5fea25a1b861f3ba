/*
 * fobd: the file-open broker (fobd(8)).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/util.h"
#include "config.h"
#include "generation.h"
#include "invoke.h"
#include "openfile.h"
#include "service.h"
#include "supervisor.h"

enum { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_USAGE = 2 };

struct options {
    const char *config, *policy, *socket;
    bool test, print, help;
};

static const char usage[] = "usage: fobd [-f CONFIG] [-p POLICY] [-s SOCKET] [-n]\n"
                            "       fobd -t [-f CONFIG] [-p POLICY]\n"
                            "       fobd [-f CONFIG] [-p POLICY]  with a client's socket on standard input\n"
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

static int serve(struct config *config, bool privileged, int client, int ready)
{
    const struct supervisor_start start = { .privileged = privileged, .client = client, .ready = ready };
    if (client >= 0)
        config->workers = 1;
    else if (ready < 0)
        log_never_wait();
    return supervisor_run(config, &start);
}

/* client, ready: as of struct supervisor_start. */
static int run(const struct options *options, struct config *config, bool privileged, int client, int ready)
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
    if (!config->policy || (!config->socket.path && !options->test && client < 0)) {
        log_error("no %s: neither the environment nor an option names one (-p POLICY -s SOCKET)",
                  config->policy ? "socket" : "policy");
        return EXIT_ERROR;
    }
    if (privileged && config_resolve_user(config, stderr) < 0)
        return EXIT_ERROR;
    return options->test ? check_only(config) : serve(config, privileged, client, ready);
}

/* ---- for a client, with its rights or more ---- */

static int serve_client(bool elevated, const struct options *options)
{
    struct config config = { 0 };
    if (invoke_check_client() < 0 || (elevated && invoke_become_root() < 0))
        return EXIT_ERROR;
    int client = invoke_take_client();
    int status = client < 0 ? EXIT_ERROR : run(options, &config, geteuid() == 0, client, -1);
    config_deinit(&config);
    return status;
}

/* What it says until it serves, or ends: 0 if it serves. */
static int relay_messages(int messages, int ready)
{
    struct pollfd polled[] = { { .fd = messages, .events = POLLIN }, { .fd = ready, .events = POLLIN } };
    char text[4096], byte;
    for (;;) {
        if (poll(polled, ARRAY_SIZE(polled), -1) < 0 && errno != EINTR)
            return EXIT_ERROR;
        ssize_t n = polled[0].revents ? read(messages, text, sizeof text) : 0;
        if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
            polled[0].fd = -1;
        else if (n <= 0 && polled[0].revents)
            polled[0].fd = -1; /* its end */
        if (polled[1].revents && !(polled[0].revents && n > 0))
            return read(ready, &byte, 1) == 1 ? EXIT_OK : EXIT_ERROR;
    }
}

static int run_daemon(int messages, int ready)
{
    struct config config = { 0 };
    const struct options none = { 0 };
    dup2(messages, STDERR_FILENO);
    fd_close(messages);
    setsid();
    int status = run(&none, &config, true, -1, ready);
    config_deinit(&config);
    return status;
}

/* The system's broker, in the background: 0 once it serves. It does not wait for who started it. */
static int start_daemon(void)
{
    int ready[2], messages[2];
    if (invoke_become_root() < 0 || pipe2(ready, O_CLOEXEC) < 0 || pipe2(messages, O_CLOEXEC) < 0 ||
        fcntl(messages[1], F_SETFL, O_NONBLOCK) < 0)
        return EXIT_ERROR;
    pid_t pid = fork();
    fd_close(pid ? ready[1] : ready[0]);
    fd_close(pid ? messages[1] : messages[0]);
    if (pid == 0)
        return run_daemon(messages[1], ready[1]);
    return pid < 0 ? EXIT_ERROR : relay_messages(messages[0], ready[0]);
}

/* Its caller is anybody: no option of theirs counts, and no file but the system's. */
static int run_elevated(int argc, char **argv)
{
    const struct options none = { 0 };
    if (argc > 1) {
        log_error("options are not taken from somebody who starts it with more rights than their own");
        return EXIT_USAGE;
    }
    if (invoke_open_standard() < 0 || invoke_clean(-1, argc > 0 ? argv[argc - 1] : NULL) < 0)
        return EXIT_ERROR;
    return invoke_has_client() ? serve_client(true, &none) : start_daemon();
}

/* The child is the broker of its parent, who asks with the caller's rights. Exit status: 0 or an errno. */
static int run_openfile(bool elevated, int argc, char **argv)
{
    struct openfile request;
    const struct options none = { 0 };
    int own, served, err = openfile_parse(&request, argc, argv);
    if (err)
        return err;
    if (invoke_open_standard() < 0 || (elevated && invoke_clean(request.sock, argv[argc - 1]) < 0))
        return EPERM;
    err = openfile_move_up(&request); /* nothing that is said may get into it */
    if (err)
        return err;
    err = invoke_make_pair(&own, &served);
    if (err < 0)
        return -err;
    pid_t pid = fork();
    if (pid == 0) {
        fd_close(own);
        fd_close(request.sock);
        dup2(served, STDIN_FILENO);
        fd_close(served);
        return serve_client(elevated, &none);
    }
    fd_close(served);
    if (pid < 0 || (elevated && (err = invoke_become_caller()) < 0))
        return EAGAIN;
    return openfile_ask(&request, own);
}

/* ---- for all ---- */

static int run_ordinary(int argc, char **argv)
{
    struct options options;
    service_close_inherited();
    if (invoke_open_standard() < 0)
        return EXIT_ERROR;
    if (options_parse(&options, argc, argv) < 0) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    if (options.help)
        return fputs(usage, stdout) < 0 || fflush(stdout) != 0;
    /* Standard input is looked at only where nothing says something else. */
    if (!options.socket && !options.test && !options.print && !getenv("LISTEN_FDS") && invoke_has_client())
        return serve_client(false, &options);
    struct config config = { 0 };
    int status = run(&options, &config, geteuid() == 0, -1, -1);
    config_deinit(&config);
    return status;
}

static bool is_called(const char *name, const char *program)
{
    const char *slash = program ? strrchr(program, '/') : NULL;
    return program && strcmp(slash ? slash + 1 : program, name) == 0;
}

int main(int argc, char **argv)
{
    bool openfile = argc > 0 && is_called("openfile", argv[0]);
    enum invoke_rights rights = invoke_rights();
    log_init(openfile ? "openfile" : "fobd");
    signal(SIGPIPE, SIG_IGN);
    if (rights == INVOKE_DENIED) {
        log_error("it is installed with more rights than it has got (no_new_privs, nosuid, a tracer or a "
                  "user namespace "
                  "takes them away), and does not serve with its caller's own");
        return openfile ? EPERM : EXIT_ERROR;
    }
    if (openfile)
        return run_openfile(rights == INVOKE_ELEVATED, argc, argv);
    return rights == INVOKE_ELEVATED ? run_elevated(argc, argv) : run_ordinary(argc, argv);
}
