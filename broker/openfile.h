/*
 * The form of an open server that opens one file and ends: `openfile SOCKFD PATH MODE` sends the descriptor
 * over a socket that it inherited, with one byte of data, and its exit status is 0 or the errno (fobd(8)).
 */
#ifndef FOB_BROKER_OPENFILE_H
#define FOB_BROKER_OPENFILE_H

struct openfile {
    int sock; /* where the descriptor goes */
    const char *path;
    int oflag; /* of open(2) */
};

/* Takes `argv` apart: 0; EINVAL, said by log_error(). */
int openfile_parse(struct openfile *request, int argc, char **argv);
/* Is it a socket at all (EINVAL)? If it is one of the standard descriptors: another number for it, and
 * /dev/null in its place. 0 or a positive errno. */
int openfile_move_up(struct openfile *request);
/* With the caller's own rights: asks the broker on `broker` (a packet socket), and sends on what it gives. 0
 * or a positive errno, said by log_error(). */
int openfile_ask(const struct openfile *request, int broker);

#endif
