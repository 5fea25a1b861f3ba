/*
 * The service manager's interfaces: what is taken from it, what is told to it, and that neither can harm.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/service.h"
#include "../../common/log.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "leak.h"

enum { FIRST = 3 }; /* SD_LISTEN_FDS_START */

static char folder[] = "/tmp/fob-test-service-XXXXXX";
static char path[64];
static char said[4096]; /* by the child, on standard error */

static int setup(void **state)
{
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    if (leak_setup(state) < 0 || mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/notify", folder);
    log_set_level(LOG_LEVEL_ERROR);
    unsetenv("NOTIFY_SOCKET");
    return 0;
}

static int teardown(void **state)
{
    service_notify_close();
    unlink(path);
    return rmdir(folder) < 0 ? -1 : leak_teardown(state);
}

/* ---- children: what a service manager starts ---- */

#define EXPECT(condition)                                                                  \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            dprintf(STDERR_FILENO, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                                      \
        }                                                                                  \
    } while (0)

/* In a child that has nothing but the standard descriptors open; what it writes to standard error is in
 * `said`. */
static void run(void (*child)(const void *), const void *argument)
{
    int log = memfd_create("log", MFD_CLOEXEC), status;
    assert_true(log >= 0);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(20);
        log_set_level(LOG_LEVEL_INFO);
        dup2(log, STDERR_FILENO);
        closefrom(FIRST);
        child(argument);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    ssize_t len = pread(log, said, sizeof said - 1, 0);
    fd_close(log);
    assert_in_range(len, 0, sizeof said - 1);
    said[len] = '\0';
    if (status != 0)
        fail_msg("status 0x%x: %s", (unsigned)status, said);
}

/* NULL: not there. For the process id "self" and "parent" stand, and "wrapped" for our own in too many bits.
 */
static void set_variables(const char *pid, const char *fds)
{
    char number[24];
    bool is_word = pid && strchr("spw", pid[0]) && pid[0], is_parent = is_word && pid[0] == 'p';
    long long wrap = is_word && pid[0] == 'w' ? 1LL << 32 : 0;
    snprintf(number, sizeof number, "%lld", wrap + (is_parent ? getppid() : getpid()));
    const char *value = is_word ? number : pid;
    EXPECT((value ? setenv("LISTEN_PID", value, 1) : unsetenv("LISTEN_PID")) == 0);
    EXPECT((fds ? setenv("LISTEN_FDS", fds, 1) : unsetenv("LISTEN_FDS")) == 0);
    EXPECT(setenv("LISTEN_FDNAMES", "a:b", 1) == 0);
}

static bool variables_are_gone(void)
{
    return !getenv("LISTEN_PID") && !getenv("LISTEN_FDS") && !getenv("LISTEN_FDNAMES");
}

/* ---- activation ---- */

/* A descriptor as a service manager could pass it: LISTENER of a type, BOUND but not listening, and others.
 */
enum kind { LISTENER, BOUND, CONNECTED, INTERNET, PLAIN_FILE, NOTHING };

struct passed {
    enum kind kind;
    int type;
};

static void make_passed(const struct passed *passed, int fd)
{
    struct sockaddr_un addr;
    struct sockaddr_in internet = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    char name[64];
    int made = -1, pair[2];
    snprintf(name, sizeof name, "@fob-test-service-%d-%d", getpid(), fd);
    int len = sock_address(&addr, name);
    if (passed->kind == LISTENER || passed->kind == BOUND) {
        made = socket(AF_UNIX, passed->type, 0);
        EXPECT(bind(made, (struct sockaddr *)&addr, (socklen_t)len) == 0);
        EXPECT(passed->kind == BOUND || listen(made, 5) == 0);
    } else if (passed->kind == CONNECTED) {
        EXPECT(socketpair(AF_UNIX, passed->type, 0, pair) == 0);
        made = pair[0];
    } else if (passed->kind == INTERNET) {
        made = socket(AF_INET, passed->type, 0);
        EXPECT(bind(made, (struct sockaddr *)&internet, sizeof internet) == 0 && listen(made, 5) == 0);
    } else if (passed->kind == PLAIN_FILE) {
        made = open("/dev/null", O_RDWR);
    }
    EXPECT(passed->kind == NOTHING || made == fd || (dup2(made, fd) == fd && close(made) == 0));
}

struct activation {
    struct passed passed[3];
    const char *pid, *fds;
    int type, expected;
    const char *message; /* part of it; NULL: silence */
};

