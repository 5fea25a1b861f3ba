/* After exec(): another program has the connection, and the credentials are the same. They name no program.
 */
#include "facts.h"

/* Connects, and becomes a shell, which sends a byte. */
static void client(const struct sockaddr_un *name, socklen_t len)
{
    int sock = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MUST(TEMP_FAILURE_RETRY(connect(sock, (const struct sockaddr *)name, len)));
    MUST(dup2(sock, STDOUT_FILENO)); /* without FD_CLOEXEC */
    execl("/bin/sh", "sh", "-c", "printf x", (char *)NULL);
    MUST(-1);
}

int main(void)
{
    const int on = 1;
    struct sockaddr_un name;
    socklen_t len;
    struct incoming in;
    struct ucred peer;
    socklen_t peer_len = sizeof peer;
    char byte;
    int listener = listen_somewhere(SOCK_STREAM, &name, &len);
    MUST(setsockopt(listener, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    pid_t child = MUST(fork());
    if (child == 0)
        client(&name, len);
    int sock = MUST(TEMP_FAILURE_RETRY(accept4(listener, NULL, NULL, SOCK_CLOEXEC)));
    EXPECT(receive(sock, &byte, 1, 0, &in) == 1 && byte == 'x' && in.has_cred, "the shell's byte arrives");
    MUST(getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len));
    EXPECT(peer.pid == child && in.cred.pid == child, "the pid is the same before and after");
    EXPECT(peer.uid == in.cred.uid && peer.gid == in.cred.gid, "so are uid and gid");
    finish(child);
    return 0;
}
