/*
 * The policy as it was understood, in its own language.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "../common/util.h"
#include "internal.h"
#include "names.h"

enum { SUBJECTS_MAX = 10000 }; /* of one conjunction whose sets are written out */

/* ---- subjects ---- */

static void put_id(FILE *out, const char *kind, const char *name, uint32_t id)
{
    if (name)
        fprintf(out, "%s:%s", kind, name);
    else
        fprintf(out, "%s:%u", kind, (unsigned)id);
}

void term_print(FILE *out, const struct term *term)
{
    switch (term->kind) {
    case TERM_USER:
        put_id(out, "user", names_of_user(term->id), term->id);
        break;
    case TERM_GROUP:
        put_id(out, "group", names_of_group(term->id), term->id);
        break;
    case TERM_EXE:
    case TERM_CGROUP:
        fputs(term->kind == TERM_EXE ? "exe:" : "cgroup:", out);
        fwrite(term->patterns[0].text, 1, term->patterns[0].text_len, out);
        break;
    case TERM_UNIT:
    case TERM_LABEL:
        fprintf(out, "%s:%s", term->kind == TERM_UNIT ? "unit" : "label", term->text);
        break;
    case TERM_SET:
        fprintf(out, "@%s", term->set->name);
        break;
    default:
        fputs("any", out);
    }
}

/* All ways to take one member of each term, the last one changing first. */
static int put_conj(FILE *out, const struct conj *conj, const char **comma)
{
    size_t ways = 1;
    for (size_t i = 0; i < conj->n_terms; i++) {
        ways *= term_members(&conj->terms[i]);
        if (ways > SUBJECTS_MAX)
            return -E2BIG;
    }
    for (size_t way = 0; way < ways; way++) {
        size_t rest = way, left = ways;
        fputs(*comma, out);
        *comma = ",";
        for (size_t i = 0; i < conj->n_terms; i++) {
            left /= term_members(&conj->terms[i]);
            struct term member = term_member(&conj->terms[i], rest / left);
            rest %= left;
            fputs(i ? "+" : "", out);
            term_print(out, &member);
        }
    }
    return 0;
}

/* In memory first: quotes stand around the whole word. */
static int put_subjects(FILE *out, const struct subjects *subjects)
{
    char *text = NULL;
    size_t len = 0;
    const char *comma = "";
    FILE *memory = open_memstream(&text, &len);
    if (!memory)
        return -ENOMEM;
    int err = 0;
    for (size_t i = 0; err == 0 && i < subjects->n_conjs; i++)
        err = put_conj(memory, &subjects->conjs[i], &comma);
    if (fclose(memory) != 0 && err == 0)
        err = -ENOMEM;
    if (err == 0)
        quote_word(out, text, len);
    free(text);
    return err;
}

/* ---- options ---- */

static void put_types(FILE *out, const struct policy_rule *rule)
{
    static const char *const names[] = { "file", "dir", "fifo", "socket", "chr", "blk" };
    unsigned usual = POLICY_TYPE_FILE | (rule->rights & RIGHT_LIST ? POLICY_TYPE_DIR : 0);
    const char *before = " type=";
    if (rule->deny || rule->types == usual)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (rule->types & 1u << i) {
            fprintf(out, "%s%s", before, names[i]);
            before = ",";
        }
}

static void put_until(FILE *out, time_t until)
{
    struct tm tm;
    char text[32];
    if (until && gmtime_r(&until, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
        fprintf(out, " until=%s", text);
}

static void put_options(FILE *out, const struct ast_rule *ast_rule)
{
    static const char *const logs[] = { "all", "refused", "none" };
    const struct policy_rule *rule = &ast_rule->rule;
    if (rule->as == POLICY_AS_CALLER)
        fputs(" as=caller", out);
    if (rule->as == POLICY_AS_USER) {
        fputs(" as=", out);
        put_id(out, "user", names_of_user(ast_rule->as_uid), ast_rule->as_uid);
    }
    put_types(out, rule);
    if (rule->rights & RIGHT_CREATE && !rule->deny && rule->mode != 0666)
        fprintf(out, " mode=%04o", (unsigned)rule->mode);
    fputs(rule->links_any ? " links=any" : "", out);
    fputs(rule->sealed ? "" : " seal=no", out);
    put_until(out, rule->until);
    if (rule->log != POLICY_LOG_ALL)
        fprintf(out, " log=%s", logs[rule->log]);
    if (rule->id)
        fprintf(out, " id=%s", rule->id);
}

/* ---- statements ---- */

static void put_rights(FILE *out, unsigned rights)
{
    char text[POLICY_RIGHTS_TEXT];
    fprintf(out, " %s", rights == RIGHT_ALL ? "all" : policy_rights_text(text, rights));
}

/* A comment is text too. */
static void put_place(FILE *out, const struct ast_rule *rule)
{
    fputs("# ", out);
    for (const char *p = rule->rule.file; *p; p++)
        fputc((unsigned char)*p < ' ' || (unsigned char)*p >= 127 ? '?' : *p, out);
    fprintf(out, ":%u", (unsigned)rule->rule.line);
}

static int put_rule(FILE *out, const struct ast_rule *rule, bool with_place)
{
    fputs(rule->rule.deny ? "deny " : "allow ", out);
    int err = put_subjects(out, rule->subjects);
    if (err < 0)
        return err;
    put_rights(out, rule->rule.rights);
    for (uint32_t i = 0; i < rule->n_patterns; i++) {
        const struct pattern *p = &rule->patterns[i];
        if (i && p->text == rule->patterns[i - 1].text)
            continue; /* {a,b} is one word */
        fputc(' ', out);
        quote_word(out, p->text, p->text_len);
    }
    put_options(out, rule);
    if (with_place) {
        fputs("  ", out);
        put_place(out, rule);
    }
    fputc('\n', out);
    return 0;
}

static int put_assert(FILE *out, const struct ast_assert *assert)
{
    fprintf(out, "assert %s ", assert->deny ? "deny" : "allow");
    int err = put_subjects(out, assert->subjects);
    if (err < 0)
        return err;
    put_rights(out, assert->rights);
    fputc(' ', out);
    quote_word(out, assert->path, assert->path_len);
    fputc('\n', out);
    return 0;
}

int policy_print(const struct policy *policy, bool with_places, FILE *out)
{
    int err = 0;
    for (size_t i = 0; err == 0 && i < policy->ast.n_rules; i++) {
        const struct ast_rule *rule = &policy->ast.rules[i];
        err = put_rule(out, rule, with_places);
        if (err == -E2BIG) {
            fputc('\n', out);
            put_place(out, rule);
            fprintf(out, ": its sets joined by `+` are more than %d subjects\n", SUBJECTS_MAX);
        }
    }
    for (size_t i = 0; err == 0 && i < policy->ast.n_asserts; i++)
        err = put_assert(out, &policy->ast.asserts[i]);
    return err == 0 && ferror(out) ? -EIO : err;
}
