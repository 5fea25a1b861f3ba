/*
 * Policies of any size, a mix as administrators write it. The rules that the bench's own requests meet belong
 * in the middle.
 */
#ifndef FOB_TESTS_BENCH_RULES_H
#define FOB_TESTS_BENCH_RULES_H

#include <stdio.h>

/* Writes the rules from, ..., to - 1, about what is beneath `base` but not asked for. */
void rules_write(FILE *out, unsigned from, unsigned to, const char *base);
/* Writes three: CLIENT_UID may read data/, everybody open/, and everybody own/ with as=caller. */
void rules_write_own(FILE *out, const char *base);

#endif
