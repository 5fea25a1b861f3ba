/* sun_path has 108 bytes: what fits, what does not, and how to get at a longer path. */
#include "facts.h"

static const socklen_t path_at = offsetof(struct sockaddr_un, sun_path);

static int bind_to(const struct sockaddr_un *name, socklen_t len)
{
    int sock = MUST(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (bind(sock, (const struct sockaddr *)name, len) == 0)
        return sock;
    int error = errno;
    close(sock);
    errno = error;
    return -1;
}

/* A folder whose path alone is longer than sun_path. */
static void long_path(void)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    char folder[160];
    memset(folder, 'd', sizeof folder);
    folder[sizeof folder - 1] = '\0';
    MUST(mkdir(folder, 0700));
    int dir = MUST(open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC));
    int n = snprintf(name.sun_path, sizeof name.sun_path, "/proc/self/fd/%d/sock", dir);
    EXPECT(n > 0 && (size_t)n < sizeof name.sun_path, "a path through a descriptor of the folder is short");
    int sock = MUST(bind_to(&name, sizeof name));
    MUST(listen(sock, 1));
    int client = MUST(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    MUST(connect(client, (const struct sockaddr *)&name, sizeof name));
    MUST(unlinkat(dir, "sock", 0));
    MUST(close(sock));
    MUST(close(client));
    MUST(close(dir));
    MUST(rmdir(folder));
}

int main(void)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    char too_long[sizeof name + 1] = { 0 };
    union {
        struct sockaddr_un name;
        char bytes[sizeof name + 1];
    } got;
    socklen_t len = sizeof got;
    EXPECT(sizeof name.sun_path == 108, "sun_path has 108 bytes");
    scratch_enter();

    memset(name.sun_path, 'a', 107);
    MUST(close(MUST(bind_to(&name, sizeof name)))); /* 107 bytes and a NUL */
    memset(name.sun_path, 'b', 108);
    int sock = MUST(bind_to(&name, sizeof name)); /* 108 bytes: Linux needs no NUL */
    MUST(getsockname(sock, (struct sockaddr *)&got, &len));
    EXPECT(len == sizeof name + 1, "getsockname() adds one: a length beyond struct sockaddr_un");
    MUST(close(sock));

    memcpy(too_long, &name, sizeof name);
    too_long[sizeof name] = 'b';
    sock = MUST(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    EXPECT(bind(sock, (const struct sockaddr *)too_long, sizeof too_long) < 0 && errno == EINVAL,
           "109: EINVAL");
    EXPECT(connect(sock, (const struct sockaddr *)&name, path_at) < 0 && errno == EINVAL, "no name: EINVAL");
    long_path();
    return 0;
}
