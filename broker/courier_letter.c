/*
 * Replies that cannot be sent at once. To look a path up may hang, wherever the asker makes it lead: a child
 * does that, and sends. And of who is connected it may have to be found out first which socket that is.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/util.h"
#include "courier_parts.h"

enum {
    WAITING_MAX = 1024,
    WAITING_PER_USER = 64,
    CHILDREN_MAX = 32,
    CHILDREN_PER_USER = 4, /* one that hangs for good stays counted */
    CHILD_S = 2,
    WAIT_US = 3000000,
    ROOM_US = 100000, /* so long it is waited for a child that may have sent, and not ended yet */
    LOOK_SHARE = 4,   /* of so many parts of time one is for looking at all sockets */
    LOOK_BURST_US = 100000,
};

/* How a child ends. */
enum { CHILD_SENT, CHILD_LOST, CHILD_IS_CONNECTED };

static bool is_path(const struct letter *letter)
{
    return letter->to.name.sun_path[0] != '\0';
}

/* ---- those that wait ---- */

struct tally {
    unsigned letters, of_user, children, children_of_user;
    size_t fds, fds_of_user; /* of those that have no child yet */
};

static struct tally count(const struct post *post, uid_t uid)
{
    struct tally tally = { 0 };
    for (const struct letter *l = post->letters; l; l = l->next) {
        bool own = l->to.asker.uid == uid, child = l->stage == LETTER_WITH_CHILD;
        tally.letters++;
        tally.of_user += own;
        tally.children += child;
        tally.children_of_user += own && child;
        tally.fds += child ? 0 : l->n_fds;
        tally.fds_of_user += own && !child ? l->n_fds : 0;
    }
    return tally;
}

static void letter_free(struct letter *letter)
{
    fd_close_many(letter->fds, letter->n_fds);
    free(letter);
}

static struct letter *letter_copy(struct letter *letter)
{
    struct letter *copy = malloc(sizeof *copy + letter->len);
    if (!copy)
        return NULL;
    *copy = *letter;
    copy->bytes = (uint8_t *)(copy + 1);
    memcpy(copy->bytes, letter->bytes, letter->len);
    letter->n_fds = 0;
    return copy;
}

/* At the end; NULL: no memory. */
static struct letter *append(struct post *post, struct letter *letter, enum letter_stage stage, bool in_queue)
{
    struct letter *copy = letter_copy(letter), **at = &post->letters;
    if (!copy)
        return NULL;
    copy->next = NULL;
    copy->stage = stage;
    copy->in_queue = in_queue;
    copy->tried = copy->connected = false;
    copy->since = clock_us();
    while (*at)
        at = &(*at)->next;
    return *at = copy;
}

static bool may_wait(const struct tally *tally)
{
    return tally->letters < WAITING_MAX && tally->of_user < WAITING_PER_USER;
}

int letters_add(struct post *post, struct letter *letter, enum letter_stage stage)
{
    struct tally tally = count(post, letter->to.asker.uid);
    if (!may_wait(&tally))
        return -EAGAIN;
    if (tally.fds_of_user + letter->n_fds > post->max_fds_per_user ||
        tally.fds + letter->n_fds > post->max_fds) {
        letter_withdraw(post, letter);
        fd_close_many(letter->fds, letter->n_fds);
        letter->n_fds = 0;
    }
    return append(post, letter, stage, false) ? 0 : -ENOMEM;
}

/* ---- the child ---- */

static int send_to_path(struct post *post, struct letter *letter)
{
    struct sockaddr_un name;
    socklen_t len = 0;
    CLEANUP(fd_cleanup) int target = -1;
    int err = address_wear(post, &letter->to);
    if (err == 0)
        err = address_find(post, &letter->to, &name, &len, &target);
    if (err < 0)
        return CHILD_LOST;
    err = letter_send(post, letter, letter->connected ? post->listener : letter->sock, &name, len);
    return err == 0 ? CHILD_SENT : err == -EPERM && !letter->connected ? CHILD_IS_CONNECTED : CHILD_LOST;
}

