/*
 * Files to a policy: read safely, parsed, compiled, its assertions held. All or nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/util.h"
#include "parse.h"

enum { FILE_MAX_BYTES = 64 << 20 };

/* ---- reading ---- */

static bool is_trusted(const struct stat *st, const struct policy_env *env)
{
    return (st->st_uid == 0 || st->st_uid == env->trusted_uid) && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

static int check_trust(int fd, const char *name, const struct policy_env *env,
                       struct policy_messages *messages)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_uid != 0 && st.st_uid != env->trusted_uid) {
        message_file(messages, name, "belongs to uid %u, who could change it (chown root)",
                     (unsigned)st.st_uid);
        return -EPERM;
    }
    if (!is_trusted(&st, env)) {
        message_file(messages, name, "others can write it (chmod go-w)");
        return -EPERM;
    }
    return 0;
}

static int read_whole(int fd, char **text, size_t *len)
{
    size_t cap = 0;
    ssize_t n = 1;
    *text = NULL;
    *len = 0;
    while (n > 0) {
        if (*len + 1 >= cap) {
            size_t grown = cap ? cap * 2 : 1 << 14;
            char *more = realloc(*text, grown);
            if (!more)
                return -ENOMEM;
            *text = more;
            cap = grown;
        }
        n = read(fd, *text + *len, cap - *len - 1);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n < 0)
            return -errno;
        else
            *len += (size_t)n;
        if (*len > FILE_MAX_BYTES)
            return -EFBIG;
    }
    char *exact = realloc(*text, *len + 1);
    *text = exact ? exact : *text;
    (*text)[*len] = '\0';
    return 0;
}

/* Takes text. */
static struct source *add_source(struct policy *policy, const char *name, char *text, size_t len)
{
    struct source *source = mem_zalloc(1, sizeof *source);
    char *copy = strdup(name);
    if (!source || !copy) {
        free(source);
        free(copy);
        free(text);
        return NULL;
    }
    const char *slash = strrchr(copy, '/');
    *source = (struct source){ policy->sources, copy, slash ? slash + 1 : copy, text, len };
    return policy->sources = source;
}

/* O_NOFOLLOW in a directory: a link leads where somebody else may write. O_NONBLOCK: a FIFO must not hang us.
 */
static int load_file(struct parser *parser, int dir, const char *base, const char *name, int flags)
{
    CLEANUP(fd_cleanup) int fd = openat(dir, base, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        int err = -errno;
        message_file(parser->messages, name, "%s",
                     err == -ELOOP ? "is a symlink (put the file itself here)" : strerror(-err));
        return err == -ELOOP ? -EPERM : err;
    }
    if (!S_ISREG(st.st_mode)) {
        message_file(parser->messages, name, "is not a regular file");
        return -EPERM;
    }
    int err = check_trust(fd, name, parser->env, parser->messages);
    if (err < 0)
        return err;
    char *text;
    size_t len;
    err = read_whole(fd, &text, &len);
    if (err < 0) {
        message_file(parser->messages, name, "%s", strerror(-err));
        free(text);
        return err;
    }
    const struct source *source = add_source(parser->policy, name, text, len);
    return source ? parse_source(parser, source) : -ENOMEM;
}

/* ---- directories ---- */

static int is_policy_name(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    return len > 7 && strcmp(entry->d_name + len - 7, ".policy") == 0;
}

static int compare_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Goes on after a file that cannot be used: all errors at once. The first one's errno. */
static int load_entries(struct parser *parser, int dir, const char *path, struct dirent **entries, int n)
{
    int first = 0;
    for (int i = 0; i < n; i++) {
        char *name;
        if (asprintf(&name, "%s/%s", path, entries[i]->d_name) < 0)
            return -ENOMEM;
        int err = load_file(parser, dir, entries[i]->d_name, name, O_NOFOLLOW);
        free(name);
        if (err == -ENOMEM)
            return err;
        first = first ? first : err;
    }
    return first;
}

static int load_directory(struct parser *parser, int dir, const char *path)
{
    int err = check_trust(dir, path, parser->env, parser->messages);
    if (err < 0)
        return err;
    struct dirent **entries;
    int n = scandirat(dir, ".", &entries, is_policy_name, compare_bytes);
    if (n < 0)
        return -errno;
    err = load_entries(parser, dir, path, entries, n);
    for (int i = 0; i < n; i++)
        free(entries[i]);
    free(entries);
    return err;
}

static int load_path(struct parser *parser, const char *path)
{
    CLEANUP(fd_cleanup) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        return load_directory(parser, dir, path);
    return errno == ENOTDIR ? load_file(parser, AT_FDCWD, path, path, 0) : -errno;
}

/* ---- assertions ---- */

/* What a hypothetical subject is: user: gives uid, gid and groups of the database, group: adds one. */
struct hypothetical {
    struct policy_subject subject;
    gid_t groups[256 + 65536 / 16];
};

static int compare_gids(const void *a, const void *b)
{
    gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;
    return x < y ? -1 : x > y;
}

static void add_group(struct hypothetical *h, gid_t gid)
{
    if (h->subject.n_groups < ARRAY_SIZE(h->groups))
        h->groups[h->subject.n_groups++] = gid;
}

