#include "busy_poll.h"

#include <sched.h>

#include "../common/util.h"

static bool has_one_cpu(void)
{
    cpu_set_t set;
    int err = sched_getaffinity(0, sizeof set, &set); /* EINVAL: more of them than a set holds */
    return err == 0 && CPU_COUNT(&set) == 1;
}

void busy_poll_init(struct busy_poll *poll, unsigned microseconds)
{
    *poll = (struct busy_poll){ .microseconds = microseconds && !has_one_cpu() ? microseconds : 0 };
}

bool busy_poll_begins(struct busy_poll *poll)
{
    if (poll->microseconds && !poll->pause)
        return true;
    poll->pause -= poll->pause > 0;
    return false;
}

void busy_poll_learn(struct busy_poll *poll, bool hit)
{
    unsigned longer = poll->last_pause ? 2 * poll->last_pause : 1;
    poll->last_pause = hit ? 0 : longer < BUSY_POLL_PAUSE_MAX ? longer : BUSY_POLL_PAUSE_MAX;
    poll->pause = poll->last_pause;
}

/*
 * What is there at once would have been there for who sleeps, too: nothing is learnt from it.
 *
 * No sched_yield(2) in between, which who spins might owe to the others on its core. Without anybody there it
 * gains nothing; beside a process that computes, half of all requests waited 4 ms for the core to come back,
 * not 13 us; and it hides from busy_poll_learn() that a client shares the core (71 us, not 20).
 */
static int spin(struct busy_poll *poll, int epoll, struct epoll_event *events, int max)
{
    int n = epoll_wait(epoll, events, max, 0);
    if (n != 0)
        return n;
    const int64_t end = clock_us() + poll->microseconds;
    do
        n = epoll_wait(epoll, events, max, 0);
    while (n == 0 && clock_us() < end);
    busy_poll_learn(poll, n != 0);
    return n;
}

int busy_poll_wait(struct busy_poll *poll, int epoll, struct epoll_event *events, int max, int timeout_ms)
{
    int n = timeout_ms != 0 && busy_poll_begins(poll) ? spin(poll, epoll, events, max) : 0;
    return n != 0 ? n : epoll_wait(epoll, events, max, timeout_ms);
}
