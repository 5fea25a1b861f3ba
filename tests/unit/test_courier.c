/*
 * The courier alone: a real process with a real queue, without privilege, and the test in place of a worker
 * and of who asks.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/courier.h"
#include "../../common/log.h"
#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "../../common/wire.h"
#include "leak.h"

enum { ALICE = 2001, PER_USER = WIRE_MAX_ENTRIES, WAIT_MS = 10000, QUIET_MS = 200 };

static char dir[] = "/tmp/fob-courier.XXXXXX";
static struct board *board;
static struct courier courier;
static int listener = -1;
static const struct confine_plan plan; /* of who has no privilege */

#define SOON(condition)                                      \
    do {                                                     \
        for (int ms = 0; ms < WAIT_MS && !(condition); ms++) \
            usleep(1000);                                    \
        assert_true(condition);                              \
    } while (0)

/* ---- the courier ---- */

static unsigned long undelivered(void)
{
    return (unsigned long)board_counters(board, 0)->undelivered;
}

static void start(unsigned max_fds)
{
    fflush(NULL);
    courier_start(&courier, &plan, board, 0, listener, max_fds, 0);
    assert_true(courier.pid > 0);
}

static int courier_up(void **state)
{
    leak_setup(state);
    board = board_new(1);
    listener = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    courier_init(&courier);
    if (!board || listener < 0 || courier_open(&courier) < 0 ||
        bind(listener, &(struct sockaddr){ .sa_family = AF_UNIX }, sizeof(sa_family_t)) < 0)
        return -1;
    start(PER_USER);
    return 0;
}

static int courier_down(void **state)
{
    courier_deinit(&courier);
    listener = fd_close(listener);
    board_free(board);
    return leak_teardown(state);
}

#define COURIER_TEST(name) cmocka_unit_test_setup_teardown(name, courier_up, courier_down)

/* ---- who asks ---- */

struct asker {
    int sock;
    struct courier_address address;
};

static const char *in_dir(const char *name)
{
    static char path[108];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* name: as of sock_address(); NULL: autobind. */
static void asker_open(struct asker *a, const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int len = name ? sock_address(&address, name) : (int)sizeof(sa_family_t);
    a->sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    a->address = (struct courier_address){ { getpid(), geteuid(), getegid() }, sizeof address, { 0 } };
    assert_int_equal(setsockopt(a->sock, SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)), 0);
    assert_int_equal(bind(a->sock, (const struct sockaddr *)&address, (socklen_t)len), 0);
    assert_int_equal(getsockname(a->sock, (struct sockaddr *)&a->address.name, &a->address.len), 0);
}

/* A reply with n results, all of which have a descriptor, posted. */
static int post(const struct courier_address *to, uint32_t id, uint16_t n)
{
    uint8_t reply[WIRE_MAX_RESULTS_MESSAGE];
    int fds[WIRE_MAX_ENTRIES];
    struct wire_header header = { WIRE_HEADER_SIZE + n * (uint32_t)WIRE_RESULT_SIZE, WIRE_OPEN | WIRE_REPLY,
                                  n, id };
    size_t len = wire_encode_header(reply, sizeof reply, &header);
    for (uint32_t i = 0; i < n; i++) {
        len += wire_encode_result(reply + len, sizeof reply - len, &(struct wire_result){ 0, 1, i });
        fds[i] = STDIN_FILENO;
    }
    return courier_post(courier.queue[0], to, reply, len, fds, n);
}

/* The errors of a reply's results, all the same; how many descriptors came. -1: no reply. */
static int take(const struct asker *a, uint32_t id, int *error, int ms)
{
    static uint8_t bytes[WIRE_MAX_MESSAGE];
    static struct msg_in in;
    struct wire_header header;
    struct wire_result result;
    struct timeval patience = { ms / 1000, ms % 1000 * 1000 };
    setsockopt(a->sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (msg_recv(a->sock, bytes, sizeof bytes, 0, &in) != 1)
        return -1;
    assert_int_equal(wire_decode_header(bytes, in.len, &header), 0);
    assert_int_equal(header.id, id);
    for (size_t i = 0; i < header.count; i++) {
        const uint8_t *at = bytes + WIRE_HEADER_SIZE + i * WIRE_RESULT_SIZE;
        assert_int_equal(wire_decode_result(at, WIRE_RESULT_SIZE, &result), 0);
        assert_int_equal(result.fd_index, result.error ? WIRE_NO_FD : i);
        *error = result.error;
    }
    assert_int_equal(in.n_fds, *error ? 0 : header.count);
    fd_close_many(in.fds, in.n_fds);
    return (int)in.n_fds;
}

static void expect_reply(const struct asker *a, uint32_t id, int n_fds)
{
    int error = 0;
    assert_int_equal(take(a, id, &error, WAIT_MS), n_fds);
    assert_int_equal(error, n_fds ? 0 : EAGAIN);
}

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    char abstract[64];
    snprintf(abstract, sizeof abstract, "@fob-courier-%d", (int)getpid());
    const char *names[] = { NULL, abstract, in_dir("s") };
    struct asker a;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        asker_open(&a, names[i]);
        for (uint32_t id = 0; id < 4; id++) {
            assert_int_equal(post(&a.address, id, 1), 0);
            expect_reply(&a, id, 1);
        }
        assert_int_equal(post(&a.address, 9, WIRE_MAX_ENTRIES), 0);
        expect_reply(&a, 9, WIRE_MAX_ENTRIES);
        close(a.sock);
    }
    unlink(in_dir("s"));
    assert_int_equal(undelivered(), 0);
}

