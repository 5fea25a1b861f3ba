/*
 * Parts of confine.c that are files of their own.
 */
#ifndef FOB_BROKER_CONFINE_STEPS_H
#define FOB_BROKER_CONFINE_STEPS_H

#include <stdbool.h>

#include "mounts.h"

/* Files beneath the roots only, each with the rights that the policy gives there; landlock(7). *abi: 0 when
 * the kernel has none. 0 or a negative errno. */
int confine_landlock(const struct mounts *mounts, unsigned *abi);
/* The system calls of a worker; with identity also those that change whose rights it uses. Everything else
 * kills it. */
int confine_seccomp_worker(bool identity);
int confine_seccomp_sealer(void);
int confine_seccomp_identity(void);
/* Opens nothing but places (O_PATH). */
int confine_seccomp_courier(void);

#endif
