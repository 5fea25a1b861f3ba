/*
 * common/util.c: descriptors, arrays, numbers.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/util.h"
#include "leak.h"

/* Here too much memory shall be NULL, as without AddressSanitizer. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int open_null(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void test_close(void **state)
{
    (void)state;
    int fd = open_null();
    errno = ENOTDIR;
    assert_int_equal(fd_close(fd), -1);
    assert_int_equal(errno, ENOTDIR);
    assert_false(is_open(fd));
    errno = ENOTDIR;
    assert_int_equal(fd_close(-1), -1);
    assert_int_equal(fd_close(fd), -1); /* EBADF inside */
    assert_int_equal(errno, ENOTDIR);
}

static void test_close_many(void **state)
{
    (void)state;
    int first = open_null(), second = open_null();
    int fds[] = { first, -1, second };
    fd_close_many(fds, 0);
    assert_true(is_open(first));
    fd_close_many(fds, ARRAY_SIZE(fds));
    assert_false(is_open(first));
    assert_false(is_open(second));
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        assert_int_equal(fds[i], -1);
}

static int scoped(bool keep)
{
    CLEANUP(fd_cleanup) int fd = open_null();
    int number = fd;
    if (keep)
        fd_take(&fd);
    return number;
}

static void test_cleanup_and_take(void **state)
{
    (void)state;
    assert_false(is_open(scoped(false)));
    int kept = scoped(true);
    assert_true(is_open(kept));
    int taken = fd_take(&kept);
    assert_int_equal(kept, -1);
    assert_int_equal(fd_take(&kept), -1);
    fd_close(taken);
}

static void test_count(void **state)
{
    (void)state;
    int before = fd_count();
    int open_slowly = 0;
    for (int fd = 0; fd < 65536; fd++)
        open_slowly += is_open(fd);
    assert_int_equal(before, open_slowly);
    int fds[5];
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = open_null();
    assert_int_equal(fd_count(), before + 5);
    fd_close_many(fds, ARRAY_SIZE(fds));
    assert_int_equal(fd_count(), before);
}

static void test_free_cleanup(void **state)
{
    (void)state;
    /* That it frees is seen by ASan and valgrind; that NULL and a moved-out pointer are fine is seen here. */
    CLEANUP(free_cleanup) char *nothing = NULL;
    CLEANUP(free_cleanup) char *something = mem_zalloc(3, 1);
    assert_non_null(something);
    assert_memory_equal(something, "\0\0\0", 3);
    assert_null(nothing);
}

static void test_zalloc_overflow(void **state)
{
    (void)state;
    volatile size_t half = SIZE_MAX / 2 + 2;
    assert_null(mem_zalloc(half, 2));
}

static void test_grow(void **state)
{
    (void)state;
    CLEANUP(free_cleanup) uint32_t *array = NULL;
    size_t cap = 0, moved = 0;
    for (uint32_t n = 0; n < 10000; n++) {
        size_t before = cap;
        assert_int_equal(mem_grow(&array, n, &cap, sizeof *array), 0);
        assert_true(cap > n);
        moved += cap != before;
        array[n] = n * 7;
    }
    assert_true(moved <= 12); /* doubles: 10,000 appends are not 10,000 copies */
    for (uint32_t n = 0; n < 10000; n++)
        assert_int_equal(array[n], n * 7);
}

static void test_grow_fails_whole(void **state)
{
    (void)state;
    CLEANUP(free_cleanup) char *array = mem_zalloc(4, 1);
    char *before = array;
    volatile size_t too_much[] = { SIZE_MAX, SIZE_MAX / 2 + 1, SIZE_MAX / 4 };
    for (size_t i = 0; i < ARRAY_SIZE(too_much); i++) {
        size_t cap = too_much[i];
        assert_int_equal(mem_grow(&array, cap, &cap, 16), -ENOMEM);
        assert_ptr_equal(array, before);
        assert_true(cap == too_much[i]);
    }
}

/* A reader that is slow, and signals without SA_RESTART: short writes and EINTR both happen. */
static void ignore_signal(int number)
{
    (void)number;
}

static void drain_slowly(int fd, size_t expected)
{
    char buf[5000];
    size_t total = 0;
    uint8_t next = 0;
    for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0; total += (size_t)n) {
        for (ssize_t i = 0; i < n; i++) {
            if ((uint8_t)buf[i] != next++)
                _exit(2);
        }
        kill(getppid(), SIGUSR1);
    }
    _exit(total == expected ? 0 : 1);
}

static void test_write_all(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    int pipe_fds[2];
    struct sigaction action = { .sa_handler = ignore_signal }, old;
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
    CLEANUP(free_cleanup) uint8_t *data = mem_zalloc(SIZE, 1);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (uint8_t)i;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(pipe_fds[1]);
        drain_slowly(pipe_fds[0], SIZE);
    }
    fd_close(pipe_fds[0]);
    assert_int_equal(fd_write_all(pipe_fds[1], data, SIZE), 0);
    fd_close(pipe_fds[1]);
    int status;
    while (waitpid(child, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    sigaction(SIGUSR1, &old, NULL);
}

static void test_write_all_errors(void **state)
{
    (void)state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_equal(fd_write_all(full, "x", 1), -ENOSPC);
    assert_int_equal(fd_write_all(full, "x", 0), 0);
    fd_close(full);
    assert_int_equal(fd_write_all(-1, "x", 1), -EBADF);
}

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t max;
        int status;
        uint64_t value;
    } cases[] = {
        { "0", 0, 0, 0 },
        { "007", 7, 0, 7 },
        { "18446744073709551615", UINT64_MAX, 0, UINT64_MAX },
        { "18446744073709551616", UINT64_MAX, -ERANGE, 0 },
        { "18446744073709551620", UINT64_MAX, -ERANGE, 0 },
        { "99999999999999999999999", UINT64_MAX, -ERANGE, 0 },
        { "100", 99, -ERANGE, 0 },
        { "99", 99, 0, 99 },
        { "", 99, -EINVAL, 0 },
        { " 1", 99, -EINVAL, 0 },
        { "1 ", 99, -EINVAL, 0 },
        { "+1", 99, -EINVAL, 0 },
        { "-1", 99, -EINVAL, 0 },
        { "0x10", 99, -EINVAL, 0 },
        { "1\n", 99, -EINVAL, 0 },
        { "99999999999999999999999x", 99, -EINVAL, 0 },
        { "1/", 99, -EINVAL, 0 },
        { "1:", 99, -EINVAL, 0 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t value = 4711;
        assert_int_equal(parse_u64(cases[i].text, cases[i].max, &value), cases[i].status);
        assert_true(value == (cases[i].status == 0 ? cases[i].value : 4711));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, leak_setup, leak_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_close),
        TEST(test_close_many),
        TEST(test_cleanup_and_take),
        TEST(test_count),
        TEST(test_free_cleanup),
        TEST(test_zalloc_overflow),
        TEST(test_grow),
        TEST(test_grow_fails_whole),
        TEST(test_write_all),
        TEST(test_write_all_errors),
        TEST(test_parse),
    };
    return cmocka_run_group_tests_name("util", tests, NULL, NULL);
}
