/*
 * What the tests of policy_diff() share: a user database, policies from text.
 */
#ifndef FOB_TESTS_DIFF_PAIR_H
#define FOB_TESTS_DIFF_PAIR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../policy/names.h"

enum { NOW = 1000000000 };

/* ---- the user database ---- */

enum { N_USERS = 5, N_GROUPS = 3 };
static struct passwd users[N_USERS] = {
    { .pw_name = (char *)"ann", .pw_uid = 1, .pw_gid = 11, .pw_dir = (char *)"/home/ann" },
    { .pw_name = (char *)"bob", .pw_uid = 2, .pw_gid = 12, .pw_dir = (char *)"/a/b" },
    { .pw_name = (char *)"a", .pw_uid = 3, .pw_gid = 13, .pw_dir = (char *)"/" },
    { .pw_name = (char *)"..", .pw_uid = 4, .pw_gid = 11, .pw_dir = (char *)"home/x" },
    { .pw_name = (char *)"eve", .pw_uid = 5, .pw_gid = 15, .pw_dir = (char *)"/home/eve" },
};
static char *in_11[] = { (char *)"bob", NULL }, *in_13[] = { (char *)"ann", (char *)"bob", NULL },
            *in_none[] = { NULL };
static struct group groups[N_GROUPS] = {
    { .gr_name = (char *)"g11", .gr_gid = 11, .gr_mem = in_11 },
    { .gr_name = (char *)"g12", .gr_gid = 12, .gr_mem = in_none },
    { .gr_name = (char *)"g13", .gr_gid = 13, .gr_mem = in_13 },
};
static size_t next_u, next_g;

static struct passwd *user_by_name(const char *name)
{
    for (size_t i = 0; i < N_USERS; i++)
        if (strcmp(users[i].pw_name, name) == 0)
            return &users[i];
    return NULL;
}

static struct passwd *user_by_id(uid_t uid)
{
    return uid >= 1 && uid <= N_USERS ? &users[uid - 1] : NULL;
}

static struct group *group_by_name(const char *name)
{
    for (size_t i = 0; i < N_GROUPS; i++)
        if (strcmp(groups[i].gr_name, name) == 0)
            return &groups[i];
    return NULL;
}

static struct group *group_by_id(gid_t gid)
{
    return gid >= 11 && gid < 11 + N_GROUPS ? &groups[gid - 11] : NULL;
}

static void rewind_users(void)
{
    next_u = 0;
}

static struct passwd *next_user(void)
{
    return next_u < N_USERS ? &users[next_u++] : NULL;
}

static void rewind_groups(void)
{
    next_g = 0;
}

static struct group *next_group(void)
{
    return next_g < N_GROUPS ? &groups[next_g++] : NULL;
}

static void end(void)
{
}

static const struct names_source database = {
    user_by_name, user_by_id,    group_by_name, group_by_id, rewind_users,
    next_user,    rewind_groups, next_group,    end,         end,
};

/* ---- policies ---- */

static struct policy *load(const char *text)
{
    static const char *const pseudo[] = { "/b", "/a/proc" };
    struct policy *policy = NULL;
    struct policy_env env = { .pseudo = pseudo, .n_pseudo = 2, .now = NOW };
    struct policy_messages messages = { 0 };
    if (policy_load_text(&policy, "p", text, strlen(text), &env, &messages) < 0)
        print_error("does not load:\n%s%s\n", text, messages.text ? messages.text : "");
    policy_messages_deinit(&messages);
    return policy;
}

/* Its text, to be freed. */
static char *diff_of(const struct policy *old, const struct policy *new)
{
    char *text = NULL;
    size_t len = 0;
    int n = 0;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    int told = policy_diff(old, new, NOW, out);
    fclose(out);
    for (const char *p = text; *p; p++)
        n += *p == '\n';
    assert_int_equal(told, n);
    return text;
}

#endif
