/*
 * How the program was started: by a service manager or an admin, or by a client, on a connected socket,
 * perhaps with more rights than that client has (set-user-ID, file capabilities: credentials(7),
 * capabilities(7)). Nothing that the caller of a privileged program can set is believed: environment,
 * descriptors, limits, signals, timers, umask, directory.
 */
#ifndef FOB_BROKER_INVOKE_H
#define FOB_BROKER_INVOKE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Has the program more rights than who started it? Or was it installed to have them, and has not got them
 * (no_new_privs, nosuid, a tracer, a user namespace)? */
enum invoke_rights {
    INVOKE_OWN,      /* its caller's */
    INVOKE_ELEVATED, /* more */
    INVOKE_DENIED,   /* its caller's, against the admin's intention: not to be served with these */
};
enum invoke_rights invoke_rights(void);

/*
 * Elevated, first of all (last_argument: of argv, or NULL): nothing of the caller's surroundings is left but
 * descriptors 0 to 2 and `keep` (-1: none). 0, or a negative errno, said by log_error(): a limit that cannot
 * be lifted would stop it halfway.
 */
int invoke_clean(int keep, char *last_argument);
/* 0, 1 and 2 are open from here on, if only on /dev/null. 0 or a negative errno. */
int invoke_open_standard(void);
/* Elevated: uid 0 and no groups, for ever; its caller cannot signal it any more. 0, or a negative errno, said
 * by log_error(). */
int invoke_become_root(void);
/* The other way: the caller's own rights, for ever. 0 or a negative errno. */
int invoke_become_caller(void);

/* Is descriptor 0 a connected AF_UNIX socket (stream or packets), on which a client waits to be served? */
bool invoke_has_client(void);
/*
 * Makes it fit to be served, and checks that it was connected by who started the program: uid, gid and
 * groups. 0, or a negative errno, said by log_error().
 */
int invoke_check_client(void);
/* Its descriptor, above 2; the standard ones that were it are /dev/null from then on. Or a negative errno. */
int invoke_take_client(void);
/* A pair of packet sockets as the caller would have made it, also when elevated: end[0] its own, end[1] on
 * descriptor 0. 0 or a negative errno. */
int invoke_make_pair(int *own, int *served);

#endif
