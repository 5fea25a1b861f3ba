/*
 * soak MINUTES SEED: rounds until the time is over (0: one short round), then the report. As root.
 */
#include "soak.h"

#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ROUND_MS = 20000,
    SMOKE_MS = 6000,
    TICK_MS = 10,
    GRACE_MS = 30000, /* for the processes of a round to end */
    SETTLE_MS = 3000,
    CLIENT_LIFE_MS = 12000, /* a client is killed after that, on the average */
    CRASH_PERCENT = 60,     /* of the rounds have one */
    WARM_UP = 3 * VARIANTS, /* reloads that make what stays: buffers, the heap's size */
    DISTURBERS = 5,
    STALL_US = 900000,
    ROUNDS_MORE = 4,
    PROCESSES = CLIENTS + DISTURBERS,
};

static struct soak_tally tally;
static struct soak_health health;
static bool alive;
static int last_status; /* of fobd, if it is not */

/* ---- the processes of a round ---- */

static pid_t processes[PROCESSES];
static unsigned incarnations; /* of clients in this round: each has a sequence of its own */

static const char *log_of(unsigned client)
{
    char log[32];
    snprintf(log, sizeof log, "seen/%u", client);
    return soak_path(log);
}

static _Noreturn void be_process(unsigned role)
{
    switch (role) {
    case CLIENTS:
        soak_mover();
    case CLIENTS + 1:
        soak_killer();
    case CLIENTS + 2:
        soak_reloader();
    case CLIENTS + 3:
        soak_asker();
    case CLIENTS + 4:
        soak_watcher();
    default:
        soak_client(role, log_of(role));
    }
}

static void begin_process(uint64_t seed, unsigned role)
{
    pid_t pid = fork();
    SOAK_NEED(pid >= 0);
    processes[role] = pid;
    if (pid)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    soak_seed(seed + ((uint64_t)incarnations << 32), role);
    be_process(role);
}

/* Ended on purpose: another takes its place, with the policy that is installed now. */
static void fobd_ended(int status)
{
    shared->fobd = 0;
    bool expected = shared->life % 2 && (status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    if (!expected) {
        soak_complain("fobd ended by itself: wait status %#x", (unsigned)status);
        alive = false;
        last_status = status;
        return;
    }
    shared->fobd = soak_fobd_start();
    shared->life++;
    health.restarts++;
}

/* Whoever ended: fobd, a process of the round (not with 0: its log may be cut), or a child that a killed fobd
 * has left to us. */
static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == shared->fobd) {
            fobd_ended(status);
            continue;
        }
        for (unsigned i = 0; i < PROCESSES; i++)
            if (processes[i] == pid) {
                processes[i] = 0;
                health.unended += status != 0;
                if (status)
                    soak_complain("process %u of the round ended with wait status %#x", i, (unsigned)status);
            }
    }
}

static void kill_client(uint64_t seed)
{
    unsigned client = soak_random(CLIENTS);
    if (!processes[client])
        return;
    kill(processes[client], SIGKILL);
    waitpid(processes[client], NULL, 0);
    soak_client_bury(client, log_of(client));
    health.clients_killed++;
    incarnations++;
    begin_process(seed, client);
}

static void end_processes(void)
{
    unsigned left = 1;
    for (unsigned ms = 0; left && ms < GRACE_MS; ms += TICK_MS) {
        soak_sleep_ms(TICK_MS);
        reap();
        left = 0;
        for (unsigned i = 0; i < PROCESSES; i++)
            left += processes[i] != 0;
    }
    for (unsigned i = 0; i < PROCESSES; i++)
        if (processes[i]) {
            soak_complain("process %u of the round did not end", i);
            health.unended++;
            kill(processes[i], SIGKILL);
            waitpid(processes[i], NULL, 0);
            processes[i] = 0;
        }
}

/* ---- between rounds ---- */