static void expect_lost(const struct asker *a, const struct courier_address *to)
{
    int error;
    unsigned long before = undelivered();
    assert_int_equal(post(to, 1, 1), 0);
    SOON(undelivered() == before + 1);
    assert_int_equal(take(a, 1, &error, 1), -1);
}

static void set_path(struct courier_address *to, const char *path)
{
    to->name = (struct sockaddr_un){ .sun_family = AF_UNIX };
    snprintf(to->name.sun_path, sizeof to->name.sun_path, "%s", path);
    to->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
}

static void test_paths_of_others(void **state)
{
    (void)state;
    struct asker a;
    struct courier_address to;
    asker_open(&a, in_dir("s"));
    to = a.address;
    assert_int_equal(chdir(dir), 0);
    static const char *const wrong[] = { "s", "./s", "none", "file", "link", "fifo", "s/", "." };
    assert_int_equal(symlink("s", in_dir("link")), 0);
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    close(open(in_dir("file"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        set_path(&to, i < 2 ? wrong[i] : in_dir(wrong[i]));
        expect_lost(&a, &to);
    }
    to = a.address;
    to.asker.uid++; /* a socket that is not the asker's own */
    expect_lost(&a, &to);
    assert_int_equal(post(&a.address, 5, 1), 0);
    expect_reply(&a, 5, 1);
    close(a.sock);
    expect_lost(&a, &a.address); /* closed, though its name is there */
    static const char *const made[] = { "s", "link", "fifo", "file" };
    for (size_t i = 0; i < ARRAY_SIZE(made); i++)
        assert_int_equal(unlink(in_dir(made[i])), 0);
}

static void test_pids_of_others(void **state)
{
    (void)state;
    struct asker a;
    static const pid_t pids[] = { 0, -1, 1, INT32_MAX };
    const char *names[] = { NULL, in_dir("s") };
    for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
        asker_open(&a, names[n]);
        for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
            struct courier_address to = a.address;
            to.asker.pid = pids[i];
            expect_lost(&a, &to);
        }
        close(a.sock);
    }
    unlink(in_dir("s"));
}

/* ---- who is connected ---- */

static void test_connected(void **state)
{
    (void)state;
    struct asker a, b;
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    asker_open(&a, NULL);
    asker_open(&b, NULL);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &len), 0);
    assert_int_equal(connect(a.sock, (const struct sockaddr *)&name, len), 0);
    for (uint32_t id = 0; id < 20; id++) {
        assert_int_equal(post(&a.address, id, 100), 0);
        expect_reply(&a, id, 100);
    }
    /* Unread ones count for all who are connected. */
    assert_int_equal(post(&a.address, 30, PER_USER), 0);
    assert_int_equal(post(&a.address, 31, 1), 0);
    assert_int_equal(post(&b.address, 32, 1), 0); /* and for nobody else */
    expect_reply(&b, 32, 1);
    expect_reply(&a, 30, PER_USER);
    expect_reply(&a, 31, 0);
    assert_int_equal(post(&a.address, 33, 1), 0);
    expect_reply(&a, 33, 1);
    assert_int_equal(connect(a.sock, (const struct sockaddr *)&b.address.name, b.address.len), 0);
    expect_lost(&a, &a.address); /* connected to somebody else */
    close(a.sock);
    close(b.sock);
}

/* ---- descriptors on their way ---- */

/* One of them is at this name. */
static void leave_unread(const char *name)
{
    struct asker a[3];
    for (size_t i = 0; i < ARRAY_SIZE(a); i++)
        asker_open(&a[i], i == 1 ? name : NULL);
    assert_int_equal(post(&a[0].address, 0, 200), 0);
    assert_int_equal(post(&a[1].address, 1, PER_USER - 200), 0);
    assert_int_equal(post(&a[1].address, 2, 1), 0); /* one too many: the reply comes without */
    assert_int_equal(post(&a[2].address, 3, 1), 0);
    expect_reply(&a[2], 3, 0);
    SOON(board_counters(board, 0)->over_quota == 2);
    expect_reply(&a[0], 0, 200); /* now there is room again */
    assert_int_equal(post(&a[2].address, 4, 200), 0);
    expect_reply(&a[2], 4, 200);
    expect_reply(&a[1], 1, PER_USER - 200);
    expect_reply(&a[1], 2, 0);
    for (size_t i = 0; i < ARRAY_SIZE(a); i++)
        close(a[i].sock);
}

