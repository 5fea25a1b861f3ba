/* The sender's arithmetic: CMSG_SPACE for the buffer and its length, CMSG_LEN for each message in it. */
#include "facts.h"

enum { BOTH = CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int)) };

union control {
    struct cmsghdr align;
    char bytes[BOTH + CMSG_SPACE(sizeof(int))];
};

static void put(struct cmsghdr *c, int type, const void *what, size_t len)
{
    EXPECT(c != NULL, "there is room for it");
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), what, len);
}

/* Descriptor 0 and credentials; then the lengths, of all and of the first, as the caller wants them. */
static ssize_t send_with(int sock, size_t total, size_t rights_len)
{
    const struct ucred me = { getpid(), getuid(), getgid() };
    const int fd = 0;
    union control control;
    char byte = 'x';
    struct iovec data = { &byte, 1 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control };
    memset(&control, 0, sizeof control);
    message.msg_controllen = sizeof control;
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    put(c, SCM_RIGHTS, &fd, sizeof fd);
    put(CMSG_NXTHDR(&message, c), SCM_CREDENTIALS, &me, sizeof me);
    c->cmsg_len = rights_len;
    message.msg_controllen = total;
    return TEMP_FAILURE_RETRY(sendmsg(sock, &message, MSG_NOSIGNAL));
}

/* CMSG_NXTHDR goes by what is there: the length of the message before, and the total. */
static void next_needs_lengths(void)
{
    const int fd = 0;
    union control control;
    struct msghdr message = { .msg_control = &control, .msg_controllen = BOTH };
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    EXPECT(CMSG_NXTHDR(&message, c) == NULL, "before the first has its length there is no next");
    put(c, SCM_RIGHTS, &fd, sizeof fd);
    EXPECT(CMSG_NXTHDR(&message, c) != NULL, "then there is");
    message.msg_controllen = CMSG_SPACE(sizeof fd);
    EXPECT(CMSG_NXTHDR(&message, c) == NULL, "but not with a total for the first alone");
}

int main(void)
{
    int sock[2];
    char byte;
    struct incoming in;
    if (sizeof(size_t) == 4)
        skip("control messages have no padding on a 32-bit machine");
    if (fcntl(0, F_GETFD) < 0)
        EXPECT(MUST(open("/dev/null", O_RDWR)) == 0, "descriptor 0 is open");
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    next_needs_lengths();

    EXPECT(send_with(sock[0], BOTH, CMSG_LEN(sizeof(int))) == 1, "as it should be");
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && in.n_fds == 1, "one descriptor arrives");
    close_fds(&in);

    size_t sum = CMSG_LEN(sizeof(struct ucred)) + CMSG_LEN(sizeof(int));
    EXPECT(send_with(sock[0], sum, CMSG_LEN(sizeof(int))) < 0 && errno == EINVAL,
           "a msg_controllen that is the sum of CMSG_LENs: EINVAL");
    EXPECT(send_with(sock[0], sizeof(union control), CMSG_LEN(sizeof(int))) < 0 && errno == EINVAL,
           "one with room for a third that is not there: EINVAL");

    EXPECT(send_with(sock[0], BOTH, CMSG_SPACE(sizeof(int))) == 1, "a cmsg_len by CMSG_SPACE is no error");
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && in.n_fds == 2, "but two arrive");
    EXPECT(same_file(in.fds[1], 0), "the padding's zero was taken for descriptor 0");
    close_fds(&in);
    return 0;
}
