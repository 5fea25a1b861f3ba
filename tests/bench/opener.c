/*
 * opener PATH: opens it and sends the descriptor over standard input, a socketpair's end: what a program
 * starts anew for each file in the oldest design, where the opener is set-user-ID.
 */
#include <fcntl.h>
#include <unistd.h>

#include "../../common/msg.h"

int main(int argc, char **argv)
{
    int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
    return fd < 0 || msg_send(STDIN_FILENO, "", 1, &fd, 1, NULL, 0) < 0;
}
