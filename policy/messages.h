/*
 * Errors and warnings about a policy's text, with the line and a caret.
 */
#ifndef FOB_POLICY_MESSAGES_H
#define FOB_POLICY_MESSAGES_H

#include "internal.h"

enum { MESSAGES_SHOWN = 100 }; /* errors; then they are counted only */

/* At `at`, which points into source->text. What a client or an admin wrote is escaped. */
__attribute__((format(printf, 4, 5))) void message_error(struct policy_messages *messages,
                                                         const struct source *source, const char *at,
                                                         const char *format, ...);
/* `warning: ` before what is said; counted in n_warnings. */
__attribute__((format(printf, 4, 5))) void message_warning(struct policy_messages *messages,
                                                           const struct source *source, const char *at,
                                                           const char *format, ...);
/* "N more warnings", if there are. */
void message_warning_end(struct policy_messages *messages);
/* About a file or a directory as a whole. */
__attribute__((format(printf, 3, 4))) void message_file(struct policy_messages *messages, const char *name,
                                                        const char *format, ...);
/* "N more errors", if there are. */
void message_end(struct policy_messages *messages);

#endif
