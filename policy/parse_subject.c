/*
 * Subjects: terms joined by `+` (and) and `,` (or).
 */
#include <ctype.h>
#include <string.h>

#include "../common/peer.h"
#include "../common/util.h"
#include "parse.h"

enum { TERMS_MAX = 256, CONJS_MAX = 4096, UNIT_MAX = 255 };

/* ---- terms ---- */

static const char *const prefixes[] = {
    [TERM_USER] = "user:", [TERM_GROUP] = "group:",   [TERM_EXE] = "exe:",
    [TERM_UNIT] = "unit:", [TERM_CGROUP] = "cgroup:", [TERM_LABEL] = "label:",
};
static const char *const kinds[] = { "any",       "user:NAME",   "group:NAME",   "exe:PATH",
                                     "unit:NAME", "cgroup:PATH", "label:PATTERN" };

struct named_set *parse_find_set(struct parser *parser, const char *name, size_t len)
{
    for (struct named_set *set = parser->sets; set; set = set->next)
        if (strlen(set->name) == len && memcmp(set->name, name, len) == 0)
            return set;
    return NULL;
}

static bool resolve_user(struct parser *parser, const char *at, const char *name, size_t len,
                         struct term *term)
{
    int err = names_user(parser->names, name, len, &term->id);
    if (err < 0)
        parse_error(parser, at, "unknown user `%.*s` (a number needs no account)", (int)len, name);
    else if (term->id == PEER_OVERFLOW_ID)
        parse_error(parser, at, "user %d stands for whoever has no name here, and is never served",
                    PEER_OVERFLOW_ID);
    return err == 0 && term->id != PEER_OVERFLOW_ID;
}

static bool resolve_group(struct parser *parser, const char *at, const char *name, size_t len,
                          struct term *term)
{
    int err = names_group(parser->names, name, len, &term->id);
    if (err < 0)
        parse_error(parser, at, "unknown group `%.*s` (a number needs no entry)", (int)len, name);
    else if (term->id == PEER_OVERFLOW_ID)
        parse_error(parser, at, "group %d stands for groups that have no name here", PEER_OVERFLOW_ID);
    return err == 0 && term->id != PEER_OVERFLOW_ID;
}

static bool ends_in_unit_type(const char *name, size_t len)
{
    static const char *const types[] = { ".service", ".scope", ".slice", ".socket", ".mount", ".timer" };
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        size_t n = strlen(types[i]);
        if (len > n && memcmp(name + len - n, types[i], n) == 0)
            return true;
    }
    return false;
}

static bool check_unit(struct parser *parser, const char *at, const char *name, size_t len)
{
    bool good = len > 0 && len <= UNIT_MAX && ends_in_unit_type(name, len);
    for (size_t i = 0; good && i < len; i++)
        good = isalnum((unsigned char)name[i]) || strchr(":_.@\\-", name[i]);
    if (!good)
        parse_error(parser, at, "`%.*s` is no unit name (report.service, session-2.scope, ...)", (int)len,
                    name);
    return good;
}

static bool keep_text(struct parser *parser, const char *text, size_t len, struct term *term)
{
    term->text = arena_text(&parser->policy->arena, text, len);
    parser->out_of_memory |= !term->text;
    return term->text;
}

static bool parse_set_term(struct parser *parser, const struct word *word, size_t offset, size_t len,
                           struct term *term)
{
    const struct named_set *set = parse_find_set(parser, word->text + offset + 1, len - 1);
    term->kind = TERM_SET;
    if (!set)
        parse_error(parser, parse_place(word, offset), "unknown set (a set is defined before it is used)");
    else if (set->has_paths)
        parse_error(parser, parse_place(word, offset), "this set holds paths, and subjects stand here");
    if (!set || set->has_paths)
        return false;
    term->set = &set->subjects;
    return true;
}

static bool parse_value(struct parser *parser, const struct word *word, size_t offset, size_t len,
                        struct term *term)
{
    const char *text = word->text + offset, *at = parse_place(word, offset);
    switch (term->kind) {
    case TERM_USER:
        return resolve_user(parser, at, text, len, term);
    case TERM_GROUP:
        return resolve_group(parser, at, text, len, term);
    case TERM_UNIT:
        return check_unit(parser, at, text, len) && keep_text(parser, text, len, term);
    case TERM_EXE:
    case TERM_CGROUP:
        return parse_pattern_term(parser, word, offset, len, term);
    default:
        if (len == 0)
            parse_error(parser, at, "label: a pattern is missing");
        return len && keep_text(parser, text, len, term);
    }
}

bool parse_term(struct parser *parser, const struct word *word, size_t offset, size_t len, struct term *term)
{
    const char *text = word->text + offset;
    *term = (struct term){ .kind = TERM_ANY };
    if (len == 3 && memcmp(text, "any", 3) == 0)
        return true;
    if (len > 1 && text[0] == '@')
        return parse_set_term(parser, word, offset, len, term);
    for (unsigned kind = TERM_USER; kind <= TERM_LABEL; kind++) {
        size_t prefix = strlen(prefixes[kind]);
        if (len < prefix || memcmp(text, prefixes[kind], prefix) != 0)
            continue;
        term->kind = (uint8_t)kind;
        return parse_value(parser, word, offset + prefix, len - prefix, term);
    }
    if (len == 0)
        parse_error(parser, parse_place(word, offset), "a subject is missing (no blanks around `+` and `,`)");
    else
        parse_error(parser, parse_place(word, offset),
                    "`%.*s` is no subject: there are any user: group: exe: unit: cgroup: label: and @SET%s",
                    (int)len, text, parse_suggestion(text, len, kinds, 1));
    return false;
}

