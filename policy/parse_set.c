/*
 * set @NAME = item item ...
 */
#include <ctype.h>
#include <string.h>

#include "../common/util.h"
#include "parse.h"

/* What a set is made of while it is read. */
struct members {
    struct term *terms;
    uid_t *uids;
    gid_t *gids;
    size_t n_terms, cap_terms, n_uids, cap_uids, n_gids, cap_gids;
};

static bool add_id(struct parser *parser, uint32_t **ids, size_t *n, size_t *cap, uint32_t id)
{
    if (mem_grow(ids, *n, cap, sizeof **ids) < 0)
        return !(parser->out_of_memory = true);
    (*ids)[(*n)++] = id;
    return true;
}

static bool add_term(struct parser *parser, struct members *m, const struct term *term)
{
    if (term->kind == TERM_USER)
        return add_id(parser, &m->uids, &m->n_uids, &m->cap_uids, term->id);
    if (term->kind == TERM_GROUP)
        return add_id(parser, &m->gids, &m->n_gids, &m->cap_gids, term->id);
    if (mem_grow(&m->terms, m->n_terms, &m->cap_terms, sizeof *m->terms) < 0)
        return !(parser->out_of_memory = true);
    m->terms[m->n_terms++] = *term;
    return true;
}

static bool add_set(struct parser *parser, struct members *m, const struct subject_set *set)
{
    bool good = true;
    for (size_t i = 0; good && i < set->n_uids; i++)
        good = add_id(parser, &m->uids, &m->n_uids, &m->cap_uids, set->uids[i]);
    for (size_t i = 0; good && i < set->n_gids; i++)
        good = add_id(parser, &m->gids, &m->n_gids, &m->cap_gids, set->gids[i]);
    for (size_t i = 0; good && i < set->n_terms; i++)
        good = add_term(parser, m, &set->terms[i]);
    return good;
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void keep_members(struct parser *parser, struct named_set *set, struct members *m)
{
    struct arena *arena = &parser->policy->arena;
    if (m->n_uids)
        qsort(m->uids, m->n_uids, sizeof *m->uids, compare_ids);
    if (m->n_gids)
        qsort(m->gids, m->n_gids, sizeof *m->gids, compare_ids);
    set->subjects = (struct subject_set){
        set->name,
        arena_copy(arena, m->terms, m->n_terms, sizeof *m->terms),
        arena_copy(arena, m->uids, m->n_uids, sizeof *m->uids),
        arena_copy(arena, m->gids, m->n_gids, sizeof *m->gids),
        m->n_terms,
        m->n_uids,
        m->n_gids,
    };
    parser->out_of_memory |= (m->n_terms && !set->subjects.terms) || (m->n_uids && !set->subjects.uids) ||
                             (m->n_gids && !set->subjects.gids);
}

static bool is_set_name(const struct word *word)
{
    bool good = !word->quoted && word->len > 1 && word->text[0] == '@';
    for (size_t i = 1; good && i < word->len; i++)
        good = isalnum((unsigned char)word->text[i]) || strchr("_.-", word->text[i]);
    return good;
}

static const struct named_set *referenced(struct parser *parser, const struct word *word)
{
    return !word->quoted && word->len && word->text[0] == '@'
               ? parse_find_set(parser, word->text + 1, word->len - 1)
               : NULL;
}

static bool is_path_item(struct parser *parser, const struct word *word)
{
    const struct named_set *set = referenced(parser, word);
    return set ? set->has_paths
               : word->quoted || (word->len && (word->text[0] == '/' || word->text[0] == '%'));
}

static bool read_subject_item(struct parser *parser, const struct word *word, struct members *m)
{
    struct term term;
    if (memchr(word->text, '+', word->len) || memchr(word->text, ',', word->len)) {
        parse_error(parser, word->at,
                    "a set holds single subjects, apart by blanks: write `+` and `,` in the rule");
        return false;
    }
    if (!parse_term(parser, word, 0, word->len, &term))
        return false;
    return term.kind == TERM_SET ? add_set(parser, m, term.set) : add_term(parser, m, &term);
}

static bool read_items(struct parser *parser, const struct word *words, size_t n, struct named_set *set,
                       struct members *m)
{
    bool good = true;
    set->has_paths = is_path_item(parser, &words[0]);
    for (size_t i = 0; i < n && !parser->out_of_memory; i++) {
        const struct word *word = &words[i];
        if (word->len == strlen(set->name) + 1 && word->text[0] == '@' &&
            !memcmp(word->text + 1, set->name, word->len - 1)) {
            parse_error(parser, word->at, "a set cannot hold itself");
            good = false;
        } else if (is_path_item(parser, word) != set->has_paths) {
            parse_error(parser, word->at,
                        "a set holds either subjects or paths, not both (a path is absolute)");
            good = false;
        } else {
            good = (set->has_paths ? parse_path(parser, word) : read_subject_item(parser, word, m)) && good;
        }
    }
    return good;
}

/* Sets made of a statement with errors are kept too: what uses them would only repeat that they are not
 * there. */
static void define(struct parser *parser, const struct word *words, size_t n)
{
    struct arena *arena = &parser->policy->arena;
    struct named_set *set = arena_alloc(arena, 1, sizeof *set);
    char *name = arena_text(arena, words[0].text + 1, words[0].len - 1);
    struct members m = { 0 };
    if (!set || !name) {
        parser->out_of_memory = true;
        return;
    }
    set->name = name;
    parser->n_patterns = 0;
    read_items(parser, words + 2, n - 2, set, &m);
    keep_members(parser, set, &m);
    set->patterns = arena_copy(arena, parser->patterns, parser->n_patterns, sizeof *parser->patterns);
    set->n_patterns = set->patterns ? parser->n_patterns : 0;
    set->next = parser->sets;
    parser->sets = set;
    free(m.terms);
    free(m.uids);
    free(m.gids);
}

void parse_set(struct parser *parser, const struct word *words, size_t n)
{
    if (n < 4 || !word_is(&words[2], "="))
        parse_error(parser, words[0].at, "a set has the form: set @NAME = ITEM ITEM ...");
    else if (!is_set_name(&words[1]))
        parse_error(parser, words[1].at, "a set's name is @ and letters, digits, `_`, `.`, `-`");
    else if (parse_find_set(parser, words[1].text + 1, words[1].len - 1))
        parse_error(parser, words[1].at, "this set is defined already");
    else
        define(parser, words + 1, n - 1);
}
