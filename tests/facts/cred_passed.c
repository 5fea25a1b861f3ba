/* A connection that is passed on: SO_PEERCRED still names who made it, whoever uses it. */
#include "facts.h"

/* Gets a connection from elsewhere, and uses it; as an ordinary user where root made it. */
static void user(int from)
{
    struct incoming in;
    char byte;
    EXPECT(receive(from, &byte, 1, 0, &in) == 1 && in.n_fds == 1, "the connection arrives");
    become_somebody();
    const struct ucred me = { getpid(), getuid(), getgid() };
    EXPECT(TEMP_FAILURE_RETRY(send(in.fds[0], &me, sizeof me, MSG_NOSIGNAL)) == sizeof me, "and can be used");
}

static void maker(const struct sockaddr_un *name, socklen_t len, int to)
{
    int sock = MUST(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    MUST(TEMP_FAILURE_RETRY(connect(sock, (const struct sockaddr *)name, len)));
    EXPECT(send_fds(to, "x", 1, &sock, 1) == 1, "the connection is passed on");
}

int main(void)
{
    const int on = 1;
    struct sockaddr_un name;
    socklen_t len;
    struct incoming in;
    struct ucred said, peer;
    socklen_t peer_len = sizeof peer;
    int between[2];
    int listener = listen_somewhere(SOCK_SEQPACKET, &name, &len);
    MUST(setsockopt(listener, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, between));
    pid_t using = MUST(fork());
    if (using == 0) {
        user(between[0]);
        _exit(0);
    }
    pid_t making = MUST(fork());
    if (making == 0) {
        maker(&name, len, between[1]);
        _exit(0);
    }
    finish(making);
    finish(using);
    int sock = MUST(TEMP_FAILURE_RETRY(accept4(listener, NULL, NULL, SOCK_CLOEXEC)));
    EXPECT(receive(sock, &said, sizeof said, 0, &in) == sizeof said && in.has_cred, "a message arrives");
    MUST(getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len));
    EXPECT(said.pid == using && in.cred.pid == using, "SCM_CREDENTIALS: who sent it");
    EXPECT(in.cred.uid == said.uid && in.cred.gid == said.gid, "with its uid and gid");
    EXPECT(peer.pid == making && peer.uid == getuid(), "SO_PEERCRED: who connected");
    return 0;
}
