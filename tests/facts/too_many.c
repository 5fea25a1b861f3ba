/* Descriptors in flight are counted for a user, over all processes: over the limit sendmsg() says
 * ETOOMANYREFS. */
#include "facts.h"

enum { LIMIT = 64 };

/* How many are sent before the first that is not. */
static int send_until_refused(int sock, int fd)
{
    int sent = 0;
    while (sent <= LIMIT + 1 && send_fds(sock, "x", 1, &fd, 1) == 1)
        sent++;
    return sent;
}

static void limited_sender(void)
{
    struct rlimit limit;
    struct incoming in;
    int sock[2], another[2];
    char byte;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = LIMIT;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    become_somebody(); /* CAP_SYS_RESOURCE and CAP_SYS_ADMIN are exempt */
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, another));

    int sent = send_until_refused(sock[0], sock[0]);
    EXPECT(sent <= LIMIT + 1 && errno == ETOOMANYREFS, "no more in flight than RLIMIT_NOFILE of the sender");
    pid_t child = MUST(fork());
    if (child == 0) {
        EXPECT(send_fds(another[0], "x", 1, &sock[0], 1) < 0 && errno == ETOOMANYREFS,
               "nor may another process of this user, on another socket");
        _exit(0);
    }
    finish(child);
    while (receive(sock[1], &byte, 1, MSG_DONTWAIT, &in) == 1)
        close_fds(&in);
    EXPECT(send_fds(another[0], "x", 1, &sock[0], 1) == 1,
           "once the receiver took them, one can be sent again");
}

int main(void)
{
    pid_t child = MUST(fork());
    if (child == 0) {
        limited_sender();
        _exit(0);
    }
    finish(child);
    return 0;
}