static void be_user(const struct policy *policy, struct hypothetical *h, uid_t uid)
{
    const struct policy_user *user = policy_find_user(policy, uid);
    h->subject.uid = uid;
    h->subject.gid = user ? user->gid : (gid_t)-2;
    h->subject.user = user;
    for (size_t i = 0; user && i < user->n_groups; i++)
        add_group(h, user->groups[i]);
}

static void make_hypothetical(const struct policy *policy, const struct conj *conj, struct hypothetical *h)
{
    h->subject = (struct policy_subject){ .uid = (uid_t)-2, .gid = (gid_t)-2, .groups = h->groups };
    for (size_t i = 0; i < conj->n_terms; i++)
        if (conj->terms[i].kind == TERM_USER)
            be_user(policy, h, conj->terms[i].id);
    for (size_t i = 0; i < conj->n_terms; i++)
        if (conj->terms[i].kind == TERM_GROUP)
            add_group(h, conj->terms[i].id);
    qsort(h->groups, h->subject.n_groups, sizeof *h->groups, compare_gids);
}

static void say_false(const struct ast_assert *assert, const struct policy_decision *decision,
                      struct policy_messages *messages)
{
    const struct policy_rule *rule = decision->rule;
    if (rule)
        message_error(messages, assert->source, assert->at, "assertion does not hold: %s by %s:%u: %.*s",
                      decision->allowed ? "allowed" : "refused", rule->file, (unsigned)rule->line,
                      (int)(rule->text_len < 200 ? rule->text_len : 200), rule->text);
    else
        message_error(messages, assert->source, assert->at,
                      "assertion does not hold: refused, as no rule allows it");
}

static bool has_set(const struct conj *conj)
{
    for (size_t i = 0; i < conj->n_terms; i++)
        if (conj->terms[i].kind == TERM_SET)
            return true;
    return false;
}

static void hold_conj(const struct policy *policy, const struct ast_assert *assert, const struct conj *conj,
                      time_t now, struct policy_messages *messages)
{
    static struct hypothetical h;
    struct policy_decision decision;
    if (has_set(conj)) {
        message_error(messages, assert->source, assert->at,
                      "an assertion is about one subject: user:, group: or any, not a set");
        return;
    }
    make_hypothetical(policy, conj, &h);
    policy_decide_slow(policy, &h.subject, assert->rights, assert->path, assert->path_len, now, &decision);
    if (decision.allowed == assert->deny)
        say_false(assert, &decision, messages);
}

static void hold_asserts(const struct policy *policy, const struct policy_env *env,
                         struct policy_messages *messages)
{
    time_t now = env->now ? env->now : time(NULL);
    for (size_t i = 0; i < policy->ast.n_asserts; i++) {
        const struct ast_assert *assert = &policy->ast.asserts[i];
        for (size_t c = 0; c < assert->subjects->n_conjs; c++)
            hold_conj(policy, assert, &assert->subjects->conjs[c], now, messages);
    }
}

/* ---- the whole ---- */

static int finish(struct parser *parser, const struct policy_env *env)
{
    struct policy_messages *messages = parser->messages;
    int err = parser_finish(parser);
    if (err == 0 && messages->n_errors)
        err = -EINVAL;
    if (err == 0)
        err = compile_policy(parser->policy);
    if (err == 0)
        hold_asserts(parser->policy, env, messages);
    return err == 0 && messages->n_errors ? -EINVAL : err;
}

typedef int load_fn(struct parser *parser, const void *what);

static int load(struct policy **out, const struct policy_env *env, struct policy_messages *messages,
                load_fn *fn, const void *what)
{
    struct policy *policy = mem_zalloc(1, sizeof *policy);
    struct parser parser;
    if (!policy || parser_init(&parser, policy, env, messages) < 0) {
        free(policy);
        return -ENOMEM;
    }
    int err = fn(&parser, what);
    if (err == 0 || err == -EPERM) {
        int finished = finish(&parser, env);
        err = err == 0 ? finished : err;
    }
    parser_deinit(&parser);
    message_end(messages);
    if (err == 0)
        *out = policy;
    else
        policy_free(policy);
    return err;
}

static int load_from_path(struct parser *parser, const void *path)
{
    return load_path(parser, path);
}

int policy_load(struct policy **out, const char *path, const struct policy_env *env,
                struct policy_messages *messages)
{
    return load(out, env, messages, load_from_path, path);
}

struct memory_text {
    const char *name, *text;
    size_t len;
};

static int load_from_memory(struct parser *parser, const void *what)
{
    const struct memory_text *m = what;
    char *copy = mem_zalloc(m->len + 1, 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, m->text, m->len);
    const struct source *source = add_source(parser->policy, m->name, copy, m->len);
    return source ? parse_source(parser, source) : -ENOMEM;
}

int policy_load_text(struct policy **out, const char *name, const char *text, size_t len,
                     const struct policy_env *env, struct policy_messages *messages)
{
    return load(out, env, messages, load_from_memory, &(struct memory_text){ name, text, len });
}