static int listen_fd(int type)
{
    int fd, found = service_listen_fds(&type, &fd, 1);
    return found == 1 ? fd : found;
}

static void activate(const void *argument)
{
    const struct activation *a = argument;
    unsigned n = a->fds ? (unsigned)strtoul(a->fds, NULL, 10) : 0;
    for (int i = (int)ARRAY_SIZE(a->passed); i-- > 0;)
        make_passed(&a->passed[i], FIRST + i);
    set_variables(a->pid, a->fds);
    EXPECT(listen_fd(a->type) == a->expected);
    EXPECT(variables_are_gone());
    for (unsigned i = 0; i < ARRAY_SIZE(a->passed); i++) {
        int flags = fcntl(FIRST + (int)i, F_GETFD);
        EXPECT(flags < 0 || flags == (a->expected != -ENOENT && i < n ? FD_CLOEXEC : 0));
    }
    EXPECT(a->expected < 0 || fcntl(a->expected, F_GETFD) == FD_CLOEXEC);
    EXPECT(listen_fd(a->type) == -ENOENT); /* once */
}

static void expect_activation(const struct activation *a)
{
    run(activate, a);
    if (a->message)
        assert_non_null(strstr(said, a->message));
    else
        assert_string_equal(said, "");
}

#define NONE       \
    {              \
        NOTHING, 0 \
    }
#define GOOD                     \
    {                            \
        LISTENER, SOCK_SEQPACKET \
    }

static void test_right_socket(void **state)
{
    (void)state;
    static const struct activation cases[] = {
        { { GOOD, NONE, NONE }, "self", "1", SOCK_SEQPACKET, 3, NULL },
        { { { LISTENER, SOCK_STREAM }, NONE, NONE }, "self", "1", SOCK_STREAM, 3, NULL },
        { { { LISTENER, SOCK_STREAM }, GOOD, NONE }, "self", "2", SOCK_SEQPACKET, 4, "descriptor 3" },
        { { { PLAIN_FILE, 0 }, { CONNECTED, SOCK_SEQPACKET }, GOOD },
          "self",
          "3",
          SOCK_SEQPACKET,
          5,
          "descriptor 4" },
        { { NONE, GOOD, NONE }, "self", "2", SOCK_SEQPACKET, 4, NULL },
        { { GOOD, { PLAIN_FILE, 0 }, NONE }, "self", "1", SOCK_SEQPACKET, 3, NULL }, /* 4 is not ours */
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        expect_activation(&cases[i]);
}

static void test_wrong_socket(void **state)
{
    (void)state;
    static const struct passed wrong[] = {
        { LISTENER, SOCK_STREAM },
        { BOUND, SOCK_SEQPACKET },
        { BOUND, SOCK_DGRAM },
        { CONNECTED, SOCK_SEQPACKET },
        { INTERNET, SOCK_STREAM },
        { PLAIN_FILE, 0 },
        { NOTHING, 0 },
    };
    struct activation a = { { NONE, NONE, NONE }, "self",  "1",
                            SOCK_SEQPACKET,       -EINVAL, "ListenSequentialPacket" };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        a.passed[0] = wrong[i];
        a.type = wrong[i].kind == INTERNET ? SOCK_STREAM : SOCK_SEQPACKET;
        expect_activation(&a);
    }
}

/* A good socket is there each time, but the variables do not say that it is for us. */
static void test_not_activated(void **state)
{
    (void)state;
    static const char *const pids[] = {
        NULL, "parent", "wrapped", "", "x", "0", "-1", "1x", " 1", "4294967297", "99999999999999999999999"
    };
    static const char *const counts[] = {
        NULL, "", "x", "0", "-1", "1x", "0x1", " 1", "+1", "4294967297", "18446744073709551617"
    };
    struct activation a = { { GOOD, NONE, NONE }, NULL, "1", SOCK_SEQPACKET, -ENOENT, NULL };
    for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
        a.pid = pids[i];
        expect_activation(&a);
    }
    a.pid = "self";
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        a.fds = counts[i];
        expect_activation(&a);
    }
}

/* ---- what is inherited ---- */

struct inheritance {
    const char *pid, *fds;
    int kept;
};

static void inherit(const void *argument)
{
    const struct inheritance *i = argument;
    const int far = 900;
    for (int fd = FIRST; fd < FIRST + 20; fd++)
        EXPECT(dup2(STDOUT_FILENO, fd) == fd);
    EXPECT(dup2(STDOUT_FILENO, far) == far);
    set_variables(i->pid, i->fds);
    service_close_inherited();
    for (int fd = 0; fd <= far; fd++)
        EXPECT((fcntl(fd, F_GETFD) >= 0) == (fd < FIRST + i->kept));
    service_close_inherited(); /* again */
    EXPECT(fcntl(STDERR_FILENO, F_GETFD) >= 0);
    EXPECT(!i->kept || fcntl(FIRST, F_GETFD) == 0);
}

