#include "assume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/util.h"

struct assume {
    bool can_switch;
    cap_t with_dac, without_dac; /* made once: no allocation while serving */
    struct assume_identity own;  /* at start */
    struct assume_identity now;
    gid_t *own_groups, *now_groups; /* what .groups point to */
    size_t now_cap;
};

static bool groups_equal(const struct assume_identity *a, const struct assume_identity *b)
{
    return a->n_groups == b->n_groups &&
           (a->n_groups == 0 || memcmp(a->groups, b->groups, a->n_groups * sizeof *a->groups) == 0);
}

static bool identity_equal(const struct assume_identity *a, const struct assume_identity *b)
{
    return a->uid == b->uid && a->gid == b->gid && a->dac == b->dac && groups_equal(a, b);
}

static int own_init(struct assume *assume)
{
    int n = getgroups(0, NULL);
    if (n < 0)
        return -errno;
    assume->own_groups = mem_zalloc((size_t)n + 1, sizeof(gid_t));
    if (!assume->own_groups)
        return -ENOMEM;
    n = getgroups(n, assume->own_groups);
    if (n < 0)
        return -errno;
    sort_ids(assume->own_groups, (size_t)n);
    assume->own = (struct assume_identity){ geteuid(), getegid(), assume->own_groups, (size_t)n, true };
    assume->now = assume->own;
    return 0;
}

static int caps_init(struct assume *assume)
{
    static const cap_value_t dac[] = { CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH };
    assume->with_dac = cap_get_proc();
    assume->without_dac = cap_get_proc();
    if (!assume->with_dac || !assume->without_dac)
        return -ENOMEM;
    return cap_set_flag(assume->without_dac, CAP_EFFECTIVE, ARRAY_SIZE(dac), dac, CAP_CLEAR) < 0 ? -errno : 0;
}

struct assume *assume_new(bool can_switch)
{
    struct assume *assume = mem_zalloc(1, sizeof *assume);
    if (!assume)
        return NULL;
    assume->can_switch = can_switch;
    if (own_init(assume) < 0 || caps_init(assume) < 0) {
        assume_free(assume);
        return NULL;
    }
    return assume;
}

void assume_free(struct assume *assume)
{
    if (!assume)
        return;
    cap_free(assume->with_dac);
    cap_free(assume->without_dac);
    free(assume->own_groups);
    free(assume->now_groups);
    free(assume);
}

static int make_room(struct assume *assume, size_t n_groups)
{
    if (n_groups <= assume->now_cap)
        return 0;
    gid_t *groups = malloc(n_groups * sizeof *groups);
    if (!groups)
        return -ENOMEM;
    if (assume->now.groups == assume->now_groups) { /* else they are the broker's own */
        if (assume->now.n_groups)
            memcpy(groups, assume->now_groups, assume->now.n_groups * sizeof *groups);
        assume->now.groups = groups;
    }
    free(assume->now_groups);
    assume->now_groups = groups;
    assume->now_cap = n_groups;
    return 0;
}

/* A copy: the caller's groups may be freed, and others appear at the same address. */
static void remember(struct assume *assume, const struct assume_identity *identity)
{
    if (identity->n_groups)
        memcpy(assume->now_groups, identity->groups, identity->n_groups * sizeof *identity->groups);
    assume->now = *identity;
    assume->now.groups = assume->now_groups;
}

/* setfsuid(2) and setfsgid(2) do not report failure; a second call with an impossible id tells what is in
 * force. */
static bool switch_gid(gid_t gid)
{
    setfsgid(gid);
    return (gid_t)setfsgid((gid_t)-1) == gid;
}

static bool switch_uid(uid_t uid)
{
    setfsuid(uid);
    return (uid_t)setfsuid((uid_t)-1) == uid;
}

/* Only what differs: where users alternate, this is most of what a request costs. setgroups by syscall(2):
 * the wrapper of libc is for all threads and allocates. */
static bool switch_ids(const struct assume_identity *from, const struct assume_identity *to)
{
    return (groups_equal(from, to) || syscall(SYS_setgroups, to->n_groups, to->groups) == 0) &&
           (from->gid == to->gid || switch_gid(to->gid)) && (from->uid == to->uid || switch_uid(to->uid));
}

/* A file-system uid that becomes 0, or was it, takes capabilities with it (capabilities(7)). */
static bool switch_caps(const struct assume *assume, const struct assume_identity *from,
                        const struct assume_identity *to)
{
    bool keeps = from->dac == to->dac && from->uid != 0 && to->uid != 0;
    return keeps || cap_set_proc(to->dac ? assume->with_dac : assume->without_dac) == 0;
}

static int switch_to(struct assume *assume, const struct assume_identity *to)
{
    if (make_room(assume, to->n_groups) < 0)
        return -ENOMEM;
    if (!switch_ids(&assume->now, to) || !switch_caps(assume, &assume->now, to)) {
        log_error("cannot become uid %u for a request: %s: this worker ends", (unsigned)to->uid,
                  strerror(errno));
        abort();
    }
    remember(assume, to);
    return 0;
}

int assume_broker(struct assume *assume)
{
    return assume_identity(assume, &assume->own);
}

int assume_identity(struct assume *assume, const struct assume_identity *identity)
{
    if (identity_equal(&assume->now, identity))
        return 0;
    if (assume->can_switch)
        return switch_to(assume, identity);
    /* Without privilege dac means nothing: the broker's rights are its user's own. */
    struct assume_identity same = *identity;
    same.dac = assume->own.dac;
    return identity_equal(&assume->own, &same) ? 0 : -EPERM;
}
