/*
 * What is said in the end.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "../common/escape.h"
#include "../common/util.h"
#include "diff.h"
#include "names.h"

/* ---- who gains and loses ---- */

static int add(struct diff_lines *lines, struct diff_line line)
{
    int err = mem_grow(&lines->all, lines->n, &lines->cap, sizeof *lines->all);
    if (err == 0)
        lines->all[lines->n++] = line;
    return err;
}

int lines_add(struct diff_lines *lines, char sign, const struct term *terms, size_t n,
              const struct pattern *pattern, const char *rights, const char *tail)
{
    struct diff_line line = { .pattern = pattern };
    size_t size = 0;
    FILE *memory = open_memstream(&line.subject, &size);
    if (!memory)
        return -ENOMEM;
    int err = put_who(memory, terms, n);
    if (fclose(memory) != 0)
        err = -ENOMEM;
    memory = err == 0 ? open_memstream(&line.text, &size) : NULL;
    if (memory) {
        fprintf(memory, "%c %s %s ", sign, line.subject, rights);
        quote_word(memory, pattern->text, pattern->text_len);
        fprintf(memory, "%s\n", tail);
        err = fclose(memory) == 0 ? add(lines, line) : -ENOMEM;
    } else {
        err = -ENOMEM;
    }
    if (err < 0) {
        free(line.subject);
        free(line.text);
    }
    return err;
}

static int compare_lines(const void *a, const void *b)
{
    const struct diff_line *x = a, *y = b;
    const struct pattern *p = x->pattern, *q = y->pattern;
    int order = memcmp(p->text, q->text, p->text_len < q->text_len ? p->text_len : q->text_len);
    if (order == 0)
        order = (p->text_len > q->text_len) - (p->text_len < q->text_len);
    if (order == 0)
        order = strcmp(x->subject, y->subject);
    return order ? order : strcmp(x->text, y->text);
}

/* ---- options ---- */

static bool has_same_options(const struct ast_rule *a, const struct ast_rule *b)
{
    const struct policy_rule *x = &a->rule, *y = &b->rule;
    if (x->log != y->log || x->until != y->until)
        return false;
    if (x->deny)
        return true;
    bool same_as = x->as == y->as && (x->as != POLICY_AS_USER || a->as_uid == b->as_uid);
    bool same_mode = !(x->rights & RIGHT_CREATE) || x->mode == y->mode;
    return same_as && same_mode && x->types == y->types && x->links_any == y->links_any &&
           x->sealed == y->sealed;
}

static void put_as(FILE *out, const struct ast_rule *rule)
{
    const char *name;
    if (rule->rule.as == POLICY_AS_CALLER)
        fputs(" as=caller", out);
    if (rule->rule.as != POLICY_AS_USER)
        return;
    name = names_of_user(rule->as_uid);
    if (name)
        fprintf(out, " as=user:%s", name);
    else
        fprintf(out, " as=user:%u", (unsigned)rule->as_uid);
}

static void put_types(FILE *out, const struct policy_rule *rule)
{
    static const char *const names[] = { "file", "dir", "fifo", "socket", "chr", "blk" };
    const char *before = " type=";
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (rule->types & 1u << i) {
            fprintf(out, "%s%s", before, names[i]);
            before = ",";
        }
}

static void put_options(FILE *out, const struct ast_rule *ast_rule)
{
    static const char *const logs[] = { "all", "refused", "none" };
    const struct policy_rule *rule = &ast_rule->rule;
    unsigned usual = POLICY_TYPE_FILE | (rule->rights & RIGHT_LIST ? POLICY_TYPE_DIR : 0);
    struct tm tm;
    char until[32];
    put_as(out, ast_rule);
    if (!rule->deny && rule->types != usual)
        put_types(out, rule);
    if (rule->rights & RIGHT_CREATE && !rule->deny && rule->mode != 0666)
        fprintf(out, " mode=%04o", (unsigned)rule->mode);
    fputs(rule->links_any ? " links=any" : "", out);
    fputs(rule->sealed ? "" : " seal=no", out);
    if (rule->until && gmtime_r(&rule->until, &tm) &&
        strftime(until, sizeof until, "%Y-%m-%dT%H:%M:%SZ", &tm))
        fprintf(out, " until=%s", until);
    if (rule->log != POLICY_LOG_ALL)
        fprintf(out, " log=%s", logs[rule->log]);
}

static int put_changed_options(FILE *out, const struct diff_rule *old)
{
    const struct ast_rule *rules[] = { old->rule, old->twin->rule };
    char shown[512];
    escape_text(shown, sizeof shown, rules[1]->rule.file, strlen(rules[1]->rule.file));
    fprintf(out, "~ %s:%u: options changed:", shown, (unsigned)rules[1]->rule.line);
    for (size_t i = 0; i < 2; i++) {
        char *text = NULL;
        size_t len = 0;
        FILE *memory = open_memstream(&text, &len);
        if (!memory)
            return -ENOMEM;
        put_options(memory, rules[i]);
        if (fclose(memory) != 0) {
            free(text);
            return -ENOMEM;
        }
        fprintf(out, "%s%s", i ? " ->" : "", text && len ? text : " defaults");
        free(text);
    }
    fputc('\n', out);
    return 0;
}

static int compare_twins(const void *a, const void *b)
{
    uint32_t x = (*(const struct diff_rule *const *)a)->twin->rule->rule.number;
    uint32_t y = (*(const struct diff_rule *const *)b)->twin->rule->rule.number;
    return (x > y) - (x < y);
}

static int write_options(const struct diff *diff, FILE *out)
{
    const struct diff_rule **changed = mem_zalloc(diff->n_rules + 1, sizeof *changed);
    size_t n = 0;
    if (!changed)
        return -ENOMEM;
    for (size_t i = 0; i < diff->n_rules; i++) {
        const struct diff_rule *rule = &diff->rules[i];
        if (rule->twin && !has_same_options(rule->rule, rule->twin->rule))
            changed[n++] = rule;
    }
    qsort(changed, n, sizeof *changed, compare_twins);
    int err = 0;
    for (size_t i = 0; err == 0 && i < n; i++)
        err = put_changed_options(out, changed[i]);
    free(changed);
    return err < 0 ? err : (int)n;
}

/* ---- the whole ---- */

int lines_write(struct diff_lines *lines, const struct diff *diff, FILE *out)
{
    int written = 0;
    if (lines->n)
        qsort(lines->all, lines->n, sizeof *lines->all, compare_lines);
    for (size_t i = 0; i < lines->n; i++)
        if (i == 0 || strcmp(lines->all[i - 1].text, lines->all[i].text) != 0) {
            fputs(lines->all[i].text, out);
            written++;
        }
    int options = write_options(diff, out);
    if (options < 0)
        return options;
    return ferror(out) ? -EIO : written + options;
}

void lines_deinit(struct diff_lines *lines)
{
    for (size_t i = 0; i < lines->n; i++) {
        free(lines->all[i].text);
        free(lines->all[i].subject);
    }
    free(lines->all);
}
