#include "subject_program.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../../common/compat.h"
#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"

enum { PATIENCE_S = 30, PATH_SIZE = 320 };

struct order {
    char what;
    char path[PATH_SIZE];
};

/* ---- the program ---- */

static const char *own_socket;
static int connection = -1;

static int send_request(int sock, int type, const char *path)
{
    uint8_t out[WIRE_HEADER_SIZE + WIRE_ENTRY_SIZE + PATH_SIZE];
    size_t len = wire_encode_entry(out + WIRE_HEADER_SIZE, sizeof out - WIRE_HEADER_SIZE, WIRE_READ, 0, path,
                                   strlen(path));
    struct wire_header header = { WIRE_HEADER_SIZE + (uint32_t)len, (uint16_t)type, 1, 1 };
    wire_encode_header(out, sizeof out, &header);
    return msg_send(sock, out, header.length, NULL, 0, NULL, 0) < 0 ? SUBJECT_BROKEN : 0;
}

int subject_receive(int sock)
{
    static struct msg_in message;
    uint8_t in[64];
    struct wire_result result;
    if (msg_recv(sock, in, sizeof in, 0, &message) != 1 ||
        message.len != WIRE_HEADER_SIZE + WIRE_RESULT_SIZE ||
        wire_decode_result(in + WIRE_HEADER_SIZE, WIRE_RESULT_SIZE, &result) < 0)
        return SUBJECT_BROKEN;
    bool has_fd = message.n_fds > 0;
    fd_close_many(message.fds, message.n_fds);
    return has_fd == (result.error == 0) ? result.error : SUBJECT_BROKEN;
}

static int connected(void)
{
    if (connection < 0)
        connection = sock_connect(own_socket, SOCK_SEQPACKET);
    return connection;
}

/* A CHECK is answered without a descriptor. */
static int check(const char *path)
{
    uint8_t in[64];
    struct wire_result result;
    if (send_request(connected(), WIRE_CHECK, path) ||
        recv(connection, in, sizeof in, 0) < WIRE_HEADER_SIZE ||
        wire_decode_result(in + WIRE_HEADER_SIZE, WIRE_RESULT_SIZE, &result) < 0)
        return SUBJECT_BROKEN;
    return result.error;
}

static int ask_on(int sock, const char *path)
{
    int err = sock < 0 ? SUBJECT_BROKEN : send_request(sock, WIRE_OPEN, path);
    return err ? err : subject_receive(sock);
}

static int ask_anew(const char *path)
{
    CLEANUP(fd_cleanup) int sock = sock_connect(own_socket, SOCK_SEQPACKET);
    return ask_on(sock, path);
}

static int ask_as_child(const char *path, bool lent)
{
    int sock = lent ? connected() : -1, status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(lent ? ask_on(sock, path) : ask_anew(path));
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : SUBJECT_BROKEN;
}

/* Standard input and the connection stay open; what it becomes says so itself. */
static int execute(const char *path)
{
    char number[16];
    snprintf(number, sizeof number, "%d", connection);
    if (connection >= 0)
        fcntl(connection, F_SETFD, 0);
    char *const arguments[] = { (char *)"program", (char *)"subject", (char *)(uintptr_t)own_socket, number,
                                NULL };
    execv(path, arguments);
    return SUBJECT_BROKEN;
}

static int follow(const struct order *order)
{
    switch (order->what) {
    case SUBJECT_OPEN:
        return ask_on(connected(), order->path);
    case SUBJECT_CHECK:
        return check(order->path);
    case SUBJECT_NEW:
        return ask_anew(order->path);
    case SUBJECT_SEND:
        return send_request(connected(), WIRE_OPEN, order->path);
    case SUBJECT_RECEIVE:
        return subject_receive(connection);
    case SUBJECT_WHICH:
        return connection;
    case SUBJECT_EXEC:
        return execute(order->path);
    default:
        return ask_as_child(order->path, order->what == SUBJECT_LEND);
    }
}

static void answer(int what)
{
    const uint8_t byte = (uint8_t)what;
    if (send(STDIN_FILENO, &byte, sizeof byte, MSG_NOSIGNAL) != sizeof byte)
        _exit(1);
}

static int serve_test(char **arguments)
{
    struct order order;
    own_socket = arguments[2];
    connection = atoi(arguments[3]);
    answer(0); /* it runs */
    while (recv(STDIN_FILENO, &order, sizeof order, 0) == sizeof order)
        answer(follow(&order));
    return 0;
}

/* ---- before fobd ---- */

/* getsockopt(SO_PEERPIDFD) fails with this errno. */
static bool refuse_pidfds(unsigned error)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    bool done = filter && seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0) == 0 &&
                seccomp_rule_add(filter, SCMP_ACT_ERRNO(error), SCMP_SYS(getsockopt), 1,
                                 SCMP_A2(SCMP_CMP_EQ, SO_PEERPIDFD)) == 0 &&
                seccomp_load(filter) == 0;
    seccomp_release(filter);
    return done;
}

/* In a cgroup of its own, which is all that it sees. */
static bool enter_cgroup(const char *procs)
{
    int fd = open(procs, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, "0", 1) == 1 && unshare(CLONE_NEWCGROUP) == 0;
    fd_close(fd);
    return done;
}

static void be_shim(char **argv)
{
    const char *what = getenv("FOB_SHIM"), *build = getenv("FOB_SHIM_BUILD");
    char path[512];
    snprintf(path, sizeof path, "%s/fobd", build);
    if (*what == '/' ? enter_cgroup(what) : refuse_pidfds((unsigned)atoi(what)))
        execv(path, argv);
    fprintf(stderr, "the shim %s failed: %s\n", what, strerror(errno));
    _exit(127);
}

