/*
 * The policy in its variants, and what may be answered under each: the oracle. It decides by
 * policy_decide_slow(), and knows of the broker what its manual pages say.
 */
#include "soak.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../common/path.h"
#include "../../common/util.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

/* `$` stands for the directory, `!` for the program that all clients run. */
static const char *const texts[VARIANTS] = {
    "allow any read,list,stat $/pub $/pub/**\n"
    "allow group:4000,group:4001 read,write,append,list $/shared $/shared/**\n"
    "allow @low read,list $/priv $/priv/**\n"
    "allow any read,write,append,create,list,stat $/home/%u $/home/%u/** as=caller mode=0640\n"
    "allow any append,create $/drop/* mode=0600\n"
    "allow @odd read,write,create,stat $/made/*\n"
    "allow any read,write,create $/sticky/*\n"
    "allow any read,write $/fifo/* type=fifo\n"
    "allow @low read $/open/*\n"
    "allow @odd+exe:! read $/secret/*\n"
    "allow @low+exe:/nowhere read $/secret/*\n"
    "deny group:4020 all $/priv/sec $/priv/sec/**\n"
    "deny user:3007 all $/pub/d1/**\n",

    "allow any read $/pub/**\n"
    "allow group:4001,group:4002 read $/shared/**\n"
    "allow @odd read,write,list,stat $/priv $/priv/** type=file,dir\n"
    "allow any read,list $/home/%u $/home/%u/** as=caller\n"
    "allow @low read,write,append,create %h/** as=caller mode=0600\n"
    "allow @odd append,create $/drop/*\n"
    "allow any read,write,append,create,stat $/made/* mode=0600\n"
    "allow any read $/fifo/*\n"
    "allow @low read,stat $/open/* links=any\n"
    "allow any list $/drop\n"
    "deny @odd all $/pub/d2/**\n"
    "deny group:4020 read $/shared/**\n",

    "deny any write,append $/home/*/r\n"
    "allow @low read,list,stat $/pub $/pub/**\n"
    "allow group:4003+@odd,group:4010 read,list $/pub $/pub/{d0,d1}/**\n"
    "allow any stat $/priv/** type=file,dir,fifo\n"
    "allow user:3001,user:3002,user:3010 read,write $/shared/f1* $/shared/mover $/priv/mover\n"
    "allow any all $/home/%u $/home/%u/** as=caller\n"
    "allow any read,append,create $/drop/n[0-4]*\n"
    "allow @odd+group:4010 read,write,create,append $/sticky/*\n"
    "allow user:3004,user:3005+exe:! read,stat,list $/secret $/secret/**\n"
    "deny group:4001+exe:! write $/sticky/*\n"
    "deny user:3013 all /**\n",
};

struct known {
    bool known, allowed;
    uint8_t rule;
};
enum { RIGHTS = RIGHT_ALL + 1 };

static struct policy *policies[VARIANTS];
static char *written[VARIANTS];
static char program[4096];
static const char *in_rules, *known_program;
static struct known *cache; /* by variant, client, entry, rights */

/* ---- loading ---- */

/* Is there SO_PEERPIDFD (Linux 6.5)? Else fobd knows of no client what it runs. */
static bool has_pidfds(void)
{
    int pair[2], fd = -1;
    socklen_t len = sizeof fd;
    SOAK_NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    bool has = getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0;
    fd_close(fd);
    fd_close_many(pair, 2);
    return has;
}

/* One whose name would need quoting in a policy stands in no rule. */
static void find_program(void)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-";
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    SOAK_NEED(len > 0);
    program[len] = '\0';
    in_rules = program[strspn(program, plain)] ? "/nowhere" : program;
    known_program = has_pidfds() ? program : NULL;
}

static void put_set(FILE *out, const char *name, unsigned from, unsigned step, unsigned n)
{
    fprintf(out, "set @%s =", name);
    for (unsigned i = 0; i < n; i++)
        fprintf(out, " user:%u", FIRST_UID + from + i * step);
    fputc('\n', out);
}

