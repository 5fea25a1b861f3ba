#include "control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../common/control.h"
#include "../../common/sock.h"
#include "../../common/util.h"

static int say_no_broker(const char *control, int err)
{
    switch (err) {
    case -EACCES:
    case -EPERM:
        say("%s: %s (the control socket is for root, or the control-group of fobd.conf(5))", control,
            strerror(-err));
        return STATUS_NO;
    case -ENOENT:
    case -ECONNREFUSED:
        say("%s: no broker runs there (start fobd, or name its control socket with -s)", control);
        return STATUS_NO_BROKER;
    default:
        say("%s: %s", control, strerror(-err));
        return STATUS_NO_BROKER;
    }
}

static int send_words(int sock, const char *const *words)
{
    char request[CONTROL_REQUEST_MAX];
    size_t len = 0;
    for (; *words; words++) {
        size_t n = strlen(*words) + 1;
        if (n > sizeof request - len)
            return -E2BIG;
        memcpy(request + len, *words, n);
        len += n;
    }
    return send(sock, request, len, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int connect_and_send(const struct fobctl *ctl, const char *const *words, int *sock)
{
    *sock = sock_connect(ctl->control, SOCK_SEQPACKET);
    if (*sock < 0)
        return say_no_broker(ctl->control, *sock);
    int err = send_words(*sock, words);
    if (err == 0)
        return STATUS_YES;
    say("%s: %s", ctl->control, strerror(-err));
    *sock = fd_close(*sock);
    return err == -E2BIG ? STATUS_USAGE : STATUS_NO_BROKER;
}

/* What standard output gets: as it comes, or in whole lines to a function. */
struct sink {
    control_line_fn *take;
    void *data;
    char *line; /* the beginning of one */
    size_t len, cap;
    bool stopped;
};

static bool sink_keep(struct sink *sink, const char *bytes, size_t len)
{
    while (sink->len + len > sink->cap) {
        char *grown = realloc(sink->line, sink->cap ? sink->cap * 2 : 4096);
        if (!grown)
            return false;
        sink->line = grown;
        sink->cap = sink->cap ? sink->cap * 2 : 4096;
    }
    if (len)
        memcpy(sink->line + sink->len, bytes, len);
    sink->len += len;
    return true;
}

static void sink_put(struct sink *sink, const char *bytes, size_t len)
{
    if (!sink->take) {
        fwrite(bytes, 1, len, stdout);
        return;
    }
    while (len && !sink->stopped) {
        const char *newline = memchr(bytes, '\n', len);
        size_t n = newline ? (size_t)(newline - bytes) : len;
        sink->stopped = !sink_keep(sink, bytes, n);
        if (newline && !sink->stopped) {
            sink->stopped = !sink->take(sink->line, sink->len, sink->data);
            sink->len = 0;
        }
        bytes += n + (newline != NULL);
        len -= n + (newline != NULL);
    }
}

static int receive_all(int sock, const char *control, struct sink *sink)
{
    static char packet[CONTROL_PACKET_MAX + 1];
    ssize_t got;
    while (!sink->stopped && (got = recv(sock, packet, sizeof packet - 1, 0)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            break;
        packet[got] = '\0';
        uint64_t status;
        if (packet[0] == CONTROL_OUT)
            sink_put(sink, packet + 1, (size_t)got - 1);
        else if (packet[0] == CONTROL_ERR)
            fwrite(packet + 1, 1, (size_t)got - 1, stderr);
        else if (packet[0] == CONTROL_EXIT && parse_u64(packet + 1, 255, &status) == 0)
            return (int)status;
    }
    if (sink->stopped)
        return STATUS_YES;
    say("%s: the broker ended the connection before its answer did (it was stopped, or this end was too "
        "slow)",
        control);
    return STATUS_NO_BROKER;
}

int control_stream(const struct fobctl *ctl, const char *const *words, control_line_fn *take, void *data)
{
    int sock, status = connect_and_send(ctl, words, &sock);
    struct sink sink = { .take = take, .data = data };
    if (status != STATUS_YES)
        return status;
    status = receive_all(sock, ctl->control, &sink);
    free(sink.line);
    fd_close(sock);
    return status;
}

int control_ask(const struct fobctl *ctl, const char *const *words)
{
    return control_stream(ctl, words, NULL, NULL);
}
