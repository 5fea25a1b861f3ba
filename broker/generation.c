#include "generation.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
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

static int load_policy(struct generation *generation, const char *path)
{
    struct policy_env env = {
        .trusted_uid = geteuid(),
        .pseudo = (const char *const *)generation->pseudo,
        .n_pseudo = generation->n_pseudo,
    };
    struct policy_messages messages = { 0 };
    int err = policy_load(&generation->policy, path, &env, &messages);
    if (err == -ENOENT && access(path, F_OK) != 0 && errno == ENOENT) {
        policy_messages_deinit(&messages);
        return load_empty(generation, path, &env);
    }
    if (messages.text)
        fwrite(messages.text, 1, messages.len, stderr);
    else if (err < 0)
        log_error("policy %s: %s", path, strerror(-err));
    policy_messages_deinit(&messages);
    return err;
}

int generation_load(struct generation *generation, const struct config *config, uint32_t number)
{
    *generation = (struct generation){ .number = number, .mounts = { .slash = -1 } };
    int err = mountinfo_pseudo(&generation->pseudo, &generation->n_pseudo);
    if (err < 0) {
        log_error("/proc/self/mountinfo: %s (is /proc mounted?)", strerror(-err));
        return err;
    }
    err = load_policy(generation, config->policy);
    if (err < 0) {
        generation_deinit(generation);
        return err;
    }
    policy_get_needs(generation->policy, &generation->needs);
    return 0;
}

int generation_clone_mounts(struct generation *generation)
{
    return mounts_open(&generation->mounts, generation->policy);
}

void generation_deinit(struct generation *generation)
{
    mounts_close(&generation->mounts);
    mountinfo_pseudo_free(generation->pseudo, generation->n_pseudo);
    if (generation->policy)
        policy_free(generation->policy);
    *generation = (struct generation){ .mounts = { .slash = -1 } };
}