static char *write_text(unsigned variant, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    SOAK_NEED(out);
    fprintf(out, "# variant %u\n", variant);
    put_set(out, "low", 0, 1, CLIENTS / 2);
    put_set(out, "odd", 1, 2, CLIENTS / 2);
    for (const char *p = texts[variant]; *p; p++)
        if (*p == '$')
            fputs(soak_dir, out);
        else if (*p == '!' && p[-1] == ':')
            fputs(in_rules, out);
        else
            fputc(*p, out);
    SOAK_NEED(fclose(out) == 0);
    return text;
}

void soak_policy_make(void)
{
    struct policy_env env = { 0 };
    find_program();
    for (unsigned v = 0; v < VARIANTS; v++) {
        struct policy_messages messages = { 0 };
        size_t len;
        written[v] = write_text(v, &len);
        int err = policy_load_text(&policies[v], "soak.policy", written[v], len, &env, &messages);
        if (messages.text)
            fputs(messages.text, stderr);
        policy_messages_deinit(&messages);
        SOAK_NEED(err == 0);
    }
    cache = calloc((size_t)VARIANTS * CLIENTS * soak_n_entries * RIGHTS, sizeof *cache);
    SOAK_NEED(cache);
}

void soak_policy_free(void)
{
    for (unsigned v = 0; v < VARIANTS; v++) {
        policy_free(policies[v]);
        free(written[v]);
    }
    free(cache);
}

void soak_policy_install(unsigned variant)
{
    FILE *out = fopen(soak_path("next"), "we");
    SOAK_NEED(out && fputs(written[variant], out) >= 0 && fclose(out) == 0);
    SOAK_NEED(chmod(soak_path("next"), 0644) == 0);
    SOAK_NEED(rename(soak_path("next"), soak_path("soak.policy")) == 0);
}

/* ---- decisions ---- */

static struct policy_subject subject_of(unsigned variant, unsigned client, gid_t groups[4])
{
    return (struct policy_subject){
        .uid = FIRST_UID + client,
        .gid = FIRST_UID + client,
        .groups = groups,
        .n_groups = soak_groups(client, groups),
        .exe = known_program,
        .user = policy_find_user(policies[variant], FIRST_UID + client),
    };
}

static const struct known *decide(unsigned variant, unsigned client, int entry, unsigned rights)
{
    size_t at = (((size_t)variant * CLIENTS + client) * soak_n_entries + (size_t)entry) * RIGHTS + rights;
    struct known *known = &cache[at];
    if (known->known)
        return known;
    gid_t groups[4];
    struct policy_subject subject = subject_of(variant, client, groups);
    struct policy_decision decision;
    const char *path = soak_entries[entry].path;
    policy_decide_slow(policies[variant], &subject, rights, path, strlen(path), time(NULL), &decision);
    *known = (struct known){ true, decision.allowed, (uint8_t)(decision.rule ? decision.rule->number : 0) };
    return known;
}

static const struct policy_rule *rule_of(unsigned variant, const struct known *known)
{
    return policy_rule_get(policies[variant], known->rule);
}

uint64_t soak_list_hash(unsigned variant, unsigned client)
{
    static char text[WIRE_MAX_MESSAGE];
    gid_t groups[4];
    struct policy_subject subject = subject_of(variant, client, groups);
    size_t len = policy_list(policies[variant], &subject, time(NULL), text, sizeof text - WIRE_HEADER_SIZE);
    return soak_hash(SOAK_HASH_BEGIN, text, len);
}

unsigned soak_rights(uint32_t flags)
{
    if (flags & WIRE_PATH)
        return RIGHT_STAT;
    if (flags & WIRE_DIRECTORY)
        return RIGHT_LIST;
    unsigned rights = flags & WIRE_READ ? RIGHT_READ : 0;
    if (flags & (WIRE_WRITE | WIRE_TRUNCATE))
        rights |= RIGHT_WRITE;
    if (flags & WIRE_APPEND)
        rights |= RIGHT_APPEND;
    if (flags & WIRE_CREATE)
        rights |= RIGHT_CREATE | (flags & (WIRE_WRITE | WIRE_APPEND) ? 0 : RIGHT_APPEND);
    return rights;
}

