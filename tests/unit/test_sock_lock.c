/*
 * common/sock.c: the lock, brokers that race for a name, abstract names, receive options.
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

/* ---- the lock ---- */

static void test_foreign_lock(void **state)
{
    (void)state;
    char elsewhere[80];
    snprintf(elsewhere, sizeof elsewhere, "%s/file", folder);
    assert_int_equal(symlink(elsewhere, lock), 0);
    assert_int_equal(try_listen(), -EEXIST);
    assert_false(exists(elsewhere));
    unlink(lock);
    assert_int_equal(mkfifo(lock, 0600), 0);
    assert_int_equal(try_listen(), -EEXIST);
    unlink(lock);
    assert_int_equal(mkdir(lock, 0700), 0);
    assert_int_equal(try_listen(), -EEXIST);
    rmdir(lock);
    if (geteuid() == 0) {
        fd_close(open(lock, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
        assert_int_equal(chown(lock, ALICE, ALICE), 0);
        assert_int_equal(try_listen(), -EPERM);
        assert_true(exists(lock));
        unlink(lock);
    }
}

static void test_unlisten_spares_others(void **state)
{
    (void)state;
    struct sock_name name;
    int fd = sock_listen(path, &SEQPACKET, &name);
    assert_true(fd >= 0);
    fd_close(fd);
    /* Another socket has the name now. The old one is kept under another: its inode number must not come
     * again. */
    char kept[96];
    snprintf(kept, sizeof kept, "%s/kept", folder);
    assert_int_equal(rename(path, kept), 0);
    make_stale(SOCK_SEQPACKET);
    sock_unlisten(&name);
    assert_true(exists(path));
    assert_true(exists(kept));
    assert_false(exists(lock));
    unlink(path);
    unlink(kept);
}

/* A broker that holds the name and comes and goes; the other gets it as soon as it can, and never a half of
 * it. */
static int contend(int rounds)
{
    int won = 0;
    while (won < rounds) {
        struct sock_name name;
        int fd = sock_listen(path, &SEQPACKET, &name);
        if (fd == -EADDRINUSE)
            continue;
        if (fd < 0)
            return 1;
        int client = sock_connect(path, SOCK_SEQPACKET);
        int accepted = client < 0 ? -1 : accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (accepted < 0)
            return 2; /* what stands at the name is not ours though we hold it */
        fd_close(accepted);
        fd_close(client);
        fd_close(fd);
        sock_unlisten(&name);
        won++;
    }
    return 0;
}

static void test_coming_and_going(void **state)
{
    (void)state;
    pid_t children[3];
    for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0)
            _exit(contend(200));
    }
    for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
}

/* Starts at once with its rival; 'w' or 'l' or 'e' to the pipe, and holds what it won until the end of
 * `hold`. */
static void racer(int start, int report, int hold)
{
    struct sock_name name;
    char byte;
    if (read(start, &byte, 1) != 0)
        _exit(1);
    int fd = sock_listen(path, &SEQPACKET, &name);
    byte = fd >= 0 ? 'w' : fd == -EADDRINUSE ? 'l' : 'e';
    if (write(report, &byte, 1) != 1 || read(hold, &byte, 1) != 0)
        _exit(1);
    if (fd >= 0)
        sock_unlisten(&name);
    _exit(0);
}

static void race_once(char results[2])
{
    int start[2], report[2], hold[2], status;
    pid_t children[2];
    assert_int_equal(pipe2(start, O_CLOEXEC) | pipe2(report, O_CLOEXEC) | pipe2(hold, O_CLOEXEC), 0);
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            close(start[1]);
            close(hold[1]);
            racer(start[0], report[1], hold[0]);
        }
    }
    fd_close(start[1]);
    for (int i = 0; i < 2; i++)
        assert_int_equal(read(report[0], results + i, 1), 1);
    fd_close(hold[1]);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    const int rest[] = { start[0], report[0], report[1], hold[0] };
    for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
        fd_close(rest[i]);
}