static int send_in_child(struct post *post, struct letter *letter)
{
    const struct sockaddr_un *name = &letter->to.name;
    if (letter->in_queue && !slow_take(post, letter))
        return CHILD_LOST;
    fd_close(post->queue);
    if (is_path(letter))
        return send_to_path(post, letter);
    int err = letter->connected ? letter_send(post, letter, post->listener, name, letter->to.len)
                                : letter_send(post, letter, letter->sock, NULL, 0);
    return err == 0 ? CHILD_SENT : CHILD_LOST;
}

/* As it may stay for ever, it keeps nothing that others would miss. */
static void child_run(struct post *post, struct letter *letter)
{
    signal(SIGALRM, SIG_DFL);
    alarm(CHILD_S);
    fd_close(post->diag);
    if (!letter->connected)
        fd_close(post->listener);
    _exit(send_in_child(post, letter));
}

static bool may_make_child(const struct tally *tally)
{
    return tally->children < CHILDREN_MAX && tally->children_of_user < CHILDREN_PER_USER;
}

static int make_child(struct post *post, struct letter *letter)
{
    letter->child = fork();
    if (letter->child == 0)
        child_run(post, letter);
    if (letter->child < 0)
        return -errno;
    letter->stage = LETTER_WITH_CHILD;
    if (letter->in_queue)
        slow_await(post);
    return 0;
}

/* ---- steps: 0: it is done; -EINPROGRESS: it waits still; else it is lost ---- */

/* From a socket of its own, which is the courier's too, so that it knows what is unread of it. */
static int send_by_child(struct post *post, struct letter *letter)
{
    if (letter->n_sent)
        own_add(post, letter->sock, letter->to.asker.uid, letter->n_sent, true);
    int err = make_child(post, letter);
    if (err == 0)
        return -EINPROGRESS;
    own_settle(post, letter->sock, false);
    return err;
}

static int send_path(struct post *post, struct letter *letter)
{
    uid_t uid = letter->to.asker.uid;
    struct tally tally = count(post, uid);
    if (!may_make_child(&tally))
        return -EINPROGRESS;
    if (!own_has_room(post, uid, letter->n_sent)) {
        if (tally.children_of_user && clock_us() - letter->since < ROOM_US)
            return -EINPROGRESS;
        letter_withdraw(post, letter);
    }
    letter->sock = own_socket();
    return letter->sock < 0 ? letter->sock : send_by_child(post, letter);
}

static int send_connected_by_child(struct post *post, struct letter *letter, struct connected *c)
{
    letter->connected = true;
    letter->ino = c->ino;
    connected_hold(c, letter);
    int err = make_child(post, letter);
    if (err == 0)
        return -EINPROGRESS;
    connected_release(post, c, letter, false);
    return err;
}

static int send_connected(struct post *post, struct letter *letter, struct connected *c)
{
    bool by_child = is_path(letter) || letter->in_queue;
    struct tally tally = count(post, letter->to.asker.uid);
    if (by_child && !may_make_child(&tally))
        return -EINPROGRESS;
    int err = connected_admit(post, c, letter);
    letter->sent_before = msg_unread(post->listener);
    if (err < 0)
        return err;
    if (by_child)
        return send_connected_by_child(post, letter, c);
    err = letter_send(post, letter, post->listener, &letter->to.name, letter->to.len);
    if (err == 0)
        connected_sent(post, c, letter, letter->sent_before);
    return err;
}

/* known: all have been looked at since it waits. */
static int find_connected(struct post *post, struct letter *letter, bool known)
{
    if (letter->tried && !known)
        return -EINPROGRESS;
    struct connected *c = connected_find(post, &letter->to);
    letter->tried = true;
    if (c)
        return send_connected(post, letter, c);
    return known ? -EACCES : -EINPROGRESS;
}

static int settle(struct post *post, struct letter *letter, int status)
{
    int how = WIFEXITED(status) ? WEXITSTATUS(status) : CHILD_LOST;
    struct connected *c = letter->connected ? connected_by_ino(post, letter->ino) : NULL;
    if (c)
        connected_release(post, c, letter, how == CHILD_SENT);
    if (!letter->connected)
        own_settle(post, letter->sock, how == CHILD_SENT);
    if (how != CHILD_IS_CONNECTED || letter->in_queue)
        return how == CHILD_SENT ? 0 : -EACCES;
    letter->stage = LETTER_TO_CONNECTED;
    return find_connected(post, letter, false);
}

