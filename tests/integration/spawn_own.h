/*
 * A broker that its client starts with no other rights than the client's: the program, a configuration and a
 * policy of root's, and a policy of alice's own.
 */
#ifndef FOB_TESTS_SPAWN_OWN_H
#define FOB_TESTS_SPAWN_OWN_H

#include "spawn.h"

static struct broker b;
static char own_fobd[DIR_MAX + 16], own_config[DIR_MAX + 16], own_root_policy[DIR_MAX + 16],
    own_policy[DIR_MAX + 16];

static inline int own_setup(void **state)
{
    broker_prepare(&b);
    snprintf(own_fobd, sizeof own_fobd, "%s/fobd", b.dir);
    snprintf(own_config, sizeof own_config, "%s/fobd.conf", b.dir);
    snprintf(own_root_policy, sizeof own_root_policy, "%s/root.policy", b.dir);
    snprintf(own_policy, sizeof own_policy, "%s/al/own.policy", b.dir);
    copy_program("fobd", own_fobd, 0755);
    write_with_dir(&b, own_config,
                   "socket @/sock\naudit file @/audit.log\nuser 64999\nworkers 2\nbusy-poll 50\n", 0644, 0);
    write_with_dir(&b, own_root_policy, "allow user:0 read,write,create @/{pub,priv}/**\n", 0644, 0);
    write_with_dir(&b, own_policy, "allow user:2001 read,write,create,append @/{pub,al}/**\n", 0644, ALICE);
    file_write(at(&b, "al/f"), "al f\n", 0600, ALICE);
    return stage_setup(state);
}

static inline int own_teardown(void **state)
{
    (void)state;
    broker_end(&b);
    return 0;
}

static inline int own_reset(void **state)
{
    (void)state;
    said_reset(&b);
    unlink(b.audit);
    return 0;
}

/* With the options of who asks: root's configuration and policy, or a user's own policy. */
static inline struct spawn plain(int type)
{
    static const char *const of_root[] = { "fobd", "-f", own_config, "-p", own_root_policy, NULL },
                             *const of_user[] = { "fobd", "-p", own_policy, NULL };
    return (struct spawn){ .path = own_fobd, .argv = getuid() ? of_user : of_root, .type = type };
}

/* A place for a policy where the environment names one: the value of XDG_CONFIG_HOME. */
static inline const char *const *own_environment(const char *policy)
{
    static char variable[DIR_MAX + 32];
    static const char *const environment[] = { variable, NULL };
    snprintf(variable, sizeof variable, "XDG_CONFIG_HOME=%s/al/config", b.dir);
    mkdir(at(&b, "al/config"), 0755);
    mkdir(at(&b, "al/config/fob"), 0755);
    mkdir(at(&b, "al/config/fob/policy.d"), 0755);
    write_with_dir(&b, at(&b, "al/config/fob/policy.d/a.policy"), policy, 0644, ALICE);
    return environment;
}

#endif
