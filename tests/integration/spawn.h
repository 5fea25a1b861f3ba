/*
 * What the tests of a broker that its client starts share: started on a socketpair by a process of the
 * client's uid, with or without more rights, and watched to its end.
 *
 * All of it but stage_*() and client_begin() runs in clients (harness.h): a CHECK that fails ends them.
 */
#ifndef FOB_TESTS_SPAWN_H
#define FOB_TESTS_SPAWN_H

#include "stream_client.h"

#include <grp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum {
    PATIENCE_MS = 20000, /* for what has to happen, however slow the machine */
    AT_ONCE_MS = 1000,   /* from the client's end to the broker's (threats.md, 124) */
    CLIENT_SECONDS = 100,
};

/* ---- step by step with a client ---- */

struct stage {
    _Atomic int step;
    _Atomic int pid, status; /* what a client found */
};
static struct stage *stage;

static inline int stage_setup(void **state)
{
    (void)state;
    stage = mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return stage == MAP_FAILED ? -1 : 0;
}

static inline void stage_wait(int step)
{
    int64_t begin = now_us();
    while (stage->step < step && now_us() - begin < PATIENCE_MS * 1000)
        usleep(1000);
}

/* In the background; its pid is the client's own. */
static inline pid_t client_begin_as(const struct broker *b, uid_t uid, const gid_t *groups, size_t n,
                                    client_fn *fn, void *data)
{
    stage->step = stage->pid = stage->status = 0;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    struct client_env env = { b, data };
    if (setgroups(n, groups) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
        _exit(126);
    alarm(CLIENT_SECONDS);
    fn(&env);
    _exit(0);
}

static inline pid_t client_begin(const struct broker *b, uid_t uid, client_fn *fn, void *data)
{
    return client_begin_as(b, uid, NULL, 0, fn, data);
}

/* ---- files ---- */

/* text with the broker's directory for every `@`. */
static inline void write_with_dir(const struct broker *b, const char *path, const char *text, mode_t mode,
                                  uid_t uid)
{
    char *out = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&out, &len);
    assert_non_null(stream);
    for (; *text; text++) {
        if (*text == '@')
            fputs(b->dir, stream);
        else
            fputc(*text, stream);
    }
    assert_int_equal(fclose(stream), 0);
    file_write(path, out, mode, uid);
    free(out);
}

/* Of $BUILD. */
static inline void copy_program(const char *name, const char *to, mode_t mode)
{
    char from[512], bytes[64 << 10];
    const char *build = getenv("BUILD");
    snprintf(from, sizeof from, "%s/%s", build && *build ? build : "build", name);
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    assert_true(in >= 0 && out >= 0);
    ssize_t n;
    while ((n = read(in, bytes, sizeof bytes)) > 0)
        assert_int_equal(fd_write_all(out, bytes, (size_t)n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(fchmod(out, mode), 0);
    close(in);
    close(out);
}

/* ---- starting it ---- */

struct spawn {
    const char *path;        /* of the program */
    const char *const *argv; /* NULL: its name alone */
    const char *const *envp; /* NULL: nothing */
    int type;                /* of the pair */
    void (*prepare)(void *); /* in the child, last of all before execve(2); or NULL */
    void *data;              /* its argument */
};

struct spawned {
    pid_t pid;
    int sock; /* the client's end */
};

/* What it says goes to `said` in the broker's directory, which anybody may write. */
static inline void say_to_file(const struct broker *b)
{
    int out = open(at(b, "said"), O_WRONLY | O_APPEND | O_CLOEXEC);
    CHECK(out >= 0);
    CHECK_EQ(dup2(out, STDERR_FILENO), STDERR_FILENO);
}

static inline void said_reset(const struct broker *b)
{
    unlink(at(b, "said"));
    file_write(at(b, "said"), "", 0666, 0);
}

/* In a static buffer. */
static inline const char *said(const struct broker *b)
{
    static char text[64 << 10];
    return file_read(at(b, "said"), text, sizeof text) < 0 ? "" : text;
}

static inline bool says(const struct broker *b, const char *what)
{
    return strstr(said(b), what) != NULL;
}

static inline char **words(const char *const *list)
{
    return (char **)(uintptr_t)list;
}

/* In a child: becomes the program. */
static inline void spawn_exec(const struct spawn *how)
{
    const char *const none[] = { NULL }, *const name[] = { "fobd", NULL };
    if (how->prepare)
        how->prepare(how->data);
    execve(how->path, words(how->argv ? how->argv : name), words(how->envp ? how->envp : none));
    _exit(127);
}

/* With `sock` as descriptor 0 and, as csopen of APUE has it, 1. */
static inline pid_t spawn_on(const struct broker *b, const struct spawn *how, int sock)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid)
        return pid;
    say_to_file(b);
    CHECK_EQ(dup2(sock, STDIN_FILENO), STDIN_FILENO);
    CHECK_EQ(dup2(sock, STDOUT_FILENO), STDOUT_FILENO);
    spawn_exec(how);
    return -1;
}

