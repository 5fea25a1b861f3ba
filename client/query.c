/*
 * Questions that open nothing: fob_list(), fob_hello(), fob_server(); and fob_send_fds(), fob_recv_fds(),
 * which need no broker.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../common/util.h"
#include "connection.h"

/* An empty request of that type. 0: the reply's body is in fob->in, *len bytes of it. Called locked. */
static int ask(struct fob *fob, enum wire_type type, size_t *len)
{
    struct wire_header header = { WIRE_HEADER_SIZE, (uint16_t)type, 0, 0 };
    int err = connection_exchange(fob, &header, true);
    if (err < 0)
        return err;
    fd_close_many(fob->message.fds, fob->message.n_fds); /* none belong to these replies */
    *len = header.length - WIRE_HEADER_SIZE;
    return 0;
}

char *fob_list(struct fob *fob)
{
    size_t len = 0;
    char *text = NULL;
    connection_lock(fob);
    int err = ask(fob, WIRE_LIST, &len);
    if (err == 0) {
        text = strndup((const char *)fob->in + WIRE_HEADER_SIZE, len);
        err = text ? 0 : -ENOMEM;
    }
    connection_unlock(fob);
    connection_result(err);
    return text;
}

int fob_hello(struct fob *fob, struct fob_info *info)
{
    size_t len = 0;
    struct wire_hello hello;
    connection_lock(fob);
    int err = ask(fob, WIRE_HELLO, &len);
    if (err == 0)
        err = wire_decode_hello(fob->in + WIRE_HEADER_SIZE, len, &hello);
    connection_unlock(fob);
    if (err == 0)
        *info = (struct fob_info){ hello.version, hello.max_message, hello.max_entries, hello.generation };
    return connection_result(err);
}

int fob_server(struct fob *fob, struct ucred *server)
{
    socklen_t size = sizeof *server;
    connection_lock(fob);
    int err = connection_need(fob);
    if (err == 0 && getsockopt(fob->sock, SOL_SOCKET, SO_PEERCRED, server, &size) < 0)
        err = -errno;
    connection_unlock(fob);
    return connection_result(err);
}

/* ---- descriptors over any socket ---- */

int fob_send_fds(int sock, const void *data, size_t len, const int *fds, size_t n_fds,
                 const struct ucred *cred)
{
    return connection_result(msg_send(sock, data, len, fds, n_fds, cred, 0));
}

int fob_recv_fds(int sock, void *data, size_t *len, int *fds, size_t *n_fds, struct ucred *cred)
{
    struct msg_in in;
    int got = msg_recv(sock, data, *len, 0, &in);
    if (got <= 0)
        return connection_result(got);
    if (in.n_fds > *n_fds) {
        fd_close_many(in.fds, in.n_fds);
        return connection_result(-EMSGSIZE);
    }
    if (in.n_fds)
        memcpy(fds, in.fds, in.n_fds * sizeof *fds);
    *n_fds = in.n_fds;
    *len = in.len;
    if (cred)
        *cred = in.has_cred ? in.cred : (struct ucred){ 0, (uid_t)-1, (gid_t)-1 };
    return 1;
}
