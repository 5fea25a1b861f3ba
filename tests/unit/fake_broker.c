#include "fake_broker.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/wire.h"

struct fake_broker *shared;
char fake_path[64];
pid_t fake_pid;
static char dir[] = "/tmp/fob-libfob.XXXXXX";

static size_t put_result(uint8_t *out, int error, uint32_t index)
{
    struct wire_result result = { error, 3, index };
    return wire_encode_result(out, WIRE_RESULT_SIZE, &result);
}

static int answer_open(int sock, enum behaviour behaviour, struct wire_header *header,
                       struct wire_reader *reader)
{
    static uint8_t out[WIRE_MAX_MESSAGE];
    int fds[MSG_MAX_FDS], null = open("/dev/null", O_RDWR | O_CLOEXEC);
    size_t len = WIRE_HEADER_SIZE, n = 0;
    struct wire_entry entry;
    while (wire_next_entry(reader, &entry) == 1) {
        bool refused = memmem(entry.path, entry.path_len, "no", 2);
        bool has_fd = !refused && header->type == WIRE_OPEN;
        len += put_result(out + len, refused ? EACCES : 0,
                          !has_fd                    ? WIRE_NO_FD
                          : behaviour == INDEX_TWICE ? 0
                                                     : (uint32_t)n);
        if (has_fd)
            fds[n++] = null;
    }
    header->type |= WIRE_REPLY;
    header->id += behaviour == WRONG_ID;
    header->length = (uint32_t)(behaviour == SHORT_REPLY ? len - 4 : len);
    wire_encode_header(out, sizeof out, header);
    int err = msg_send(sock, out, header->length, fds, behaviour == NO_DESCRIPTOR ? 0 : n, NULL, 0);
    close(null);
    return err;
}

static int answer_other(int sock, enum behaviour behaviour, struct wire_header *header)
{
    static uint8_t out[WIRE_MAX_MESSAGE];
    struct wire_hello hello = { WIRE_VERSION, WIRE_MAX_MESSAGE, WIRE_MAX_ENTRIES, 5 };
    size_t len = WIRE_HEADER_SIZE;
    if (header->type == WIRE_HELLO) {
        len += wire_encode_hello(out + len, sizeof out - len, &hello);
    } else {
        size_t text = behaviour == LONG_LIST ? sizeof out - len : 13;
        memset(out + len, 'x', text);
        memcpy(out + len, "read /srv/**\n", 13);
        len += text;
    }
    header->type |= WIRE_REPLY;
    header->length = (uint32_t)len;
    wire_encode_header(out, sizeof out, header);
    return msg_send(sock, out, len, NULL, 0, NULL, 0);
}

/* One request; false at the end. */
static bool serve(int sock, enum behaviour behaviour)
{
    static uint8_t in[WIRE_MAX_MESSAGE];
    struct wire_header header;
    struct wire_reader reader;
    size_t len;
    if (msg_recv_cred(sock, in, sizeof in, 0, &len, &shared->sender) != 1)
        return false;
    if (wire_decode_request(in, len, &header, &reader) < 0)
        abort();
    shared->requests++;
    shared->largest = header.count > shared->largest ? header.count : shared->largest;
    if (behaviour == CLOSE_AFTER || behaviour == CLOSE_ALWAYS ||
        (behaviour == CLOSE_AFTER_FEW && shared->requests > FEW))
        return false;
    if (behaviour == LATE)
        usleep(5000);
    if (header.type == WIRE_OPEN || header.type == WIRE_CHECK)
        return answer_open(sock, behaviour, &header, &reader) == 0;
    return answer_other(sock, behaviour, &header) == 0;
}

static void run_broker(int listener, enum behaviour behaviour)
{
    for (;;) {
        int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        bool once = behaviour == CLOSE_UNREAD || behaviour == CLOSE_AFTER || behaviour == CLOSE_AFTER_FEW ||
                    behaviour == CLOSE_BEFORE_ONE;
        shared->connections++;
        if (fork() == 0) {
            close(listener);
            while (behaviour != CLOSE_UNREAD && serve(sock, behaviour) &&
                   (behaviour != CLOSE_BEFORE_ONE || shared->requests < FEW))
                ;
            _exit(0);
        }
        close(sock);
        if (once)
            behaviour = HONEST;
    }
}

struct fob *fake_begin(enum behaviour behaviour)
{
    struct sockaddr_un address;
    int length = sock_address(&address, fake_path),
        listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    memset(shared, 0, sizeof *shared);
    unlink(fake_path);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, (socklen_t)length), 0);
    assert_int_equal(sock_set_receive_options(listener) | listen(listener, 64) | chmod(fake_path, 0666), 0);
    fake_pid = fork();
    if (fake_pid == 0) {
        signal(SIGCHLD, SIG_IGN);
        run_broker(listener, behaviour);
    }
    close(listener);
    struct fob *fob = fob_connect(fake_path);
    assert_non_null(fob);
    return fob;
}

void fake_finish(struct fob *fob)
{
    fob_close(fob);
    kill(fake_pid, SIGKILL);
    waitpid(fake_pid, NULL, 0);
}

int fake_setup(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!mkdtemp(dir) || chmod(dir, 0755) < 0)
        return -1;
    snprintf(fake_path, sizeof fake_path, "%s/sock", dir);
    return 0;
}

int fake_teardown(void **state)
{
    (void)state;
    unlink(fake_path);
    return rmdir(dir);
}
