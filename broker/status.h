/*
 * How the broker does, for fobctl status. What is said of confinement was read back from the kernel.
 */
#ifndef FOB_BROKER_STATUS_H
#define FOB_BROKER_STATUS_H

#include <stdio.h>

struct supervisor;

/* format: "text", "json" or "openmetrics". 0; -EINVAL: no such format; -ENOMEM. */
int status_write(struct supervisor *s, const char *format, FILE *out);

#endif
