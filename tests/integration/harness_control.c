#include "harness.h"

#include "../../common/sock.h"
#include "../../common/util.h"

static size_t words_len(const char *words)
{
    const char *end = words;
    while (*end)
        end += strlen(end) + 1;
    return (size_t)(end - words);
}

int broker_control(const struct broker *broker, const char *words, char *out, size_t size)
{
    static char packet[40000];
    char path[DIR_MAX + 32];
    ssize_t got;
    size_t len = 0;
    int status = -1;
    snprintf(path, sizeof path, "%s.control", broker->socket);
    int sock = sock_connect(path, SOCK_SEQPACKET);
    if (sock < 0 || send(sock, words, words_len(words), MSG_NOSIGNAL) < 0) {
        fd_close(sock);
        return -1;
    }
    while (status < 0 && (got = recv(sock, packet, sizeof packet - 1, 0)) > 0) {
        packet[got] = '\0';
        if (*packet == 'x')
            status = atoi(packet + 1);
        else if (len + (size_t)got < size) {
            memcpy(out + len, packet + 1, (size_t)got - 1);
            len += (size_t)got - 1;
        }
    }
    if (size)
        out[len] = '\0';
    close(sock);
    return status;
}