static void test_unread(void **state)
{
    (void)state;
    leave_unread(NULL);
}

static void test_unread_at_a_path(void **state)
{
    (void)state;
    leave_unread(in_dir("s"));
    unlink(in_dir("s"));
}

/* Whose socket is full, or gone, has not got them. */
static void test_unread_and_closed(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < 20; id++) {
        struct asker a;
        asker_open(&a, NULL);
        assert_int_equal(post(&a.address, id, PER_USER), 0);
        SOON(recv(a.sock, &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT) == 1);
        close(a.sock);
    }
    assert_int_equal(board_counters(board, 0)->over_quota, 0);
}

/* ---- its life ---- */

static void courier_wait(void)
{
    int status;
    pid_t pid = waitpid(courier.pid, &status, 0);
    assert_int_equal(pid, courier.pid);
    assert_false(courier_reaped(&courier, pid + 1, status, 1));
    assert_true(courier_reaped(&courier, pid, status, 1));
    assert_int_equal(courier.pid, 0);
    assert_true(courier.restart.at < INT64_MAX);
}

static void test_killed(void **state)
{
    (void)state;
    struct asker a;
    asker_open(&a, NULL);
    for (uint32_t id = 0; id < 5; id++) {
        assert_int_equal(kill(courier.pid, SIGKILL), 0);
        courier_wait();
        assert_int_equal(post(&a.address, id, 1), 0); /* the queue is there still */
        start(PER_USER);
        expect_reply(&a, id, 1);
    }
    close(a.sock);
}

static void test_end(void **state)
{
    (void)state;
    enum { REPLIES = 8 };
    struct asker a;
    asker_open(&a, NULL);
    assert_int_equal(kill(courier.pid, SIGSTOP), 0);
    for (uint32_t id = 0; id < REPLIES; id++)
        assert_int_equal(post(&a.address, id, 1), 0);
    assert_int_equal(kill(courier.pid, SIGCONT), 0);
    courier_deinit(&courier);
    courier_init(&courier);
    for (uint32_t id = 0; id < REPLIES; id++)
        expect_reply(&a, id, 1);
    close(a.sock);
}

/* A worker that is no more what it was. It must go on, as the same process. */
static void expect_alive(struct asker *a)
{
    assert_int_equal(post(&a->address, 77, 1), 0);
    expect_reply(a, 77, 1);
    assert_int_equal(waitpid(courier.pid, NULL, WNOHANG), 0);
}

static void test_wrong_posts(void **state)
{
    (void)state;
    struct asker a;
    static uint8_t bytes[sizeof(struct courier_address) + WIRE_MAX_MESSAGE + 1];
    const size_t lens[] = { 1, sizeof(struct courier_address), sizeof bytes };
    asker_open(&a, in_dir("s"));
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        unsigned long before = undelivered();
        assert_int_equal(msg_send(courier.queue[0], bytes, lens[i], NULL, 0, NULL, 0), 0);
        SOON(undelivered() == before + 1);
    }
    expect_alive(&a);
    const socklen_t name_lens[] = { 0, 1, 2, sizeof(struct sockaddr_un) + 1, 4096, (socklen_t)-1 };
    for (size_t i = 0; i < ARRAY_SIZE(name_lens); i++) {
        struct courier_address to = a.address;
        to.len = name_lens[i];
        post(&to, 1, 1);
        expect_alive(&a);
    }
    close(a.sock);
    unlink(in_dir("s"));
}

/* ---- around all tests ---- */

/* Of root's processes, which have privileges, it could not see the namespaces. */
static int give_up_root(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_ERROR);
    if (!mkdtemp(dir))
        return -1;
    if (geteuid() != 0)
        return 0;
    if (chown(dir, ALICE, ALICE) < 0 || setgroups(0, NULL) < 0 || setresgid(ALICE, ALICE, ALICE) < 0 ||
        setresuid(ALICE, ALICE, ALICE) < 0)
        return -1;
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir) < 0 && errno != EACCES && errno != EPERM ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        COURIER_TEST(test_names),
        COURIER_TEST(test_paths_of_others),
        COURIER_TEST(test_pids_of_others),
        COURIER_TEST(test_connected),
        COURIER_TEST(test_unread),
        COURIER_TEST(test_unread_at_a_path),
        COURIER_TEST(test_unread_and_closed),
        COURIER_TEST(test_killed),
        COURIER_TEST(test_end),
        COURIER_TEST(test_wrong_posts),

    };
    return cmocka_run_group_tests_name("courier", tests, give_up_root, remove_dir);
}
