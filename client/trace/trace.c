#include "trace.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "relay.h"
#include "show.h"
#include "../fob.h"
#include "../../common/sock.h"
#include "../../common/util.h"

enum { STATUS_DONE = 0, STATUS_FAILED = 1, STATUS_NO_BROKER = 3 };
enum { MAX_RELAYS = 64, BACKLOG = 64, MOMENT_MS = 20 };

struct trace {
    struct journal journal;
    const char *upstream;
    int type;
    int signals; /* signalfd(2) */
    int listener;
    bool no_room; /* for the next connection: try again after a moment */
    unsigned n_connections;
    size_t n;
    struct relay *relays[MAX_RELAYS];
};

/* ---- messages ---- */

static void complain(const char *path, int err, const char *what_to_do)
{
    fputs("fob: ", stderr);
    show_text(stderr, path, strlen(path));
    fprintf(stderr, ": %s%s\n", strerror(-err), what_to_do);
}

static const char *listen_hint(int err)
{
    switch (err) {
    case -EADDRINUSE:
        return " (somebody serves there: choose another name)";
    case -EEXIST:
        return " (it is no socket: choose another name)";
    case -EPERM:
        return " (others could replace the socket: choose a directory of your own, or /tmp)";
    default:
        return "";
    }
}

static const char *type_name(int type)
{
    return type == SOCK_STREAM ? "SOCK_STREAM" : "SOCK_SEQPACKET";
}

/* ---- beginning ---- */

/* SOCK_SEQPACKET or SOCK_STREAM, whichever the broker has; or a negative errno. */
static int find_type(const char *upstream)
{
    static const int types[] = { SOCK_SEQPACKET, SOCK_STREAM };
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        int fd = relay_connect(upstream, types[i]);
        fd_close(fd);
        if (fd >= 0 || fd == -EAGAIN) /* EAGAIN: of this type, with many waiting */
            return types[i];
        if (fd != -EPROTOTYPE)
            return fd;
    }
    return -EPROTOTYPE;
}

/* Descriptors of every connection pass through here; the limit also counts those under way. */
static void raise_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* They are read from a descriptor; `saved` is the mask before. */
static int catch_signals(sigset_t *saved)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGPIPE);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (sigprocmask(SIG_BLOCK, &set, saved) == 0)
        return fd;
    int err = -errno;
    fd_close(fd);
    return err;
}

/* What came must be taken before it is let through again: it would end the process after all. */
static void release_signals(int fd, const sigset_t *saved)
{
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) > 0)
        ;
    fd_close(fd);
    (void)sigprocmask(SIG_SETMASK, saved, NULL);
}

/* ---- the loop ---- */

static void take_client(struct trace *trace)
{
    int client = accept4(trace->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    trace->no_room =
        client < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM);
    if (client < 0)
        return; /* or it has gone again */
    struct relay *relay =
        relay_new(&trace->journal, ++trace->n_connections, client, trace->upstream, trace->type);
    if (relay != NULL)
        trace->relays[trace->n++] = relay;
}

static size_t fill(const struct trace *trace, struct pollfd *polls, int *timeout)
{
    size_t at = 0;
    bool listens = trace->n < MAX_RELAYS && !trace->no_room;
    polls[at++] = (struct pollfd){ .fd = trace->signals, .events = POLLIN };
    polls[at++] = (struct pollfd){ .fd = listens ? trace->listener : -1, .events = POLLIN };
    *timeout = trace->no_room ? MOMENT_MS : -1;
    for (size_t i = 0; i < trace->n; i++) {
        const struct relay *relay = trace->relays[i];
        for (int side = CLIENT; side <= BROKER; side++) {
            short events = relay_events(relay, (enum side)side);
            polls[at++] = (struct pollfd){ .fd = events != 0 ? relay->socks[side] : -1, .events = events };
        }
        if (relay_is_waiting(relay))
            *timeout = MOMENT_MS;
    }
    return at;
}

/* Those that end make room: the others keep their order. */
static void serve(struct trace *trace, const struct pollfd *polls)
{
    size_t kept = 0;
    for (size_t i = 0; i < trace->n; i++) {
        const short revents[] = { polls[2 * i].revents, polls[2 * i + 1].revents };
        if (relay_turn(trace->relays[i], revents))
            trace->relays[kept++] = trace->relays[i];
        else
            relay_free(trace->relays[i]);
    }
    trace->n = kept;
}

static int loop(struct trace *trace)
{
    struct pollfd polls[2 + 2 * MAX_RELAYS];
    int timeout;
    for (;;) {
        size_t n = fill(trace, polls, &timeout);
        if (fflush(trace->journal.out) != 0 || ferror(trace->journal.out)) {
            complain("standard output", -errno, "");
            return STATUS_FAILED;
        }
        if (poll(polls, (nfds_t)n, timeout) < 0 && errno != EINTR) {
            complain("poll", -errno, "");
            return STATUS_FAILED;
        }
        if (polls[0].revents != 0)
            return STATUS_DONE;
        serve(trace, polls + 2); /* before a new one moves the others */
        if (polls[1].revents != 0 || trace->no_room)
            take_client(trace);
    }
}

/* ---- all ---- */

static void announce(const struct trace *trace, const char *listen_path)
{
    FILE *out = trace->journal.out;
    journal_begin(&trace->journal, 0);
    fputs("listening on ", out);
    show_text(out, listen_path, strlen(listen_path));
    fprintf(out, " (%s), broker at ", type_name(trace->type));
    show_text(out, trace->upstream, strlen(trace->upstream));
    fputc('\n', out);
}

static int run(struct trace *trace, const char *listen_path)
{
    sigset_t saved;
    trace->signals = catch_signals(&saved);
    if (trace->signals < 0) {
        complain("signalfd", trace->signals, "");
        return STATUS_FAILED;
    }
    announce(trace, listen_path);
    int status = loop(trace);
    for (size_t i = 0; i < trace->n; i++)
        relay_free(trace->relays[i]);
    journal_begin(&trace->journal, 0);
    fprintf(trace->journal.out, "ended after %u connections\n", trace->n_connections);
    fflush(trace->journal.out);
    release_signals(trace->signals, &saved);
    return status;
}

int trace_run(const char *listen_path, const char *upstream)
{
    struct sock_listen_options options = { .mode = 0600, .gid = (gid_t)-1, .backlog = BACKLOG };
    const char *variable = secure_getenv("FOB_SOCKET");
    struct trace trace = { .journal.out = stdout };
    struct sock_name name;
    clock_gettime(CLOCK_MONOTONIC, &trace.journal.begin);
    trace.upstream = upstream ? upstream : variable && *variable ? variable : FOB_DEFAULT_SOCKET;
    trace.type = find_type(trace.upstream);
    if (trace.type < 0) {
        complain(trace.upstream, trace.type, " (is fobd running?)");
        return STATUS_NO_BROKER;
    }
    raise_limit();
    options.type = trace.type;
    trace.listener = sock_listen(listen_path, &options, &name);
    /* It was made as a broker's, which refuses descriptors at once: here they are to be seen. */
    int err = trace.listener < 0 ? trace.listener : relay_set_options(trace.listener);
    if (err < 0)
        complain(listen_path, err, listen_hint(err));
    int status = err < 0 ? STATUS_FAILED : run(&trace, listen_path);
    sock_unlisten(&name);
    fd_close(trace.listener);
    return status;
}
