/*
 * What may I open? The rules that apply to one subject, as text.
 */
#include <stdio.h>
#include <string.h>

#include "internal.h"

struct output {
    char *at;
    size_t left;
    unsigned omitted; /* lines that did not fit */
};

enum { LAST_LINE = 32 }; /* kept free for "# N more" */

/* As the language would have it in double quotes; 4 bytes for each at most. */
static size_t quote(char *out, const char *text, size_t len)
{
    char *at = out;
    *at++ = '"';
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            *at++ = '\\', *at++ = (char)c;
        else if (c < ' ' || c >= 127)
            at += sprintf(at, "\\x%02x", c);
        else
            *at++ = (char)c;
    }
    *at++ = '"';
    return (size_t)(at - out);
}

static void put_line(struct output *out, const struct policy_rule *rule, const struct pattern *pattern)
{
    char rights[POLICY_RIGHTS_TEXT], line[4 * 4096 * 2 + 128];
    size_t len =
        (size_t)sprintf(line, "%s%s ", rule->deny ? "deny " : "", policy_rights_text(rights, rule->rights));
    if (pattern->text_len * 4 + len + 4 > sizeof line || out->omitted) {
        out->omitted++;
        return;
    }
    if (quote_needed(pattern->text, pattern->text_len)) {
        len += quote(line + len, pattern->text, pattern->text_len);
    } else {
        memcpy(line + len, pattern->text, pattern->text_len);
        len += pattern->text_len;
    }
    line[len++] = '\n';
    if (len + LAST_LINE > out->left) {
        out->omitted++;
        return;
    }
    memcpy(out->at, line, len);
    out->at += len;
    out->left -= len;
}

size_t policy_list(const struct policy *policy, const struct policy_subject *subject, time_t now, char *out,
                   size_t size)
{
    struct output output = { out, size, 0 };
    for (size_t i = 0; i < policy->ast.n_rules; i++) {
        const struct ast_rule *rule = &policy->ast.rules[i];
        bool ended = rule->rule.until && rule->rule.until <= now;
        if (ended || !subjects_match(rule->subjects, subject, rule->rule.deny))
            continue;
        for (size_t p = 0; p < rule->n_patterns; p++)
            if (p == 0 || rule->patterns[p].text != rule->patterns[p - 1].text) /* {a,b} is one word */
                put_line(&output, &rule->rule, &rule->patterns[p]);
    }
    if (output.omitted && output.left >= LAST_LINE)
        output.at += sprintf(output.at, "# %u more\n", output.omitted);
    return (size_t)(output.at - out);
}
