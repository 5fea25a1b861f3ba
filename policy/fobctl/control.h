/*
 * Talking to the broker's control socket (control_protocol.h).
 */
#ifndef FOB_POLICY_FOBCTL_CONTROL_H
#define FOB_POLICY_FOBCTL_CONTROL_H

#include "fobctl.h"

/* Sends the words (NULL-terminated), copies what comes to standard output and error; the exit status. */
int control_ask(const struct fobctl *ctl, const char *const *words);

/* The same, line by line. take() returns false to stop. */
typedef bool control_line_fn(const char *line, size_t len, void *data);
int control_stream(const struct fobctl *ctl, const char *const *words, control_line_fn *take, void *data);

#endif
