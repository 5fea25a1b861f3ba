/* Who may connect: to a pathname whoever may write the file; to an abstract name everybody. */
#include "facts.h"

static int connect_to(const struct sockaddr_un *name, socklen_t len)
{
    int sock = MUST(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    int result = connect(sock, (const struct sockaddr *)name, len);
    int error = errno;
    MUST(close(sock));
    errno = error;
    return result;
}

int main(void)
{
    const struct sockaddr_un path = { .sun_family = AF_UNIX, .sun_path = "sock" };
    struct sockaddr_un abstract;
    socklen_t abstract_len;
    scratch_enter();
    MUST(chmod(".", 0711)); /* so that others get to the socket, and it alone decides */
    int sock = MUST(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    MUST(bind(sock, (const struct sockaddr *)&path, sizeof path));
    MUST(listen(sock, 8));
    listen_somewhere(SOCK_SEQPACKET, &abstract, &abstract_len);

    MUST(chmod("sock",
               geteuid() == 0 ? 0644 : 0444)); /* not for the child, be it another user or we ourselves */
    pid_t child = MUST(fork());
    if (child == 0) {
        become_somebody();
        EXPECT(connect_to(&path, sizeof path) < 0 && errno == EACCES, "without write permission: EACCES");
        EXPECT(connect_to(&abstract, abstract_len) == 0, "an abstract name has no permissions");
        _exit(0);
    }
    finish(child);
    MUST(chmod("sock", 0222));
    child = MUST(fork());
    if (child == 0) {
        become_somebody();
        EXPECT(connect_to(&path, sizeof path) == 0, "write permission alone is enough");
        _exit(0);
    }
    finish(child);
    return 0;
}
