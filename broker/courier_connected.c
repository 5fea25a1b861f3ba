/*
 * Askers that have connected their sockets. All of them share what may be unread of the listener's, so each
 * user may leave a small part of that unread, and in few sockets.
 */
#include <errno.h>
#include <string.h>

#include "../common/util.h"
#include "courier_parts.h"
#include "unix_diag.h"

enum {
    BUSY_FDS_MAX = 32, /* sockets of a user with something unread; more: no descriptors, one reply in each */
    BUSY_MAX = 64,     /* more: nothing */
    USERS = 16,        /* each may fill such a part */
    SEEN_US = 5000,    /* so long what was seen of one that is not asked for holds */
};

/* ---- which socket ---- */

static bool has_name(const struct courier_address *to, uid_t uid, const char *name, size_t len)
{
    return to->asker.uid == uid && to->len == offsetof(struct sockaddr_un, sun_path) + len &&
           memcmp(to->name.sun_path, name, len) == 0;
}

/* It is there, is the one that it was, and connected to us. */
static bool look_again(const struct post *post, const struct connected *c, struct unix_diag *now)
{
    return unix_diag_get(post->diag, c->ino, c->cookie, now) == 0 && now->uid == c->uid &&
           now->peer == post->listener_ino && now->name_len == c->name_len &&
           memcmp(now->name, c->name, c->name_len) == 0;
}

/* The queue of one that has connected to somebody else, or to nobody, was emptied by the kernel. */
static void forget_sent(struct connected *c)
{
    c->bytes = 0;
    c->fds = 0;
    c->doubtful = false;
}

static void settle(const struct post *post, struct connected *c)
{
    struct unix_diag now;
    if (c->bytes == 0 || c->held)
        return;
    if (!look_again(post, c, &now) ||
        (now.unread == 0 && (!c->doubtful || msg_unread(post->listener) < (int)c->bytes)))
        forget_sent(c);
}

struct connected *connected_find(struct post *post, const struct courier_address *to)
{
    struct unix_diag now;
    for (unsigned i = 0; i < post->n_connected; i++) {
        struct connected *c = &post->connected[i];
        if (!has_name(to, c->uid, c->name, c->name_len))
            continue;
        if (look_again(post, c, &now)) {
            settle(post, c);
            return c;
        }
        if (c->held)
            continue;
        *c = post->connected[--post->n_connected];
        i--;
    }
    return NULL;
}

struct connected *connected_by_ino(struct post *post, uint32_t ino)
{
    for (unsigned i = 0; i < post->n_connected; i++)
        if (post->connected[i].ino == ino)
            return &post->connected[i];
    return NULL;
}

static void look_at(void *context, const struct unix_diag *socket)
{
    struct post *post = context;
    const struct letter *letter = post->letters;
    if (socket->type != SOCK_DGRAM || socket->peer != post->listener_ino || socket->name_len == 0 ||
        socket->name_len > sizeof post->connected->name)
        return;
    while (letter && (letter->stage != LETTER_TO_CONNECTED ||
                      !has_name(&letter->to, socket->uid, socket->name, socket->name_len)))
        letter = letter->next;
    if (!letter || connected_by_ino(post, socket->ino) || post->n_connected == CONNECTED_MAX)
        return;
    struct connected *c = &post->connected[post->n_connected++];
    *c = (struct connected){ .ino = socket->ino,
                             .cookie = { socket->cookie[0], socket->cookie[1] },
                             .uid = socket->uid,
                             .name_len = socket->name_len };
    memcpy(c->name, socket->name, socket->name_len);
}

/* Those that have read all. */
static void forget_idle(struct post *post)
{
    for (unsigned i = 0; i < post->n_connected;) {
        struct connected *c = &post->connected[i];
        settle(post, c);
        if (c->bytes || c->held)
            i++;
        else
            *c = post->connected[--post->n_connected];
    }
}

