#include "control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../common/control.h"
#include "../common/log.h"
#include "../common/peer.h"
#include "../common/util.h"
#include "audit.h"
#include "board.h"
#include "status.h"
#include "supervisor.h"

enum {
    PATIENCE_MS = 10000,      /* without any progress of an admin's */
    ACCEPT_MS = 200,          /* after there was no descriptor left */
    LISTEN_MS = 20,           /* how often workers' decisions are read for watchers */
    WATCH_QUEUE_MAX = 1 << 20 /* unread bytes of a watcher */
};

void control_init(struct control *control)
{
    *control = (struct control){ .watchers = 0 };
    listener_init(&control->listener);
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
        control->clients[i].fd = -1;
}

int control_open(struct control *control, const struct supervisor *s)
{
    const struct config *config = s->config;
    struct config_socket socket = config->control;
    if (!socket.path)
        return 0;
    if (config->control_gid != (gid_t)-1) {
        socket.gid = config->control_gid;
        socket.mode |= 0060;
    }
    control->heard = mem_zalloc(board_slots(s->board), sizeof *control->heard);
    if (!control->heard)
        return -ENOMEM;
    int err = listener_bind(&control->listener, &socket, SOCK_SEQPACKET, s->privileged);
    if (err == -ENAMETOOLONG) {
        log_warning(
            "without a control socket fobctl cannot reach this broker (control-socket, fobd.conf(5))");
        return 0;
    }
    return err;
}

/* ---- what is to be written ---- */

static void client_close(struct control *control, struct control_client *client)
{
    control->watchers -= client->state == CONTROL_WATCHING;
    fd_close(client->fd);
    free(client->out);
    *client = (struct control_client){ .fd = -1 };
}

/* One packet. Without memory the client is cut off, which it notices by the missing end. */
static void put_packet(struct control_client *client, char kind, const char *bytes, size_t len)
{
    uint32_t size = (uint32_t)len + 1;
    if (client->len + sizeof size + size > client->cap && client->at) {
        memmove(client->out, client->out + client->at, client->len - client->at);
        client->len -= client->at; /* what was written goes before more is asked for */
        client->at = 0;
    }
    if (client->len + sizeof size + size > client->cap) {
        size_t cap = (client->len + sizeof size + size) * 2;
        char *grown = realloc(client->out, cap);
        if (!grown) {
            shutdown(client->fd, SHUT_RDWR);
            return;
        }
        client->out = grown;
        client->cap = cap;
    }
    if (client->len == client->at)
        client->deadline = clock_ms() + PATIENCE_MS;
    memcpy(client->out + client->len, &size, sizeof size);
    client->out[client->len + sizeof size] = kind;
    memcpy(client->out + client->len + sizeof size + 1, bytes, len);
    client->len += sizeof size + size;
}

static void put_text(struct control_client *client, char kind, const char *text, size_t len)
{
    while (len) {
        size_t n = len < CONTROL_PACKET_MAX - 1 ? len : CONTROL_PACKET_MAX - 1;
        put_packet(client, kind, text, n);
        text += n;
        len -= n;
    }
}

static void put_exit(struct control_client *client, int status)
{
    char text[8];
    int n = snprintf(text, sizeof text, "%d", status);
    put_packet(client, CONTROL_EXIT, text, (size_t)n);
    client->state = CONTROL_ANSWERING;
}

/* As much as the socket takes now. False: the client is gone, or done. */
static bool client_write(struct control_client *client)
{
    while (client->at < client->len) {
        uint32_t size;
        memcpy(&size, client->out + client->at, sizeof size);
        ssize_t n =
            send(client->fd, client->out + client->at + sizeof size, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        client->at += sizeof size + size;
        client->deadline = clock_ms() + PATIENCE_MS;
    }
    client->at = client->len = 0;
    return client->state != CONTROL_ANSWERING;
}

/* ---- requests ---- */

static bool is_admin(const struct supervisor *s, const struct peer *peer)
{
    if (peer->uid == 0 || peer->uid == geteuid())
        return true;
    gid_t admins = s->config->control_gid;
    for (size_t i = 0; admins != (gid_t)-1 && i < peer->n_groups; i++)
        if (peer->groups[i] == admins)
            return true;
    return admins != (gid_t)-1 && peer->gid == admins;
}

static void refuse(struct control_client *client, const char *why)
{
    put_text(client, CONTROL_ERR, why, strlen(why));
    put_exit(client, 1);
}

static void answer_status(struct supervisor *s, struct control_client *client, const char *format)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    int err = out ? status_write(s, format, out) : -ENOMEM;
    if (out && fclose(out) != 0)
        err = -ENOMEM;
    if (err == 0)
        put_text(client, CONTROL_OUT, text, len);
    free(text);
    if (err < 0)
        refuse(client, err == -EINVAL ? "fobd: status: no such format\n" : "fobd: out of memory\n");
    else
        put_exit(client, 0);
}

