#include "generation.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/mountinfo.h"

static int load_empty(struct generation *generation, const char *path, const struct policy_env *env)
{
    struct policy_messages messages = { 0 };
    log_warning(
        "policy %s: no such file or directory: every request is refused (write a *.policy file there, "
        "fob.policy(5))",
        path);
    int err = policy_load_text(&generation->policy, "(none)", "", 0, env, &messages);
    policy_messages_deinit(&messages);
    return err;
}

static int load_policy(struct generation *generation, const char *path, FILE *out)
{
    struct policy_env env = {
        .trusted_uid = geteuid(),
        .pseudo = (const char *const *)generation->pseudo,
        .n_pseudo = generation->n_pseudo,
    };
    struct policy_messages messages = { 0 };
    int err = policy_load(&generation->policy, path, &env, &messages);
    if (err == -ENOENT && generation->number == 1 && access(path, F_OK) != 0 && errno == ENOENT) {
        policy_messages_deinit(&messages);
        return load_empty(generation, path, &env);
    }
    if (messages.text)
        fwrite(messages.text, 1, messages.len, out);
    else if (err < 0)
        fprintf(out, "policy %s: %s\n", path, strerror(-err));
    policy_messages_deinit(&messages);
    return err;
}

int generation_load(struct generation *generation, const struct config *config, uint32_t number,
                    FILE *messages)
{
    *generation = (struct generation){ .number = number, .loaded = time(NULL), .mounts = { .slash = -1 } };
    int err = mountinfo_pseudo(&generation->pseudo, &generation->n_pseudo);
    if (err < 0) {
        fprintf(messages, "/proc/self/mountinfo: %s (is /proc mounted?)\n", strerror(-err));
        return err;
    }
    err = load_policy(generation, config->policy, messages);
    if (err < 0) {
        generation_deinit(generation);
        return err;
    }
    policy_get_needs(generation->policy, &generation->needs);
    return 0;
}

int generation_renew(struct generation *generation, const struct generation *from, FILE *messages)
{
    *generation = (struct generation){
        .number = from->number + 1,
        .loaded = from->loaded,
        .policy = policy_ref(from->policy),
        .needs = from->needs,
        .mounts = { .slash = -1 },
    };
    int err = mountinfo_pseudo(&generation->pseudo, &generation->n_pseudo);
    if (err == 0)
        return 0;
    fprintf(messages, "/proc/self/mountinfo: %s\n", strerror(-err));
    generation_deinit(generation);
    return err;
}

int generation_clone_mounts(struct generation *generation)
{
    return mounts_open(&generation->mounts, generation->policy);
}

/* ---- counters ---- */

static size_t hits_size(const struct generation *generation)
{
    size_t rules = (size_t)policy_rule_count(generation->policy) + 1;
    return rules * generation->workers * sizeof *generation->hits;
}

int generation_share(struct generation *generation, unsigned workers)
{
    generation->workers = workers;
    void *memory =
        mmap(NULL, hits_size(generation), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    generation->hits = memory;
    return 0;
}

static struct generation_hit *hit_of(const struct generation *generation, unsigned index, uint32_t rule)
{
    return &generation->hits[(size_t)index * (policy_rule_count(generation->policy) + 1) + rule];
}

void generation_count(const struct generation *generation, unsigned index, const struct policy_rule *rule,
                      time_t now)
{
    struct generation_hit *hit = hit_of(generation, index, rule ? rule->number : 0);
    uint64_t count = atomic_load_explicit(&hit->count, memory_order_relaxed);
    atomic_store_explicit(&hit->count, count + 1, memory_order_relaxed);
    atomic_store_explicit(&hit->last, now, memory_order_relaxed);
}

uint64_t generation_hits(const struct generation *generation, uint32_t rule, time_t *last)
{
    uint64_t sum = 0;
    *last = 0;
    for (unsigned i = 0; i < generation->workers; i++) {
        const struct generation_hit *hit = hit_of(generation, i, rule);
        time_t when = (time_t)atomic_load_explicit(&hit->last, memory_order_relaxed);
        sum += atomic_load_explicit(&hit->count, memory_order_relaxed);
        *last = when > *last ? when : *last;
    }
    return sum;
}

void generation_deinit(struct generation *generation)
{
    if (generation->hits)
        munmap(generation->hits, hits_size(generation));
    mounts_close(&generation->mounts);
    mountinfo_pseudo_free(generation->pseudo, generation->n_pseudo);
    if (generation->policy)
        policy_free(generation->policy);
    *generation = (struct generation){ .mounts = { .slash = -1 } };
}
