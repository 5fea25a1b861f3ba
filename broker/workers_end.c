/*
 * The end of the workers of a reign: told to finish, killed, waited for.
 */
#include <signal.h>
#include <sys/wait.h>

#include "../common/log.h"
#include "../common/util.h"
#include "spread.h"
#include "workers_parts.h"

enum { DEATH_MS = 200 /* a killed process is gone by then, if it can be */ };

void workers_stay_dead(struct workers *workers)
{
    workers->finishing = true;
    for (unsigned i = 0; i < workers->n; i++)
        workers->slots[i].restart.at = INT64_MAX;
    workers->sealer_restart.at = workers->identity_restart.at = INT64_MAX;
}

void workers_finish(struct workers *workers)
{
    workers_stay_dead(workers);
    for (unsigned i = 0; i < workers->n; i++) {
        workers->slots[i].control = fd_close(workers->slots[i].control);
    }
}

bool workers_alive(const struct workers *workers)
{
    for (unsigned i = 0; i < workers->n; i++)
        if (workers->slots[i].pid)
            return true;
    return false;
}

void workers_kill(struct workers *workers)
{
    for (unsigned i = 0; i < workers->n; i++)
        if (workers->slots[i].pid)
            kill(workers->slots[i].pid, SIGKILL);
}

/* True when it is gone. */
static bool reaped(pid_t *pid)
{
    if (*pid && waitpid(*pid, NULL, WNOHANG) != 0)
        *pid = 0;
    return *pid == 0;
}

static bool all_reaped(struct workers *workers)
{
    bool all = reaped(&workers->sealer);
    all = slow_pool_is_gone(&workers->pool, workers->setup.jobs) && all;
    all = reaped(&workers->identity) && all;
    for (unsigned i = 0; i < workers->n; i++) {
        bool alive = workers->slots[i].pid, gone = reaped(&workers->slots[i].pid);
        if (alive && gone)
            workers_salvage_audit(workers, i);
        all = gone && all;
    }
    return all;
}

/* Who hangs in a file system is killed but not gone (it opens and sends nothing any more): not waited for. */
static void await_deaths(struct workers *workers)
{
    for (int i = 0; i < DEATH_MS && !all_reaped(workers); i++)
        poll(NULL, 0, 1);
    if (!all_reaped(workers))
        log_warning("a killed process hangs in a file system: left behind");
}

void workers_deinit(struct workers *workers)
{
    workers_finish(workers);
    workers_kill(workers);
    workers_close_channels(workers);
    for (unsigned i = 0; i < workers->n; i++)
        workers->predecessors[i] = fd_close(workers->predecessors[i]);
    if (workers->sealer)
        kill(workers->sealer, SIGKILL); /* it holds nothing that could be lost */
    if (workers->identity)
        kill(workers->identity, SIGKILL);
    for (unsigned i = 0; i < workers_askers(workers); i++)
        workers->identities[i].sock = fd_close(workers->identities[i].sock);
    slow_pool_deinit(&workers->pool);
    spread_free(workers->spread);
    workers->spread = NULL;
    lent_close(&workers->lent);
    await_deaths(workers);
}