static void answer_explain(struct supervisor *s, struct control_client *client, char **words)
{
    char *texts[2] = { NULL, NULL };
    size_t lens[2] = { 0, 0 };
    FILE *out = open_memstream(&texts[0], &lens[0]), *errors = open_memstream(&texts[1], &lens[1]);
    enum policy_answer answer = POLICY_BAD_QUESTION;
    if (out && errors)
        answer = policy_explain(s->reign->generation.policy, words[0], words[1], words[2], time(NULL), out,
                                errors);
    if (out)
        fclose(out);
    if (errors)
        fclose(errors);
    put_text(client, CONTROL_OUT, texts[0], lens[0]);
    put_text(client, CONTROL_ERR, texts[1], lens[1]);
    free(texts[0]);
    free(texts[1]);
    put_exit(client, (int)answer);
}

static void begin_watch(struct supervisor *s, struct control_client *client)
{
    if (s->control.watchers++ == 0) {
        for (unsigned i = 0; i < board_slots(s->board); i++)
            s->control.heard[i] = board_now(s->board, i);
        board_watch(s->board, true);
    }
    client->state = CONTROL_WATCHING;
}

static void answer(struct supervisor *s, struct control_client *client, char **words, size_t n)
{
    if (n == 2 && strcmp(words[0], "status") == 0) {
        answer_status(s, client, words[1]);
    } else if (n == 4 && strcmp(words[0], "explain") == 0) {
        answer_explain(s, client, words + 1);
    } else if (n == 1 && strcmp(words[0], "watch") == 0) {
        begin_watch(s, client);
    } else if (n == 1 && strcmp(words[0], "reload") == 0) {
        client->state = CONTROL_WAITING;
        reload_request(s);
    } else {
        refuse(client, "fobd: this request is not known here (fobctl and fobd of different versions?)\n");
    }
}

static void receive_request(struct supervisor *s, struct control_client *client)
{
    char request[CONTROL_REQUEST_MAX], *words[CONTROL_WORDS_MAX];
    size_t n = 0;
    ssize_t len = recv(client->fd, request, sizeof request, MSG_DONTWAIT | MSG_TRUNC);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (len <= 0) {
        client_close(&s->control, client);
        return;
    }
    bool whole = len <= (ssize_t)sizeof request && request[len - 1] == '\0';
    for (char *p = request; whole && p < request + len; p += strlen(p) + 1) {
        whole = n < CONTROL_WORDS_MAX;
        if (whole)
            words[n++] = p;
    }
    if (!client->admin)
        refuse(client, "fobd: Permission denied (root, or the control-group of fobd.conf(5))\n");
    else if (whole)
        answer(s, client, words, n);
    else
        refuse(client, "fobd: a request that is not well-formed\n");
}

/* ---- clients ---- */

static struct control_client *free_client(struct control *control)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (control->clients[i].state == CONTROL_FREE)
            return &control->clients[i];
    return NULL;
}

/* Takes fd. */
static void client_open(struct supervisor *s, int accepted)
{
    CLEANUP(fd_cleanup) int fd = accepted;
    struct peer peer;
    struct control_client *client = free_client(&s->control);
    if (!client || peer_init(&peer, fd) < 0)
        return;
    *client = (struct control_client){
        .state = CONTROL_ASKING,
        .fd = fd_take(&fd),
        .admin = is_admin(s, &peer),
        .deadline = clock_ms() + PATIENCE_MS,
    };
    if (!client->admin)
        log_warning("control socket: uid %u, pid %d is no admin: refused", (unsigned)peer.uid, (int)peer.pid);
    peer_deinit(&peer);
}

static void accept_clients(struct supervisor *s)
{
    int fd = 0;
    while (fd >= 0 && free_client(&s->control)) {
        fd = accept4(s->control.listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            client_open(s, fd);
    }
    if (fd < 0 && (errno == EMFILE || errno == ENFILE))
        s->control.accept_at = clock_ms() + ACCEPT_MS;
}

/* A watcher or waiter that says anything more, or ends, is done. */
static void client_serve(struct supervisor *s, struct control_client *client, short events)
{
    if (client->state == CONTROL_ASKING && events & POLLIN)
        receive_request(s, client);
    else if (events & (POLLHUP | POLLERR | POLLIN))
        client_close(&s->control, client);
}

/* ---- watching ---- */

static const char gap[] = "{\"not_shown\":true}\n";

static void tell_watchers(struct control *control, const char *lines, size_t len)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct control_client *client = &control->clients[i];
        if (client->state != CONTROL_WATCHING)
            continue;
        if (client->len - client->at >= WATCH_QUEUE_MAX) {
            client->not_shown++;
            continue;
        }
        if (client->not_shown) /* he is told where, before what comes next */
            put_text(client, CONTROL_OUT, gap, sizeof gap - 1);
        client->not_shown = 0;
        put_text(client, CONTROL_OUT, lines, len);
    }
}