static void test_race_for_stale_socket(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        char results[2];
        make_stale(SOCK_SEQPACKET);
        if (round % 2 == 0) /* as after a crash */
            fd_close(open(lock, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        race_once(results);
        if (!((results[0] == 'w' && results[1] == 'l') || (results[0] == 'l' && results[1] == 'w')))
            fail_msg("round %d: %c %c", round, results[0], results[1]);
        assert_false(exists(path));
        assert_false(exists(lock));
    }
}

/* ---- abstract names ---- */

static void test_abstract(void **state)
{
    (void)state;
    struct sock_name name, second;
    char address[64];
    snprintf(address, sizeof address, "@fob-test-sock-%d", (int)getpid());
    int fd = sock_listen(address, &SEQPACKET, &name);
    assert_true(fd >= 0);
    assert_int_equal(name.lock_fd, -1);
    expect_exchange(fd, address, SOCK_SEQPACKET);
    assert_int_equal(sock_listen(address, &SEQPACKET, &second), -EADDRINUSE);
    sock_unlisten(&name);
    fd_close(fd);
    assert_int_equal(sock_connect(address, SOCK_SEQPACKET), -ECONNREFUSED);
}

/* ---- receive options: facts of the kernel ---- */

static void test_fact_options_inherited(void **state)
{
    (void)state;
    struct sock_name name;
    struct ucred cred;
    size_t len;
    char byte;
    int fd = sock_listen(path, &SEQPACKET, &name), value = -1;
    int client = sock_connect(path, SOCK_SEQPACKET);
    assert_int_equal(msg_send(client, "early", 5, NULL, 0, NULL, 0), 0); /* before accept(2) */
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    char buf[8];
    assert_int_equal(getsockopt(accepted, SOL_SOCKET, SO_PASSCRED, &value, &(socklen_t){ sizeof value }), 0);
    assert_int_equal(value, 1);
    assert_int_equal(msg_recv_cred(accepted, buf, sizeof buf, 0, &len, &cred), 1);
    assert_int_equal(cred.pid, getpid());
    assert_int_equal(cred.uid, geteuid());
    assert_int_equal(msg_recv_cred(accepted, &byte, 1, MSG_DONTWAIT, &len, &cred), -EAGAIN);
    fd_close(accepted);
    fd_close(client);
    fd_close(fd);
    sock_unlisten(&name);
}

static void test_fact_rights_refused_at_the_sender(void **state)
{
    (void)state;
    struct sock_name name;
    int fd = sock_listen(path, &SEQPACKET, &name), value = -1;
    bool have = getsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &value, &(socklen_t){ sizeof value }) == 0;
    int client = sock_connect(path, SOCK_SEQPACKET), accepted = -1;
    if (have) {
        assert_int_equal(value, 0);
        assert_int_equal(msg_send(client, "x", 1, &client, 1, NULL, 0), -EPERM); /* also before accept(2) */
        accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        assert_int_equal(msg_send(client, "x", 1, &client, 1, NULL, 0), -EPERM);
        assert_int_equal(msg_send(client, "x", 1, NULL, 0, NULL, 0), 0);
    }
    fd_close(accepted);
    fd_close(client);
    fd_close(fd);
    sock_unlisten(&name);
    if (!have) {
        print_message("skipped: no SO_PASSRIGHTS (before Linux 6.16)\n");
        skip();
    }
}

static void test_receive_options_errors(void **state)
{
    (void)state;
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(sock_set_receive_options(-1), -EBADF);
    assert_int_equal(sock_set_receive_options(file), -ENOTSOCK);
    fd_close(file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_foreign_lock),
        TEST(test_unlisten_spares_others),
        TEST(test_coming_and_going),
        TEST(test_race_for_stale_socket),
        TEST(test_abstract),
        TEST(test_fact_options_inherited),
        TEST(test_fact_rights_refused_at_the_sender),
        TEST(test_receive_options_errors),
    };
    return cmocka_run_group_tests_name("sock_lock", tests, NULL, NULL);
}