void subject_main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "subject") == 0)
        _exit(serve_test(argv));
    if (strcmp(argv[0], "fobd") == 0 && getenv("FOB_SHIM"))
        be_shim(argv);
}

/* ---- the test's side ---- */

static void copy_self(int to)
{
    char bytes[65536];
    ssize_t got;
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_true(from >= 0 && to >= 0);
    while ((got = read(from, bytes, sizeof bytes)) > 0)
        assert_int_equal(fd_write_all(to, bytes, (size_t)got), 0);
    assert_int_equal(got, 0);
    close(from);
}

void subject_install(const struct broker *b, const char *path)
{
    int to = open(at(b, path), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    copy_self(to);
    assert_int_equal(fchmod(to, 0755), 0);
    close(to);
}

void subject_prepare(struct broker *b)
{
    broker_prepare(b);
    assert_int_equal(mkdir(at(b, "bin"), 0755), 0);
    subject_install(b, "bin/trusted");
    subject_install(b, "bin/bad");
    subject_install(b, "bin/copy");
}

void subject_reload(const struct broker *b, const char *policy)
{
    char said[4096];
    broker_write_policy(b, policy);
    int status = broker_control(b, "reload\0", said, sizeof said);
    if (status)
        print_error("%s", said);
    assert_int_equal(status, 0);
}

static void run(const struct broker *b, uid_t uid, const char *path, const struct subject_start *how,
                int sock)
{
    char *plain[] = { (char *)"program", (char *)"subject", (char *)(uintptr_t)b->socket, (char *)"-1",
                      NULL };
    char *loaded[] = { (char *)"loader", (char *)(uintptr_t)path, plain[1], plain[2], plain[3], NULL };
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(sock, STDIN_FILENO);
    if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
        _exit(126);
    if (how->prepare && !how->prepare(b))
        _exit(77);
    if (how->memory)
        fexecve(how->memory, plain, environ);
    else if (how->loader)
        execve(how->loader, loaded, environ);
    else
        execve(path, plain, environ);
    _exit(127);
}

static int await(const struct subject *subject)
{
    uint8_t byte;
    return recv(subject->sock, &byte, sizeof byte, 0) == sizeof byte ? byte : -1;
}

bool subject_begin_as(struct subject *subject, const struct broker *b, uid_t uid, const char *path,
                      const struct subject_start *how)
{
    static const struct timeval patience = { .tv_sec = PATIENCE_S };
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        run(b, uid, at(b, path), how, pair[1]);
    close(pair[1]);
    *subject = (struct subject){ b, pid, pair[0] };
    if (await(subject) == 0)
        return true;
    close(pair[0]);
    assert_int_equal(child_wait(pid), 77);
    return false;
}

void subject_begin(struct subject *subject, const struct broker *b, uid_t uid, const char *path)
{
    static const struct subject_start plainly;
    assert_true(subject_begin_as(subject, b, uid, path, &plainly));
}

int subject_do(const struct subject *subject, enum subject_order what, const char *path)
{
    struct order order = { .what = (char)what };
    if (path)
        snprintf(order.path, sizeof order.path, "%s", at(subject->broker, path));
    assert_int_equal(send(subject->sock, &order, sizeof order, MSG_NOSIGNAL), sizeof order);
    if (what != SUBJECT_EXEC && what != SUBJECT_RECEIVE && what != SUBJECT_WHICH)
        count_requests(1);
    return await(subject);
}

void subject_end(struct subject *subject)
{
    close(subject->sock);
    assert_int_equal(child_wait(subject->pid), 0);
}

int subject_ask_as(const struct broker *b, uid_t uid, const char *path, const struct subject_start *how)
{
    struct subject subject;
    if (!subject_begin_as(&subject, b, uid, path, how))
        return -1;
    int got = subject_do(&subject, SUBJECT_OPEN, "pub/a");
    subject_end(&subject);
    return got;
}

int subject_ask(const struct broker *b, uid_t uid, const char *path)
{
    static const struct subject_start plainly;
    return subject_ask_as(b, uid, path, &plainly);
}

/* ---- around fobd ---- */

void fobd_shim(const struct broker *b, const char *what)
{
    const char *build = getenv("FOB_SHIM_BUILD");
    if (!build) {
        char whole[PATH_MAX];
        build = getenv("BUILD");
        assert_non_null(realpath(build && *build ? build : "build", whole));
        setenv("FOB_SHIM_BUILD", whole, 1);
        build = getenv("FOB_SHIM_BUILD");
    }
    setenv("BUILD", what ? at(b, "shim") : build, 1);
    if (!what) {
        unsetenv("FOB_SHIM");
        return;
    }
    setenv("FOB_SHIM", what, 1);
    assert_int_equal(mkdir(at(b, "shim"), 0755), 0);
    subject_install(b, "shim/fobd");
}

pid_t broker_child(const struct broker *b, const char *name)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)b->pid, (int)b->pid);
    if (file_read(path, text, sizeof text) < 0)
        return 0;
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
        char comm[32] = "";
        snprintf(path, sizeof path, "/proc/%s/comm", word);
        file_read(path, comm, sizeof comm);
        comm[strcspn(comm, "\n")] = '\0';
        if (strcmp(comm, name) == 0)
            return (pid_t)atoi(word);
    }
    return 0;
}
