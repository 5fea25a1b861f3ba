/*
 * One component against its pattern. Only the last `*` is ever gone back to, so it takes len * n_tokens steps
 * at most.
 */
#include <string.h>

#include "compiled.h"

/* The value of %u or %U; its length, 0 when it matches nothing. */
static size_t value_of(const struct token *token, const struct policy_subject *subject, char number[10],
                       const char **value)
{
    if (token->kind == TOKEN_UID) {
        size_t n = 10;
        uint32_t uid = subject->uid;
        do
            number[--n] = (char)('0' + uid % 10);
        while (uid /= 10);
        *value = number + n;
        return 10 - n;
    }
    if (!subject->user)
        return 0;
    const char *name = subject->user->name;
    *value = name;
    bool usable = strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strchr(name, '/');
    return usable ? strlen(name) : 0;
}

/* How many bytes the token takes, or 0 when it does not match. */
static size_t token_match(const struct component *component, const struct token *token, const char *bytes,
                          size_t len, const struct policy_subject *subject)
{
    if (token->kind == TOKEN_USER || token->kind == TOKEN_UID) {
        char number[10];
        const char *value;
        size_t n = value_of(token, subject, number, &value);
        return n && n <= len && memcmp(bytes, value, n) == 0 ? n : 0;
    }
    if (len == 0)
        return 0;
    unsigned char byte = (unsigned char)*bytes;
    switch (token->kind) {
    case TOKEN_BYTE:
        return byte == token->byte;
    case TOKEN_CLASS:
        return class_has(component_class(component, token), byte);
    default:
        return 1;
    }
}

bool glob_match(const struct component *component, const char *bytes, size_t len,
                const struct policy_subject *subject)
{
    const struct token *tokens = component->tokens;
    size_t n = component->n, t = 0, i = 0, star = n, resume = 0;
    while (i < len || t < n) {
        if (t < n && tokens[t].kind == TOKEN_STAR) {
            star = t++;
            resume = i;
            continue;
        }
        size_t took = t < n ? token_match(component, &tokens[t], bytes + i, len - i, subject) : 0;
        if (took) {
            i += took;
            t++;
        } else if (star < n && resume < len) {
            i = ++resume;
            t = star + 1;
        } else {
            return false;
        }
    }
    return true;
}
