/*
 * A request's way: decode, decide, open, reply, audit.
 */
#ifndef FOB_BROKER_REQUEST_H
#define FOB_BROKER_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct worker;
struct connection;

/* Serves the message of len bytes in worker->in. 0; -ESTALE: another generation is to answer it, nothing was
 * done; -EINPROGRESS: a slow opener does it; another negative errno: the connection is to be closed. */
int request_serve(struct worker *worker, struct connection *connection, size_t len,
                  const struct ucred *sender);
/*
 * Answers every entry of the message with this error, whatever generation is announced: nothing is given. 0
 * or a negative errno, as above.
 */
int request_answer(struct worker *worker, struct connection *connection, const uint8_t *message, size_t len,
                   int error, const char *reason);
/*
 * A slow opener had its time: ETIMEDOUT for what is slow of the request, and its answer for the rest (or,
 * when something may have been left behind, ETIMEDOUT for all). As request_answer().
 */
int request_time_out(struct worker *worker, struct connection *connection, const uint8_t *message, size_t len,
                     const struct ucred *sender);
/* Its client is gone: nobody is answered, but the record is written. */
void request_abandon(struct worker *worker, struct connection *connection, const uint8_t *message,
                     size_t len);
/* May a request have left something behind in the file system, answered or not? */
bool request_has_effects(const uint8_t *message, size_t len);
/* Audits a message that could not even be decoded; its connection is to be closed. */
void request_malformed(struct worker *worker, struct connection *connection, int error);

#endif
