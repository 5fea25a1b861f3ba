/*
 * Witnesses: one request that a rule would decide.
 */
#include <stdio.h>
#include <string.h>

#include "../common/util.h"
#include "lint.h"

enum { FILLER = '~' }; /* for what may be anything: no rule is likely to name it */

/* ---- paths ---- */

struct growing_path {
    char *out;
    size_t len;
    bool failed;
};

static void put(struct growing_path *path, const char *bytes, size_t n)
{
    if (n > PATH_TEXT_MAX - path->len) {
        path->failed = true;
        return;
    }
    memcpy(path->out + path->len, bytes, n);
    path->len += n;
}

static void put_byte(struct growing_path *path, char byte)
{
    put(path, &byte, 1);
}

static void put_class(struct growing_path *path, const struct token_class *class)
{
    unsigned byte = FILLER, tried = 0;
    while (tried < 256 && !class_has(class, (uint8_t)byte)) {
        byte = (byte + 256 - 1) % 256;
        tried++;
    }
    path->failed |= tried == 256;
    put_byte(path, (char)byte);
}

static void put_glob(struct growing_path *path, const struct component *c,
                     const struct policy_subject *subject, unsigned variant)
{
    char number[16];
    for (uint32_t i = 0; i < c->n; i++) {
        const struct token *token = &c->tokens[i];
        switch (token->kind) {
        case TOKEN_BYTE:
            put_byte(path, (char)token->byte);
            break;
        case TOKEN_CLASS:
            put_class(path, component_class(c, token));
            break;
        case TOKEN_USER:
            path->failed |= !subject->user;
            put(path, subject->user ? subject->user->name : "",
                subject->user ? strlen(subject->user->name) : 0);
            break;
        case TOKEN_UID:
            put(path, number, (size_t)snprintf(number, sizeof number, "%u", (unsigned)subject->uid));
            break;
        default:
            if (token->kind == TOKEN_ANY || variant == 0)
                put_byte(path, FILLER);
        }
    }
}

static void put_component(struct growing_path *path, const struct component *c, bool last,
                          const struct policy_subject *subject, unsigned variant)
{
    switch (c->kind) {
    case COMPONENT_LITERAL:
        put_byte(path, '/');
        put(path, c->bytes, c->n);
        break;
    case COMPONENT_GLOB:
        put_byte(path, '/');
        put_glob(path, c, subject, variant);
        break;
    case COMPONENT_HOME:
        path->failed |= !subject->user;
        put(path, subject->user ? subject->user->home : "", subject->user ? strlen(subject->user->home) : 0);
        break;
    default:
        if (variant == 0)
            put(path, "/~/~", 4);
        else if (last)
            put(path, "/~", 2);
    }
}

size_t witness_path(const struct component *components, size_t n, const struct policy_subject *subject,
                    unsigned variant, char out[PATH_TEXT_MAX + 1])
{
    struct growing_path path = { out, 0, false };
    for (size_t i = 0; i < n; i++)
        put_component(&path, &components[i], i == n - 1, subject, variant);
    if (n == 0)
        put_byte(&path, '/');
    out[path.len] = '\0';
    bool nameless = n && path.len == 1; /* `*` that stands for no byte: "/" is another path */
    return !path.failed && !nameless && path_is_clean(out, path.len) ? path.len : 0;
}

/* ---- subjects ---- */

static void add_group(struct witness *w, gid_t gid)
{
    if (w->subject.n_groups < WITNESS_GROUPS)
        w->groups[w->subject.n_groups++] = gid;
}

static const char *pattern_text(const struct term *term, const struct policy_subject *subject, char *out)
{
    const struct pattern *p = &term->patterns[0];
    return witness_path(p->components, p->n_components, subject, 0, out) ? out : NULL;
}

static void be(struct witness *w, const struct policy *policy, const struct term *term)
{
    struct policy_subject *s = &w->subject;
    switch (term->kind) {
    case TERM_USER:
        s->uid = term->id;
        s->user = policy_find_user(policy, term->id);
        break;
    case TERM_GROUP:
        add_group(w, term->id);
        break;
    case TERM_EXE:
        s->exe = pattern_text(term, s, w->exe);
        break;
    case TERM_UNIT:
        s->unit = term->text;
        break;
    case TERM_CGROUP:
        s->cgroup = pattern_text(term, s, w->cgroup);
        break;
    case TERM_LABEL:
        s->label = term->text; /* its wildcards match themselves */
        break;
    default:
        break;
    }
}

/* One of the set; of its users last, as another term may have said already who it is. */
static void be_member(struct witness *w, const struct policy *policy, const struct subject_set *set)
{
    if (ids_have(set->uids, set->n_uids, w->subject.uid))
        return;
    if (set->n_gids)
        be(w, policy, &(struct term){ .kind = TERM_GROUP, .id = set->gids[0] });
    else if (set->n_terms)
        be(w, policy, &set->terms[0]);
    else if (set->n_uids)
        be(w, policy, &(struct term){ .kind = TERM_USER, .id = set->uids[0] });
}

static bool is_identity(const struct term *term)
{
    return term->kind == TERM_USER || term->kind == TERM_GROUP;
}

void witness_subject(struct witness *w, const struct policy *policy, const struct conj *conj)
{
    static const struct policy_user stranger = { (uid_t)-2, (gid_t)-2, "~", "/~", NULL, 0 };
    w->subject = (struct policy_subject){
        .uid = stranger.uid,
        .gid = stranger.gid,
        .groups = w->groups,
        .user = &stranger,
    };
    for (size_t i = 0; i < conj->n_terms; i++)
        if (is_identity(&conj->terms[i]))
            be(w, policy, &conj->terms[i]);
    for (size_t i = 0; i < conj->n_terms; i++) {
        const struct term *term = &conj->terms[i];
        if (term->kind == TERM_SET)
            be_member(w, policy, term->set);
        else if (!is_identity(term))
            be(w, policy, term);
    }
    if (w->subject.n_groups)
        sort_ids(w->groups, w->subject.n_groups);
}