/* All quiet, this variant in force; the audit so far stands in audit.round. */
static void settle(unsigned variant)
{
    SOAK_NEED(rename(soak_path("audit"), soak_path("audit.round")) == 0);
    soak_policy_install(variant);
    if (soak_control("reload\0") != 0) {
        health.reload_refused++;
        soak_complain("a reload in peace was refused");
    }
    memset((void *)shared->masks, 0, sizeof shared->masks);
    shared->masks[0] = (uint8_t)(1u << variant);
    shared->epoch = 0;
}

static bool is_complete(void)
{
    pid_t pids[64];
    return soak_children(shared->fobd, "fobd-worker", pids, 64) == WORKERS &&
           soak_children(shared->fobd, "fobd-sealer", pids, 64) == 1 &&
           soak_children(shared->fobd, "fobd-identity", pids, 64) == 1;
}

/* fobd alone, and nothing of its predecessors. */
static unsigned left_behind(void)
{
    pid_t pids[64];
    return (unsigned)soak_children(getpid(), NULL, pids, 64) - 1;
}

static bool is_quiet(void)
{
    struct soak_size size = soak_size_of(shared->fobd);
    bool same = size.fds == health.first.fds && size.children_fds == health.first.children_fds;
    return soak_zombies(shared->fobd) == 0 && is_complete() && left_behind() == 0 &&
           (!health.first.fds || same);
}

static void look_at_fobd(void)
{
    for (int ms = 0; ms < SETTLE_MS && !is_quiet(); ms += TICK_MS) {
        soak_sleep_ms(TICK_MS);
        reap();
    }
    health.zombies += (unsigned)soak_zombies(shared->fobd);
    health.workers_missing += !is_complete();
    health.left_behind += left_behind();
    struct soak_size size = soak_size_of(shared->fobd), *most = &health.most;
    if (!health.first.fds)
        health.first = *most = size;
    health.last = size;
    most->fds = size.fds > most->fds ? size.fds : most->fds;
    most->rss = size.rss > most->rss ? size.rss : most->rss;
    most->children_fds = size.children_fds > most->children_fds ? size.children_fds : most->children_fds;
    most->children_rss = size.children_rss > most->children_rss ? size.children_rss : most->children_rss;
}

static void warm_up(void)
{
    for (unsigned i = 0; i < WARM_UP; i++) {
        settle((i + 1) % VARIANTS);
        SOAK_NEED(soak_control("status\0json\0") == 0);
    }
    soak_sleep_ms(SETTLE_MS / 10); /* its slow opener is there too */
    look_at_fobd();
}

/* ---- rounds ---- */

static uint64_t wrong_so_far(void)
{
    return tally.wrong_gift + tally.wrong_refusal + tally.wrong_rule + tally.wrong_list +
           tally.unexplained_cut + tally.strange_records + tally.surplus + tally.unexplained + tally.torn +
           shared->bad;
}

static void keep_audit(uint64_t seed)
{
    char name[64];
    snprintf(name, sizeof name, "audit.%llu", (unsigned long long)seed);
    rename(soak_path("audit.round"), soak_path(name));
}

static void begin_round(uint64_t seed)
{
    shared->over = shared->crash = false;
    shared->longest = 0;
    incarnations = 0;
    fflush(NULL);
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (i < CLIENTS)
            unlink(log_of(i));
        begin_process(seed, i);
    }
}

/* A machine that stood still (its virtual machine was halted, say) makes everybody late, and its clock jump:
 * such a round tells only what has nothing to do with time. */
static void forgive(struct soak_tally *round, uint64_t unanswered)
{
    health.stalled++;
    shared->unanswered = unanswered;
    round->wrong_refusal = round->unexplained_cut = round->surplus = round->missing = 0;
    round->missing_descriptors = round->unexplained = round->unexplained_descriptors = 0;
}

