/*
 * opend SOCKET: an open server as Stevens and Rago have it in Advanced Programming in the UNIX Environment,
 * 3rd edition, chapter 17: one process, a poll(2) loop, `open PATH OFLAG` and a NUL, two bytes of status and
 * the descriptor. It checks nothing; written anew after the book's description, to stand beside fob.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"

enum { LINE = 4096, BLANKS_MAX = 3 };

static struct pollfd *polled;
static size_t n_polled, room;

static void watch(int fd)
{
    if (mem_grow(&polled, n_polled, &room, sizeof *polled) < 0)
        exit(1);
    polled[n_polled++] = (struct pollfd){ .fd = fd, .events = POLLIN };
}

/* Text, a zero, the errno: a status that is not 0. */
static int send_error(int client, const char *request, int error)
{
    char text[LINE + 64];
    int len = snprintf(text, LINE + 32, "can't open %.1000s: %s\n", request, strerror(error));
    text[len++] = '\0';
    text[len++] = (char)error;
    return msg_send(client, text, (size_t)len, NULL, 0, NULL, 0);
}

static int answer(int client, char *request)
{
    char *words[BLANKS_MAX] = { 0 }, *rest = NULL;
    int n = 0;
    for (char *word = strtok_r(request, " \t\n", &rest); word && n < BLANKS_MAX;
         word = strtok_r(NULL, " \t\n", &rest))
        words[n++] = word;
    if (n < 3 || strcmp(words[0], "open") != 0)
        return send_error(client, "?", EINVAL);
    int fd = open(words[1], atoi(words[2]) | O_CLOEXEC);
    if (fd < 0)
        return send_error(client, words[1], errno);
    int err = msg_send(client, "\0", 2, &fd, 1, NULL, 0);
    close(fd);
    return err;
}

/* As the book's: a request is taken to come whole. */
static int serve(int client)
{
    char request[LINE];
    ssize_t n = read(client, request, sizeof request);
    if (n <= 0 || request[n - 1] != '\0')
        return -1;
    return answer(client, request);
}

static void loop(int listener)
{
    watch(listener);
    for (;;) {
        if (poll(polled, n_polled, -1) < 0)
            return;
        if (polled[0].revents & POLLIN) {
            int client = accept(listener, NULL, NULL);
            if (client >= 0)
                watch(client);
        }
        for (size_t i = 1; i < n_polled; i++)
            if (polled[i].revents && serve(polled[i].fd) < 0) {
                close(polled[i].fd);
                polled[i--] = polled[--n_polled];
            }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_un address;
    int len = argc == 2 ? sock_address(&address, argv[1]) : -EINVAL;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    signal(SIGPIPE, SIG_IGN);
    if (len < 0 || bind(listener, (struct sockaddr *)&address, (socklen_t)len) < 0 ||
        listen(listener, 128) < 0) {
        fprintf(stderr, "opend: cannot listen: %s\n", strerror(errno));
        return 1;
    }
    loop(listener);
    return 1;
}
