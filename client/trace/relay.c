#include "relay.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "show.h"
#include "../../common/compat.h"
#include "../../common/sock.h"
#include "../../common/util.h"

static const char *const NAMES[] = { [CLIENT] = "client", [BROKER] = "broker" };

static enum side other(enum side side)
{
    return side == CLIENT ? BROKER : CLIENT;
}

/* ---- printing ---- */

void journal_begin(const struct journal *journal, unsigned number)
{
    enum { NS_PER_US = 1000, US_PER_S = 1000000 };
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long us = (long long)(now.tv_sec - journal->begin.tv_sec) * US_PER_S +
                   (now.tv_nsec - journal->begin.tv_nsec) / NS_PER_US;
    fprintf(journal->out, "%3lld.%06lld ", us / US_PER_S, us % US_PER_S);
    if (number > 0)
        fprintf(journal->out, "#%u ", number);
}

/* "#1 client: EPIPE (...)" */
static void say(const struct relay *relay, enum side side, const char *what, int error)
{
    FILE *out = relay->journal->out;
    journal_begin(relay->journal, relay->number);
    fprintf(out, "%s: %s", NAMES[side], what);
    if (error != 0)
        show_error(out, error);
    fputc('\n', out);
}

static void show_beside(FILE *out, const struct packet *packet)
{
    if (packet->has_cred)
        fprintf(out, "    credentials: pid %d, uid %u, gid %u\n", (int)packet->cred.pid, packet->cred.uid,
                packet->cred.gid);
    else
        fputs("    credentials: none\n", out);
    for (size_t i = 0; i < packet->n_fds; i++)
        show_descriptor(out, i, packet->fds[i]);
    if (packet->lost)
        fputs("    MSG_CTRUNC: descriptors that did not fit into this process are lost (raise its limit of "
              "open files)\n",
              out);
    if (packet->odd)
        fputs("    and a control message of another kind, which is not passed on\n", out);
}

/* Descriptors belong to the message that has the byte that they came with. */
static void show_stream(struct relay *relay, enum side from)
{
    FILE *out = relay->journal->out;
    struct framer *framer = &relay->halves[from].framer;
    const struct packet *packet = &relay->halves[from].packet;
    size_t at = packet->n_fds > 0 ? packet->fds_at : 0;
    framer_feed(framer, out, &relay->protocol, from, packet->bytes, at, 0);
    framer_feed(framer, out, &relay->protocol, from, packet->bytes + at, packet->len - at, packet->n_fds);
}

static void show_packet(struct relay *relay, enum side from)
{
    FILE *out = relay->journal->out;
    struct half *half = &relay->halves[from];
    const struct packet *packet = &half->packet;
    journal_begin(relay->journal, relay->number);
    fprintf(out, "%s -> %s, %zu bytes", NAMES[from], NAMES[other(from)], packet->real_len);
    if (relay->type == SOCK_STREAM)
        fprintf(out, " at %zu", half->offset);
    if (packet->n_fds > 0)
        fprintf(out, ", %zu descriptor%s", packet->n_fds, packet->n_fds > 1 ? "s" : "");
    if (packet->n_fds > 0 && packet->fds_at > 0)
        fprintf(out, " with byte %zu", half->offset + packet->fds_at);
    fputc('\n', out);
    show_beside(out, packet);
    if (packet->cut)
        fprintf(out, "    MSG_TRUNC: the first %zu bytes are shown, and nothing is passed on\n", packet->len);
    if (relay->type == SOCK_STREAM)
        show_stream(relay, from);
    else if (packet->len > 0)
        decode_native(out, from, packet->bytes, packet->len, packet->n_fds);
    else
        show_malformed(out, "an empty packet, which reads as the end of the connection");
    show_hex(out, packet->bytes, packet->len);
    half->offset += packet->len;
}

/* ---- making and ending it ---- */

