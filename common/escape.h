/*
 * Untrusted bytes made fit to be shown: on a terminal, in a log line, in JSON.
 */
#ifndef FOB_COMMON_ESCAPE_H
#define FOB_COMMON_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Copies len bytes to out as printable ASCII: control characters, DEL, bytes >= 0x80 and the backslash become
 * \n \r \t \\ or \xHH. Always NUL-terminated if size > 0; what does not fit is cut before a whole escape and
 * ends in "...". Returns the length written. Worst case 4 bytes for each byte (+ 1).
 */
size_t escape_text(char *out, size_t size, const char *bytes, size_t len);

/*
 * Appends a JSON string with its quotes (RFC 8259). Valid UTF-8 stays as it is, but for what JSON escapes, C1 controls,
 * U+2028/2029 and bidi controls (\uXXXX); bytes that are not valid UTF-8 become \u00XX, and *raw is set to true (it is
 * never cleared). Returns the length written, or 0 when size is too small (6 * len + 3 always suffices).
 */
size_t escape_json(char *out, size_t size, const char *bytes, size_t len, bool *raw);

#endif
