/*
 * as=caller: the file system is asked with the caller's identity. What that costs when one user asks all the
 * time, and when each request is another user's. One process asks for all of them: root may say who it is,
 * message by message (SCM_CREDENTIALS), and each connection was made as its user.
 */
#include <errno.h>
#include <grp.h>
#include <string.h>
#include <unistd.h>

#include "../../common/util.h"
#include "clients.h"
#include "measure.h"
#include "sections.h"
#include "servers.h"

enum { USERS_MAX = 1000 };

/* n users in turn. */
struct crowd {
    int n;
    const struct question *questions;
};

static struct question own[USERS_MAX], shared[USERS_MAX];
static struct ucred creds[USERS_MAX];

static void run_next(const void *crowd)
{
    static unsigned turn;
    const struct crowd *c = crowd;
    run_question(&c->questions[turn++ % (unsigned)c->n]);
}

/* A connection is its effective user's. */
static int connected_as(uid_t uid, const char *socket)
{
    if (setresgid((gid_t)-1, uid, (gid_t)-1) < 0 || setresuid((uid_t)-1, uid, (uid_t)-1) < 0)
        die("cannot be uid %u: %s", (unsigned)uid, strerror(errno));
    int sock = connected(socket, SOCK_SEQPACKET);
    if (setresuid((uid_t)-1, 0, (uid_t)-1) < 0 || setresgid((gid_t)-1, 0, (gid_t)-1) < 0)
        die("cannot be root again: %s", strerror(errno));
    return sock;
}

static void connect_users(const struct server *fobd)
{
    if (setgroups(0, NULL) < 0)
        die("setgroups: %s", strerror(errno));
    for (int i = 0; i < USERS_MAX; i++) {
        uid_t uid = CLIENT_UID + (uid_t)i;
        int sock = connected_as(uid, fobd->socket);
        creds[i] = (struct ucred){ getpid(), uid, uid };
        own[i] = ask_fob(sock, at("own/file"), 1);
        shared[i] = ask_fob(sock, at("open/file"), 1);
        own[i].cred = shared[i].cred = &creds[i];
    }
}

/* The same connections ask both ways, so that nothing else is compared. */
static void measure(const void *fobd)
{
    static struct curve curve = { "users",
                                  "number of users who ask in turn",
                                  "one open with as=caller, p50",
                                  "us",
                                  "without as=",
                                  5,
                                  { 1, 2, 10, 100, 1000 },
                                  { { 0 } },
                                  { { 0 } } };
    struct crowd ours[POINTS_MAX], theirs[POINTS_MAX];
    struct act by_caller[POINTS_MAX], by_broker[POINTS_MAX];
    connect_users(fobd);
    for (int i = 0; i < curve.n; i++) {
        ours[i] = (struct crowd){ (int)curve.x[i], own };
        theirs[i] = (struct crowd){ (int)curve.x[i], shared };
        by_caller[i] = (struct act){ run_next, &ours[i], 0, 0 };
        by_broker[i] = (struct act){ run_next, &theirs[i], 0, 0 };
    }
    curve_measure(&curve, by_caller, by_broker);
    report(&(struct row){ "as=caller, one user in a row", "us", "the default", .limit = 1.05 }, curve.y[0],
           curve.other[0], effort.rounds);
    report(&(struct row){ "as=caller, two users in turn", "us", "the default", .limit = 1.7 }, curve.y[1],
           curve.other[1], effort.rounds);
    curve_report(&curve);
}

void section_users(void)
{
    struct server fobd;
    need_fobd(&fobd,
              &(struct fobd_options){ .name = "fob", .cpu = CPU_SERVER, .config = "max-connections 1100\n" });
    as_user(0, CPU_SERVER, measure, &fobd);
    servers_stop();
}
