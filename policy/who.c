/*
 * Hypothetical subjects: of assertions, of fobctl explain.
 */
#include <errno.h>
#include <string.h>

#include "../common/util.h"
#include "parse.h"

enum { NOBODY = -2 }; /* an id that no process has, (uid_t)-1 being none at all */

struct policy_who {
    struct arena arena;
    struct policy_subject subject;
    gid_t *groups;
    size_t n_groups, cap_groups;
    bool out_of_memory;
};

static void add_group(struct policy_who *who, gid_t gid)
{
    if (mem_grow(&who->groups, who->n_groups, &who->cap_groups, sizeof *who->groups) < 0)
        who->out_of_memory = true;
    else
        who->groups[who->n_groups++] = gid;
}

/* A policy that never needs the user database has not read it. */
static const struct policy_user *find_user(struct policy_who *who, const struct policy *policy, uid_t uid)
{
    const struct policy_user *user = policy_find_user(policy, uid);
    struct policy_user *users;
    size_t n;
    if (user)
        return user;
    int err = names_snapshot(&who->arena, false, &uid, 1, &users, &n);
    who->out_of_memory |= err < 0;
    return err == 0 && n ? &users[0] : NULL;
}

static void be_user(struct policy_who *who, const struct policy *policy, uid_t uid)
{
    const struct policy_user *user = find_user(who, policy, uid);
    who->subject.uid = uid;
    who->subject.gid = user ? user->gid : (gid_t)NOBODY;
    who->subject.user = user;
    for (size_t i = 0; user && i < user->n_groups; i++)
        add_group(who, user->groups[i]);
}

/* `exe:/usr/bin/x` of a subject is that very file. */
static const char *term_text(struct policy_who *who, const struct term *term)
{
    bool is_pattern = term->kind == TERM_EXE || term->kind == TERM_CGROUP;
    if (!is_pattern)
        return term->text;
    const char *text = arena_text(&who->arena, term->patterns[0].text, term->patterns[0].text_len);
    who->out_of_memory |= !text;
    return text;
}

static void apply(struct policy_who *who, const struct policy *policy, const struct term *term)
{
    struct policy_subject *s = &who->subject;
    switch (term->kind) {
    case TERM_USER:
        be_user(who, policy, term->id);
        break;
    case TERM_GROUP:
        add_group(who, term->id);
        break;
    case TERM_EXE:
        s->exe = term_text(who, term);
        break;
    case TERM_UNIT:
        s->unit = term_text(who, term);
        break;
    case TERM_CGROUP:
        s->cgroup = term_text(who, term);
        break;
    case TERM_LABEL:
        s->label = term_text(who, term);
        break;
    default:
        break;
    }
}

struct policy_who *who_new(const struct policy *policy, const struct conj *conj)
{
    struct policy_who *who = mem_zalloc(1, sizeof *who);
    if (!who)
        return NULL;
    who->subject = (struct policy_subject){ .uid = (uid_t)NOBODY, .gid = (gid_t)NOBODY };
    for (size_t i = 0; i < conj->n_terms; i++)
        apply(who, policy, &conj->terms[i]);
    if (who->n_groups)
        sort_ids(who->groups, who->n_groups);
    who->subject.groups = who->groups;
    who->subject.n_groups = who->n_groups;
    if (!who->out_of_memory)
        return who;
    policy_who_free(who);
    return NULL;
}

const struct policy_subject *policy_who_subject(const struct policy_who *who)
{
    return &who->subject;
}

void policy_who_free(struct policy_who *who)
{
    if (!who)
        return;
    arena_free(&who->arena);
    free(who->groups);
    free(who);
}

/* ---- from text ---- */

static int check_conj(struct parser *parser, const struct word *word, const struct subjects *subjects)
{
    unsigned users = 0;
    bool set = false;
    for (size_t i = 0; i < subjects->conjs[0].n_terms; i++) {
        users += subjects->conjs[0].terms[i].kind == TERM_USER;
        set |= subjects->conjs[0].terms[i].kind == TERM_SET;
    }
    if (subjects->n_conjs != 1 || set)
        parse_error(parser, word->at, "this is about one subject: no `,`, no set");
    else if (users > 1)
        parse_error(parser, word->at, "nobody is two users at once");
    return parser->messages->n_errors ? -EINVAL : 0;
}

static int parse_who(struct policy_who **out, struct parser *parser, const struct policy *policy,
                     const struct source *source)
{
    struct word word = { source->text, source->len, source->text, false, true };
    parser->source = source;
    const struct subjects *subjects = parse_subjects(parser, &word, true);
    if (!subjects)
        return parser->out_of_memory ? -ENOMEM : -EINVAL;
    int err = check_conj(parser, &word, subjects);
    if (err == 0)
        *out = who_new(policy, &subjects->conjs[0]);
    return err == 0 && !*out ? -ENOMEM : err;
}

int policy_who_parse(struct policy_who **out, const struct policy *policy, const char *text,
                     struct policy_messages *messages)
{
    struct policy scratch = { .sources = NULL };
    struct policy_env env = { 0 };
    struct parser parser;
    char name[] = "subject", *copy = strdup(text);
    struct source source = { NULL, name, name, copy, strlen(text) };
    int err = copy ? parser_init(&parser, &scratch, &env, messages) : -ENOMEM;
    if (err == 0) {
        err = parse_who(out, &parser, policy, &source);
        parser_deinit(&parser);
    }
    arena_free(&scratch.arena);
    free(copy);
    return err;
}
