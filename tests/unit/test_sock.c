/*
 * common/sock.c: addresses, and listening where something stands already.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/compat.h"
#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "leak.h"
#include "sock_folder.h"

/* ---- addresses ---- */

static void test_address(void **state)
{
    (void)state;
    struct sockaddr_un addr;
    const size_t head = offsetof(struct sockaddr_un, sun_path);
    char name[120];
    memset(name, 'x', sizeof name);
    assert_int_equal(sock_address(&addr, "/run/s"), head + 7);
    assert_int_equal(addr.sun_family, AF_UNIX);
    assert_memory_equal(addr.sun_path, "/run/s", 7);
    assert_int_equal(sock_address(&addr, "@abc"), head + 4);
    assert_memory_equal(addr.sun_path, "\0abc", 4);
    assert_int_equal(sock_address(&addr, ""), -EINVAL);
    assert_int_equal(sock_address(&addr, "@"), -EINVAL);
    name[107] = '\0';
    assert_int_equal(sock_address(&addr, name), sizeof addr);
    name[107] = 'x';
    name[108] = '\0';
    assert_int_equal(sock_address(&addr, name), -ENAMETOOLONG);
    name[0] = '@';
    assert_int_equal(sock_address(&addr, name), sizeof addr);
    name[108] = 'x';
    name[109] = '\0';
    assert_int_equal(sock_address(&addr, name), -ENAMETOOLONG);
}

static void test_connect_errors(void **state)
{
    (void)state;
    char long_name[200];
    memset(long_name, 'x', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(sock_connect(path, SOCK_SEQPACKET), -ENOENT);
    assert_int_equal(sock_connect(long_name, SOCK_SEQPACKET), -ENAMETOOLONG);
    assert_int_equal(sock_connect(path, 4711), -EINVAL);
    make_stale(SOCK_SEQPACKET);
    assert_int_equal(sock_connect(path, SOCK_SEQPACKET), -ECONNREFUSED);
    unlink(path);
}

/* ---- listening ---- */

static void test_listen(void **state)
{
    (void)state;
    const int types[] = { SOCK_SEQPACKET, SOCK_STREAM, SOCK_DGRAM };
    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        struct sock_name name;
        struct stat st;
        struct sock_listen_options options = SEQPACKET;
        options.type = types[t];
        int fd = sock_listen(path, &options, &name);
        assert_true(fd >= 0);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_string_equal(name.path, path);
        assert_int_equal(stat(path, &st), 0);
        assert_true(st.st_dev == name.dev && st.st_ino == name.ino);
        assert_int_equal(stat(lock, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        expect_exchange(fd, path, types[t]);
        fd_close(fd);
        sock_unlisten(&name);
        assert_false(exists(path));
        assert_false(exists(lock));
        sock_unlisten(&name); /* again: nothing */
    }
}

static void test_mode_and_group(void **state)
{
    (void)state;
    const mode_t modes[] = { 0600, 0660, 0666, 0777 }, umasks[] = { 0, 022, 0777 };
    for (size_t m = 0; m < ARRAY_SIZE(modes); m++) {
        for (size_t u = 0; u < ARRAY_SIZE(umasks); u++) {
            struct sock_name name;
            struct stat st;
            struct sock_listen_options options = SEQPACKET;
            options.mode = modes[m];
            options.gid = geteuid() == 0 ? STAFF : getegid();
            mode_t old = umask(umasks[u]);
            int fd = sock_listen(path, &options, &name);
            umask(old);
            assert_true(fd >= 0);
            assert_int_equal(stat(path, &st), 0);
            assert_int_equal(st.st_mode, S_IFSOCK | modes[m]);
            assert_int_equal(st.st_gid, options.gid);
            assert_int_equal(st.st_uid, geteuid());
            fd_close(fd);
            sock_unlisten(&name);
        }
    }
}

/* The fact that listen_at() stands on: the name never appears with more than the mode of the socket's own
 * inode. */
static void test_fact_mode_of_inode(void **state)
{
    (void)state;
    struct sockaddr_un addr;
    struct stat st;
    mode_t old = umask(0);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), len = sock_address(&addr, path);
    assert_int_equal(fchmod(fd, 0), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, (socklen_t)len), 0);
    umask(old);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFSOCK);
    fd_close(fd);
    unlink(path);
}

static void test_in_use(void **state)
{
    (void)state;
    struct sock_name name;
    int fd = sock_listen(path, &SEQPACKET, &name);
    assert_true(fd >= 0);
    assert_int_equal(try_listen(), -EADDRINUSE);
    unlink(lock); /* an admin's mistake: the living socket itself is noticed then */
    assert_int_equal(try_listen(), -EADDRINUSE);
    assert_false(exists(lock));                /* and the lock of the attempt went with it */
    expect_exchange(fd, path, SOCK_SEQPACKET); /* untouched */
    fd_close(fd);
    sock_unlisten(&name);
    assert_false(exists(path));
}

