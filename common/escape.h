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

/* Well-formed UTF-8 throughout: nothing overlong, no surrogate, nothing above U+10FFFF. */
bool escape_is_utf8(const char *bytes, size_t len);

/*
 * Writes a JSON string with its quotes (RFC 8259) and a NUL after it. Returns the length without the NUL, or 0 when size is
 * too small (6 * len + 3 always suffices).
 *
 * Valid UTF-8 stays as it is, but for what JSON escapes, DEL, C1 controls, U+2028/2029 and bidi controls (\uXXXX).
 * A string that is not valid UTF-8 as a whole sets *raw (which is never cleared) and is written raw: EACH of its bytes
 * >= 0x80 becomes \u00XX, those of valid characters too. A reader who knows that a string is raw gets its very bytes back by
 * taking the decoded characters as ISO 8859-1; if only the bad bytes were so written, byte e9 and U+00E9 would look alike.
 * With *raw true from the start a string is written raw, valid or not: so one flag can stand for all strings of a
 * record, when whoever finds it newly set writes the record's strings anew.
 */
size_t escape_json(char *out, size_t size, const char *bytes, size_t len, bool *raw);

#endif
