/*
 * fobd.conf(5): what the admin configured, before anything is acted on.
 */
#ifndef FOB_BROKER_CONFIG_H
#define FOB_BROKER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#define CONFIG_DEFAULT_FILE "/etc/fob/fobd.conf"
#define CONFIG_DEFAULT_POLICY "/etc/fob/policy.d"
#define CONFIG_DEFAULT_SOCKET "/run/fob/fob.sock"
#define CONFIG_DEFAULT_STREAM "/run/fob/stream.sock"
#define CONFIG_DEFAULT_DATAGRAM "/run/fob/dgram.sock"
#define CONFIG_DEFAULT_CONTROL "/run/fob/control.sock"
#define CONFIG_DEFAULT_USER "fob"

enum config_audit { CONFIG_AUDIT_SYSLOG, CONFIG_AUDIT_FILE, CONFIG_AUDIT_STDERR, CONFIG_AUDIT_NONE };

struct config_socket {
    char *path;   /* NULL: off */
    bool is_said; /* by a directive (of stream and datagram) */
    mode_t mode;  /* default 0666 */
    gid_t gid;    /* (gid_t)-1: leave */
};

struct config {
    struct config_socket socket;
    struct config_socket stream, datagram; /* default: beside the system's socket */
    struct config_socket control;          /* default: beside the socket */
    bool control_is_default;               /* nobody wrote a `control-socket` directive */
    gid_t control_gid;                     /* of control-group, or (gid_t)-1 */
    char *policy;                          /* file or directory */
    char *user;                            /* name or number; unused without privilege */
    bool user_is_default;                  /* nobody wrote a `user` directive */
    uid_t uid;
    gid_t gid;        /* resolved by config_resolve_user() */
    unsigned workers; /* 0: one per online CPU */
    enum config_audit audit;
    char *audit_file;         /* with CONFIG_AUDIT_FILE */
    bool audit_required;      /* refuse what cannot be recorded */
    unsigned max_connections; /* in all; 0: derived from RLIMIT_NOFILE */
    unsigned max_connections_per_user;
    unsigned max_rate;        /* entries a second of one user; 0: no limit */
    unsigned open_timeout_ms; /* of an open that may hang */
    unsigned slow_openers;    /* processes that may hang, in all */
    unsigned busy_poll_us;    /* how long a worker spins before it sleeps */
    bool require_confinement;
};

/* Defaults: of the system's broker, or, when privileged is false, of a user's own
 * ($XDG_RUNTIME_DIR/fob/fob.sock, $XDG_CONFIG_HOME/fob/policy.d). A path that no
 * variable tells is NULL. 0 or -ENOMEM. */
int config_init(struct config *config, bool privileged);
void config_deinit(struct config *config);

/*
 * Reads a configuration over the defaults. All errors go to `messages` as "FILE:LINE: what: why\n", untrusted
 * bytes escaped. 0; -EINVAL: the text has errors; -EPERM: others than root and the caller can write the file;
 * another negative errno: it could not be read.
 */
int config_read(struct config *config, const char *file, FILE *messages);
/* The same from memory (fuzzers, tests). */
int config_read_text(struct config *config, const char *name, const char *text, size_t len, FILE *messages);

/* The places of the other sockets, once it is known where the native one is. 0 or -ENOMEM. */
int config_place_sockets(struct config *config);
/* Finds uid and gid of config->user. uid 0 and 65534 are refused. 0 or -EINVAL, the reason in `messages`. */
int config_resolve_user(struct config *config, FILE *messages);

/* Prints what is in force, in the language of the file: config_read() of it gives the same configuration. */
void config_print(const struct config *config, FILE *out);

#endif