static void check_round(uint64_t seed, uint32_t kills, uint64_t unanswered, int64_t stall)
{
    uint64_t wrong = wrong_so_far();
    struct soak_tally round = { 0 };
    soak_check_round(&round);
    if (stall > STALL_US) {
        printf("the machine stood still for %lld ms: what is late in this round does not count\n",
               (long long)stall / 1000);
        forgive(&round, unanswered);
    }
    soak_tally_add(&tally, &round);
    health.rounds++;
    if (wrong != wrong_so_far() && getenv("SOAK_KEEP"))
        keep_audit(seed);
    printf("round with seed %llu: %llu replies so far, %u kills in it, the longest wait %lld ms\n",
           (unsigned long long)seed, (unsigned long long)tally.replies, (unsigned)(shared->n_kills - kills),
           (long long)shared->longest / 1000);
    fflush(stdout);
}

static void run_round(uint64_t seed, unsigned ms)
{
    uint32_t kills = shared->n_kills;
    uint64_t unanswered = shared->unanswered;
    soak_seed(seed, PROCESSES);
    bool crashes = shared->hurry || soak_chance(CRASH_PERCENT);
    unsigned crash_ms = ms / 4 + soak_random(ms / 2);
    begin_round(seed);
    int64_t begin = soak_now(), end = begin + (int64_t)ms * 1000, stall = 0;
    while (soak_now() < end && alive) {
        int64_t slept = soak_now();
        soak_sleep_ms(TICK_MS);
        slept = soak_now() - slept;
        stall = slept > stall ? slept : stall;
        reap();
        if (soak_random(CLIENT_LIFE_MS) < CLIENTS * TICK_MS)
            kill_client(seed);
        if (crashes && soak_now() > begin + (int64_t)crash_ms * 1000) {
            shared->crash = true;
            crashes = false;
        }
    }
    shared->over = true;
    end_processes();
    if (!alive)
        return;
    settle(0);
    look_at_fobd();
    check_round(seed, kills, unanswered, stall);
}

/* The machine stood still too often: what held tells too little. */
static bool is_inconclusive(void)
{
    return health.stalled * 2 > health.rounds;
}

/* ---- the whole ---- */

static void prepare(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SOAK_NEED(shared != MAP_FAILED);
    SOAK_NEED(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0); /* what a killed fobd leaves behind is ours to see */
    SOAK_NEED(mkdtemp(soak_dir) && chmod(soak_dir, 0755) == 0);
    SOAK_NEED(mkdir(soak_path("seen"), 0700) == 0);
    umask(0);
    if (!soak_accounts_make())
        puts("the clients have no accounts here (no mount namespace): %u and %h match nothing");
    soak_tree_make();
    soak_policy_make();
    soak_fobd_configure();
    soak_policy_install(0);
}

static unsigned long long number(const char *text)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end) {
        fputs("usage: soak MINUTES SEED\n", stderr);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    unsigned long long minutes = number(argc == 3 ? argv[1] : ""), seed = number(argv[2]);
    if (geteuid() != 0 || prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) != 1 ||
        prctl(PR_CAPBSET_READ, CAP_SYS_PTRACE) != 1) {
        puts("skipped: needs root with CAP_SYS_ADMIN and CAP_SYS_PTRACE (uids, sealed mounts)");
        return 77;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    prepare();
    shared->hurry = minutes == 0;
    shared->fobd = soak_fobd_start();
    alive = true;
    warm_up();
    int64_t end = soak_now() + (int64_t)minutes * 60 * 1000000;
    do
        run_round(seed++, minutes ? ROUND_MS : SMOKE_MS);
    while (alive && (soak_now() < end || (is_inconclusive() && health.rounds < ROUNDS_MORE)));
    unsigned failed = soak_report(&tally, &health, alive, last_status);
    if (failed && getenv("SOAK_KEEP"))
        printf("what is left stands in %s\n", soak_dir);
    else
        soak_tree_remove();
    soak_policy_free();
    if (!failed && is_inconclusive()) {
        puts("skipped: the machine stands still again and again, nothing can be told");
        return 77;
    }
    return failed != 0;
}
