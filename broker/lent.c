#include "lent.h"

#include <sys/socket.h>

#include "../common/util.h"

void lent_init(struct lent *lent)
{
    lent->made = true;
    for (unsigned i = 0; i < JOBS_MAX; i++)
        lent->socks[i] = -1;
}

void lent_keep(struct lent *lent, unsigned job, uint32_t serial, int sock)
{
    if (job >= JOBS_MAX) {
        fd_close(sock);
        return;
    }
    fd_close(lent->socks[job]);
    lent->socks[job] = sock;
    lent->serials[job] = serial;
}

void lent_sweep(struct lent *lent, const struct jobs *jobs)
{
    for (unsigned i = 0; i < JOBS_MAX; i++)
        if (lent->socks[i] >= 0 && !jobs_is_worked(jobs, (int)i, lent->serials[i], NULL))
            lent->socks[i] = fd_close(lent->socks[i]);
}

void lent_hang_up(struct lent *lent, const struct jobs *jobs, unsigned worker_slot)
{
    for (unsigned i = 0; i < JOBS_MAX; i++)
        if (lent->socks[i] >= 0 && jobs_is_worked(jobs, (int)i, lent->serials[i], &worker_slot)) {
            shutdown(lent->socks[i], SHUT_RDWR);
            lent->socks[i] = fd_close(lent->socks[i]);
        }
}

void lent_close(struct lent *lent)
{
    if (lent->made)
        fd_close_many(lent->socks, JOBS_MAX);
}
