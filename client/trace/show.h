/*
 * Numbers and untrusted bytes as text for people.
 */
#ifndef FOB_TRACE_SHOW_H
#define FOB_TRACE_SHOW_H

#include <stddef.h>
#include <stdio.h>

/* Escaped (common/escape.h), without end of line. */
void show_text(FILE *out, const void *bytes, size_t len);
/* 16 bytes a line, with the printable ones beside them. */
void show_hex(FILE *out, const void *bytes, size_t len);
/* "EACCES (Permission denied)", or "error 4711". */
void show_error(FILE *out, int error);
/* "O_WRONLY|O_CREAT"; bits without a name as 0x... at the end. */
void show_open_flags(FILE *out, int oflags);
/* Two lines that say what a descriptor of this process is. Asks no file system that may not answer. */
void show_descriptor(FILE *out, size_t index, int fd);
/* "    malformed: ..." */
__attribute__((format(printf, 2, 3))) void show_malformed(FILE *out, const char *format, ...);

#endif
