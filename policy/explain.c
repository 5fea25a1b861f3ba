/*
 * Why is it decided as it is? Text for people.
 */
#include <string.h>
#include <time.h>

#include "../common/escape.h"
#include "../common/path.h"
#include "../common/util.h"
#include "internal.h"
#include "messages.h"

enum { SHOWN_MAX = 50, TEXT_SHOWN = 2000 };

struct question {
    const struct policy *policy;
    const struct policy_subject *subject;
    unsigned rights;
    const char *path;
    size_t len;
    time_t now;
    FILE *out;
};

/* ---- a rule as text ---- */

/* A statement that goes on over several lines is shown as one. */
static void put_text(FILE *out, const struct policy_rule *rule)
{
    char plain[TEXT_SHOWN], shown[4 * TEXT_SHOWN + 1];
    size_t len = rule->text_len < sizeof plain ? rule->text_len : sizeof plain, n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = rule->text[i];
        if (c == '\\' && i + 1 < len && rule->text[i + 1] == '\n')
            plain[n++] = ' ', i++;
        else
            plain[n++] = c == '\t' || c == '\n' ? ' ' : c;
    }
    escape_text(shown, sizeof shown, plain, n);
    for (const char *p = shown; *p;
         p++) /* the language has backslashes of its own: show them as they stand */
        fputc(p[0] == '\\' && p[1] == '\\' ? *p++ : *p, out);
    fputs(rule->text_len > len ? "..." : "", out);
}

static void put_place(FILE *out, const struct policy_rule *rule)
{
    char shown[512];
    escape_text(shown, sizeof shown, rule->file, strlen(rule->file));
    fprintf(out, "%s:%u", shown, (unsigned)rule->line);
    if (rule->id)
        fprintf(out, " (%s)", rule->id);
}

static void put_rule(FILE *out, const struct policy_rule *rule)
{
    put_place(out, rule);
    fputs(": ", out);
    put_text(out, rule);
}

