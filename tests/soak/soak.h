/*
 * The soak: a confined fobd under mixed load from 50 uids, with reloads, killed and stopped processes (its
 * own and clients), restarts, and a tree that changes meanwhile. It runs in rounds; after each, what the
 * clients saw is compared with the audit and with what the policy, decided by the slow way, and the tree
 * allow.
 */
#ifndef FOB_TESTS_SOAK_H
#define FOB_TESTS_SOAK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "../../common/wire.h"
#include "../../policy/policy.h"

enum {
    CLIENTS = 50,
    FIRST_UID = 3000,
    WORKER_UID = 64999,
    WORKERS = 2,
    VARIANTS = 3,
    BATCH_MAX = 32,
    CONNECTIONS = 3, /* of a client */
    QUEUE = 6,       /* requests on their way, of a connection */
    EPOCHS_MAX = 1 << 14,
    KILLS_MAX = 1 << 16,
    ENTRIES_MAX = 2048,
    SOAK_PATH = 128,
    REPLY_MS = 10000, /* a request that waits longer is lost */
    WAITS = 256,
};

/* ---- what all processes share ---- */

enum soak_victim {
    VICTIM_WORKER,
    VICTIM_SEALER,
    VICTIM_OPENER,
    VICTIM_IDENTITY,
    VICTIM_SUPERVISOR,
    VICTIMS,
    /* Those whose deaths end connections: with a new sealer or identity helper come new openers. */
    LOSES_CONNECTIONS = 1 << VICTIM_WORKER | 1 << VICTIM_OPENER | 1 << VICTIM_SEALER | 1 << VICTIM_IDENTITY,
};
struct soak_kill {
    int64_t time; /* microseconds, CLOCK_REALTIME: what the audit has */
    pid_t pid;    /* 0: it was gone already */
    enum soak_victim victim;
};

struct soak_ask {
    int entry;
    uint32_t flags, mode;
};

struct soak_sent {
    uint32_t id, epoch, life, generation; /* what was known when it was sent */
    uint16_t op, count;
    int64_t time;
    struct soak_ask asks[BATCH_MAX];
};

struct soak_conn {
    int fd;
    int64_t opened, lazy_until;
    uint32_t id;
    bool poisoned; /* it was sent garbage, and must end */
    unsigned head, n;
    struct soak_sent queue[QUEUE];
};

struct soak_shared {
    _Atomic bool over, crash, hurry;
    _Atomic pid_t fobd;
    /* Odd: fobd was told to end, or killed, and does not serve again yet. */
    _Atomic uint32_t life;
    /* A number for each time between changes of the policy; its mask has a bit for each variant that may be
     * in force. */
    _Atomic uint32_t epoch;
    _Atomic uint8_t masks[EPOCHS_MAX];
    _Atomic uint32_t n_kills;
    struct soak_kill kills[KILLS_MAX];
    /* Of each client: who is killed leaves here what it still waited for. */
    struct soak_conn conns[CLIENTS][CONNECTIONS];
    _Atomic uint32_t waits[WAITS]; /* answers by how long they took: soak_wait_note() */
    /* The longest in this round: where the machine is slow everything is, and allowances grow by it. */
    _Atomic int64_t longest;
    _Atomic uint64_t messages, entries, garbage, hung_up, connections, lost;
    _Atomic uint64_t bad, unanswered, not_connected, refused_while_down, too_early;
    _Atomic uint64_t reloads, reloads_failed, hangups, stops, statuses, watched, control_failed;
};
extern struct soak_shared *shared;

/* ---- soak_util.c ---- */

