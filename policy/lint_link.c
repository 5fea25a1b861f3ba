/*
 * Patterns that speak of a symlink: they match nothing, as only real paths are held against them.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../common/util.h"
#include "compiled.h"
#include "lint.h"

enum { LSTAT_MAX = 4096, SLOTS = 2 * LSTAT_MAX, TOLD_MAX = 256 };

enum path_state { PATH_MISSING, PATH_LINK, PATH_THERE };

struct looked_at {
    const char *path; /* NULL: free slot */
    size_t len;
    enum path_state state;
};

/* A set that many rules name is told of once. */
struct told {
    const char *text; /* of the pattern: its place in memory stands for it */
    const struct looked_at *link;
};

struct link_cache {
    struct arena arena; /* of the paths */
    struct looked_at slots[SLOTS];
    unsigned n_looks, n_told;
    struct told told[TOLD_MAX];
};

struct link_cache *link_cache_new(void)
{
    return mem_zalloc(1, sizeof(struct link_cache));
}

void link_cache_free(struct link_cache *cache)
{
    if (cache)
        arena_free(&cache->arena);
    free(cache);
}

static enum path_state look_at(const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return PATH_MISSING;
    return S_ISLNK(st.st_mode) ? PATH_LINK : PATH_THERE;
}

/* path is terminated. NULL: enough was looked at. */
static const struct looked_at *look(struct lint *lint, const char *path, size_t len)
{
    struct link_cache *cache = lint->links;
    size_t at = component_hash(path, len) % SLOTS;
    for (; cache->slots[at].path; at = (at + 1) % SLOTS)
        if (cache->slots[at].len == len && memcmp(cache->slots[at].path, path, len) == 0)
            return &cache->slots[at];
    if (cache->n_looks >= LSTAT_MAX)
        return NULL;
    char *copy = arena_text(&cache->arena, path, len);
    if (!copy) {
        lint->out_of_memory = true;
        return NULL;
    }
    cache->n_looks++;
    cache->slots[at] = (struct looked_at){ copy, len, look_at(path) };
    return &cache->slots[at];
}

/* The first symlink of the literal beginning; *more: something of the pattern follows it. */
static const struct looked_at *find_link(struct lint *lint, const struct pattern *pattern, bool *more)
{
    char path[PATH_TEXT_MAX + 1];
    size_t len = 0;
    for (size_t i = 0; i < pattern->n_components; i++) {
        const struct component *c = &pattern->components[i];
        if (c->kind != COMPONENT_LITERAL || c->n > PATH_TEXT_MAX - 1 - len)
            return NULL;
        path[len++] = '/';
        memcpy(path + len, c->bytes, c->n);
        len += c->n;
        path[len] = '\0';
        const struct looked_at *seen = look(lint, path, len);
        *more = i + 1 < pattern->n_components;
        if (!seen || seen->state != PATH_THERE)
            return seen && seen->state == PATH_LINK ? seen : NULL;
    }
    return NULL;
}

static bool tell_once(struct link_cache *cache, const char *text, const struct looked_at *link)
{
    for (unsigned i = 0; i < cache->n_told; i++)
        if (cache->told[i].text == text && cache->told[i].link == link)
            return false;
    if (cache->n_told < TOLD_MAX)
        cache->told[cache->n_told++] = (struct told){ text, link };
    return true;
}

/* What follows the link in the pattern as it was written; where braces or escapes hide that, dots. */
static int rest_of(const struct pattern *pattern, const struct looked_at *link, bool more, const char **rest)
{
    bool plain = pattern->text_len >= link->len && memcmp(pattern->text, link->path, link->len) == 0 &&
                 (pattern->text_len == link->len || pattern->text[link->len] == '/');
    *rest = plain ? pattern->text + link->len : "/...";
    return plain ? (int)(pattern->text_len - link->len) : more ? 4 : 0;
}

/* of_subject: it stands in an exe: term. */
static void check(struct lint *lint, const struct pattern *pattern, bool of_subject)
{
    bool more = false;
    const struct looked_at *link = find_link(lint, pattern, &more);
    if (!link || !tell_once(lint->links, pattern->text, link))
        return;
    const char *rest, *at = of_subject ? lint_at_term(lint, TERM_EXE) : lint_at_pattern(lint, pattern);
    int len = rest_of(pattern, link, more, &rest);
    char *real = realpath(link->path, NULL);
    if (real)
        lint_warn(lint, at, "%s is a symlink: the policy speaks of real paths (write %s%.*s)", link->path,
                  strcmp(real, "/") == 0 && len ? "" : real, len, rest);
    else
        lint_warn(lint, at,
                  "%s is a symlink that leads nowhere: the policy speaks of real paths (write the one meant)",
                  link->path);
    free(real);
}

static void check_term(struct lint *lint, const struct term *term)
{
    for (uint32_t i = 0; term->kind == TERM_EXE && i < term->id; i++)
        check(lint, &term->patterns[i], true);
    for (size_t i = 0; term->kind == TERM_SET && i < term->set->n_terms; i++)
        check_term(lint, &term->set->terms[i]);
}

void lint_links(struct lint *lint)
{
    const struct subjects *subjects = lint->rule->subjects;
    for (size_t i = 0; i < subjects->n_conjs; i++)
        for (size_t j = 0; j < subjects->conjs[i].n_terms; j++)
            check_term(lint, &subjects->conjs[i].terms[j]);
    for (uint32_t i = 0; i < lint->rule->n_patterns; i++)
        check(lint, &lint->rule->patterns[i], false);
}
