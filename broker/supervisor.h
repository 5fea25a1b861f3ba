/*
 * The supervisor: loads, binds, starts the sealer and the workers, replaces what dies, and stops them all. It
 * reads no byte of a client's.
 */
#ifndef FOB_BROKER_SUPERVISOR_H
#define FOB_BROKER_SUPERVISOR_H

#include <stdbool.h>

#include "config.h"

/* Runs the broker until SIGTERM or SIGINT; the exit status: 0, or 1 when it could not start (said on standard
 * error). */
int supervisor_run(struct config *config, bool privileged);

#endif