static void test_close_inherited(void **state)
{
    (void)state;
    static const struct inheritance cases[] = {
        { NULL, NULL, 0 },   { "self", "0", 0 },          { "self", "1", 1 }, { "self", "2", 2 },
        { "self", "5", 5 },  { "self", "x", 0 },          { "self", "", 0 },  { "self", NULL, 0 },
        { NULL, "2", 0 },    { "parent", "2", 0 },        { "x", "2", 0 },    { "", "", 0 },
        { "self", "-1", 0 }, { "self", "4294967297", 0 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        run(inherit, &cases[i]);
}

/* ---- readiness ---- */

static int listen_for_notices(const char *name)
{
    struct sockaddr_un addr;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), len = sock_address(&addr, name);
    assert_true(fd >= 0 && len > 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, (socklen_t)len), 0);
    return fd;
}

static void expect_notice(int manager, const char *text)
{
    char got[64];
    ssize_t len = recv(manager, got, sizeof got, 0);
    assert_int_equal(len, strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static void test_notify(void **state)
{
    (void)state;
    char abstract[64];
    snprintf(abstract, sizeof abstract, "@fob-test-service-%d", getpid());
    const char *const names[] = { path, abstract };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        int manager = listen_for_notices(names[i]);
        setenv("NOTIFY_SOCKET", names[i], 1);
        service_notify_open();
        assert_null(getenv("NOTIFY_SOCKET"));
        assert_int_equal(fcntl(service_notify_fd(), F_GETFD), FD_CLOEXEC);
        service_notify("READY=1");
        service_notify("STOPPING=1\nSTATUS=x");
        expect_notice(manager, "READY=1");
        expect_notice(manager, "STOPPING=1\nSTATUS=x");
        service_notify_close();
        assert_int_equal(service_notify_fd(), -1);
        service_notify("LATE=1");
        assert_int_equal(recv(manager, abstract, 1, MSG_TRUNC), -1);
        fd_close(manager);
    }
}

static void test_no_manager(void **state)
{
    (void)state;
    service_notify_open();
    assert_int_equal(service_notify_fd(), -1);
    service_notify("READY=1");
    service_notify_close();

    char long_name[200];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[0] = '/';
    long_name[sizeof long_name - 1] = '\0';
    fd_close(listen_for_notices(path)); /* a name with nobody behind it */
    const char *const names[] = { "",     path,     "/none/there", "nowhere", "@", "@fob-test-nobody",
                                  folder, long_name };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        setenv("NOTIFY_SOCKET", names[i], 1);
        service_notify_open();
        assert_null(getenv("NOTIFY_SOCKET"));
        assert_int_equal(service_notify_fd(), -1);
        service_notify("READY=1");
    }
}

static void open_to_nobody(const void *name)
{
    setenv("NOTIFY_SOCKET", name, 1);
    service_notify_open();
}

static void test_warning(void **state)
{
    (void)state;
    run(open_to_nobody, path);
    assert_non_null(strstr(said, "warning: NOTIFY_SOCKET: No such file"));
    run(open_to_nobody, "");
    assert_string_equal(said, "");
}

/* It goes away, or reads no more: no signal, no waiting. */
static void test_dying_manager(void **state)
{
    (void)state;
    int manager = listen_for_notices(path), notices = 0;
    char byte;
    setenv("NOTIFY_SOCKET", path, 1);
    service_notify_open();
    alarm(20);
    for (int i = 0; i < 5000; i++)
        service_notify("WATCHDOG=1");
    while (recv(manager, &byte, 1, 0) >= 0)
        notices++;
    assert_in_range(notices, 1, 4999);
    service_notify("READY=1");
    expect_notice(manager, "READY=1");
    fd_close(manager);
    service_notify("STOPPING=1");
    service_notify("STOPPING=1");
    alarm(0);
    assert_true(service_notify_fd() >= 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = { TEST(test_right_socket),  TEST(test_wrong_socket),
                                        TEST(test_not_activated), TEST(test_close_inherited),
                                        TEST(test_notify),        TEST(test_no_manager),
                                        TEST(test_warning),       TEST(test_dying_manager) };
    return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
