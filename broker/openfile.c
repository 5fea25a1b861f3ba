#include "openfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/msg.h"
#include "../common/util.h"
#include "../common/wire.h"

enum { CREATE_MODE = 0600 /* the form has none for what is created */ };

static int usage(const char *why)
{
    log_error("%s (usage: openfile SOCKFD PATH MODE: a connected AF_UNIX socket, an absolute path, open(2) "
              "flags as a "
              "decimal number)",
              why);
    return EINVAL;
}

int openfile_parse(struct openfile *request, int argc, char **argv)
{
    uint64_t sock, oflag;
    if (argc != 4)
        return usage("wrong number of arguments");
    if (parse_u64(argv[1], INT32_MAX, &sock) < 0)
        return usage("SOCKFD is no descriptor");
    if (parse_u64(argv[3], INT32_MAX, &oflag) < 0)
        return usage("MODE is no number");
    *request = (struct openfile){ (int)sock, argv[2], (int)oflag };
    return 0;
}

static bool is_unix_socket(int fd)
{
    int domain = -1;
    socklen_t len = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX;
}

int openfile_move_up(struct openfile *request)
{
    if (!is_unix_socket(request->sock))
        return usage("SOCKFD is no AF_UNIX socket");
    if (request->sock > STDERR_FILENO)
        return 0;
    CLEANUP(fd_cleanup) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int moved = fcntl(request->sock, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (null < 0 || moved < 0 || dup2(null, request->sock) < 0)
        return errno;
    request->sock = moved;
    return 0;
}

/* The bytes of the request, or 0: it cannot be said. */
static size_t encode(uint8_t *out, size_t size, const struct openfile *request)
{
    int64_t flags = wire_flags_from_open(request->oflag);
    struct wire_header header = { .type = WIRE_OPEN, .count = 1 };
    size_t entry = flags < 0 ? 0
                             : wire_encode_entry(out + WIRE_HEADER_SIZE, size - WIRE_HEADER_SIZE,
                                                 (uint32_t)flags, flags & WIRE_CREATE ? CREATE_MODE : 0,
                                                 request->path, strlen(request->path));
    header.length = (uint32_t)(WIRE_HEADER_SIZE + entry);
    return entry && wire_encode_header(out, size, &header) ? header.length : 0;
}

/* The descriptor, or a negative errno. */
static int receive(int broker)
{
    static uint8_t bytes[WIRE_MAX_MESSAGE];
    static struct msg_in in;
    struct wire_header header;
    struct wire_result result;
    int got = msg_recv(broker, bytes, sizeof bytes, 0, &in);
    if (got != 1)
        return got < 0 ? got : -ECONNRESET;
    bool sound = wire_decode_header(bytes, in.len, &header) == 0 && header.type == (WIRE_OPEN | WIRE_REPLY) &&
                 header.count == 1 &&
                 wire_decode_result(bytes + WIRE_HEADER_SIZE, in.len - WIRE_HEADER_SIZE, &result) == 0;
    if (sound && result.error == 0 && in.n_fds == 1)
        return in.fds[0];
    fd_close_many(in.fds, in.n_fds);
    return sound && result.error > 0 ? -result.error : -EPROTO;
}

static int ask(const struct openfile *request, int broker)
{
    static uint8_t bytes[WIRE_HEADER_SIZE + WIRE_ENTRY_SIZE + WIRE_MAX_PATH + 4];
    size_t len = encode(bytes, sizeof bytes, request);
    int err = len ? msg_send(broker, bytes, len, NULL, 0, NULL, 0) : -EINVAL;
    return err < 0 ? err : receive(broker);
}

int openfile_ask(const struct openfile *request, int broker)
{
    const uint8_t byte = 0;
    CLEANUP(fd_cleanup) int fd = ask(request, broker);
    int err = fd < 0 ? fd : msg_send(request->sock, &byte, sizeof byte, &fd, 1, NULL, 0);
    if (err < 0)
        log_error("%s: %s", request->path, strerror(-err));
    return -err;
}