static void hear_workers(struct supervisor *s)
{
    static char lines[2 * AUDIT_LINE_MAX];
    for (unsigned i = 0; i < board_slots(s->board); i++) {
        uint64_t lost = 0;
        size_t len;
        while ((len = board_hear(s->board, i, &s->control.heard[i], lines, sizeof lines, &lost)) > 0)
            tell_watchers(&s->control, lines, len);
        if (lost)
            tell_watchers(&s->control, gap, sizeof gap - 1);
    }
}

static void say_not_shown(struct control_client *client)
{
    if (client->state == CONTROL_WATCHING && client->not_shown && client->len == 0) {
        client->not_shown = 0;
        put_text(client, CONTROL_OUT, gap, sizeof gap - 1);
    }
}

/* ---- the supervisor's loop ---- */

nfds_t control_poll(const struct control *control, struct pollfd *polled)
{
    nfds_t n = 0;
    if (control->listener.fd >= 0 && clock_ms() >= control->accept_at &&
        free_client((struct control *)(uintptr_t)control))
        polled[n++] = (struct pollfd){ .fd = control->listener.fd, .events = POLLIN };
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        const struct control_client *client = &control->clients[i];
        short events = (short)(POLLIN | (client->len ? POLLOUT : 0));
        if (client->state != CONTROL_FREE)
            polled[n++] = (struct pollfd){ .fd = client->fd, .events = events };
    }
    return n;
}

static struct control_client *client_of(struct control *control, int fd)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (control->clients[i].state != CONTROL_FREE && control->clients[i].fd == fd)
            return &control->clients[i];
    return NULL;
}

/* Who neither asks nor reads is cut off; who waits for a reload or for decisions has nothing to read. */
static bool is_late(const struct control_client *client)
{
    bool idle = client->len == 0 && client->state != CONTROL_ASKING;
    return client->state != CONTROL_FREE && !idle && clock_ms() >= client->deadline;
}

static void write_all(struct supervisor *s)
{
    struct control *control = &s->control;
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct control_client *client = &control->clients[i];
        if (client->state == CONTROL_FREE)
            continue;
        say_not_shown(client);
        if (!client_write(client) || is_late(client))
            client_close(control, client);
    }
    if (control->watchers == 0 && board_is_watched(s->board))
        board_watch(s->board, false);
}

void control_serve(struct supervisor *s, const struct pollfd *polled, nfds_t n)
{
    for (nfds_t i = 0; i < n; i++) {
        if (!polled[i].revents)
            continue;
        struct control_client *client = client_of(&s->control, polled[i].fd);
        if (polled[i].fd == s->control.listener.fd)
            accept_clients(s);
        else if (client)
            client_serve(s, client, polled[i].revents);
    }
    if (s->control.watchers)
        hear_workers(s);
    write_all(s);
}

int64_t control_deadline(const struct control *control)
{
    int64_t now = clock_ms(), at = control->watchers ? now + LISTEN_MS : INT64_MAX;
    if (control->accept_at > now && control->accept_at < at)
        at = control->accept_at;
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        const struct control_client *client = &control->clients[i];
        bool waits = client->state == CONTROL_ASKING || (client->state != CONTROL_FREE && client->len);
        if (waits && client->deadline < at)
            at = client->deadline;
    }
    return at;
}

/* ---- reloads ---- */

void control_reload_begin(struct control *control)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (control->clients[i].state == CONTROL_WAITING)
            control->clients[i].state = CONTROL_RELOADING;
}

void control_reload_say(struct control *control, const char *text, size_t len)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (control->clients[i].state == CONTROL_RELOADING)
            put_text(&control->clients[i], CONTROL_ERR, text, len);
}

void control_reload_end(struct supervisor *s, bool done)
{
    char text[64];
    const struct generation *g = &s->reign->generation;
    int n = snprintf(text, sizeof text, "generation %u is in force: %u rules\n", (unsigned)g->number,
                     (unsigned)policy_rule_count(g->policy));
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct control_client *client = &s->control.clients[i];
        if (client->state != CONTROL_RELOADING)
            continue;
        if (done)
            put_text(client, CONTROL_OUT, text, (size_t)n);
        put_exit(client, done ? 0 : 4);
    }
}

/* ---- the end ---- */

void control_close_fds(struct control *control)
{
    fd_close(control->listener.fd);
    fd_close(control->listener.name.lock_fd);
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
        fd_close(control->clients[i].fd);
}

void control_close(struct control *control)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (control->clients[i].state != CONTROL_FREE)
            client_close(control, &control->clients[i]);
    listener_close(&control->listener);
    free(control->heard);
    control->heard = NULL;
}
