/* Credentials come to a receiver that had set SO_PASSCRED before the message was sent; the sender need do
 * nothing. */
#include "facts.h"

static void pass_credentials(int sock)
{
    const int on = 1;
    MUST(setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
}

static bool is_me(const struct incoming *in)
{
    return in->has_cred && in->cred.pid == getpid() && in->cred.uid == getuid() && in->cred.gid == getgid();
}

/* As a server has it: the option is set on the listening socket. */
static void inherited(void)
{
    struct sockaddr_un name;
    socklen_t len;
    struct incoming in;
    char byte;
    int listener = listen_somewhere(SOCK_SEQPACKET, &name, &len);
    pass_credentials(listener);
    int client = MUST(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    MUST(connect(client, (const struct sockaddr *)&name, len));
    MUST(TEMP_FAILURE_RETRY(send(client, "x", 1, MSG_NOSIGNAL)));
    int server = MUST(TEMP_FAILURE_RETRY(accept4(listener, NULL, NULL, SOCK_CLOEXEC)));
    EXPECT(receive(server, &byte, 1, 0, &in) == 1 && is_me(&in),
           "set on the listening socket it holds for what is sent before accept()");
}

int main(void)
{
    int sock[2];
    char byte;
    struct incoming in;
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));

    EXPECT(send_fds(sock[0], "x", 1, &sock[0], 1) == 1, "a descriptor is sent");
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && in.n_fds == 1, "without the option it arrives");
    EXPECT(!in.has_cred, "and no credentials do");
    close_fds(&in);

    MUST(TEMP_FAILURE_RETRY(send(sock[0], "x", 1, MSG_NOSIGNAL)));
    pass_credentials(sock[1]);
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && in.has_cred, "set after the message was sent");
    EXPECT(in.cred.pid == 0, "it brings credentials of nobody: pid 0");

    MUST(TEMP_FAILURE_RETRY(send(sock[0], "x", 1, MSG_NOSIGNAL)));
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && is_me(&in),
           "set in time: of the sender, with a plain send()");
    inherited();
    return 0;
}
