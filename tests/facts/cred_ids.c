/* Which ids: SO_PEERCRED has the effective ones at connect(), SCM_CREDENTIALS the real ones unless others are
 * stated. */
#include "facts.h"

enum { REAL = 2001, EFFECTIVE = 2002 };

static ssize_t send_stating(int sock, uid_t uid)
{
    const struct ucred cred = { getpid(), uid, getgid() };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    char byte = 'x';
    struct iovec data = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_CREDENTIALS;
    c->cmsg_len = CMSG_LEN(sizeof cred);
    memcpy(CMSG_DATA(c), &cred, sizeof cred);
    return TEMP_FAILURE_RETRY(sendmsg(sock, &message, MSG_NOSIGNAL));
}

/* Real and effective user differ, as in a set-user-ID program. */
static void client(const struct sockaddr_un *name, socklen_t len)
{
    MUST(setresuid(REAL, EFFECTIVE, EFFECTIVE));
    int sock = MUST(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    MUST(TEMP_FAILURE_RETRY(connect(sock, (const struct sockaddr *)name, len)));
    MUST(TEMP_FAILURE_RETRY(send(sock, "x", 1, MSG_NOSIGNAL)));
    EXPECT(send_stating(sock, EFFECTIVE) == 1, "the effective uid may be stated");
    MUST(setresuid(REAL, REAL, REAL));
    EXPECT(send_stating(sock, EFFECTIVE) < 0 && errno == EPERM, "not once it was given up");
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
    if (geteuid() != 0)
        skip("needs root, for a process of two users");
    int listener = listen_somewhere(SOCK_SEQPACKET, &name, &len);
    MUST(setsockopt(listener, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    pid_t child = MUST(fork());
    if (child == 0) {
        client(&name, len);
        _exit(0);
    }
    finish(child);
    int sock = MUST(TEMP_FAILURE_RETRY(accept4(listener, NULL, NULL, SOCK_CLOEXEC)));
    MUST(getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len));
    EXPECT(peer.uid == EFFECTIVE,
           "SO_PEERCRED: the effective uid at connect(), though it was given up since");
    EXPECT(receive(sock, &byte, 1, 0, &in) == 1 && in.has_cred, "a message that states nothing");
    EXPECT(in.cred.uid == REAL, "SCM_CREDENTIALS: the real uid");
    EXPECT(receive(sock, &byte, 1, 0, &in) == 1 && in.has_cred, "a message that states the effective uid");
    EXPECT(in.cred.uid == EFFECTIVE, "SCM_CREDENTIALS: what was stated");
    return 0;
}
