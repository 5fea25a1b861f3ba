/* One message carries up to 253 descriptors, in order; 254 are refused as a whole. */
#include "facts.h"

enum { HALF = 127 };

static void allow_descriptors(rlim_t n)
{
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    if (limit.rlim_max < n)
        skip("RLIMIT_NOFILE is too low for 253 descriptors and some more");
    if (limit.rlim_cur < n) {
        limit.rlim_cur = n;
        MUST(setrlimit(RLIMIT_NOFILE, &limit));
    }
}

/* Two SCM_RIGHTS of n descriptors in one message. */
static ssize_t send_two_arrays(int sock, const int *fds, size_t n)
{
    union {
        struct cmsghdr align;
        char bytes[2 * CMSG_SPACE(sizeof(int) * HALF)];
    } control;
    char byte = 'x';
    struct iovec data = { &byte, 1 };
    struct msghdr message = { .msg_iov = &data,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = 2 * CMSG_SPACE(n * sizeof *fds) };
    memset(&control, 0, sizeof control);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof *fds);
        memcpy(CMSG_DATA(c), fds, n * sizeof *fds);
    }
    return TEMP_FAILURE_RETRY(sendmsg(sock, &message, MSG_NOSIGNAL));
}

int main(void)
{
    int sock[2], pipes[2], fds[MOST_FDS + 1];
    char byte;
    struct incoming in;
    allow_descriptors(MOST_FDS + 64);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock));
    MUST(pipe2(pipes, O_CLOEXEC));
    for (int i = 0; i < MOST_FDS + 1; i++)
        fds[i] = pipes[0]; /* the same one may go several times */
    fds[100] = sock[0];
    fds[252] = pipes[1];

    EXPECT(send_fds(sock[0], "x", 1, fds, 253) == 1, "253 descriptors go in one message");
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && in.n_fds == 253, "and arrive together");
    EXPECT(same_file(in.fds[100], fds[100]) && same_file(in.fds[252], fds[252]), "in the order of the array");
    EXPECT(in.fds[0] != in.fds[1] && same_file(in.fds[0], in.fds[1]), "one sent twice gets two numbers");
    close_fds(&in);

    EXPECT(send_fds(sock[0], "x", 1, fds, 254) < 0 && errno == EINVAL, "254 are one too many");
    EXPECT(receive(sock[1], &byte, 1, MSG_DONTWAIT, &in) < 0 && errno == EAGAIN, "and nothing was sent");

    EXPECT(send_two_arrays(sock[0], fds, 2) == 1, "two arrays may go in one message");
    EXPECT(receive(sock[1], &byte, 1, 0, &in) == 1 && in.n_fds == 4, "and arrive as one");
    close_fds(&in);
    EXPECT(send_two_arrays(sock[0], fds, HALF) < 0 && errno == EINVAL, "the limit is that of both together");
    return 0;
}
