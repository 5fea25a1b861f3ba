/*
 * The parser's life: before the first file and after the last.
 */
#include <errno.h>
#include <string.h>

#include "../common/util.h"
#include "parse.h"

int parser_init(struct parser *parser, struct policy *policy, const struct policy_env *env,
                struct policy_messages *messages)
{
    *parser = (struct parser){
        .policy = policy,
        .messages = messages,
        .env = env,
        .names = names_new(),
        .subjects = mem_zalloc(SUBJECT_BUCKETS, sizeof *parser->subjects),
        .scratch = mem_zalloc(1, parse_scratch_size()),
    };
    if (parser->names && parser->subjects && parser->scratch)
        return 0;
    parser_deinit(parser);
    return -ENOMEM;
}

void parser_deinit(struct parser *parser)
{
    for (size_t i = 0; parser->subjects && i < SUBJECT_BUCKETS; i++)
        for (struct shared_subjects *s = parser->subjects[i], *next; s; s = next) {
            next = s->next;
            free(s);
        }
    names_free(parser->names);
    free(parser->subjects);
    free(parser->scratch);
    free(parser->rules);
    free(parser->asserts);
    free(parser->mentioned);
    free(parser->ids);
    free(parser->patterns);
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const struct source *source_of(const struct policy *policy, const char *at)
{
    const struct source *source = policy->sources;
    while (source && (at < source->text || at > source->text + source->len))
        source = source->next;
    return source;
}

/* The second rule of that id, where its statement begins. */
static void say_duplicate(struct parser *parser, const char *id)
{
    unsigned seen = 0;
    for (size_t i = 0; i < parser->n_rules; i++) {
        const struct policy_rule *rule = &parser->rules[i].rule;
        if (!rule->id || strcmp(rule->id, id) != 0 || ++seen != 2)
            continue;
        parser->source = source_of(parser->policy, rule->text);
        parse_error(parser, rule->text, "id=%s names another rule already", id);
    }
}

static void check_ids(struct parser *parser)
{
    if (parser->n_ids)
        qsort(parser->ids, parser->n_ids, sizeof *parser->ids, compare_ids);
    for (size_t i = 1; i < parser->n_ids; i++)
        if (strcmp(parser->ids[i - 1], parser->ids[i]) == 0 &&
            (i == 1 || strcmp(parser->ids[i - 2], parser->ids[i]) != 0))
            say_duplicate(parser, parser->ids[i]);
}

static void mention_asserted(struct parser *parser)
{
    for (size_t i = 0; i < parser->n_asserts; i++)
        for (size_t c = 0; c < parser->asserts[i].subjects->n_conjs; c++)
            for (size_t t = 0; t < parser->asserts[i].subjects->conjs[c].n_terms; t++) {
                const struct term *term = &parser->asserts[i].subjects->conjs[c].terms[t];
                if (term->kind != TERM_USER)
                    continue;
                if (mem_grow(&parser->mentioned, parser->n_mentioned, &parser->cap_mentioned, sizeof(uid_t)) <
                    0)
                    parser->out_of_memory = true;
                else
                    parser->mentioned[parser->n_mentioned++] = term->id;
            }
}

static int take_users(struct parser *parser, struct ast *ast)
{
    mention_asserted(parser);
    if (!parser->needs_users || parser->out_of_memory)
        return parser->out_of_memory ? -ENOMEM : 0;
    return names_snapshot(&parser->policy->arena, true, parser->mentioned, parser->n_mentioned, &ast->users,
                          &ast->n_users);
}

static void link_users(struct parser *parser, struct ast *ast)
{
    for (size_t i = 0; i < ast->n_rules; i++) {
        struct ast_rule *rule = &ast->rules[i];
        if (rule->rule.as != POLICY_AS_USER)
            continue;
        rule->rule.as_user = policy_find_user(parser->policy, rule->as_uid);
        if (rule->rule.as_user)
            continue;
        parser->source = source_of(parser->policy, rule->rule.text);
        parse_error(parser, rule->rule.text, "as=user:%u has no account, so its groups are not known",
                    (unsigned)rule->as_uid);
    }
}

static int copy_pseudo(struct parser *parser, struct ast *ast)
{
    size_t n = parser->env->n_pseudo;
    ast->pseudo = arena_alloc(&parser->policy->arena, n, sizeof *ast->pseudo);
    ast->pseudo_len = arena_alloc(&parser->policy->arena, n, sizeof *ast->pseudo_len);
    if (!ast->pseudo || !ast->pseudo_len)
        return -ENOMEM;
    for (; ast->n_pseudo < n; ast->n_pseudo++) {
        const char *point = parser->env->pseudo[ast->n_pseudo];
        ast->pseudo_len[ast->n_pseudo] = strlen(point);
        ast->pseudo[ast->n_pseudo] = arena_text(&parser->policy->arena, point, strlen(point));
        if (!ast->pseudo[ast->n_pseudo])
            return -ENOMEM;
    }
    return 0;
}

int parser_finish(struct parser *parser)
{
    struct ast *ast = &parser->policy->ast;
    struct arena *arena = &parser->policy->arena;
    check_ids(parser);
    ast->rules = arena_copy(arena, parser->rules, parser->n_rules, sizeof *ast->rules);
    ast->asserts = arena_copy(arena, parser->asserts, parser->n_asserts, sizeof *ast->asserts);
    if ((parser->n_rules && !ast->rules) || (parser->n_asserts && !ast->asserts))
        return -ENOMEM;
    ast->n_rules = parser->n_rules;
    ast->n_asserts = parser->n_asserts;
    int err = take_users(parser, ast);
    if (err == 0)
        link_users(parser, ast);
    return err == 0 ? copy_pseudo(parser, ast) : err;
}
