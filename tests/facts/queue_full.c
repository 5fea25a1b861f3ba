/* A full queue of connections makes connect() wait, or fail with EAGAIN. ECONNREFUSED means: nobody listens.
 */
#include "facts.h"

#include <sys/time.h>

static struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "sock" };

static int new_socket(int flags)
{
    return MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
}

static int connect_to_server(int sock)
{
    return connect(sock, (const struct sockaddr *)&name, sizeof name);
}

int main(void)
{
    const struct timeval soon = { .tv_usec = 50000 };
    char byte;
    scratch_enter();
    int server = new_socket(0), first = new_socket(0), second = new_socket(0);
    EXPECT(connect_to_server(first) < 0 && errno == ENOENT, "no file: ENOENT");
    MUST(bind(server, (const struct sockaddr *)&name, sizeof name));
    EXPECT(connect_to_server(first) < 0 && errno == ECONNREFUSED, "bound but not listening: ECONNREFUSED");

    MUST(listen(server, 1));
    MUST(connect_to_server(first));
    MUST(connect_to_server(second)); /* listen(N) lets N + 1 wait */
    int third = new_socket(SOCK_NONBLOCK);
    EXPECT(connect_to_server(third) < 0 && errno == EAGAIN,
           "full, non-blocking: EAGAIN, and nothing is under way");
    int patient = new_socket(0);
    MUST(setsockopt(patient, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon));
    EXPECT(connect_to_server(patient) < 0 && errno == EAGAIN, "full: connect() waits, at most SO_SNDTIMEO");
    MUST(close(MUST(TEMP_FAILURE_RETRY(accept4(server, NULL, NULL, SOCK_CLOEXEC)))));
    EXPECT(connect_to_server(third) == 0, "after an accept() the same socket connects");

    MUST(close(server));
    EXPECT(connect_to_server(patient) < 0 && errno == ECONNREFUSED,
           "the server has gone, its file stays: refused");
    EXPECT(recv(third, &byte, 1, 0) < 0 && errno == ECONNRESET, "who was in the queue gets ECONNRESET");
    return 0;
}
