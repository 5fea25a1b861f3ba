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
#include "load.h"
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
    source->next = policy->sources;
    source->name = copy;
    source->base = slash ? slash + 1 : copy;
    source->text = text;
    source->len = len;
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
    int err = parser->trusts_all ? 0 : check_trust(fd, name, parser->env, parser->messages);
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

/* A symlink on the way is followed if whoever could turn it is trusted. */
static int check_link(struct parser *parser, const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0 || !S_ISLNK(st.st_mode))
        return 0;
    if (st.st_uid == 0 || st.st_uid == parser->env->trusted_uid)
        return 0;
    message_file(parser->messages, path, "is a symlink of uid %u's, who could turn it (name the real path)",
                 (unsigned)st.st_uid);
    return -EPERM;
}

static int load_path(struct parser *parser, const char *path)
{
    int err = check_link(parser, path);
    if (err < 0)
        return err;
    CLEANUP(fd_cleanup) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        return load_directory(parser, dir, path);
    return errno == ENOTDIR ? load_file(parser, AT_FDCWD, path, path, 0) : -errno;
}

/* ---- assertions ---- */

static int hold_asserts(const struct policy *policy, const struct policy_env *env,
                        struct policy_messages *messages)
{
    time_t now = env->now ? env->now : time(NULL);
    struct policy_scratch *scratch = policy->ast.n_asserts ? policy_scratch_new(policy) : NULL;
    int err = policy->ast.n_asserts && !scratch ? -ENOMEM : 0;
    for (size_t i = 0; err == 0 && i < policy->ast.n_asserts; i++)
        err = assert_hold(policy, scratch, &policy->ast.asserts[i], now, messages);
    policy_scratch_free(scratch);
    return err;
}

static void refuse_rules(const struct policy *policy, struct policy_messages *messages)
{
    for (size_t i = 0; i < policy->ast.n_rules; i++)
        message_error(messages, policy->sources, policy->ast.rules[i].rule.text,
                      "a file of tests holds assertions and sets, no rules");
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
        err = hold_asserts(parser->policy, env, messages);
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

static int load_tests(struct parser *parser, const void *file)
{
    return load_file(parser, AT_FDCWD, file, file, 0);
}

int load_asserts(struct policy **out, const char *file, const struct policy_env *env,
                 struct policy_messages *messages)
{
    struct policy *policy = mem_zalloc(1, sizeof *policy);
    struct parser parser;
    if (!policy || parser_init(&parser, policy, env, messages) < 0) {
        free(policy);
        return -ENOMEM;
    }
    parser.trusts_all = true;
    int err = load_tests(&parser, file);
    if (err == 0)
        err = parser_finish(&parser);
    if (err == 0)
        refuse_rules(policy, messages);
    parser_deinit(&parser);
    message_end(messages);
    if (err == 0 && messages->n_errors)
        err = -EINVAL;
    if (err == 0)
        *out = policy;
    else
        policy_free(policy);
    return err;
}