int64_t soak_now(void);
void soak_sleep_ms(unsigned ms);
/* Every process has a sequence of its own, that depends on the seed alone. */
void soak_seed(uint64_t seed, unsigned role);
unsigned soak_random(unsigned below);
bool soak_chance(unsigned percent);
void soak_wait_note(int64_t us);
/* That many of a thousand took no longer, in microseconds (to an eighth). */
uint64_t soak_wait_quantile(unsigned permille);
/* Was fobd down at some time since shared->life was this? */
bool soak_was_down(uint32_t life);
/* Ends the program: what a test cannot go on without. */
#define SOAK_NEED(condition)                           \
    do {                                               \
        if (!(condition)) {                            \
            soak_fail(#condition, __FILE__, __LINE__); \
            exit(1); /* where analyzers see it */      \
        }                                              \
    } while (0)
void soak_fail(const char *what, const char *file, int line);
/* DIR/NAME, in a static buffer (one of 8 in turn). */
const char *soak_path(const char *name);
/* The whole file, terminated, on the heap; NULL. */
char *soak_read(const char *path, size_t *len);
/* Says what is wrong, for the first few only. */
#define SOAK_SAY __attribute__((format(printf, 1, 2)))
SOAK_SAY void soak_complain(const char *format, ...);
extern char soak_dir[64];

/* ---- soak_tree.c: the files, and everything that clients may ask for ---- */

enum soak_kind {
    KIND_FILE,
    KIND_DIR,
    KIND_FIFO,
    KIND_LINK,    /* by `real` and `other`, -1: dangling */
    KIND_NONE,    /* never there */
    KIND_NEW,     /* created and removed all the time */
    KIND_MOVER,   /* one file, now here, now at `other` */
    KIND_UNCLEAN, /* no path that is served */
};

struct soak_entry {
    char path[SOAK_PATH];
    enum soak_kind kind;
    bool last_is_link; /* not only a directory on the way */
    int real, other;   /* entries */
    struct stat st, parent;
};
extern struct soak_entry soak_entries[ENTRIES_MAX];
extern unsigned soak_n_entries;

void soak_tree_make(void);
void soak_tree_remove(void);
/* The entry of this path, or -1. */
int soak_entry_find(const char *path, size_t len);
/* Makes the names and groups of the clients known here, in a mount namespace of our own. False: there are
 * none. */
bool soak_accounts_make(void);
size_t soak_groups(unsigned client, gid_t groups[4]);

/* ---- soak_policy.c: the variants and the oracle ---- */

void soak_policy_make(void);
void soak_policy_free(void);
/* Puts a variant's text where fobd reads it: renamed into place. */
void soak_policy_install(unsigned variant);

/* Everything that a reply depends on. */
struct soak_question {
    unsigned client;
    int entry;
    uint16_t op;
    uint32_t flags, mode;
    bool no_sealer, no_identity; /* it was killed a moment ago */
    bool has_link;               /* the request has an entry with symlinks: it may be for a slow opener */
    bool has_effects;            /* and one that creates or truncates: nothing of it is done twice */
};
/* May it be answered so under this variant? With error 0 of an OPEN: by this object. */
bool soak_may_answer(unsigned variant, const struct soak_question *question, int error, dev_t dev, ino_t ino);
/* The rule that decides a CHECK. */
uint32_t soak_check_rule(unsigned variant, const struct soak_question *question);
uint64_t soak_list_hash(unsigned variant, unsigned client);
unsigned soak_rights(uint32_t flags);

/* ---- soak_client.c ---- */

enum { SEEN_CUT_OFF = 100 };
/* One entry that was answered, or never will be; or, by op, a connection that ended and should not have. */
struct soak_seen {
    int64_t sent, received;
    uint64_t dev, ino, hash; /* hash: of what LIST said */
    int32_t entry, error;
    uint32_t flags, mode, rule;
    uint16_t op, client;
    uint8_t mask;                           /* variants that were in force meanwhile */
    bool got;                               /* a descriptor */
    bool unanswered, has_link, has_effects; /* the latter: of the whole request */
};
#define SOAK_HASH_BEGIN UINT64_C(14695981039346656037)
uint64_t soak_hash(uint64_t hash, const void *bytes, size_t len);
/* The whole life of a client; never returns. */
_Noreturn void soak_client(unsigned client, const char *log);
/* What the connections of a client that was killed still waited for, to its log. */
void soak_client_bury(unsigned client, const char *log);

/* ---- soak_ask.c: what it asks ---- */

void soak_ask_init(struct soak_sent *sent, unsigned client, uint32_t id);
/* The message's length. */
size_t soak_ask_encode(const struct soak_sent *sent, uint8_t *bytes, size_t size);
/* Makes it one that must end the connection; false: it is none. */
bool soak_ask_spoil(uint8_t *bytes, size_t *len);

/* ---- soak_chaos.c: processes that disturb; none returns ---- */

_Noreturn void soak_mover(void);
_Noreturn void soak_killer(void);
_Noreturn void soak_reloader(void);
_Noreturn void soak_asker(void);
_Noreturn void soak_watcher(void);

/* ---- soak_fobd.c ---- */

void soak_fobd_configure(void);
/* Starts it, or starts it anew, as soon as what a killed one left behind lets go of the socket; waits until
 * it serves. */
pid_t soak_fobd_start(void);
/* Asks the control socket; the exit status, -1: none. The words end with an empty one. */
int soak_control(const char *words);
/* Children of a process by that name ("fobd-worker"; NULL: all), zombies not; how many. */
int soak_children(pid_t fobd, const char *name, pid_t *pids, int max);
int soak_zombies(pid_t fobd);
/* Descriptors and KiB in memory: of it alone, of its children together (what they share, shared out). */
struct soak_size {
    int fds, children_fds;
    long rss, children_rss;
};
struct soak_size soak_size_of(pid_t fobd);
/* Deaths in fobd's log that the killer did not make, and lines that should not be there. */
void soak_log_check(unsigned *deaths, unsigned *killed, unsigned *strange);

/* ---- soak_check.c, soak_audit.c ---- */

struct soak_tally {
    uint64_t replies, descriptors, granted_checks, refused, again, cut_off;
    uint64_t wrong_gift, wrong_refusal, wrong_rule, wrong_list, unexplained_cut;
    uint64_t records, torn, strange_records, surplus, unanswered;
    uint64_t missing, missing_descriptors, unexplained, unexplained_descriptors, in_flight;
};
void soak_tally_add(struct soak_tally *sum, const struct soak_tally *more);
/* Compares what the clients logged in this round with DIR/audit.round; adds to the tally. */
void soak_check_round(struct soak_tally *tally);
void soak_audit_compare(struct soak_tally *tally, const struct soak_seen *seen, size_t n);
/* Did the killer kill one of these (bits by victim) within [from, to]? */
bool soak_killed(int64_t from, int64_t to, unsigned victims);

/* ---- soak_report.c ---- */

/* What was seen of fobd between rounds. */
struct soak_health {
    struct soak_size first, last, most;
    unsigned zombies, workers_missing, left_behind, unended, reload_refused;
    unsigned rounds, stalled, clients_killed, restarts;
};
/* Holds everything, with the figures; how many did not hold. alive: it is still there, and ends now. */
unsigned soak_report(const struct soak_tally *tally, const struct soak_health *health, bool alive,
                     int status);

#endif
