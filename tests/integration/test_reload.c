/*
 * From one generation to the next under load: nothing lost, nothing stale, nothing left behind. Numbers are
 * rows of threats.md.
 */
#include "harness.h"

#include <errno.h>
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "../../common/msg.h"
#include "../../common/util.h"

#ifdef FOB_SANITIZE
enum { FLIPS = 60, CREATIONS = 300 };
#else
enum { FLIPS = 1000, CREATIONS = 2000 };
#endif
enum { CLIENTS = 8, IDLE = 200, PIPELINED = 40 };

static const char allowing[] = "allow user:2001,user:2002 read,list @/pub/**\n"
                               "allow user:2001 read,write,create @/priv/**\n";
static const char denying[] = "allow user:2001,user:2002 read,list @/pub/**\n";

static char said[8192];

static int reload(const struct broker *b)
{
    return broker_control(b, "reload\0", said, sizeof said);
}

/* ---- 90: allow and deny in turn, under load ---- */

/* What the clients and the test share. */
struct shared {
    _Atomic unsigned turn; /* odd: a reload is under way; turn / 2 even: allowed */
    _Atomic bool over;
    _Atomic unsigned long asked, stale, wrong, broken;
};

static bool is_allowed(unsigned turn)
{
    return turn / 2 % 2 == 0;
}

static void hammer(struct client_env *env)
{
    struct shared *shared = env->data;
    char path[128];
    snprintf(path, sizeof path, "%s", at(env->broker, "priv/f"));
    int fd, sock = raw_connect(env->broker);
    while (!shared->over) {
        unsigned before = shared->turn;
        int error = raw_open(sock, path, WIRE_READ, 0, &fd);
        unsigned after = shared->turn;
        shared->asked++;
        fd_close(fd);
        shared->broken += error < 0;
        shared->wrong += error != 0 && error != EACCES;
        if (before == after && before % 2 == 0)
            shared->stale += (error == 0) != is_allowed(before);
        if (error < 0)
            return;
    }
}

static long rss_of(pid_t pid)
{
    return atol(status_of(pid, "VmRSS:"));
}

