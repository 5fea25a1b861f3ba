/*
 * Names that may be opened without a look before.
 *
 * A FIFO must not notice that it is asked for, so what stands under a name is looked at before it is opened;
 * a look costs as much as half an open. A name that was a regular file when it was opened last still is one,
 * or is nothing, unless somebody who may write one of its directories has put something else there. Where
 * that is root alone, the name is remembered, and opened without a look: what is opened is verified all the
 * same, and what is no regular file any more is forgotten and asked for anew. A FIFO that root makes of such
 * a file may so see one open.
 */
#ifndef FOB_BROKER_KNOWN_H
#define FOB_BROKER_KNOWN_H

#include <stdbool.h>
#include <stddef.h>

#include "verify.h"

/* A worker's own; some hundred names, each the next best victim of another. */
struct known;

/* NULL: no memory. */
struct known *known_new(void);
void known_free(struct known *known);

bool known_has(struct known *known, const struct target *target);
/* The target was found to be a regular file. From the second time on its directories are looked at. */
void known_saw_file(struct known *known, const struct target *target);
void known_forget(struct known *known, const struct target *target);

#endif