static void put_options(FILE *out, const struct policy_rule *rule)
{
    static const char *const types[] = { "file", "dir", "fifo", "socket", "chr", "blk" };
    static const char *const logs[] = { "all", "refused", "none" };
    if (rule->as == POLICY_AS_USER)
        fprintf(out, "    as=user:%s type=", rule->as_user->name);
    else
        fprintf(out, "    as=%s type=", rule->as == POLICY_AS_CALLER ? "caller" : "broker");
    const char *comma = "";
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (rule->types & 1u << i) {
            fprintf(out, "%s%s", comma, types[i]);
            comma = ",";
        }
    if (rule->rights & RIGHT_CREATE)
        fprintf(out, " mode=%04o", (unsigned)rule->mode);
    fprintf(out, " links=%s seal=%s log=%s", rule->links_any ? "any" : "one", rule->sealed ? "yes" : "no",
            logs[rule->log]);
    if (rule->until) {
        struct tm tm;
        char text[32];
        if (gmtime_r(&rule->until, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
            fprintf(out, " until=%s", text);
    }
    fputc('\n', out);
}

/* ---- rules that matched ---- */

static bool matches(const struct policy_trial *trial)
{
    return trial->subject && trial->path && !trial->ended && !trial->lacking;
}

static void try_rule(const struct question *q, uint32_t number, struct policy_trial *trial)
{
    policy_try(q->policy, number, q->subject, q->rights, q->path, q->len, q->now, trial);
}

struct findings {
    const struct policy_rule *deciding;
    const struct policy_rule *nearest; /* allow rule that lacks least */
    unsigned nearness;
    struct policy_trial nearest_trial;
    uint32_t *others; /* numbers of the other rules that match, SHOWN_MAX at most */
    unsigned n_others;
};

/* How long the common beginning of the path and a pattern's literal one is, in bytes. */
static unsigned shared_beginning(const struct question *q, const struct ast_rule *rule)
{
    unsigned best = 0;
    for (uint32_t i = 0; i < rule->n_patterns; i++) {
        const struct pattern *p = &rule->patterns[i];
        unsigned n = 0;
        while (n < p->text_len && n < q->len && p->text[n] == q->path[n])
            n++;
        best = n > best ? n : best;
    }
    return best;
}

/* Whose path and rights fit is nearest, then whose path and subject fit, then whose path comes closest. */
static void consider(const struct question *q, uint32_t number, const struct policy_trial *trial,
                     struct findings *f)
{
    const struct ast_rule *rule = &q->policy->ast.rules[number - 1];
    unsigned nearness = trial->path * 1u << 20;
    nearness += trial->subject * 1u << 18;
    nearness += (!trial->lacking) * 1u << 17;
    nearness += (trial->lacking != q->rights) * 1u << 16;
    if (nearness >> 16 == 0)
        return;
    nearness += trial->path ? 0 : shared_beginning(q, rule);
    if (f->nearest && nearness <= f->nearness)
        return;
    f->nearest = &rule->rule;
    f->nearness = nearness;
    f->nearest_trial = *trial;
}

static void find(const struct question *q, struct findings *f)
{
    uint32_t n = policy_rule_count(q->policy);
    for (uint32_t number = 1; number <= n; number++) {
        const struct policy_rule *rule = policy_rule_get(q->policy, number);
        struct policy_trial trial;
        try_rule(q, number, &trial);
        if (matches(&trial)) {
            if (rule != f->deciding && f->n_others++ < SHOWN_MAX)
                f->others[f->n_others - 1] = number;
        } else if (!rule->deny) {
            consider(q, number, &trial, f);
        }
    }
}

static void put_others(const struct question *q, const struct findings *f)
{
    unsigned shown = f->n_others < SHOWN_MAX ? f->n_others : SHOWN_MAX;
    if (shown)
        fputs("also matched:\n", q->out);
    for (unsigned i = 0; i < shown; i++) {
        fputs("    ", q->out);
        put_rule(q->out, policy_rule_get(q->policy, f->others[i]));
        fputc('\n', q->out);
    }
    if (f->n_others > shown)
        fprintf(q->out, "    and %u more\n", f->n_others - shown);
}

/* ---- the nearest rule ---- */

static void put_obstacles(const struct question *q, const struct policy_trial *trial)
{
    const char *comma = "";
    char rights[POLICY_RIGHTS_TEXT];
    fputs("        but ", q->out);
    if (!trial->subject) {
        fputs("the subject is not who it is for", q->out);
        comma = ", and ";
    }
    if (trial->lacking) {
        fprintf(q->out, "%sit does not give the right %s", comma, policy_rights_text(rights, trial->lacking));
        comma = ", and ";
    }
    if (!trial->path) {
        fprintf(q->out, "%sthe path does not match", comma);
        comma = ", and ";
    }
    if (trial->ended)
        fprintf(q->out, "%sit has ended (until=)", comma);
    fputc('\n', q->out);
}

static void put_nearest(const struct question *q, const struct findings *f)
{
    if (!f->nearest) {
        fputs("no allow rule comes near\n", q->out);
        return;
    }
    fputs("nearest:\n    ", q->out);
    put_rule(q->out, f->nearest);
    fputc('\n', q->out);
    put_obstacles(q, &f->nearest_trial);
}

/* ---- the whole ---- */

static void put_subject(const struct question *q)
{
    const struct policy_subject *s = q->subject;
    if (s->uid == (uid_t)-2)
        fputs("asked by: a user whom no rule names", q->out);
    else
        fprintf(q->out, "asked by: uid %u%s%s", (unsigned)s->uid, s->user ? ", " : ", no account",
                s->user ? s->user->name : "");
    fputs(s->n_groups ? ", groups" : ", no groups", q->out);
    for (size_t i = 0; i < s->n_groups; i++)
        fprintf(q->out, " %u", (unsigned)s->groups[i]);
    fputc('\n', q->out);
}

static void answer(const struct question *q, const struct policy_decision *decision)
{
    uint32_t others[SHOWN_MAX];
    struct findings f = { .deciding = decision->rule, .others = others };
    fputs(decision->allowed ? "allowed by "
          : decision->rule  ? "refused by "
                            : "refused: no rule allows it",
          q->out);
    if (decision->rule)
        put_rule(q->out, decision->rule);
    fputc('\n', q->out);
    if (decision->allowed && decision->rule)
        put_options(q->out, decision->rule);
    put_subject(q);
    find(q, &f);
    put_others(q, &f);
    if (!decision->rule)
        put_nearest(q, &f);
}

static enum policy_answer decide(const struct question *q)
{
    struct policy_decision decision;
    struct policy_scratch *scratch = policy_scratch_new(q->policy);
    if (!scratch)
        return POLICY_BAD_QUESTION;
    policy_decide(q->policy, scratch, q->subject, q->rights, q->path, q->len, q->now, &decision);
    policy_scratch_free(scratch);
    answer(q, &decision);
    return decision.allowed ? POLICY_ALLOWED : POLICY_REFUSED;
}

static bool check_words(const char *rights, const char *path, FILE *errors)
{
    char shown[256];
    if (!policy_rights_by_text(rights)) {
        escape_text(shown, sizeof shown, rights, strlen(rights));
        fprintf(errors, "`%s`: no rights: a list of read, write, append, create, list, stat, or all\n",
                shown);
        return false;
    }
    if (path_is_clean(path, strlen(path)))
        return true;
    escape_text(shown, sizeof shown, path, strlen(path));
    fprintf(errors, "`%s`: not an absolute path without `.`, `..` and `//`\n", shown);
    return false;
}

enum policy_answer policy_explain(const struct policy *policy, const char *subject, const char *rights,
                                  const char *path, time_t now, FILE *out, FILE *errors)
{
    struct policy_messages messages = { 0 };
    struct policy_who *who = NULL;
    if (!check_words(rights, path, errors))
        return POLICY_BAD_QUESTION;
    int err = policy_who_parse(&who, policy, subject, &messages);
    if (err < 0)
        fputs(messages.text ? messages.text : "out of memory\n", errors);
    policy_messages_deinit(&messages);
    if (err < 0)
        return POLICY_BAD_QUESTION;
    struct question q = {
        policy, policy_who_subject(who), policy_rights_by_text(rights), path, strlen(path), now, out,
    };
    enum policy_answer answer = decide(&q);
    if (answer == POLICY_BAD_QUESTION)
        fputs("out of memory\n", errors);
    policy_who_free(who);
    return answer;
}
