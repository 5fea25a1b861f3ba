/*
 * Whom libfob believes to be the broker: server_check(), and what fob_connect() makes of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../client/fob.h"
#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "leak.h"

enum { ALICE = 2001, BOB = 2002, NAMELESS = 65534, SKIP = 77 };

static char dir[] = "/tmp/fob-server.XXXXXX";
static char path[64];

static void needs_root(void)
{
    if (geteuid() != 0) {
        puts("skipped: needs root");
        skip();
    }
}

/* ---- a server that answers nothing ---- */

static int listen_at(const char *name)
{
    struct sockaddr_un address;
    int len = sock_address(&address, name), sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    unlink(name);
    bool ready = sock >= 0 && bind(sock, (struct sockaddr *)&address, (socklen_t)len) == 0 &&
                 (*name == '@' || chmod(name, 0666) == 0) && listen(sock, 64) == 0 /* nobody accepts */;
    if (!ready)
        _exit(1);
    return sock;
}

static void become(uid_t uid)
{
    if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        _exit(1);
    prctl(PR_SET_DUMPABLE, 1); /* its /proc/self/uid_map is its own to write */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static pid_t serve_as(uid_t uid, const char *name)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        become(uid);
        listen_at(name);
        _exit(write(ready[1], "", 1) == 1 ? pause() : 1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void serve_end(pid_t pid, const char *name)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink(name);
}

/* ---- clients ---- */

/* 0, or the errno of fob_connect(). */
static int connect_to(const char *name)
{
    struct fob *fob = fob_connect(name);
    int error = fob ? 0 : errno;
    fob_close(fob);
    return error;
}

static int wait_for(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* What a process of that uid gets. `server`: its FOB_SERVER, or NULL. */
static int connect_as(uid_t uid, const char *server, const char *name)
{
    pid_t pid = fork();
    if (pid == 0) {
        become(uid);
        if (server && setenv("FOB_SERVER", server, 1) < 0)
            _exit(1);
        _exit(connect_to(name));
    }
    return wait_for(pid);
}

static void test_root_serves(void **state)
{
    (void)state;
    needs_root();
    pid_t pid = serve_as(0, path);
    assert_int_equal(connect_as(0, NULL, path), 0);
    assert_int_equal(connect_as(ALICE, NULL, path), 0);
    assert_int_equal(connect_as(NAMELESS, NULL, path), 0);
    serve_end(pid, path);
}

static void test_own_broker(void **state)
{
    (void)state;
    needs_root();
    pid_t pid = serve_as(ALICE, path);
    assert_int_equal(connect_as(ALICE, NULL, path), 0);
    serve_end(pid, path);
    pid = serve_as(NAMELESS, path); /* a user like any other, where it has a name */
    assert_int_equal(connect_as(NAMELESS, NULL, path), 0);
    serve_end(pid, path);
}

static void test_somebody_else(void **state)
{
    (void)state;
    needs_root();
    pid_t pid = serve_as(ALICE, path);
    assert_int_equal(connect_as(BOB, NULL, path), EPERM);
    assert_int_equal(connect_as(0, NULL, path), EPERM);
    assert_int_equal(connect_as(NAMELESS, NULL, path), EPERM);
    serve_end(pid, path);
    pid = serve_as(NAMELESS, path);
    assert_int_equal(connect_as(BOB, NULL, path), EPERM);
    serve_end(pid, path);
    pid = serve_as(ALICE, "@fob-server-test");
    assert_int_equal(connect_as(BOB, NULL, "@fob-server-test"), EPERM);
    assert_int_equal(connect_as(ALICE, NULL, "@fob-server-test"), 0);
    serve_end(pid, path);
}

static void test_one_more_is_trusted(void **state)
{
    (void)state;
    needs_root();
    static const char *const wrong[] = { "",          "2002",  "02001x", "-2001",
                                         "+2001",     " 2001", "any",    "18446744073709553617",
                                         "4294969297" };
    pid_t pid = serve_as(ALICE, path);
    assert_int_equal(connect_as(BOB, "2001", path), 0);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(connect_as(BOB, wrong[i], path), EPERM);
    serve_end(pid, path);
}

/* Whoever starts a set-user-ID program must not choose whom it believes: that is only its effective user. */
static int connect_elevated(uid_t real, uid_t effective)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (setresuid(real, effective, effective) < 0)
            _exit(1);
        _exit(connect_to(path));
    }
    return wait_for(pid);
}

static void test_effective_user_counts(void **state)
{
    (void)state;
    needs_root();
    pid_t pid = serve_as(ALICE, path);
    assert_int_equal(connect_elevated(ALICE, BOB), EPERM);
    assert_int_equal(connect_elevated(ALICE, 0), EPERM);
    assert_int_equal(connect_elevated(BOB, ALICE), 0);
    serve_end(pid, path);
}

