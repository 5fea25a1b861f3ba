#include "reign.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "../common/util.h"

static void make_plan(struct reign *reign, const struct config *config, bool privileged)
{
    reign->plan = (struct confine_plan){
        .privileged = privileged,
        .uid = privileged ? config->uid : geteuid(),
        .gid = privileged ? config->gid : getegid(),
        .needs = reign->generation.needs,
        .mounts = &reign->generation.mounts,
        .required = config->require_confinement,
    };
}

static int clone_mounts(struct reign *reign, FILE *messages)
{
    int err = generation_clone_mounts(&reign->generation);
    if (err < 0) {
        fprintf(messages, "cannot clone the mounts that the policy names: %s\n", strerror(-err));
        return err;
    }
    if (reign->generation.mounts.sealed || !reign->plan.required)
        return 0;
    fprintf(messages, "require-confinement: mounts cannot be sealed: %s\n",
            strerror(-reign->generation.mounts.error));
    return -EPERM;
}

/* Takes the reign, whose policy is loaded. */
static int finish(struct reign **out, struct reign *reign, const struct config *config, bool privileged,
                  FILE *messages)
{
    make_plan(reign, config, privileged);
    int err = clone_mounts(reign, messages);
    if (err < 0) {
        reign_free(reign);
        return err;
    }
    *out = reign;
    return 0;
}

int reign_new(struct reign **out, const struct config *config, bool privileged, uint32_t number,
              FILE *messages)
{
    struct reign *reign = mem_zalloc(1, sizeof *reign);
    if (!reign)
        return -ENOMEM;
    int err = generation_load(&reign->generation, config, number, messages);
    if (err == 0)
        return finish(out, reign, config, privileged, messages);
    free(reign);
    return err;
}

int reign_renew(struct reign **out, const struct reign *from, const struct config *config, FILE *messages)
{
    struct reign *reign = mem_zalloc(1, sizeof *reign);
    if (!reign)
        return -ENOMEM;
    int err = generation_renew(&reign->generation, &from->generation, messages);
    if (err == 0)
        return finish(out, reign, config, from->plan.privileged, messages);
    free(reign);
    return err;
}

int reign_start(struct reign *reign, const struct worker_setup *common, const int *predecessors, int64_t now)
{
    struct worker_setup setup = *common;
    setup.generation = &reign->generation;
    setup.plan = &reign->plan;
    return workers_start(&reign->workers, &setup, predecessors, now);
}

void reign_free(struct reign *reign)
{
    if (!reign)
        return;
    workers_deinit(&reign->workers);
    generation_deinit(&reign->generation);
    free(reign);
}

void reign_close_fds(struct reign *reign)
{
    if (!reign)
        return;
    workers_close_fds(&reign->workers, -1);
    mounts_close(&reign->generation.mounts);
}
