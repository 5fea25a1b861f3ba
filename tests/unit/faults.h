/*
 * Fault injection: one call of the program's own, the n-th that can fail so, fails. Tests run a scenario with
 * n = 1, 2, 3, ... until nothing failed any more, and so with every call of it failing once.
 *
 * Calls of libc and of other libraries' functions are replaced by the linker: a test that wants them names
 * those in its first comment (` * Link: -Wl,--wrap=malloc ...`); calls that libraries make by themselves are
 * not touched. A call that has several plausible errnos is made to fail with each, one in a round.
 */
#ifndef FOB_TESTS_FAULTS_H
#define FOB_TESTS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

enum {
    FAULTS_ROUNDS = 10,   /* the most errnos of one call */
    FAULTS_SPECIAL = 1000 /* from here on they are no errnos: what a call does instead of failing */
};
enum {
    FAULTS_SHORT = FAULTS_SPECIAL, /* write(2): half of it is written */
    FAULTS_CTRUNC,                 /* recvmsg(2): control messages are lost (MSG_CTRUNC) */
};

/* From now on the n-th call (1..) among those that have an errno number `round` (0..) fails with it. 0: none
 * does. */
void faults_begin(unsigned n, int round);
/* The same, and all those after it until faults_end(); never with EINTR, which callers may repeat for ever.
 */
void faults_begin_lasting(unsigned n, int round);
/* Between the two nothing fails, and nothing is counted: what the test does for itself. */
void faults_pause(void);
void faults_resume(void);
/* Back to normal. Returns how many calls could have failed. */
unsigned faults_end(void);

/* What failed since faults_begin(), "openat2: EMFILE"; NULL: nothing did, so n was more than there are. */
const char *faults_failed(void);
/* The errno of that (or FAULTS_SHORT ...), 0: none. */
int faults_error(void);

/* For a test's own replacements: must this call fail? Then errno is set to one of these n. */
bool faults_fails(const char *name, const int *errors, size_t n);

/* For every round and n until none failed: */
#define FAULTS_EACH(round, n)                           \
    for (int round = 0; round < FAULTS_ROUNDS; round++) \
        for (unsigned n = 1; n == 1 || faults_failed(); n++)

#endif
