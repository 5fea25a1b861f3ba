/*
 * The ways in which paths match a set of patterns: what fobctl's diff and lint compare policies by.
 */
#ifndef FOB_POLICY_CELLS_H
#define FOB_POLICY_CELLS_H

#include "internal.h"

/* `matched`: bit i % 64 of word i / 64: patterns[i] matches the witness path (clean, len bytes and a NUL). False ends it. */
typedef bool cell_fn(const uint64_t *matched, const char *path, size_t len, void *data);

/*
 * Calls fn once for each set of patterns (of n) that some clean path matches and that patterns[0] is in, with
 * a short path that does. %u, %U and %h stand for the subject's. 0; -E2BIG: there were more states than
 * CELLS_STATES_MAX, so sets may be missing; -ENOMEM.
 */
enum { CELLS_STATES_MAX = 20000 };
int cells_each(const struct pattern *const *patterns, size_t n, const struct policy_subject *subject, cell_fn *fn, void *data);

#endif
