/*
 * floor SOCKET PROCESSES: the least that an open server can do: receive a path, open it, send the descriptor.
 * No policy, no identity, no audit, no confinement. One process blocks in recvmsg(2) for one client after the
 * other; several have an epoll loop each.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../../common/msg.h"
#include "../../common/sock.h"

static int serve_one(int client)
{
    char path[4096];
    ssize_t n = recv(client, path, sizeof path - 1, 0);
    if (n <= 0)
        return -1;
    path[n] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    msg_send(client, "", 1, &fd, fd >= 0, NULL, 0);
    close(fd);
    return 0;
}

static void block(int listener)
{
    for (;;) {
        int client = accept(listener, NULL, NULL);
        while (client >= 0 && serve_one(client) == 0)
            ;
        close(client);
    }
}

static void loop(int listener)
{
    int epoll = epoll_create1(0);
    struct epoll_event events[64], event = { .events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = listener };
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd,
                client = fd == listener ? accept4(listener, NULL, NULL, SOCK_NONBLOCK) : -1;
            event = (struct epoll_event){ .events = EPOLLIN, .data.fd = client };
            if (client >= 0)
                epoll_ctl(epoll, EPOLL_CTL_ADD, client, &event);
            else if (fd != listener && serve_one(fd) < 0)
                close(fd);
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_un address;
    int processes = argc == 3 ? atoi(argv[2]) : 0,
        length = processes > 0 ? sock_address(&address, argv[1]) : -1;
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | (processes > 1 ? SOCK_NONBLOCK : 0), 0);
    signal(SIGPIPE, SIG_IGN);
    if (length < 0 || bind(listener, (struct sockaddr *)&address, (socklen_t)length) < 0 ||
        listen(listener, 1024) < 0)
        return 1;
    for (int i = 1; i < processes; i++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            break;
        }
    if (processes > 1)
        loop(listener);
    block(listener);
}
