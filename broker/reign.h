/*
 * One generation of the policy and the processes that serve it. A reload begins the next reign beside the
 * running one.
 */
#ifndef FOB_BROKER_REIGN_H
#define FOB_BROKER_REIGN_H

#include "confine.h"
#include "generation.h"
#include "workers.h"

struct reign {
    struct generation generation;
    struct confine_plan plan;
    struct workers workers;
};

/*
 * Loads the policy and clones its mounts; what is wrong is written to `messages`. 0 and *out, to
 * reign_free(), or a negative errno.
 */
int reign_new(struct reign **out, const struct config *config, bool privileged, uint32_t number,
              FILE *messages);
/* The same with the policy of another reign, as the next generation. */
int reign_renew(struct reign **out, const struct reign *from, const struct config *config, FILE *messages);
/*
 * After generation_share(): starts its workers. `common` has all that does not depend on the reign.
 * predecessors as of workers_start().
 */
int reign_start(struct reign *reign, const struct worker_setup *common, const int *predecessors, int64_t now);
/* Kills what still runs. */
void reign_free(struct reign *reign);
/* In a forked child of another reign's: closes what is open for this one. */
void reign_close_fds(struct reign *reign);

#endif
