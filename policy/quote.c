/*
 * Words as the language would have them.
 */
#include "internal.h"

bool quote_needed(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c >= 127 || c == '"' || c == '#')
            return true;
    }
    return len == 0;
}

void quote_word(FILE *out, const char *text, size_t len)
{
    if (!quote_needed(text, len)) {
        fwrite(text, 1, len, out);
        return;
    }
    fputc('"', out);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            fputc('\\', out);
        if (c < ' ' || c >= 127)
            fprintf(out, "\\x%02x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}