uint32_t soak_check_rule(unsigned variant, const struct soak_question *q)
{
    return decide(variant, q->client, q->entry, soak_rights(q->flags))->rule;
}

/* ---- what the kernel and the tree make of it ---- */

enum { WRITING = WIRE_WRITE | WIRE_APPEND | WIRE_CREATE | WIRE_TRUNCATE };

/* The mode alone: what stands above the homes lets everybody through. */
static bool mode_allows(const struct stat *st, unsigned client, uint32_t flags)
{
    uid_t uid = FIRST_UID + client;
    unsigned want = (flags & (WIRE_READ | WIRE_DIRECTORY) ? 4u : 0) |
                    (flags & (WIRE_WRITE | WIRE_APPEND | WIRE_TRUNCATE) ? 2u : 0);
    unsigned shift = st->st_uid == uid ? 6 : st->st_gid == uid ? 3 : 0;
    return flags & WIRE_PATH || ((st->st_mode >> shift) & want) == want;
}

static bool others_can_write(const struct stat *dir)
{
    return dir->st_uid != 0 || dir->st_mode & (S_IWGRP | S_IWOTH);
}

static bool dir_may(unsigned v, const struct soak_question *q, int real, const struct policy_rule *rule,
                    int error)
{
    unsigned rights = soak_rights(q->flags);
    if (q->flags & WIRE_CREATE && q->flags & WIRE_EXCLUSIVE)
        return error == EEXIST;
    if (q->flags & WRITING)
        return error == EISDIR;
    if (!(rights & RIGHT_LIST) && !(rights == RIGHT_STAT && rule->types & POLICY_TYPE_DIR)) {
        const struct known *known = decide(v, q->client, real, rights | RIGHT_LIST);
        if (!known->allowed)
            return error == EACCES;
        rule = rule_of(v, known);
    }
    if (rule->as == POLICY_AS_CALLER && !mode_allows(&soak_entries[real].st, q->client, q->flags))
        return error == EACCES;
    return error == 0 || (error == EACCES && q->no_sealer);
}

static bool fifo_may(const struct soak_question *q, const struct policy_rule *rule, int error)
{
    if (q->flags & WIRE_CREATE && q->flags & WIRE_EXCLUSIVE)
        return error == EEXIST;
    if (q->flags & WIRE_DIRECTORY)
        return error == ENOTDIR;
    if (!(rule->types & POLICY_TYPE_FIFO))
        return error == EPERM;
    bool lonely = !(q->flags & (WIRE_READ | WIRE_PATH)); /* nobody reads, perhaps */
    return error == 0 || (error == ENXIO && lonely);
}

static bool file_may(const struct soak_question *q, const struct soak_entry *file,
                     const struct policy_rule *rule, int error)
{
    if (q->flags & WIRE_CREATE && q->flags & WIRE_EXCLUSIVE)
        return error == EEXIST;
    if (q->flags & WIRE_DIRECTORY)
        return error == ENOTDIR;
    if (!(rule->types & POLICY_TYPE_FILE))
        return error == EPERM;
    if (rule->as == POLICY_AS_CALLER && !mode_allows(&file->st, q->client, q->flags))
        return error == EACCES;
    if (file->st.st_nlink > 1 && !rule->links_any && others_can_write(&file->parent))
        return error == EPERM;
    uid_t owner = file->st.st_uid;
    if (q->flags & WIRE_CREATE && file->parent.st_mode & S_ISVTX && owner != FIRST_UID + q->client &&
        owner != file->parent.st_uid)
        return error == EACCES;
    return error == 0;
}

/* There or not, and anybody's. */
static bool new_may(const struct soak_question *q, const struct policy_rule *rule, int error)
{
    bool creates = q->flags & WIRE_CREATE;
    if (error == 0)
        return !(q->flags & WIRE_DIRECTORY);
    if (error == ENOENT)
        return !creates;
    if (error == ENOTDIR)
        return q->flags & WIRE_DIRECTORY;
    if (error == EEXIST)
        return q->flags & WIRE_EXCLUSIVE;
    /* Somebody else's in a sticky directory; or it went away while its owner was looked at. */
    return error == EACCES && (rule->as == POLICY_AS_CALLER || creates);
}

