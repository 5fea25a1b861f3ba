/* Datagrams: who has no name cannot be answered; the kernel gives one for the asking. */
#include "facts.h"

#include <ctype.h>

static const socklen_t path_at = offsetof(struct sockaddr_un, sun_path);
static const sa_family_t unnamed = AF_UNIX;

struct sender {
    struct sockaddr_un name;
    socklen_t len;
};

static int new_socket(void)
{
    return MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

static struct sender ask(int client, int server, const struct sender *to)
{
    struct sender from = { .len = sizeof from.name };
    char byte;
    MUST(TEMP_FAILURE_RETRY(
        sendto(client, "?", 1, MSG_NOSIGNAL, (const struct sockaddr *)&to->name, to->len)));
    MUST(TEMP_FAILURE_RETRY(recvfrom(server, &byte, 1, 0, (struct sockaddr *)&from.name, &from.len)));
    return from;
}

static ssize_t answer(int server, const struct sender *to)
{
    return TEMP_FAILURE_RETRY(
        sendto(server, "!", 1, MSG_NOSIGNAL, (const struct sockaddr *)&to->name, to->len));
}

static bool is_autobound(const struct sender *name)
{
    if (name->len != path_at + 6 || name->name.sun_path[0] != '\0')
        return false;
    for (int i = 1; i < 6; i++)
        if (!isxdigit((unsigned char)name->name.sun_path[i]))
            return false;
    return true;
}

int main(void)
{
    const int on = 1;
    struct sender server_name = { .len = sizeof server_name.name };
    int server = new_socket(), client = new_socket();
    MUST(bind(server, (const struct sockaddr *)&unnamed, sizeof unnamed)); /* the family alone: autobind */
    MUST(getsockname(server, (struct sockaddr *)&server_name.name, &server_name.len));
    EXPECT(is_autobound(&server_name), "the kernel's name is abstract: a NUL and five hexadecimal digits");

    struct sender from = ask(client, server, &server_name);
    EXPECT(from.len == 0, "a sender that was not bound has no address at all");
    EXPECT(answer(server, &from) < 0 && errno == ENOTCONN, "and cannot be answered");

    MUST(bind(client, (const struct sockaddr *)&unnamed, sizeof unnamed));
    from = ask(client, server, &server_name);
    EXPECT(is_autobound(&from) && answer(server, &from) == 1, "bound, it can");

    int other = new_socket();
    MUST(setsockopt(other, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    from = ask(other, server, &server_name);
    EXPECT(is_autobound(&from), "with SO_PASSCRED a socket is bound when it first sends");
    MUST(close(other));
    EXPECT(answer(server, &from) < 0 && errno == ECONNREFUSED, "a sender that has gone: ECONNREFUSED");
    return 0;
}