/* This program again, as ALICE runs it when it is BOB's and set-user-ID. Its exit status. */
static int connect_set_user_id(const char *program)
{
    pid_t pid = fork();
    if (pid == 0) {
        become(ALICE);
        if (setenv("FOB_SERVER", "2001", 1) < 0)
            _exit(1);
        execl(program, program, path, NULL);
        _exit(SKIP);
    }
    return wait_for(pid);
}

static bool copy_program(const char *to, mode_t mode)
{
    char buffer[1 << 16];
    ssize_t n;
    int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int out = open(to, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0700);
    while ((n = read(in, buffer, sizeof buffer)) > 0)
        if (write(out, buffer, (size_t)n) != n)
            break;
    bool done = n == 0 && fchown(out, BOB, BOB) == 0 && fchmod(out, mode) == 0;
    close(in);
    close(out);
    return done;
}

static void test_environment_of_a_set_user_id_program(void **state)
{
    (void)state;
    needs_root();
    char program[80];
    struct statvfs fs;
    if (prctl(PR_GET_NO_NEW_PRIVS) == 1 || statvfs(dir, &fs) < 0 || fs.f_flag & ST_NOSUID) {
        puts("skipped: nothing is set-user-ID here");
        skip();
    }
    snprintf(program, sizeof program, "%s/program", dir);
    pid_t pid = serve_as(ALICE, path);
    assert_true(copy_program(program, 0755));
    assert_int_equal(connect_set_user_id(program), 0);
    assert_true(copy_program(program, 04755));
    assert_int_equal(connect_set_user_id(program), EPERM);
    serve_end(pid, path);
    unlink(program);
}

/* A service manager listens, and gives the socket to whom it starts. */
static void test_service_manager_listens(void **state)
{
    (void)state;
    needs_root();
    int listener = listen_at(path);
    pid_t pid = fork();
    if (pid == 0) {
        become(ALICE);
        _exit(accept(listener, NULL, NULL) >= 0 ? pause() : 1);
    }
    close(listener);
    assert_int_equal(connect_as(BOB, NULL, path), 0);
    serve_end(pid, path);
}

/* ---- a connection that is made anew ---- */

static void answer_hello(int sock)
{
    uint32_t message[8];
    size_t len;
    struct ucred sender;
    if (msg_recv_cred(sock, message, sizeof message, 0, &len, &sender) != 1)
        _exit(1);
    const uint32_t reply[] = { message[0], sizeof message, 0x8004, message[3], 1, 65536, 253, 9 };
    _exit(send(sock, reply, sizeof reply, MSG_NOSIGNAL) == sizeof reply ? 0 : 1);
}

static void test_the_next_one_is_judged_too(void **state)
{
    (void)state;
    needs_root();
    struct fob_info info;
    int listener = listen_at(path);
    assert_int_equal(sock_set_receive_options(listener), 0);
    struct fob *fob = fob_connect(path);
    assert_non_null(fob);
    pid_t first = fork();
    if (first == 0)
        answer_hello(accept(listener, NULL, NULL));
    close(listener);
    assert_int_equal(fob_hello(fob, &info), 0);
    assert_int_equal(wait_for(first), 0);
    pid_t second = serve_as(ALICE, path);
    assert_int_equal(fob_hello(fob, &info), -1);
    assert_int_equal(errno, EPERM);
    serve_end(second, path);
    fob_close(fob);
}

/* ---- in a user namespace, where root has no name ---- */

static void map_write(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        _exit(1);
    close(fd);
}

/* Enters one with a mount namespace; `map` as in uid_map(5), "" for none. */
static void enter(const char *map)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        _exit(SKIP);
    if (*map)
        map_write("/proc/self/uid_map", map);
}

struct inside {
    const char *map, *server; /* FOB_SERVER, or NULL */
    const char *from, *to;    /* bound; or NULL */
    const char *name;         /* connected to */
};

static int connect_inside(const struct inside *in)
{
    pid_t pid = fork();
    if (pid == 0) {
        become(ALICE);
        enter(in->map);
        if (in->from && mount(in->from, in->to, NULL, MS_BIND, NULL) < 0)
            _exit(1);
        if (in->server && setenv("FOB_SERVER", in->server, 1) < 0)
            _exit(1);
        _exit(connect_to(in->name));
    }
    int status = wait_for(pid);
    if (status == SKIP) {
        puts("skipped: no user namespaces here");
        skip();
    }
    return status;
}

