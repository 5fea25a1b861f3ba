/*
 * common/log.c: one line, one write, nothing of a client's in it that acts.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/log.h"
#include "../../common/util.h"
#include "leak.h"

static int read_end, saved_stderr;

/* Standard error becomes a packet socket: each write(2) arrives as one packet, so they can be counted. */
static int capture_begin(void **state)
{
    int pair[2];
    if (leak_setup(state) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -1;
    saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    read_end = pair[0];
    if (saved_stderr < 0 || dup2(pair[1], STDERR_FILENO) < 0)
        return -1;
    fd_close(pair[1]);
    log_init("fobd");
    log_set_level(LOG_LEVEL_INFO);
    return 0;
}

static int capture_end(void **state)
{
    if (dup2(saved_stderr, STDERR_FILENO) < 0)
        return -1;
    fd_close(saved_stderr);
    fd_close(read_end);
    return leak_teardown(state);
}

static void expect_line(const char *expected)
{
    char line[8192];
    ssize_t n = recv(read_end, line, sizeof line - 1, MSG_DONTWAIT);
    assert_true(n > 0);
    line[n] = '\0';
    assert_string_equal(line, expected);
}

static void expect_nothing(void)
{
    char byte;
    assert_int_equal(recv(read_end, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

static void test_levels(void **state)
{
    (void)state;
    log_error("a: %d", 1);
    expect_line("fobd: error: a: 1\n");
    log_warning("b");
    expect_line("fobd: warning: b\n");
    log_info("two words");
    expect_line("fobd: two words\n");
    log_debug("c");
    expect_nothing();
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("c");
    expect_line("fobd: debug: c\n");
    log_set_level(LOG_LEVEL_ERROR);
    log_warning("b");
    log_info("b");
    expect_nothing();
    log_error("a");
    expect_line("fobd: error: a\n");
}

static void test_untrusted(void **state)
{
    (void)state;
    log_info("path %s", "/x\nfobd: error: forged\x1b[2J\xc2\x9b");
    expect_line("fobd: path /x\\nfobd: error: forged\\x1b[2J\\xc2\\x9b\n");
    expect_nothing();
    log_info("%s", "%s%n");
    expect_line("fobd: %s%n\n");
}

static void test_errno_kept(void **state)
{
    (void)state;
    errno = ENOENT;
    log_error("open: %m");
    assert_int_equal(errno, ENOENT);
    expect_line("fobd: error: open: No such file or directory\n");
    int copy = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    close(STDERR_FILENO); /* nowhere to write: no matter */
    errno = ENOENT;
    log_error("lost");
    assert_int_equal(errno, ENOENT);
    dup2(copy, STDERR_FILENO);
    close(copy);
}

static void test_long(void **state)
{
    (void)state;
    char text[6001], line[8192];
    const char fills[] = { 'x', '\x01' }; /* the second takes four characters each */
    for (size_t i = 0; i < ARRAY_SIZE(fills); i++) {
        memset(text, fills[i], sizeof text - 1);
        text[sizeof text - 1] = '\0';
        log_info("%s", text);
        ssize_t n = recv(read_end, line, sizeof line, MSG_DONTWAIT);
        assert_in_range(n, 2000, 4096);
        assert_memory_equal(line + n - 4, "...\n", 4);
        assert_null(memchr(line, '\n', (size_t)n - 1));
        assert_null(memchr(line, '\0', (size_t)n));
        expect_nothing();
    }
}

static void test_full_drops(void **state)
{
    (void)state;
    /* More than the socket holds, and it does not wait: lines are lost, the program goes on. */
    for (int i = 0; i < 5000; i++)
        log_info("line %d", i);
    expect_line("fobd: line 0\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, capture_begin, capture_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_levels), TEST(test_untrusted),  TEST(test_errno_kept),
        TEST(test_long),   TEST(test_full_drops),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