/* ---- conjunctions ---- */

static bool narrows_only(const struct term *term)
{
    return term->kind == TERM_EXE || term->kind == TERM_UNIT || term->kind == TERM_CGROUP ||
           term->kind == TERM_LABEL;
}

static bool identifies(const struct term *term)
{
    if (term->kind != TERM_SET)
        return term->kind == TERM_USER || term->kind == TERM_GROUP;
    for (size_t i = 0; i < term->set->n_terms; i++)
        if (term->set->terms[i].kind != TERM_ANY)
            return false;
    return true;
}

static bool set_has_narrowing(const struct term *term)
{
    for (size_t i = 0; term->kind == TERM_SET && i < term->set->n_terms; i++)
        if (narrows_only(&term->set->terms[i]))
            return true;
    return false;
}

/* exe, unit, cgroup and label are forged by whoever shares the uid: in an allow they stand beside who it is,
 * never alone. */
static bool is_grounded(const struct term *terms, size_t n)
{
    bool needs = false, has = false;
    for (size_t i = 0; i < n; i++) {
        needs = needs || narrows_only(&terms[i]) || set_has_narrowing(&terms[i]);
        has = has || identifies(&terms[i]);
    }
    return !needs || has;
}

/* The `+` or `,` at or after i that joins terms; len if none. A `,` within the braces of an exe: pattern does
 * not. */
static size_t find_joint(const char *text, size_t len, size_t i, char joint)
{
    for (unsigned depth = 0; i < len; i++) {
        if (text[i] == '\\')
            i++;
        else if (text[i] == '{')
            depth++;
        else if (text[i] == '}' && depth)
            depth--;
        else if (text[i] == joint && depth == 0)
            return i;
    }
    return len;
}

static bool parse_conj(struct parser *parser, const struct word *word, size_t offset, size_t end,
                       struct conj *conj, bool *grounded)
{
    struct term terms[TERMS_MAX];
    size_t n = 0;
    for (size_t from = offset; from <= end;) {
        size_t to = find_joint(word->text, end, from, '+');
        if (n == TERMS_MAX) {
            parse_error(parser, parse_place(word, from), "more than %d terms joined by `+`", TERMS_MAX);
            return false;
        }
        if (!parse_term(parser, word, from, to - from, &terms[n++]))
            return false;
        from = to + 1;
    }
    *grounded = *grounded && is_grounded(terms, n);
    conj->terms = arena_copy(&parser->policy->arena, terms, n, sizeof *terms);
    conj->n_terms = n;
    parser->out_of_memory |= !conj->terms;
    return conj->terms;
}

static struct subjects *parse_new(struct parser *parser, const struct word *word, bool *grounded)
{
    struct conj *conjs = NULL;
    size_t n = 0, cap = 0;
    bool good = true;
    for (size_t from = 0; good && from <= word->len;) {
        size_t to = find_joint(word->text, word->len, from, ',');
        good = mem_grow(&conjs, n, &cap, sizeof *conjs) == 0;
        parser->out_of_memory |= !good;
        good = good && parse_conj(parser, word, from, to, &conjs[n++], grounded);
        from = to + 1;
    }
    struct subjects *subjects = good ? arena_alloc(&parser->policy->arena, 1, sizeof *subjects) : NULL;
    if (subjects) {
        subjects->conjs = arena_copy(&parser->policy->arena, conjs, n, sizeof *conjs);
        subjects->n_conjs = n;
        parser->out_of_memory |= !subjects->conjs;
    }
    free(conjs);
    return subjects && subjects->conjs ? subjects : NULL;
}

/* ---- the word, parsed once ---- */

static uint32_t hash_of(const char *text, size_t len)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    return hash;
}

static struct shared_subjects *share(struct parser *parser, const struct word *word)
{
    uint32_t hash = hash_of(word->text, word->len);
    struct shared_subjects **bucket = &parser->subjects[hash % SUBJECT_BUCKETS];
    for (struct shared_subjects *s = *bucket; s; s = s->next)
        if (s->hash == hash && s->len == word->len && memcmp(s->text, word->text, s->len) == 0)
            return s;
    bool grounded = true;
    const struct subjects *subjects = parse_new(parser, word, &grounded);
    struct shared_subjects *s = subjects ? mem_zalloc(1, sizeof *s) : NULL;
    parser->out_of_memory |= subjects && !s;
    if (!s)
        return NULL;
    *s = (struct shared_subjects){ *bucket, word->text, word->len, hash, !grounded, subjects };
    return *bucket = s;
}

static void note_groups(struct parser *parser, const struct subjects *subjects)
{
    for (size_t i = 0; i < subjects->n_conjs; i++)
        for (size_t j = 0; j < subjects->conjs[i].n_terms; j++) {
            const struct term *term = &subjects->conjs[i].terms[j];
            parser->needs_users |= term->kind == TERM_GROUP || (term->kind == TERM_SET && term->set->n_gids);
        }
}

const struct subjects *parse_subjects(struct parser *parser, const struct word *word, bool deny)
{
    const struct shared_subjects *shared = share(parser, word);
    if (!shared)
        return NULL;
    if (deny) {
        note_groups(parser, shared->subjects);
    } else if (shared->narrows) {
        parse_error(parser, word->at,
                    "exe:, unit:, cgroup: and label: cannot allow alone, as a process of the same user can "
                    "forge them: "
                    "join them with user: or group: (user:alice+exe:/usr/bin/x)");
        return NULL;
    }
    return shared->subjects;
}
