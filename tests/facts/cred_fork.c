/* After fork(): SO_PEERCRED names who connected, SCM_CREDENTIALS who sent. */
#include "facts.h"

static void send_own_pid(int sock)
{
    pid_t me = getpid();
    EXPECT(TEMP_FAILURE_RETRY(send(sock, &me, sizeof me, MSG_NOSIGNAL)) == sizeof me, "a message is sent");
}

/* Connects, and lets a child send over the connection. */
static void client(const struct sockaddr_un *name, socklen_t len)
{
    int sock = MUST(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    MUST(TEMP_FAILURE_RETRY(connect(sock, (const struct sockaddr *)name, len)));
    send_own_pid(sock);
    pid_t child = MUST(fork());
    if (child == 0) {
        send_own_pid(sock);
        _exit(0);
    }
    finish(child);
}

static pid_t peer_of(int sock)
{
    struct ucred cred;
    socklen_t len = sizeof cred;
    MUST(getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len));
    return cred.pid;
}

int main(void)
{
    const int on = 1;
    struct sockaddr_un name;
    socklen_t len;
    struct incoming in;
    pid_t sender;
    int listener = listen_somewhere(SOCK_SEQPACKET, &name, &len);
    MUST(setsockopt(listener, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    pid_t child = MUST(fork());
    if (child == 0) {
        client(&name, len);
        _exit(0);
    }
    int sock = MUST(TEMP_FAILURE_RETRY(accept4(listener, NULL, NULL, SOCK_CLOEXEC)));

    EXPECT(receive(sock, &sender, sizeof sender, 0, &in) == sizeof sender && in.has_cred,
           "the first message");
    EXPECT(sender == child && in.cred.pid == child && peer_of(sock) == child,
           "who connected sent it: both agree");

    EXPECT(receive(sock, &sender, sizeof sender, 0, &in) == sizeof sender && in.has_cred, "the second");
    EXPECT(sender != child && in.cred.pid == sender, "SCM_CREDENTIALS names the child that sent it");
    EXPECT(peer_of(sock) == child, "SO_PEERCRED goes on naming who connected");
    finish(child);
    EXPECT(peer_of(sock) == child, "even when that process has gone, and its pid may be given to another");
    return 0;
}
