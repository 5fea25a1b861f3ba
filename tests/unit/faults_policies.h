/*
 * For test_faults_policy.c: policies that use every feature of the language, and a user database that may
 * fail.
 */
#ifndef FOB_TESTS_FAULTS_POLICIES_H
#define FOB_TESTS_FAULTS_POLICIES_H

#include <errno.h>
#include <string.h>

#include "../../common/util.h"
#include "../../policy/names.h"
#include "faults.h"

static const char policy_text[] =
    "set @ops     = user:ann user:bob group:wheel\n"
    "set @deep    = @ops user:cid\n"
    "set @secrets = /etc/shadow* /etc/ssl/private/** \"/srv/My Secrets/**\"\n"
    "allow @deep           read,list      /var/log/** /srv/{a,b{,c}}/*.[!a-c]?  id=logs log=refused\n"
    "allow group:wheel+exe:/usr/bin/* read /etc/*.pem  type=file,fifo links=any seal=no \\\n"
    "      until=2046-12-31T18:00Z\n"
    "allow user:ann+unit:report.service+cgroup:/system.slice/**,user:bob+label:a_t append,create "
    "/srv/reports/%u.csv mode=0640 as=user:cid\n"
    "allow any             read,write     /home/%u/** %h/.cache/** /srv/%U%%  as=caller id=own log=none\n"
    "allow user:4711,group:4712 stat      /  type=dir,file\n"
    "deny  any             all            @secrets  id=secrets\n"
    "deny  group:wheel     write          /home/*/.profile\n"
    "assert allow user:ann read  /var/log/syslog\n"
    "assert deny  user:bob read  /etc/shadow\n"
    "assert deny  group:wheel write /home/ann/.profile\n"
    "assert allow user:ann+unit:report.service+cgroup:/system.slice/x append /srv/reports/ann.csv\n";

/* For warnings. */
static const char other_text[] = "set @ops = user:ann user:bob\n"
                                 "allow @ops      read       /var/log/** /srv/{a,b}/*\n"
                                 "allow user:ann  read       /var/log/syslog\n"
                                 "allow any       read,write /home/%u/**  as=caller log=refused id=own\n"
                                 "allow any       read,list  /**  seal=no type=file,dir\n"
                                 "allow group:wheel+exe:/usr/bin/x read /etc/*.pem\n"
                                 "deny  user:cid  all        /srv/**\n";

/* For differences: of subjects, paths, rights, options and denies. */
static const char before_text[] = "set @ops = user:ann user:bob\n"
                                  "allow @ops            read /srv/{a,b}\n"
                                  "allow user:4711       stat /  type=dir\n"
                                  "allow group:wheel+exe:/bin/x read /etc/a\n"
                                  "allow any             write /srv/%u\n";
static const char after_text[] = "set @ops = user:ann group:wheel\n"
                                 "allow @ops            read /srv/*\n"
                                 "allow user:4711       stat /  type=dir log=none id=top\n"
                                 "allow any             read,write /srv/%u\n"
                                 "deny  user:cid        all /srv/a\n";

/* ---- a user database that may fail ---- */

static struct passwd users[] = {
    { .pw_name = (char *)"ann", .pw_uid = 1001, .pw_gid = 11, .pw_dir = (char *)"/home/ann" },
    { .pw_name = (char *)"bob", .pw_uid = 1002, .pw_gid = 12, .pw_dir = (char *)"/home/bob" },
    { .pw_name = (char *)"cid", .pw_uid = 1003, .pw_gid = 13, .pw_dir = (char *)"/home/cid" },
};
static char *wheels[] = { (char *)"bob", (char *)"cid", NULL }, *nobody[] = { NULL };
static struct group groups[] = {
    { .gr_name = (char *)"elf", .gr_gid = 11, .gr_mem = nobody },
    { .gr_name = (char *)"wheel", .gr_gid = 10, .gr_mem = wheels },
};
static size_t next_u, next_g;

static inline bool database_fails(const char *name)
{
    static const int errors[] = { EIO, EMFILE, ENOMEM };
    return faults_fails(name, errors, ARRAY_SIZE(errors));
}

static inline struct passwd *user_by_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(users) && !(i == 0 && database_fails("getpwnam")); i++)
        if (strcmp(users[i].pw_name, name) == 0)
            return &users[i];
    return NULL;
}

static inline struct passwd *user_by_id(uid_t uid)
{
    for (size_t i = 0; i < ARRAY_SIZE(users) && !(i == 0 && database_fails("getpwuid")); i++)
        if (users[i].pw_uid == uid)
            return &users[i];
    return NULL;
}

static inline struct group *group_by_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(groups) && !(i == 0 && database_fails("getgrnam")); i++)
        if (strcmp(groups[i].gr_name, name) == 0)
            return &groups[i];
    return NULL;
}

static inline struct group *group_by_id(gid_t gid)
{
    for (size_t i = 0; i < ARRAY_SIZE(groups) && !(i == 0 && database_fails("getgrgid")); i++)
        if (groups[i].gr_gid == gid)
            return &groups[i];
    return NULL;
}

static inline void rewind_users(void)
{
    next_u = 0;
}

static inline struct passwd *next_user(void)
{
    return next_u < ARRAY_SIZE(users) && !database_fails("getpwent") ? &users[next_u++] : NULL;
}

static inline void rewind_groups(void)
{
    next_g = 0;
}

static inline struct group *next_group(void)
{
    return next_g < ARRAY_SIZE(groups) && !database_fails("getgrent") ? &groups[next_g++] : NULL;
}

static inline void end(void)
{
}

static const struct names_source database = {
    user_by_name, user_by_id,    group_by_name, group_by_id, rewind_users,
    next_user,    rewind_groups, next_group,    end,         end,
};

#endif
