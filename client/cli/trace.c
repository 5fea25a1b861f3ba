/*
 * fob trace: its arguments. The rest is no program of fob.h's, which hides what goes over the socket.
 */
#include "../trace/trace.h"

#include "cli.h"

int command_trace(struct cli *cli, int argc, char **argv)
{
    if (argc < 2 || argc > 3)
        return cli_usage_error("trace", "a socket to listen on, and perhaps the broker's, must be named");
    if (cli->spawn)
        return cli_usage_error("trace", "--spawn: a broker on a socketpair has nobody else to be traced");
    return trace_run(argv[1], argc > 2 ? argv[2] : cli->socket);
}