/* Somebody who knows no lock: of either type, also between bind(2) and listen(2), also with a full queue. */
static void test_in_use_by_others(void **state)
{
    (void)state;
    const int types[] = { SOCK_SEQPACKET, SOCK_STREAM, SOCK_DGRAM };
    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        struct sockaddr_un addr;
        int fd = socket(AF_UNIX, types[t] | SOCK_CLOEXEC, 0), len = sock_address(&addr, path);
        assert_int_equal(bind(fd, (struct sockaddr *)&addr, (socklen_t)len), 0);
        assert_int_equal(try_listen(), -EADDRINUSE);
        if (types[t] != SOCK_DGRAM) {
            assert_int_equal(listen(fd, 0), 0);
            int waiting = sock_connect(path, types[t]);
            assert_true(waiting >= 0);
            assert_int_equal(try_listen(), -EADDRINUSE);
            /* that it was asked for left no connection behind */
            assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
            int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
            assert_true(accepted >= 0);
            assert_int_equal(accept4(fd, NULL, NULL, SOCK_CLOEXEC), -1);
            fd_close(accepted);
            fd_close(waiting);
        }
        fd_close(fd);
        unlink(path);
    }
}

static void test_stale(void **state)
{
    (void)state;
    const int types[] = { SOCK_SEQPACKET, SOCK_STREAM, SOCK_DGRAM };
    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        make_stale(types[t]);
        assert_int_equal(try_listen(), 0);
        assert_false(exists(path));
    }
    /* after a crash the lock file is there too */
    make_stale(SOCK_SEQPACKET);
    fd_close(open(lock, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(try_listen(), 0);
    assert_false(exists(lock));
}

static void test_no_socket_there(void **state)
{
    (void)state;
    char target[96];
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "keep", 4), 4);
    fd_close(fd);
    assert_int_equal(try_listen(), -EEXIST);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 4);
    unlink(path);

    snprintf(target, sizeof target, "%s/elsewhere", folder);
    assert_int_equal(symlink(target, path), 0);
    assert_int_equal(try_listen(), -EEXIST); /* dangling */
    assert_false(exists(target));
    unlink(path);

    make_stale(SOCK_SEQPACKET);
    assert_int_equal(rename(path, target), 0);
    assert_int_equal(symlink(target, path), 0);
    assert_int_equal(try_listen(), -EEXIST); /* to a stale socket */
    assert_true(exists(target));
    unlink(path);
    unlink(target);

    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(try_listen(), -EEXIST);
    rmdir(path);
}

static void test_of_somebody_else(void **state)
{
    (void)state;
    need_root();
    make_stale(SOCK_SEQPACKET);
    assert_int_equal(lchown(path, ALICE, ALICE), 0);
    assert_int_equal(try_listen(), -EPERM);
    assert_true(exists(path));
    unlink(path);
}

static void test_directory(void **state)
{
    (void)state;
    static const struct {
        mode_t mode;
        int expected;
    } cases[] = {
        { 0700, 0 },      { 0755, 0 },  { 0777, -EPERM }, { 0775, -EPERM },
        { 0757, -EPERM }, { 01777, 0 }, { 01775, 0 },     { 0720, -EPERM },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(chmod(folder, cases[i].mode), 0);
        assert_int_equal(try_listen(), cases[i].expected);
    }
}

static void test_directory_of_somebody_else(void **state)
{
    (void)state;
    need_root();
    const mode_t modes[] = { 0755, 0700, 01777 };
    assert_int_equal(chown(folder, ALICE, ALICE), 0);
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        assert_int_equal(chmod(folder, modes[i]), 0);
        assert_int_equal(try_listen(), -EPERM);
    }
    assert_false(exists(lock));
}

static void test_missing_directory(void **state)
{
    (void)state;
    struct sock_name name;
    char below[96];
    snprintf(below, sizeof below, "%s/none/sock", folder);
    assert_int_equal(sock_listen(below, &SEQPACKET, &name), -ENOENT);
    fd_close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    snprintf(below, sizeof below, "%s/sock", path);
    assert_int_equal(sock_listen(below, &SEQPACKET, &name), -ENOTDIR);
    unlink(path);
    snprintf(below, sizeof below, "%s/", folder);
    assert_int_equal(sock_listen(below, &SEQPACKET, &name), -EINVAL);
    assert_int_equal(sock_listen("", &SEQPACKET, &name), -EINVAL);
}

static void test_longest_name(void **state)
{
    (void)state;
    struct sock_name name;
    char longest[sizeof name.path + 1];
    int head = snprintf(longest, sizeof longest, "%s/", folder);
    memset(longest + head, 'n', sizeof longest - (size_t)head);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(sock_listen(longest, &SEQPACKET, &name), -ENAMETOOLONG);
    longest[sizeof longest - 2] = '\0';
    int fd = sock_listen(longest, &SEQPACKET, &name); /* its lock's name is longer than a socket's could be */
    assert_true(fd >= 0);
    expect_exchange(fd, longest, SOCK_SEQPACKET);
    fd_close(fd);
    sock_unlisten(&name);
}

static void test_relative_name(void **state)
{
    (void)state;
    int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct sock_name name;
    assert_int_equal(chdir(folder), 0);
    int fd = sock_listen("sock", &SEQPACKET, &name);
    bool there = exists(path);
    fd_close(fd);
    sock_unlisten(&name);
    assert_int_equal(fchdir(here), 0);
    fd_close(here);
    assert_true(fd >= 0 && there);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_address),
        TEST(test_connect_errors),
        TEST(test_listen),
        TEST(test_mode_and_group),
        TEST(test_fact_mode_of_inode),
        TEST(test_in_use),
        TEST(test_in_use_by_others),
        TEST(test_stale),
        TEST(test_no_socket_there),
        TEST(test_of_somebody_else),
        TEST(test_directory),
        TEST(test_directory_of_somebody_else),
        TEST(test_missing_directory),
        TEST(test_longest_name),
        TEST(test_relative_name),
    };
    return cmocka_run_group_tests_name("sock", tests, NULL, NULL);
}
