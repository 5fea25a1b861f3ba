/* Three kinds of addresses, and the lengths by which getsockname() tells them apart. */
#include "facts.h"

static const socklen_t path_at = offsetof(struct sockaddr_un, sun_path);

static struct sockaddr_un name_of(int sock, socklen_t *len)
{
    struct sockaddr_un name;
    memset(&name, 0xff, sizeof name);
    *len = sizeof name;
    MUST(getsockname(sock, (struct sockaddr *)&name, len));
    EXPECT(name.sun_family == AF_UNIX, "the family is always there");
    return name;
}

static int new_socket(void)
{
    return MUST(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
}

static void pathname(void)
{
    const struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "sock" };
    struct stat st;
    socklen_t len;
    int sock = new_socket(), client = new_socket();
    MUST(bind(sock, (const struct sockaddr *)&name, sizeof name));
    struct sockaddr_un got = name_of(sock, &len);
    EXPECT(len == path_at + strlen("sock") + 1,
           "pathname: up to and with the final NUL, whatever bind() was given");
    EXPECT(memcmp(got.sun_path, "sock", 5) == 0, "pathname: as it was bound, even if relative");
    MUST(listen(sock, 1));
    MUST(connect(client, (const struct sockaddr *)&name, sizeof name));
    int server = MUST(TEMP_FAILURE_RETRY(accept4(sock, NULL, NULL, SOCK_CLOEXEC)));
    name_of(server, &len);
    EXPECT(len == path_at + strlen("sock") + 1, "an accepted socket has the name of the listening one");
    len = sizeof got;
    MUST(getpeername(server, (struct sockaddr *)&got, &len));
    EXPECT(len == path_at, "and its peer none: the client was not bound");

    MUST(close(sock));
    EXPECT(stat("sock", &st) == 0 && S_ISSOCK(st.st_mode), "pathname: the file stays when the socket closes");
    sock = new_socket();
    EXPECT(bind(sock, (const struct sockaddr *)&name, sizeof name) < 0 && errno == EADDRINUSE,
           "and is in the way");
    MUST(unlink("sock"));
    MUST(bind(sock, (const struct sockaddr *)&name, sizeof name));
}

static void abstract(void)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    socklen_t len;
    int written = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "fob-facts.%d", (int)getpid());
    const socklen_t exact = path_at + 1 + (socklen_t)MUST(written);
    int sock = new_socket(), other = new_socket();
    MUST(bind(sock, (const struct sockaddr *)&name, exact));
    struct sockaddr_un got = name_of(sock, &len);
    EXPECT(len == exact && got.sun_path[0] == '\0',
           "abstract: a NUL first, none last: the length ends the name");
    EXPECT(memcmp(got.sun_path, name.sun_path, len - path_at) == 0, "abstract: the name as it was bound");
    MUST(bind(other, (const struct sockaddr *)&name, sizeof name));
    name_of(other, &len);
    EXPECT(len == sizeof name, "abstract: with sizeof the NULs behind belong to it: another name");
    MUST(close(sock));
    sock = new_socket();
    MUST(bind(sock, (const struct sockaddr *)&name, exact)); /* abstract: the name has gone with the socket */
}

int main(void)
{
    int pair[2];
    socklen_t len;
    scratch_enter();
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    struct sockaddr_un got = name_of(pair[0], &len);
    EXPECT(len == path_at, "unnamed: the family alone");
    EXPECT(got.sun_path[0] == (char)0xff, "unnamed: sun_path is not written");
    name_of(new_socket(), &len);
    EXPECT(len == path_at, "a socket that was not bound has no name");
    pathname();
    abstract();
    return 0;
}
