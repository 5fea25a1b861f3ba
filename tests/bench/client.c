/*
 * The client that measures. Both protocols by the same hand, common/msg.h, so that what differs is the
 * server.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "../../common/wire.h"
#include "bench.h"

enum { REQUEST_ID = 0x626e6368 };

/* ---- asking ---- */

static void turn_direct(const struct client *client)
{
    for (unsigned i = 0; i < client->batch; i++) {
        int fd = open(client->way.path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            die("%s: %s", client->way.path, strerror(errno));
        close(fd);
    }
}

/* One message there, one back; dies unless exactly n descriptors came. They are closed. Returns the length.
 */
static size_t exchange(const struct client *client, const void *out, size_t out_len, void *in, size_t in_size,
                       size_t n)
{
    struct msg_in reply;
    int err = msg_send(client->sock, out, out_len, NULL, 0, NULL, 0);
    if (err == 0)
        err = msg_recv(client->sock, in, in_size, 0, &reply);
    if (err <= 0)
        die("%s: %s", client->way.name, err ? strerror(-err) : "closed the connection");
    for (size_t i = 0; i < reply.n_fds; i++)
        close(reply.fds[i]);
    if (reply.n_fds != n)
        die("%s: %zu descriptors came instead of %zu (first bytes of the answer: %#x)", client->way.name,
            reply.n_fds, n, *(const unsigned char *)in);
    return reply.len;
}

static void turn_floor(const struct client *client)
{
    uint8_t status;
    for (unsigned i = 0; i < client->batch; i++)
        exchange(client, client->way.path, strlen(client->way.path), &status, 1, 1);
}

static void check_results(const struct client *client, const uint8_t *reply, size_t len)
{
    struct wire_header header;
    struct wire_result result;
    if (wire_decode_header(reply, len, &header) < 0 || header.type != (WIRE_OPEN | WIRE_REPLY) ||
        header.id != REQUEST_ID || header.count != client->batch)
        die("%s: the answer is not one to the question", client->way.name);
    for (size_t at = WIRE_HEADER_SIZE; at < len; at += WIRE_RESULT_SIZE)
        if (wire_decode_result(reply + at, len - at, &result) < 0 || result.error)
            die("%s: %s: %s", client->way.name, client->way.path, strerror(result.error));
}

static void turn_fob(const struct client *client)
{
    uint8_t reply[WIRE_MAX_RESULTS_MESSAGE];
    size_t len = exchange(client, client->request, client->request_len, reply, sizeof reply, client->batch);
    check_results(client, reply, len);
}

void client_turn(struct client *client)
{
    switch (client->way.protocol) {
    case PROTOCOL_DIRECT:
        turn_direct(client);
        break;
    case PROTOCOL_FLOOR:
        turn_floor(client);
        break;
    case PROTOCOL_FOB:
        turn_fob(client);
        break;
    }
}

/* ---- connecting ---- */

void client_connect(struct client *client)
{
    if (client->way.protocol == PROTOCOL_DIRECT)
        return;
    client->sock = sock_connect(client->way.socket, SOCK_SEQPACKET);
    if (client->sock < 0)
        die("%s: cannot connect to %s: %s", client->way.name, client->way.socket, strerror(-client->sock));
}

void client_disconnect(struct client *client)
{
    client->sock = fd_close(client->sock);
}

static void encode_request(struct client *client)
{
    size_t path_len = strlen(client->way.path);
    size_t size = WIRE_HEADER_SIZE + client->batch * (WIRE_ENTRY_SIZE + path_len + 4), at = WIRE_HEADER_SIZE;
    client->request = mem_zalloc(1, size);
    if (!client->request)
        die("out of memory");
    for (unsigned i = 0; i < client->batch; i++)
        at += wire_encode_entry(client->request + at, size - at, WIRE_READ, 0, client->way.path, path_len);
    struct wire_header header = { (uint32_t)at, WIRE_OPEN, (uint16_t)client->batch, REQUEST_ID };
    if (!wire_encode_header(client->request, size, &header))
        die("a request of %u times %s cannot be encoded", client->batch, client->way.path);
    client->request_len = at;
}

void client_init(struct client *client, const struct way *way, unsigned batch)
{
    *client = (struct client){ .way = *way, .batch = batch, .sock = -1 };
    if (way->protocol == PROTOCOL_FOB)
        encode_request(client);
    client_connect(client);
}

void client_deinit(struct client *client)
{
    client_disconnect(client);
    free(client->request);
}

bool client_hello(const char *socket)
{
    uint8_t request[WIRE_HEADER_SIZE], reply[WIRE_HEADER_SIZE + WIRE_HELLO_SIZE];
    struct msg_in in;
    struct wire_header header = { WIRE_HEADER_SIZE, WIRE_HELLO, 0, REQUEST_ID };
    CLEANUP(fd_cleanup) int sock = sock_connect(socket, SOCK_SEQPACKET);
    if (sock < 0)
        return false;
    wire_encode_header(request, sizeof request, &header);
    if (msg_send(sock, request, sizeof request, NULL, 0, NULL, 0) < 0 ||
        msg_recv(sock, reply, sizeof reply, 0, &in) != 1)
        return false;
    fd_close_many(in.fds, in.n_fds);
    return wire_decode_header(reply, in.len, &header) == 0 && header.type == (WIRE_HELLO | WIRE_REPLY);
}