/* By its place alone nothing is believed that lies in a directory of everybody's. */
static void test_inside_nameless(void **state)
{
    (void)state;
    needs_root();
    static const uid_t servers[] = { 0, BOB, NAMELESS };
    for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
        pid_t pid = serve_as(servers[i], path);
        assert_int_equal(connect_inside(&(struct inside){ "0 2001 1", .name = path }), EREMOTE);
        assert_int_equal(connect_inside(&(struct inside){ "2001 2001 1", .name = path }), EREMOTE);
        assert_int_equal(connect_inside(&(struct inside){ "", .name = path }), EREMOTE);
        assert_int_equal(connect_inside(&(struct inside){ "2001 2001 1", "65534", .name = path }), 0);
        assert_int_equal(connect_inside(&(struct inside){ "2001 2001 1", "0", .name = path }), EREMOTE);
        serve_end(pid, path);
    }
    pid_t pid = serve_as(0, "@fob-server-test");
    assert_int_equal(connect_inside(&(struct inside){ "2001 2001 1", .name = "@fob-server-test" }), EREMOTE);
    serve_end(pid, path);
}

/* A user's own broker outside has a name inside: the user's. */
static void test_inside_own(void **state)
{
    (void)state;
    needs_root();
    pid_t pid = serve_as(ALICE, path);
    assert_int_equal(connect_inside(&(struct inside){ "0 2001 1", .name = path }), 0);
    assert_int_equal(connect_inside(&(struct inside){ "4242 2001 1", .name = path }), 0);
    /* Without a name for oneself, one's own reads as everybody's: no proof. */
    assert_int_equal(connect_inside(&(struct inside){ "", .name = path }), EREMOTE);
    serve_end(pid, path);
}

/* Where 65534 is a uid, and even one's own, it may be anybody outside all the same. */
static void test_inside_as_65534(void **state)
{
    (void)state;
    needs_root();
    static const uid_t servers[] = { 0, ALICE, BOB };
    for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
        pid_t pid = serve_as(servers[i], path);
        assert_int_equal(connect_inside(&(struct inside){ "65534 2001 1", .name = path }), EREMOTE);
        serve_end(pid, path);
    }
}

/* ---- where the place vouches: a socket bound by itself, beneath directories that are nobody else's ---- */

static char place[64];

/* /run is root's and nobody else's to write in: as it is on the machine. */
static bool place_make(mode_t mode, uid_t uid)
{
    snprintf(place, sizeof place, "/run/fob-server-test.%d", (int)getpid());
    if (mkdir(place, 0755) < 0 || chmod(place, mode) < 0 || chown(place, uid, (gid_t)-1) < 0)
        return false;
    char *end = strchr(place, '\0');
    memcpy(end, "/sock", 6);
    int fd = open(place, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
    close(fd);
    return fd >= 0;
}

static void place_remove(void)
{
    unlink(place);
    *strrchr(place, '/') = '\0';
    rmdir(place);
}

static void test_inside_bound(void **state)
{
    (void)state;
    needs_root();
    pid_t pid = serve_as(0, path);
    assert_true(place_make(0755, 0));
    const struct inside bound = { "2001 2001 1", NULL, path, place, place };
    assert_int_equal(connect_inside(&bound), 0);
    assert_int_equal(connect_inside(&(struct inside){ "65534 2001 1", NULL, path, place, place }), 0);
    place_remove();
    serve_end(pid, path);
}

static void test_inside_bound_where_others_write(void **state)
{
    (void)state;
    needs_root();
    static const mode_t modes[] = { 0777, 01777, 0775, 0757 };
    pid_t pid = serve_as(0, path);
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        assert_true(place_make(modes[i], 0));
        assert_int_equal(connect_inside(&(struct inside){ "2001 2001 1", NULL, path, place, place }),
                         EREMOTE);
        place_remove();
    }
    serve_end(pid, path);
}

/* Not bound, and not the default path: it may be a directory of anybody's. */
static void test_inside_not_bound(void **state)
{
    (void)state;
    needs_root();
    assert_true(place_make(0755, BOB));
    pid_t pid = serve_as(BOB, place);
    assert_int_equal(connect_inside(&(struct inside){ "2001 2001 1", .name = place }), EREMOTE);
    serve_end(pid, place);
    place_remove();
}

#define leak_test(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

static int setup(void **state)
{
    (void)state;
    unsetenv("FOB_SERVER");
    snprintf(path, sizeof path, "%s/sock", mkdtemp(dir) ? dir : "");
    return chmod(dir, 0777);
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return connect_to(argv[1]);
    const struct CMUnitTest tests[] = {
        leak_test(test_root_serves),
        leak_test(test_own_broker),
        leak_test(test_somebody_else),
        leak_test(test_one_more_is_trusted),
        leak_test(test_effective_user_counts),
        leak_test(test_environment_of_a_set_user_id_program),
        leak_test(test_service_manager_listens),
        leak_test(test_the_next_one_is_judged_too),
        leak_test(test_inside_nameless),
        leak_test(test_inside_own),
        leak_test(test_inside_as_65534),
        leak_test(test_inside_bound),
        leak_test(test_inside_bound_where_others_write),
        leak_test(test_inside_not_bound),
    };
    return cmocka_run_group_tests_name("libfob: who serves", tests, setup, teardown);
}