int relay_set_options(int sock)
{
    const int on = 1;
    if (setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
        return -errno;
    /* Before Linux 6.16 they are always received. */
    if (setsockopt(sock, SOL_SOCKET, SO_PASSRIGHTS, &on, sizeof on) < 0 && errno != ENOPROTOOPT)
        return -errno;
    return 0;
}

/* Not sock_connect(): that waits as long as the broker's queue is full, and everybody with it. */
int relay_connect(const char *path, int type)
{
    struct sockaddr_un addr;
    int len = sock_address(&addr, path);
    if (len < 0)
        return len;
    CLEANUP(fd_cleanup) int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int err = relay_set_options(fd);
    if (err < 0)
        return err;
    return connect(fd, (const struct sockaddr *)&addr, (socklen_t)len) < 0 ? -errno : fd_take(&fd);
}

/*
 * The broker takes this process for the client. So nobody else may use it; root, whom the socket's mode does
 * not keep out, has other ways. (An abstract socket has no mode.)
 */
static bool may_use(const struct ucred *client)
{
    return client->uid == geteuid() || client->uid == 0;
}

static bool greet(const struct relay *relay)
{
    FILE *out = relay->journal->out;
    bool may = false;
    journal_begin(relay->journal, relay->number);
    fputs("connection:", out);
    for (int side = CLIENT; side <= BROKER; side++) {
        struct ucred peer = { .pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1 };
        socklen_t len = sizeof peer;
        if (getsockopt(relay->socks[side], SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
            fprintf(out, "%s %s pid %d, uid %u, gid %u", side == CLIENT ? "" : ";", NAMES[side],
                    (int)peer.pid, peer.uid, peer.gid);
        if (side == CLIENT)
            may = may_use(&peer);
    }
    fputc('\n', out);
    if (!may)
        say(relay, CLIENT, "closed: another user, who would get what this one may", 0);
    return may;
}

struct relay *relay_new(const struct journal *journal, unsigned number, int client, const char *upstream,
                        int type)
{
    struct relay *relay = mem_zalloc(1, sizeof *relay);
    if (relay == NULL) {
        fd_close(client);
        return NULL;
    }
    relay->number = number;
    relay->type = type;
    relay->journal = journal;
    relay->socks[CLIENT] = client;
    int err = relay_set_options(client);
    relay->socks[BROKER] = err < 0 ? err : relay_connect(upstream, type);
    if (relay->socks[BROKER] < 0)
        say(relay, BROKER, "no connection to it, the client is closed: ", -relay->socks[BROKER]);
    else if (greet(relay))
        return relay;
    relay_free(relay);
    return NULL;
}

void relay_free(struct relay *relay)
{
    for (int side = CLIENT; side <= BROKER; side++) {
        fd_close(relay->socks[side]);
        packet_clear(&relay->halves[side].packet);
        framer_deinit(&relay->halves[side].framer);
    }
    free(relay);
}

/* ---- at work ---- */

short relay_events(const struct relay *relay, enum side side)
{
    const struct half *in = &relay->halves[side], *out = &relay->halves[other(side)];
    int events = !in->ended && !in->packet.full ? POLLIN : 0;
    return (short)(out->packet.full && !out->later ? events | POLLOUT : events);
}

bool relay_is_waiting(const struct relay *relay)
{
    return relay->halves[CLIENT].later || relay->halves[BROKER].later;
}

/* Closed as a whole, not its writing side alone? */
static bool is_hung_up(int sock)
{
    struct pollfd ask = { .fd = sock };
    return poll(&ask, 1, 0) == 1 && ask.revents & POLLHUP;
}

/* False: the connection is over. */
static bool end_half(struct relay *relay, enum side from)
{
    struct half *half = &relay->halves[from];
    bool gone = is_hung_up(relay->socks[from]);
    half->ended = true;
    say(relay, from, gone ? "closed" : "closed its writing side", 0);
    if (relay->type == SOCK_STREAM)
        framer_end(&half->framer, relay->journal->out);
    (void)shutdown(relay->socks[other(from)], SHUT_WR);
    return !gone && !relay->halves[other(from)].ended;
}

/* The other side takes nothing any more; what it has sent before is still wanted. */
static bool drop_half(struct relay *relay, enum side from, int err)
{
    struct half *half = &relay->halves[from];
    packet_clear(&half->packet);
    half->ended = true;
    say(relay, other(from), "does not read any more, this was not passed on: ", -err);
    (void)shutdown(relay->socks[from], SHUT_RD); /* its next send fails, as it would without us */
    return !relay->halves[other(from)].ended;
}

static bool pass(struct relay *relay, enum side from)
{
    struct half *half = &relay->halves[from];
    int err = packet_pass(relay->socks[other(from)], &half->packet);
    /* ETOOMANYREFS: too many descriptors of this user are under way, until somebody reads. ENOMEM passes too.
     */
    half->later = err == -ETOOMANYREFS || err == -ENOBUFS || err == -ENOMEM;
    if (err == 0 || err == -EAGAIN || half->later)
        return true;
    if (err == -EPIPE || err == -ECONNRESET)
        return drop_half(relay, from, err);
    say(relay, other(from), "takes it not, the connection is closed: ", -err);
    if (err == -EPERM && half->packet.n_fds > 0)
        fputs("    it receives no descriptors (SO_PASSRIGHTS)\n", relay->journal->out);
    return false;
}

static bool receive(struct relay *relay, enum side from)
{
    struct half *half = &relay->halves[from];
    int got = packet_receive(relay->socks[from], relay->type, &half->packet);
    if (got == -EAGAIN)
        return true;
    if (got == -ECONNRESET && !half->was_reset) {
        half->was_reset = true; /* said once, before what it has sent; see skb_recv_datagram() */
        say(relay, from, "closed without having read all", 0);
        return true;
    }
    if (got < 0 && got != -ECONNRESET)
        say(relay, from, "", -got);
    if (got <= 0)
        return end_half(relay, from);
    show_packet(relay, from);
    return !half->packet.cut && pass(relay, from);
}

bool relay_turn(struct relay *relay, const short revents[2])
{
    for (int side = CLIENT; side <= BROKER; side++) {
        struct half *half = &relay->halves[side];
        bool alive = true;
        if (half->packet.full && (half->later || revents[other(side)] != 0))
            alive = pass(relay, side);
        else if (!half->packet.full && !half->ended && revents[side] != 0)
            alive = receive(relay, side);
        if (!alive)
            return false;
    }
    return true;
}
