#include "config.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/path.h"
#include "../common/peer.h"
#include "../common/util.h"

enum {
    DEFAULT_PER_USER = 256,
    DEFAULT_TIMEOUT_MS = 5000,
    DEFAULT_OPENERS = 32,
    FALLBACK_ID = 61183, /* below the ranges of systemd's dynamic users; used when nobody made an account */
};

static int set(char **slot, const char *value)
{
    char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    free(*slot);
    *slot = copy;
    return 0;
}

__attribute__((format(printf, 2, 3))) static int set_format(char **slot, const char *format, ...)
{
    char *made;
    va_list arguments;
    va_start(arguments, format);
    int len = vasprintf(&made, format, arguments);
    va_end(arguments);
    if (len < 0)
        return -ENOMEM;
    free(*slot);
    *slot = made;
    return 0;
}

/* Without the slashes at its end. */
static int trimmed(const char *dir)
{
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    return (int)len;
}

static bool is_usable(const char *dir)
{
    return dir && path_is_clean(dir, (size_t)trimmed(dir)) && trimmed(dir) > 1;
}

/* An ordinary user's own broker: basedir specification of freedesktop.org. */
static int init_own(struct config *config)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR"), *home = getenv("HOME"), *xdg = getenv("XDG_CONFIG_HOME");
    int err = 0;
    if (is_usable(runtime))
        err = set_format(&config->socket.path, "%.*s/fob/fob.sock", trimmed(runtime), runtime);
    if (err == 0 && is_usable(xdg))
        err = set_format(&config->policy, "%.*s/fob/policy.d", trimmed(xdg), xdg);
    else if (err == 0 && is_usable(home))
        err = set_format(&config->policy, "%.*s/.config/fob/policy.d", trimmed(home), home);
    return err;
}

int config_init(struct config *config, bool privileged)
{
    *config = (struct config){
        .socket = { .mode = 0666, .gid = (gid_t)-1 },
        .stream = { .mode = 0666, .gid = (gid_t)-1, },
        .datagram = { .mode = 0666, .gid = (gid_t)-1, },
        .control = { .mode = 0600, .gid = (gid_t)-1 },
        .control_is_default = true,
        .control_gid = (gid_t)-1,
        .user_is_default = true,
        .audit = privileged ? CONFIG_AUDIT_SYSLOG : CONFIG_AUDIT_STDERR,
        .max_connections_per_user = DEFAULT_PER_USER,
        .open_timeout_ms = DEFAULT_TIMEOUT_MS,
        .slow_openers = DEFAULT_OPENERS,
    };
    int err = set(&config->user, CONFIG_DEFAULT_USER);
    if (err < 0 || !privileged)
        return err < 0 ? err : init_own(config);
    err = set(&config->socket.path, CONFIG_DEFAULT_SOCKET);
    return err < 0 ? err : set(&config->policy, CONFIG_DEFAULT_POLICY);
}

static int place(struct config_socket *socket, bool is_system, const char *path)
{
    if (socket->is_said)
        return 0;
    if (is_system)
        return set(&socket->path, path);
    free(socket->path);
    socket->path = NULL;
    return 0;
}

/* Beside a socket that is not the system's: two brokers are not to fight for one name. */
int config_place_sockets(struct config *config)
{
    bool is_system = config->socket.path && strcmp(config->socket.path, CONFIG_DEFAULT_SOCKET) == 0;
    int err = place(&config->stream, is_system, CONFIG_DEFAULT_STREAM);
    if (err == 0)
        err = place(&config->datagram, is_system, CONFIG_DEFAULT_DATAGRAM);
    if (err < 0 || !config->control_is_default || !config->socket.path)
        return err;
    if (is_system)
        return set(&config->control.path, CONFIG_DEFAULT_CONTROL);
    return set_format(&config->control.path, "%s.control", config->socket.path);
}

void config_deinit(struct config *config)
{
    free(config->socket.path);
    free(config->stream.path);
    free(config->datagram.path);
    free(config->control.path);
    free(config->policy);
    free(config->user);
    free(config->audit_file);
    *config = (struct config){ .socket = { .gid = (gid_t)-1 }, .control = { .gid = (gid_t)-1 } };
}

/* ---- the account of the workers ---- */

