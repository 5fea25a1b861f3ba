/*
 * What the parts of workers.c share.
 */
#ifndef FOB_BROKER_WORKERS_PARTS_H
#define FOB_BROKER_WORKERS_PARTS_H

#include "workers.h"

/* Closes what the sealer is asked through. */
void workers_close_channels(struct workers *workers);
/* The worker of that slot is dead: what it had not written yet of what it had answered. */
void workers_salvage_audit(const struct workers *workers, unsigned slot);

#endif
