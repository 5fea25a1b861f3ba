#include "clients.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "../../common/wire.h"
#include "measure.h"
#include "place.h"

/* ---- questions ---- */

int connected(const char *socket, int type)
{
    int sock = sock_connect(socket, type);
    if (sock < 0)
        die("%s: %s", socket, strerror(-sock));
    return sock;
}

static void *bytes_of(const void *bytes, size_t len)
{
    void *copy = malloc(len);
    if (!copy)
        die("no memory");
    return memcpy(copy, bytes, len);
}

struct question ask_fob(int sock, const char *path, unsigned n)
{
    static uint8_t out[WIRE_MAX_MESSAGE];
    size_t len = WIRE_HEADER_SIZE;
    for (unsigned i = 0; i < n; i++)
        len += wire_encode_entry(out + len, sizeof out - len, WIRE_READ, 0, path, strlen(path));
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, (uint16_t)n, 1 };
    wire_encode_header(out, sizeof out, &header);
    return (struct question){ .peer = "fob", .sock = sock, .n = n, .len = len, .bytes = bytes_of(out, len) };
}

struct question ask_floor(int sock, const char *path)
{
    size_t len = strlen(path);
    return (struct question){
        .peer = "the floor", .sock = sock, .n = 1, .len = len, .bytes = bytes_of(path, len)
    };
}

struct question ask_apue(int sock, const char *path)
{
    char text[4200];
    size_t len = (size_t)snprintf(text, sizeof text, "open %s %d", path, O_RDONLY) + 1;
    return (
        struct question){ .peer = "opend", .sock = sock, .n = 1, .len = len, .bytes = bytes_of(text, len) };
}

/* ---- asking ---- */

static int receive(const struct question *q, int sock, void *reply, size_t size, struct msg_in *in)
{
    double end = q->spin_us ? now_us() + q->spin_us : 0;
    while (q->spin_us && now_us() < end) {
        int got = msg_recv(sock, reply, size, MSG_DONTWAIT, in);
        if (got != -EAGAIN)
            return got;
    }
    return msg_recv(sock, reply, size, 0, in);
}

static void ask_by(const struct question *q, int sock)
{
    static struct msg_in in;
    static uint8_t reply[WIRE_MAX_RESULTS_MESSAGE];
    int err;
    if (q->cred)
        err = msg_send(sock, q->bytes, q->len, NULL, 0, q->cred, 0);
    else
        err = send(sock, q->bytes, q->len, MSG_NOSIGNAL) < 0 ? -errno : 0;
    if (err < 0 || receive(q, sock, reply, sizeof reply, &in) != 1 || in.n_fds != q->n)
        die("%s does not answer, or refuses", q->peer);
    for (unsigned i = 0; i < q->n; i++)
        close(in.fds[i]);
}

void run_question(const void *question)
{
    const struct question *q = question;
    ask_by(q, q->sock);
}

void run_visit(const void *visit)
{
    const struct visit *v = visit;
    int sock = connected(v->socket, SOCK_SEQPACKET);
    ask_by(&v->question, sock);
    close(sock);
}

struct library library_ask(const char *socket, const char *path)
{
    struct library library = { fob_connect(socket), path };
    if (!library.fob)
        die("fob_connect: %s", strerror(errno));
    return library;
}

void run_library(const void *library)
{
    const struct library *l = library;
    int fd = fob_open(l->fob, l->path, O_RDONLY, 0);
    if (fd < 0)
        die("fob_open: %s", strerror(errno));
    close(fd);
}

void run_open(const void *path)
{
    close(open(path, O_RDONLY | O_CLOEXEC));
}

/* ---- processes ---- */

void become(uid_t uid)
{
    if (uid && (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0))
        die("a client cannot become uid %u: %s", (unsigned)uid, strerror(errno));
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of uid takes it back */
}

void as_user(uid_t uid, int cpu, void fn(const void *data), const void *data)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid == 0) {
        pin(cpu);
        become(uid);
        fn(data);
        fflush(NULL);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        die("a client failed");
}