void connected_look(struct post *post)
{
    if (post->n_connected > CONNECTED_MAX / 2)
        forget_idle(post);
    if (post->diag >= 0)
        unix_diag_each(post->diag, look_at, post);
}

/* ---- how much ---- */

struct use {
    unsigned busy, fds, all_fds;
    size_t bytes;
};

/* What the kernel counts, at most: bytes, and what it needs for them. */
static size_t cost_of(const struct letter *letter)
{
    return 2 * letter->len + 1024;
}

static struct use used_by(const struct post *post, uid_t uid)
{
    struct use use = { 0 };
    for (unsigned i = 0; i < post->n_connected; i++) {
        const struct connected *c = &post->connected[i];
        use.all_fds += c->fds;
        if (c->uid != uid || c->bytes == 0)
            continue;
        use.busy++;
        use.fds += c->fds;
        use.bytes += c->bytes;
    }
    return use;
}

static unsigned max_fds(const struct post *post)
{
    return post->max_fds / 2 > WIRE_MAX_ENTRIES ? post->max_fds / 2 : WIRE_MAX_ENTRIES;
}

static bool has_room(const struct post *post, const struct use *use, const struct connected *c,
                     const struct letter *letter)
{
    unsigned others = use->busy - (c->bytes > 0);
    return use->bytes == 0 || (use->bytes + cost_of(letter) <= post->listener_room / USERS &&
                               (c->bytes ? others < BUSY_FDS_MAX : others < BUSY_MAX));
}

static bool has_room_for_fds(const struct post *post, const struct use *use, const struct connected *c,
                             const struct letter *letter)
{
    return letter->n_sent == 0 || (use->busy - (c->bytes > 0) < BUSY_FDS_MAX &&
                                   use->fds + letter->n_sent <= post->max_fds_per_user &&
                                   use->all_fds + letter->n_sent <= max_fds(post));
}

/* Of a user; and of everybody those who may have descriptors that others want. */
static void settle_all(struct post *post, uid_t uid, bool everybody)
{
    int64_t now = clock_us();
    for (unsigned i = 0; i < post->n_connected; i++) {
        struct connected *c = &post->connected[i];
        if ((c->uid != uid && !(everybody && c->fds)) || now - c->seen < SEEN_US)
            continue;
        settle(post, c);
        c->seen = now;
    }
}

int connected_admit(struct post *post, struct connected *c, struct letter *letter)
{
    struct use use = used_by(post, c->uid);
    if (!has_room(post, &use, c, letter) || !has_room_for_fds(post, &use, c, letter)) {
        settle_all(post, c->uid, use.all_fds + letter->n_sent > max_fds(post));
        use = used_by(post, c->uid);
    }
    if (!has_room(post, &use, c, letter))
        return -EAGAIN;
    if (!has_room_for_fds(post, &use, c, letter))
        letter_withdraw(post, letter);
    return 0;
}

/* ---- what was sent ---- */

/*
 * A datagram of no bytes that was there before the socket was connected hides, as it is the first, all that
 * came after it. If the kernel says that nothing is there, and yet has more that is unread of all, then it is
 * not to be believed.
 */
void connected_sent(struct post *post, struct connected *c, const struct letter *letter, int before)
{
    struct unix_diag now;
    c->bytes += cost_of(letter);
    c->fds += (unsigned)letter->n_sent;
    if (c->held)
        return;
    bool is_there = look_again(post, c, &now);
    if (!is_there || (now.unread == 0 && msg_unread(post->listener) <= before))
        forget_sent(c);
    else
        c->doubtful = now.unread == 0;
}

void connected_hold(struct connected *c, const struct letter *letter)
{
    c->held++;
    c->bytes += cost_of(letter);
    c->fds += (unsigned)letter->n_sent;
}

void connected_release(struct post *post, struct connected *c, const struct letter *letter, bool sent)
{
    c->held--;
    c->bytes -= cost_of(letter);
    c->fds -= (unsigned)letter->n_sent;
    if (sent)
        connected_sent(post, c, letter, letter->sent_before);
}