/* As a real path, that the policy allows by this rule. */
static bool real_may(unsigned v, const struct soak_question *q, int real, const struct policy_rule *rule,
                     int error)
{
    const struct soak_entry *entry = &soak_entries[real];
    switch (entry->kind) {
    case KIND_FILE:
        return file_may(q, entry, rule, error);
    case KIND_MOVER:
        return error == ENOENT || file_may(q, entry, rule, error);
    case KIND_DIR:
        return dir_may(v, q, real, rule, error);
    case KIND_FIFO:
        return fifo_may(q, rule, error);
    case KIND_NEW:
        return new_may(q, rule, error);
    case KIND_NONE:
        return error == ENOENT || error == ENOTDIR;
    case KIND_LINK:
    case KIND_UNCLEAN:
        break;
    }
    return false;
}

/* ---- answers ---- */

static bool is_same(const struct stat *st, dev_t dev, ino_t ino)
{
    return st->st_dev == dev && st->st_ino == ino;
}

/* What is created is none of those that stay: they are never removed, so their numbers are not used again. */
static bool is_object(int real, dev_t dev, ino_t ino)
{
    if (soak_entries[real].kind != KIND_NEW)
        return is_same(&soak_entries[real].st, dev, ino);
    for (unsigned i = 0; i < soak_n_entries; i++)
        if (is_same(&soak_entries[i].st, dev, ino))
            return false;
    return dev == soak_entries[real].parent.st_dev;
}

static bool behind_link_may(unsigned v, const struct soak_question *q, int real, int error, dev_t dev,
                            ino_t ino)
{
    const struct known *known = decide(v, q->client, real, soak_rights(q->flags));
    if (!known->allowed)
        return error == EACCES;
    if (error == 0 && !is_object(real, dev, ino))
        return false;
    return real_may(v, q, real, rule_of(v, known), error);
}

static bool link_may(unsigned v, const struct soak_question *q, const struct policy_rule *rule, int error,
                     dev_t dev, ino_t ino)
{
    const struct soak_entry *link = &soak_entries[q->entry];
    if (q->flags & WIRE_CREATE || (q->flags & WIRE_NOFOLLOW && link->last_is_link))
        return error == ELOOP || (error == ENOENT && link->other >= 0); /* replaced between two looks */
    if (link->real < 0)
        return error == EACCES;
    if (error == EACCES && (link->other >= 0 || rule->as == POLICY_AS_CALLER))
        return true; /* it changed meanwhile */
    return behind_link_may(v, q, link->real, error, dev, ino) ||
           (link->other >= 0 && behind_link_may(v, q, link->other, error, dev, ino));
}

bool soak_may_answer(unsigned v, const struct soak_question *q, int error, dev_t dev, ino_t ino)
{
    const struct soak_entry *entry = &soak_entries[q->entry];
    if (error == EAGAIN && q->op == WIRE_OPEN && q->has_link)
        return true; /* where links lead was not known at once, and something was done already: ask again */
    if (error == ETIMEDOUT && q->op == WIRE_OPEN && q->has_link && q->has_effects)
        return true; /* with a slow opener when a reload came: what became of it is not known */
    if (entry->kind == KIND_UNCLEAN || wire_check_flags(q->flags, q->mode))
        return error == EINVAL;
    const struct known *known = decide(v, q->client, q->entry, soak_rights(q->flags));
    if (!known->allowed || (error == EACCES && q->no_identity))
        return error == EACCES;
    if (q->op == WIRE_CHECK)
        return error == 0;
    if (entry->kind == KIND_LINK)
        return link_may(v, q, rule_of(v, known), error, dev, ino);
    if (error == 0 && !is_object(q->entry, dev, ino))
        return false;
    return real_may(v, q, q->entry, rule_of(v, known), error);
}
