/*
 * What the clients saw, against the oracle.
 */
#include "soak.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/escape.h"
#include "../../common/util.h"

enum {
    HELPER_US = 3000000, /* a killed sealer or identity helper is back by then */
    SEAL_US = 900000,    /* a worker waits no longer than a second for the sealer */
    CUT_US = 2000000, /* a client that is lazy, or awaits another answer, sees late that its worker is gone */
    DRAIN_US = 5000000, /* workers without a supervisor end in their own time */
};

bool soak_killed(int64_t from, int64_t to, unsigned victims)
{
    for (uint32_t i = shared->n_kills; i-- > 0;) {
        const struct soak_kill *kill = &shared->kills[i];
        if (kill->time < from)
            break;
        if (kill->time <= to && kill->pid && victims >> kill->victim & 1)
            return true;
    }
    return false;
}

static void complain_of(const struct soak_seen *seen, const char *what)
{
    char path[4 * SOAK_PATH], flags[WIRE_FLAGS_TEXT];
    const char *bytes = seen->op <= WIRE_CHECK ? soak_entries[seen->entry].path : "";
    escape_text(path, sizeof path, bytes, strlen(bytes));
    soak_complain(
        "uid %u: %s: operation %u, %s %s mode %o: error %s, rule %u, %llx:%llu, variants %#x, at %lld",
        FIRST_UID + seen->client, what, seen->op, path, wire_flags_text(flags, seen->flags),
        (unsigned)seen->mode, seen->error ? strerrorname_np(seen->error) : "none", (unsigned)seen->rule,
        (unsigned long long)seen->dev, (unsigned long long)seen->ino, seen->mask, (long long)seen->received);
}

static bool was_missing(const struct soak_seen *seen, enum soak_victim victim)
{
    return soak_killed(seen->sent - HELPER_US - shared->longest, seen->received,
                       1u << victim | 1u << VICTIM_SUPERVISOR);
}

static bool may_answer(const struct soak_seen *seen)
{
    struct soak_question q = {
        .client = seen->client,
        .entry = seen->entry,
        .op = seen->op,
        .flags = seen->flags,
        .mode = seen->mode,
        .no_sealer = was_missing(seen, VICTIM_SEALER) || shared->longest > SEAL_US,
        .no_identity = was_missing(seen, VICTIM_IDENTITY),
        .has_link = seen->has_link,
        .has_effects = seen->has_effects,
    };
    for (unsigned v = 0; v < VARIANTS; v++)
        if (seen->mask >> v & 1 && soak_may_answer(v, &q, seen->error, seen->dev, seen->ino))
            return true;
    return false;
}

/* A CHECK tells the rule that decides: the very same as of the slow way. */
static bool has_rule(const struct soak_seen *seen)
{
    struct soak_question q = { .client = seen->client, .entry = seen->entry, .flags = seen->flags };
    if (seen->op != WIRE_CHECK || seen->error == EINVAL || was_missing(seen, VICTIM_IDENTITY))
        return true;
    for (unsigned v = 0; v < VARIANTS; v++)
        if (seen->mask >> v & 1 && soak_check_rule(v, &q) == seen->rule)
            return true;
    return false;
}

static bool has_list(const struct soak_seen *seen)
{
    static uint64_t hashes[VARIANTS][CLIENTS];
    if (was_missing(seen, VICTIM_IDENTITY))
        return true;
    for (unsigned v = 0; v < VARIANTS; v++) {
        uint64_t *hash = &hashes[v][seen->client];
        if (!*hash)
            *hash = soak_list_hash(v, seen->client);
        if (seen->mask >> v & 1 && *hash == seen->hash)
            return true;
    }
    return false;
}

static void judge_reply(struct soak_tally *tally, const struct soak_seen *seen)
{
    tally->replies++;
    tally->descriptors += seen->got;
    tally->granted_checks += !seen->got && seen->error == 0;
    tally->refused += seen->error != 0;
    tally->again += seen->error == EAGAIN;
    if (!may_answer(seen)) {
        complain_of(seen, seen->error ? "refused for no reason" : "allowed, and should not be");
        *(seen->error ? &tally->wrong_refusal : &tally->wrong_gift) += 1;
    }
    if (!has_rule(seen)) {
        complain_of(seen, "another rule than by the slow way");
        tally->wrong_rule++;
    }
}

static bool is_cut_explained(const struct soak_seen *seen)
{
    int64_t to = seen->received, from = to - shared->longest;
    return soak_killed(from - CUT_US, to, LOSES_CONNECTIONS) ||
           soak_killed(from - DRAIN_US, to, 1u << VICTIM_SUPERVISOR);
}

static void judge(struct soak_tally *tally, const struct soak_seen *seen)
{
    if (seen->unanswered) {
        tally->unanswered += seen->op == WIRE_OPEN || seen->op == WIRE_CHECK;
    } else if (seen->op == SEEN_CUT_OFF) {
        tally->cut_off++;
        if (!is_cut_explained(seen)) {
            complain_of(seen, "a connection ended");
            tally->unexplained_cut++;
        }
    } else if (seen->op == WIRE_LIST) {
        if (!has_list(seen)) {
            complain_of(seen, "another list than the policy's");
            tally->wrong_list++;
        }
    } else {
        judge_reply(tally, seen);
    }
}

/* ---- reading ---- */

static void append(struct soak_seen **all, size_t *n, size_t *cap, const char *log)
{
    size_t len;
    char *bytes = soak_read(log, &len);
    SOAK_NEED(bytes && len % sizeof **all == 0);
    size_t more = len / sizeof **all;
    if (*n + more > *cap) {
        *cap = 2 * *cap + more;
        *all = realloc(*all, *cap * sizeof **all);
        SOAK_NEED(*all);
    }
    if (more && *all)
        memcpy(*all + *n, bytes, len);
    *n += more;
    free(bytes);
}

/* All its fields are counts. */
void soak_tally_add(struct soak_tally *sum, const struct soak_tally *more)
{
    uint64_t counts[sizeof *sum / sizeof(uint64_t)], others[ARRAY_SIZE(counts)];
    memcpy(counts, sum, sizeof counts);
    memcpy(others, more, sizeof others);
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
        counts[i] += others[i];
    memcpy(sum, counts, sizeof counts);
}

void soak_check_round(struct soak_tally *tally)
{
    struct soak_seen *seen = NULL;
    size_t n = 0, cap = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "seen/%u", i);
        append(&seen, &n, &cap, soak_path(name));
    }
    for (size_t i = 0; i < n; i++)
        judge(tally, &seen[i]);
    soak_audit_compare(tally, seen, n);
    free(seen);
}