static int use_ids(struct config *config, uid_t uid, gid_t gid, FILE *messages)
{
    if (uid == 0 || uid == PEER_OVERFLOW_ID || gid == 0 || gid == PEER_OVERFLOW_ID) {
        fprintf(messages,
                "fobd: user %s: uid or gid is %d or 0: workers need an account of their own (useradd "
                "--system fob)\n",
                config->user, PEER_OVERFLOW_ID);
        return -EINVAL;
    }
    config->uid = uid;
    config->gid = gid;
    return 0;
}

static int use_number(struct config *config, uid_t uid, FILE *messages)
{
    const struct passwd *account = getpwuid(uid);
    return use_ids(config, uid, account ? account->pw_gid : (gid_t)uid, messages);
}

int config_resolve_user(struct config *config, FILE *messages)
{
    uint64_t number;
    if (parse_u64(config->user, UINT32_MAX - 1, &number) == 0)
        return use_number(config, (uid_t)number, messages);
    const struct passwd *account = getpwnam(config->user);
    if (account)
        return use_ids(config, account->pw_uid, account->pw_gid, messages);
    if (config->user_is_default) {
        fprintf(messages,
                "fobd: warning: user %s: no such account: workers run as uid %d (useradd --system %s)\n",
                config->user, FALLBACK_ID, config->user);
        return use_ids(config, FALLBACK_ID, FALLBACK_ID, messages);
    }
    fprintf(messages, "fobd: user %s: no such account (make it, or name a number, which needs none)\n",
            config->user);
    return -EINVAL;
}

/* ---- printing ---- */

static void print_path(FILE *out, const char *directive, const char *path)
{
    fprintf(out, "%s \"", directive);
    for (; *path; path++) {
        if (*path == '"' || *path == '\\')
            fputc('\\', out);
        fputc(*path, out);
    }
    fputc('"', out);
}

static void print_socket(FILE *out, const char *directive, const struct config_socket *socket)
{
    if (!socket->path) {
        if (socket->is_said)
            fprintf(out, "%s none\n", directive);
        return;
    }
    print_path(out, directive, socket->path);
    fprintf(out, " mode=%04o", (unsigned)socket->mode);
    if (socket->gid != (gid_t)-1)
        fprintf(out, " group=%u", (unsigned)socket->gid);
    fputc('\n', out);
}

static void print_user(FILE *out, const char *user)
{
    if (user[strspn(user, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")])
        print_path(out, "user", user);
    else
        fprintf(out, "user %s", user);
    fputc('\n', out);
}

static void print_audit(const struct config *config, FILE *out)
{
    static const char *const names[] = { "syslog", "file", "stderr", "none" };
    if (config->audit == CONFIG_AUDIT_FILE)
        print_path(out, "audit file", config->audit_file);
    else
        fprintf(out, "audit %s", names[config->audit]);
    fputc('\n', out);
}

void config_print(const struct config *config, FILE *out)
{
    print_socket(out, "socket", &config->socket);
    print_socket(out, "stream-socket", &config->stream);
    print_socket(out, "dgram-socket", &config->datagram);
    print_socket(out, "control-socket", &config->control);
    if (config->control_gid != (gid_t)-1)
        fprintf(out, "control-group %u\n", (unsigned)config->control_gid);
    if (config->policy) {
        print_path(out, "policy", config->policy);
        fputc('\n', out);
    }
    if (!config->user_is_default) {
        print_user(out, config->user);
    } else if (geteuid() == 0) {
        fprintf(out, "# user %s (the default)\n", config->user);
    }
    fprintf(out, "workers %u\n", config->workers);
    print_audit(config, out);
    fprintf(out, "audit-required %s\n", config->audit_required ? "yes" : "no");
    fprintf(out, "max-connections %u\n", config->max_connections);
    fprintf(out, "max-connections-per-user %u\n", config->max_connections_per_user);
    fprintf(out, "max-requests-per-second-per-user %u\n", config->max_rate);
    fprintf(out, "open-timeout %u\n", config->open_timeout_ms / 1000);
    fprintf(out, "slow-openers %u\n", config->slow_openers);
    fprintf(out, "busy-poll %u\n", config->busy_poll_us);
    fprintf(out, "require-confinement %s\n", config->require_confinement ? "yes" : "no");
}
