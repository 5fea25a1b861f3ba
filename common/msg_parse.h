/*
 * The parser of control messages alone, so that tests can feed it what no kernel sends. Not for use outside
 * msg.c.
 */
#ifndef FOB_COMMON_MSG_PARSE_H
#define FOB_COMMON_MSG_PARSE_H

#include <sys/socket.h>

#include "msg.h"

/*
 * Fills in->has_cred, cred, n_fds and fds (not len) from a header that recvmsg(2) filled. 0 or -EPROTO:
 * in->fds then holds all the same what arrived, the caller's to close. A pidfd (SCM_PIDFD) is closed, control
 * messages of other kinds are passed over: senders can make SCM_RIGHTS and SCM_CREDENTIALS alone, all others
 * are of a kernel that was asked for them.
 */
int msg_parse(const struct msghdr *header, struct msg_in *in);

#endif
