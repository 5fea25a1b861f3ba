#include "messages.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/escape.h"
#include "../common/util.h"

enum { BEFORE = 60, AFTER = 80, TEXT_MAX = 1024 };

static void append(struct policy_messages *messages, const char *text, size_t len)
{
    if (messages->out_of_memory)
        return;
    if (messages->len + len + 1 > messages->cap) {
        size_t cap = (messages->len + len + 1) * 2;
        char *grown = realloc(messages->text, cap);
        if (!grown) {
            messages->out_of_memory = true;
            return;
        }
        messages->text = grown;
        messages->cap = cap;
    }
    memcpy(messages->text + messages->len, text, len);
    messages->len += len;
    messages->text[messages->len] = '\0';
}

static void append_text(struct policy_messages *messages, const char *text)
{
    append(messages, text, strlen(text));
}

/* Tabs become blanks, so that the caret stands under what it means. */
static size_t append_escaped(struct policy_messages *messages, const char *bytes, size_t len)
{
    char plain[BEFORE + AFTER], shown[4 * sizeof plain + 1];
    if (len > sizeof plain)
        len = sizeof plain;
    for (size_t i = 0; i < len; i++)
        plain[i] = bytes[i] == '\t' ? ' ' : bytes[i];
    size_t n = escape_text(shown, sizeof shown, plain, len);
    append(messages, shown, n);
    return n;
}

/* The line around `at`, cut to a window, and the caret. */
static void append_line(struct policy_messages *messages, const struct source *source, const char *at)
{
    const char *begin = at, *end = at, *text_end = source->text + source->len;
    while (begin > source->text && begin[-1] != '\n' && at - begin < BEFORE)
        begin--;
    while (end < text_end && *end != '\n' && end - at < AFTER)
        end++;
    append_text(messages, "    ");
    size_t column = append_escaped(messages, begin, (size_t)(at - begin));
    append_escaped(messages, at, (size_t)(end - at));
    append_text(messages, "\n    ");
    while (column--)
        append_text(messages, " ");
    append_text(messages, "^\n");
}

static void append_format(struct policy_messages *messages, const char *format, va_list arguments)
{
    char plain[TEXT_MAX], shown[4 * sizeof plain + 1];
    int len = vsnprintf(plain, sizeof plain, format, arguments);
    if (len < 0)
        return;
    size_t n = (size_t)len < sizeof plain ? (size_t)len : sizeof plain - 1;
    append(messages, shown, escape_text(shown, sizeof shown, plain, n));
    append_text(messages, "\n");
}

static void append_place(struct policy_messages *messages, const struct source *source, const char *at)
{
    unsigned line = 1, column = 1;
    for (const char *p = source->text; p < at; p++, column++)
        if (*p == '\n') {
            line++;
            column = 0;
        }
    char place[64];
    char name[512];
    append(messages, name, escape_text(name, sizeof name, source->name, strlen(source->name)));
    snprintf(place, sizeof place, ":%u:%u: ", line, column);
    append_text(messages, place);
}

void message_error(struct policy_messages *messages, const struct source *source, const char *at,
                   const char *format, ...)
{
    if (messages->n_errors++ >= MESSAGES_SHOWN)
        return;
    append_place(messages, source, at);
    va_list arguments;
    va_start(arguments, format);
    append_format(messages, format, arguments);
    va_end(arguments);
    append_line(messages, source, at);
}

void message_warning(struct policy_messages *messages, const struct source *source, const char *at,
                     const char *format, ...)
{
    if (messages->n_warnings++ >= MESSAGES_SHOWN)
        return;
    append_place(messages, source, at);
    append_text(messages, "warning: ");
    va_list arguments;
    va_start(arguments, format);
    append_format(messages, format, arguments);
    va_end(arguments);
    append_line(messages, source, at);
}

void message_warning_end(struct policy_messages *messages)
{
    char text[64];
    if (messages->n_warnings <= MESSAGES_SHOWN)
        return;
    snprintf(text, sizeof text, "%u more warnings\n", messages->n_warnings - MESSAGES_SHOWN);
    append_text(messages, text);
}

void message_file(struct policy_messages *messages, const char *name, const char *format, ...)
{
    if (messages->n_errors++ >= MESSAGES_SHOWN)
        return;
    char shown[512];
    append(messages, shown, escape_text(shown, sizeof shown, name, strlen(name)));
    append_text(messages, ": ");
    va_list arguments;
    va_start(arguments, format);
    append_format(messages, format, arguments);
    va_end(arguments);
}

void message_end(struct policy_messages *messages)
{
    char text[64];
    if (messages->n_errors <= MESSAGES_SHOWN)
        return;
    snprintf(text, sizeof text, "%u more errors\n", messages->n_errors - MESSAGES_SHOWN);
    append_text(messages, text);
}

void policy_messages_deinit(struct policy_messages *messages)
{
    free(messages->text);
    *messages = (struct policy_messages){ 0 };
}