static inline struct spawned spawn(const struct broker *b, const struct spawn *how)
{
    int pair[2];
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    CHECK_EQ(socketpair(AF_UNIX, how->type | SOCK_CLOEXEC, 0, pair), 0);
    struct spawned s = { spawn_on(b, how, pair[1]), patient(pair[0]) };
    close(pair[1]);
    return s;
}

/* ---- its end ---- */

/* Exit status, or 128 + signal; -1: it is still there. pid -1: any child, whose pid is stored. */
static inline int wait_child(pid_t *pid, int ms)
{
    int64_t begin = now_us();
    int status;
    for (;;) {
        pid_t got = waitpid(*pid, &status, WNOHANG);
        if (got > 0) {
            *pid = got;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        if (got < 0 || now_us() - begin > ms * 1000)
            return -1;
        usleep(500);
    }
}

static inline int status_at_end(pid_t pid)
{
    return wait_child(&pid, PATIENCE_MS);
}

/* Whatever it started has ended too: orphans are ours (PR_SET_CHILD_SUBREAPER). */
static inline void expect_no_children(void)
{
    int64_t begin = now_us();
    while (waitpid(-1, NULL, WNOHANG) >= 0) {
        CHECK(now_us() - begin < PATIENCE_MS * 1000);
        usleep(500);
    }
    CHECK_EQ(errno, ECHILD);
}

/* Closes the client's end: the exit status, when all its processes have ended. */
static inline int spawn_end(const struct spawned *s)
{
    close(s->sock);
    int status = status_at_end(s->pid);
    expect_no_children();
    return status;
}

/* ---- asking ---- */

static inline void send_request(enum protocol protocol, int sock, const char *path)
{
    uint8_t out[5000];
    put(sock, out, request_bytes(protocol, out, sizeof out, path));
}

/* The answer to an OPEN of one entry, on a stream or in a packet. -1: none came. */
static inline int receive_native(int sock, int *fd)
{
    uint8_t in[WIRE_HEADER_SIZE + WIRE_RESULT_SIZE];
    static struct msg_in message;
    struct wire_header header;
    struct wire_result result;
    *fd = -1;
    int got = msg_recv(sock, in, sizeof in, 0, &message);
    if (got == 0 || got == -ECONNRESET)
        return -1;
    CHECK_EQ(got, 1);
    CHECK_EQ(message.len, sizeof in);
    CHECK_EQ(wire_decode_header(in, sizeof in, &header), 0);
    CHECK_EQ(header.id, 42);
    CHECK_EQ(wire_decode_result(in + WIRE_HEADER_SIZE, WIRE_RESULT_SIZE, &result), 0);
    CHECK_EQ(message.n_fds, result.error == 0);
    *fd = message.n_fds ? message.fds[0] : -1;
    return result.error;
}

static inline int receive_reply(enum protocol protocol, int sock, int *fd)
{
    return protocol == APUE ? apue_receive(sock, fd) : receive_native(sock, fd);
}

static inline int ask(enum protocol protocol, int sock, const char *path, int *fd)
{
    send_request(protocol, sock, path);
    return receive_reply(protocol, sock, fd);
}

static inline void expect_error(int sock, const char *path, int error)
{
    int fd;
    CHECK_EQ(ask(NATIVE, sock, path, &fd), error);
    CHECK_EQ(fd, -1);
}

static inline void expect_content(enum protocol protocol, int sock, const char *path, const char *text)
{
    int fd;
    CHECK_EQ(ask(protocol, sock, path, &fd), 0);
    CHECK(fd_reads(fd, text));
    close(fd);
}

/* An OPEN with any flags: its bytes. */
static inline size_t encode_open(uint8_t *out, size_t size, const char *path, uint32_t flags, mode_t mode)
{
    size_t len = WIRE_HEADER_SIZE + wire_encode_entry(out + WIRE_HEADER_SIZE, size - WIRE_HEADER_SIZE, flags,
                                                      mode, path, strlen(path));
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, 1, 42 };
    CHECK_EQ(wire_encode_header(out, size, &header), WIRE_HEADER_SIZE);
    return len;
}

static inline int ask_native(int sock, const char *path, uint32_t flags, mode_t mode, int *fd)
{
    uint8_t out[5000];
    put(sock, out, encode_open(out, sizeof out, path, flags, mode));
    return receive_native(sock, fd);
}

/* It serves nobody: the connection ends without an answer, it with `status`, and nothing is left. */
static inline void expect_no_service(const struct broker *b, const struct spawn *how, int status)
{
    struct spawned s = spawn(b, how);
    uint8_t out[512];
    size_t len = native_open(out, sizeof out, 42, at(b, "pub/b"));
    ssize_t sent = send(s.sock, out, len, MSG_NOSIGNAL); /* it may have gone already */
    CHECK(sent == (ssize_t)len || errno == EPIPE || errno == ECONNRESET);
    CHECK(is_closed(s.sock));
    CHECK_EQ(spawn_end(&s), status);
}

#endif