static int fds_of(pid_t pid)
{
    char path[64];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* What a generation that goes still holds goes some milliseconds after the answer: not to be counted. */
static int settled_fds(pid_t pid)
{
    int fds = fds_of(pid);
    for (int same = 0, tries = 0; same < 20 && tries < 500; tries++) {
        usleep(10000);
        int now = fds_of(pid);
        same = now == fds ? same + 1 : 0;
        fds = now;
    }
    return fds;
}

/* The check of descriptors at the end is against what the first policy needed. */
static void finish(struct broker *b)
{
    broker_write_policy(b, allowing);
    assert_int_equal(reload(b), 0);
    broker_finish(b);
}

static void flip(const struct broker *b, struct shared *shared)
{
    unsigned turn = ++shared->turn; /* odd */
    broker_write_policy(b, is_allowed(turn + 1) ? allowing : denying);
    int status = reload(b);
    if (status)
        print_error("%s", said);
    assert_int_equal(status, 0);
    shared->turn++;
}

static void test_90_allow_and_deny_under_load(void **state)
{
    (void)state;
    struct broker b;
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    broker_begin(&b, allowing);
    flip(&b, shared), flip(&b, shared); /* the first ones make what stays: buffers, the heap's size */
    long rss = rss_of(b.pid);
    int fds = settled_fds(b.pid);
    pid_t pids[CLIENTS];
    fflush(NULL);
    for (int i = 0; i < CLIENTS; i++)
        if ((pids[i] = fork()) == 0)
            _exit(as_user_groups(&b, ALICE, ALICE, NULL, 0, hammer, shared));
    for (int i = 0; i < FLIPS; i++)
        flip(&b, shared);
    shared->over = true;
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(child_wait(pids[i]), 0);
    printf("%d reloads, %lu opens: %lu stale, %lu wrong, %lu broken\n", FLIPS, shared->asked, shared->stale,
           shared->wrong, shared->broken);
    assert_true(shared->asked > 8 * FLIPS);
    assert_int_equal(shared->stale, 0);
    assert_int_equal(shared->wrong, 0);
    assert_int_equal(shared->broken, 0);
    WAIT_FOR(fds_of(b.pid) == fds);
    assert_int_equal(fds_of(b.pid), fds);
#ifndef FOB_SANITIZE
    assert_in_range(rss_of(b.pid), 0, rss + 1024); /* KiB */
#else
    (void)rss;
#endif
    munmap(shared, sizeof *shared);
    finish(&b);
}

/* ---- 91: connections that were there before ---- */

static void ask_before_and_after(struct client_env *env)
{
    int fd, socks[IDLE], *pipes = env->data;
    char byte = 0;
    for (int i = 0; i < IDLE; i++)
        socks[i] = raw_connect(env->broker);
    for (int i = 0; i < IDLE; i++) {
        CHECK_EQ(raw_open(socks[i], at(env->broker, "priv/f"), WIRE_READ, 0, &fd), 0);
        close(fd);
    }
    CHECK_EQ(write(pipes[1], &byte, 1), 1);
    CHECK_EQ(read(pipes[2], &byte, 1), 1);
    for (int i = 0; i < IDLE; i++) {
        CHECK_EQ(raw_open(socks[i], at(env->broker, "priv/f"), WIRE_READ, 0, &fd), EACCES);
        CHECK_EQ(raw_open(socks[i], at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
        CHECK(fd_reads(fd, "pub a\n"));
        close(fd);
    }
}

static void test_91_old_connections_new_policy(void **state)
{
    (void)state;
    struct broker b;
    int pipes[4];
    char byte = 0;
    broker_begin(&b, allowing);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(pipe(pipes + 2), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(as_user_groups(&b, ALICE, ALICE, NULL, 0, ask_before_and_after, pipes));
    close(pipes[1]);
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    broker_write_policy(&b, denying);
    assert_int_equal(reload(&b), 0);
    assert_int_equal(write(pipes[3], &byte, 1), 1);
    assert_int_equal(child_wait(pid), 0);
    assert_int_equal(broker_control(&b, "status\0json\0", said, sizeof said), 0);
    assert_non_null(strstr(said, "\"handed_over\":200,"));
    close(pipes[0]), close(pipes[2]), close(pipes[3]);
    finish(&b);
}

/* ---- requests on their way ---- */

static void send_open(int sock, const char *path, uint32_t tag)
{
    uint8_t out[512];
    size_t size = WIRE_HEADER_SIZE;
    size += wire_encode_entry(out + size, sizeof out - size, WIRE_READ, 0, path, strlen(path));
    struct wire_header header = { (uint32_t)size, WIRE_OPEN, 1, tag };
    wire_encode_header(out, sizeof out, &header);
    CHECK_EQ(msg_send(sock, out, size, NULL, 0, NULL, 0), 0);
    count_requests(1);
}

static void expect_reply(int sock, uint32_t tag)
{
    static struct msg_in in;
    uint8_t bytes[256];
    struct wire_header header;
    CHECK_EQ(msg_recv(sock, bytes, sizeof bytes, 0, &in), 1);
    CHECK_EQ(wire_decode_header(bytes, in.len, &header), 0);
    CHECK_EQ(header.id, tag);
    CHECK_EQ(in.n_fds, 1);
    CHECK(fd_reads(in.fds[0], "pub a\n"));
    close(in.fds[0]);
}

/* More requests than are answered before their answers are read; reloads in between. */
static void pipeline(struct client_env *env)
{
    char path[128];
    snprintf(path, sizeof path, "%s", at(env->broker, "pub/a"));
    for (int round = 0; round < 20; round++) {
        int sock = raw_connect(env->broker);
        for (uint32_t i = 0; i < PIPELINED; i++)
            send_open(sock, path, i);
        usleep(2000);
        for (uint32_t i = 0; i < PIPELINED; i++)
            expect_reply(sock, i);
        struct pollfd polled = { .fd = sock, .events = POLLIN };
        CHECK_EQ(poll(&polled, 1, 20), 0); /* none is answered twice */
        close(sock);
    }
}

static void reload_while(struct broker *b, client_fn *fn, void *data)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(as_user_groups(b, ALICE, ALICE, NULL, 0, fn, data));
    int status;
    while (waitpid(pid, &status, WNOHANG) == 0)
        assert_int_equal(reload(b), 0);
    assert_int_equal(status, 0);
}

static void test_requests_on_their_way(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, allowing);
    reload_while(&b, pipeline, NULL);
    finish(&b);
}

/* What a request made is made once, and told to who asked. */
static void create_files(struct client_env *env)
{
    int fd, sock = raw_connect(env->broker);
    char name[64], path[128];
    for (int i = 0; i < CREATIONS; i++) {
        snprintf(name, sizeof name, "priv/new-%d", i);
        snprintf(path, sizeof path, "%s", at(env->broker, name));
        CHECK_EQ(raw_open(sock, path, WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE, 0600, &fd), 0);
        CHECK_EQ(write(fd, "x", 1), 1);
        close(fd);
    }
}

static void test_what_is_created_is_created_once(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, allowing);
    reload_while(&b, create_files, NULL);
    finish(&b);
}

static void open_directories(struct client_env *env)
{
    for (int i = 0; i < 200; i++)
        CHECK_EQ(open_once(env->broker, at(env->broker, "pub/sub"), WIRE_READ | WIRE_DIRECTORY, NULL), 0);
}

static void test_directories_meanwhile(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, allowing);
    reload_while(&b, open_directories, NULL);
    finish(&b);
}

