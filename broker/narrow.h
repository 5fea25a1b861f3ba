/*
 * What narrows a subject (exe:, unit:, cgroup:, label:), found out for the request at hand.
 */
#ifndef FOB_BROKER_NARROW_H
#define FOB_BROKER_NARROW_H

#include <stdbool.h>

struct worker;
struct connection;

/*
 * Sets worker->subject to the connection's client, and, where `ask` and a rule may turn on it, to what the
 * policy needs to know of it. What cannot be known is NULL there. In a slow opener worker->identity was given
 * with the job.
 */
void narrow_subject(struct worker *worker, const struct connection *connection, bool ask);
/* Is it still the same program? Asked after the open: one that has executed another since gets nothing. */
bool narrow_is_same(struct worker *worker, const struct connection *connection);

#endif