static int step(struct post *post, struct letter *letter, bool known)
{
    int status = CHILD_LOST << 8;
    if (letter->stage != LETTER_WITH_CHILD && clock_us() - letter->since > WAIT_US)
        return -ETIMEDOUT;
    switch (letter->stage) {
    case LETTER_TO_PATH:
        return send_path(post, letter);
    case LETTER_TO_CONNECTED:
        return find_connected(post, letter, known);
    case LETTER_WITH_CHILD:
    default:
        return waitpid(letter->child, &status, WNOHANG) == 0 ? -EINPROGRESS : settle(post, letter, status);
    }
}

/* ---- all ---- */

static bool is_there(const struct post *post, enum letter_stage stage)
{
    for (const struct letter *l = post->letters; l; l = l->next)
        if (l->stage == stage)
            return true;
    return false;
}

/* Once for all that wait for it, and not all the time: somebody may have very many sockets. */
static bool look(struct post *post)
{
    int64_t now = clock_us();
    if (now < post->look_at || !is_there(post, LETTER_TO_CONNECTED))
        return false;
    connected_look(post);
    if (post->look_at < now - LOOK_BURST_US)
        post->look_at = now - LOOK_BURST_US;
    post->look_at += (clock_us() - now) * LOOK_SHARE;
    return true;
}

static void take_out(struct post *post, struct letter **at, int err)
{
    struct letter *letter = *at;
    *at = letter->next;
    letter_free(letter);
    if (err < 0)
        board_add(&post->counters->undelivered, 1);
}

void letters_step(struct post *post)
{
    bool known = look(post);
    for (struct letter **at = &post->letters; *at;) {
        int err = step(post, *at, known);
        if (err == -EINPROGRESS)
            at = &(*at)->next;
        else
            take_out(post, at, err);
    }
}

/* ---- what is in the queue ---- */

static struct connected *find_now(struct post *post, const struct letter *letter)
{
    struct connected *c = connected_find(post, &letter->to);
    return c || !look(post) ? c : connected_find(post, &letter->to);
}

/* There is one try: whether it is connected is found out first. */
static int begin_slow(struct post *post, struct letter *letter)
{
    CLEANUP(fd_cleanup) int sock = own_socket();
    int err = sock < 0 ? sock : is_path(letter) ? 0 : address_connect(post, &letter->to, sock);
    struct connected *c = is_path(letter) || err == -EPERM ? find_now(post, letter) : NULL;
    if (c)
        return send_connected(post, letter, c);
    if (err < 0)
        return err;
    if (!own_has_room(post, letter->to.asker.uid, letter->n_sent))
        letter_withdraw(post, letter);
    letter->sock = fd_take(&sock);
    return send_by_child(post, letter);
}

int letters_add_slow(struct post *post, struct letter *letter)
{
    struct tally tally = count(post, letter->to.asker.uid);
    if (!may_wait(&tally) || !may_make_child(&tally))
        return -EAGAIN;
    struct letter *copy = append(post, letter, LETTER_TO_CONNECTED, true);
    int err = copy ? begin_slow(post, copy) : -ENOMEM;
    if (err == -EINPROGRESS)
        return 0;
    struct letter **at = &post->letters;
    while (*at != copy)
        at = &(*at)->next;
    if (copy) {
        *at = copy->next;
        letter_free(copy);
    }
    return err;
}

int64_t letters_wait_us(const struct post *post)
{
    if (!is_there(post, LETTER_TO_CONNECTED))
        return is_there(post, LETTER_TO_PATH) ? ROOM_US : -1;
    int64_t left = post->look_at - clock_us();
    return left < 0 ? 0 : left < ROOM_US ? left : ROOM_US;
}

void letters_drop(struct post *post)
{
    while (post->letters)
        take_out(post, &post->letters, -ECANCELED);
}