/* ---- when ---- */

static void expect_no_private(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "priv/f"), WIRE_READ, NULL), EACCES);
}

static void test_sighup(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, allowing);
    broker_write_policy(&b, denying);
    assert_int_equal(kill(b.pid, SIGHUP), 0);
    said[0] = '\0';
    for (int i = 0; i < 200 && !strstr(said, "\"generation\":2,"); i++) {
        usleep(10000);
        broker_control(&b, "status\0json\0", said, sizeof said);
    }
    assert_non_null(strstr(said, "\"generation\":2,"));
    as_user(&b, ALICE, expect_no_private, NULL);
    finish(&b);
}

/* Each of several at once is told of a reload that began after it asked. */
static void test_several_at_once(void **state)
{
    (void)state;
    struct broker b;
    pid_t pids[6];
    broker_begin(&b, allowing);
    broker_write_policy(&b, denying);
    fflush(NULL);
    for (int i = 0; i < 6; i++)
        if ((pids[i] = fork()) == 0)
            _exit(reload(&b) != 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(child_wait(pids[i]), 0);
    as_user(&b, ALICE, expect_no_private, NULL);
    finish(&b);
}

/* A stop in the middle of a reload ends both, and says so to who waits. */
static void test_stop_meanwhile(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct broker b;
        broker_begin(&b, allowing);
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            _exit(reload(&b) < -1);
        usleep((useconds_t)i * 700);
        broker_end(&b);
        assert_int_equal(child_wait(pid), 0);
    }
}

/* ---- CPUs that come ---- */

static void open_one(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL), 0);
}

/* With a worker for each: what all processes share was made for those that were there at start. The last
 * test: it changes what this process sees. */
static void test_more_cpus(void **state)
{
    (void)state;
    static const char online[] = "/sys/devices/system/cpu/online";
    struct broker b;
    broker_prepare(&b);
    file_write(at(&b, "online"), "0\n", 0644, 0);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(at(&b, "online"), online, NULL, MS_BIND, NULL) < 0 || sysconf(_SC_NPROCESSORS_ONLN) != 1) {
        print_message("skipped: how many CPUs there are is found out in another way\n");
        broker_start(&b, allowing, "workers 1");
        broker_finish(&b);
        return;
    }
    broker_start(&b, allowing, "");
    assert_int_equal(broker_workers(&b, (pid_t[128]){ 0 }, 128), 1);
    file_write(at(&b, "online"), "0-99\n", 0644, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(reload(&b), 0);
        as_user(&b, BOB, open_one, NULL);
        assert_int_equal(broker_workers(&b, (pid_t[128]){ 0 }, 128), 1);
    }
    broker_finish(&b);
    umount2(online, MNT_DETACH);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_90_allow_and_deny_under_load),
        cmocka_unit_test(test_91_old_connections_new_policy),
        cmocka_unit_test(test_requests_on_their_way),
        cmocka_unit_test(test_what_is_created_is_created_once),
        cmocka_unit_test(test_directories_meanwhile),
        cmocka_unit_test(test_sighup),
        cmocka_unit_test(test_several_at_once),
        cmocka_unit_test(test_stop_meanwhile),
        cmocka_unit_test(test_more_cpus),
    };
    return cmocka_run_group_tests_name("reload", tests, NULL, NULL);
}
