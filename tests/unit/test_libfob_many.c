/*
 * fob_open_many() of more than a message takes, when something happens in the middle: a broker that closes,
 * one that is gone, no room for the descriptors. Nothing that changes a file is asked twice.
 *
 * Link: -Wl,--wrap=fopen
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../client/fob.h"
#include "../../common/util.h"
#include "../../common/wire.h"
#include "fake_broker.h"
#include "leak.h"

enum { MESSAGE = WIRE_MAX_ENTRIES, MESSAGES = 6, MANY = MESSAGES * MESSAGE };

static struct fob_request requests[MANY];

static void prepare(int oflags)
{
    for (size_t i = 0; i < MANY; i++)
        requests[i] = (struct fob_request){ .path = "/x", .oflags = oflags, .fd = 77, .error = 77 };
}

/* Holds that requests[from..to) have this error, or with 0 a descriptor, which is closed. */
static void expect(size_t from, size_t to, int error)
{
    for (size_t i = from; i < to; i++) {
        assert_int_equal(requests[i].error, error);
        assert_int_equal(requests[i].fd >= 0, error == 0);
        fd_close(requests[i].fd);
    }
}

/* Its first messages are answered, the next was read, and then the connection ends. */
static void test_reading_goes_on(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(CLOSE_AFTER_FEW);
    prepare(O_RDONLY);
    assert_int_equal(fob_open_many(fob, requests, MANY), MANY);
    expect(0, MANY, 0);
    assert_int_equal(shared->requests, MESSAGES + 1);
    assert_int_equal(shared->connections, 2);
    fake_finish(fob);
}

static void test_what_may_be_done_is_not_asked_again(void **state)
{
    (void)state;
    static const int flags[] = { O_WRONLY | O_CREAT, O_WRONLY | O_TRUNC, O_RDWR, O_WRONLY | O_APPEND };
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        struct fob *fob = fake_begin(CLOSE_AFTER_FEW);
        prepare(flags[i]);
        assert_int_equal(fob_open_many(fob, requests, MANY), -1);
        assert_int_equal(errno, ECONNRESET);
        expect(0, FEW * MESSAGE, 0); /* the caller's */
        expect(FEW * MESSAGE, MANY, ECONNRESET);
        assert_int_equal(shared->requests, FEW + 1);
        assert_int_equal(fob_open_many(fob, requests, MANY), MANY); /* the next call finds the broker again */
        expect(0, MANY, 0);
        assert_int_equal(shared->requests, FEW + 1 + MESSAGES);
        fake_finish(fob);
    }
}

/* One that creates makes its whole message one that is not repeated, and no other. */
static void test_one_among_many(void **state)
{
    (void)state;
    for (size_t at = 0; at < MESSAGES; at++) {
        struct fob *fob = fake_begin(CLOSE_AFTER_FEW);
        prepare(O_RDONLY);
        requests[at * MESSAGE + 100].oflags = O_WRONLY | O_CREAT;
        bool lost = at == FEW;
        assert_int_equal(fob_open_many(fob, requests, MANY), lost ? -1 : MANY);
        expect(0, lost ? FEW * MESSAGE : MANY, 0);
        expect(lost ? FEW * MESSAGE : MANY, MANY, ECONNRESET);
        fake_finish(fob);
    }
}

/* Closed between two calls: nothing was sent on it, so all may go on a new one, whatever it does. */
static void test_what_was_not_sent_goes_on_a_new_one(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(CLOSE_BEFORE_ONE);
    prepare(O_WRONLY | O_CREAT | O_EXCL);
    assert_int_equal(fob_open_many(fob, requests, FEW * MESSAGE), FEW * MESSAGE);
    usleep(50000);
    assert_int_equal(fob_open_many(fob, requests + FEW * MESSAGE, MANY - FEW * MESSAGE),
                     MANY - FEW * MESSAGE);
    expect(0, MANY, 0);
    assert_int_equal(shared->requests, MESSAGES);
    assert_int_equal(shared->connections, 2);
    fake_finish(fob);
}

static void test_repeated_once(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(CLOSE_ALWAYS);
    prepare(O_RDONLY);
    requests[5].path = "relative";
    assert_int_equal(fob_open_many(fob, requests, MANY), -1);
    assert_int_equal(errno, ECONNRESET);
    expect(5, 6, EINVAL);
    requests[5].error = ECONNRESET;
    expect(0, MANY, ECONNRESET);
    assert_int_equal(shared->requests, 2);
    fake_finish(fob);
}

static void test_gone_for_good(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(CLOSE_UNREAD);
    assert_int_equal(unlink(fake_path), 0);
    usleep(50000);
    prepare(O_RDONLY);
    assert_int_equal(fob_open_many(fob, requests, MANY), -1);
    assert_int_equal(errno, ENOENT);
    expect(0, MANY, ENOENT);
    fake_finish(fob);
}

/* No room for one message's descriptors: that is the answer to that message, and the next may fit. */
static void test_no_room_for_one_message(void **state)
{
    (void)state;
    if (getenv("FOB_VALGRIND") != NULL)
        skip();                         /* it keeps a limit of its own, which the kernel does not know */
    enum { LAST = 50, INHERITED = 50 }; /* perhaps, somewhere above */
    struct rlimit old;
    struct fob *fob = fake_begin(HONEST);
    int top = dup(0);
    close(top);
    getrlimit(RLIMIT_NOFILE, &old);
    const struct rlimit tight = { (rlim_t)top + MESSAGE + LAST + INHERITED, old.rlim_max };
    prepare(O_RDONLY);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    ssize_t opened = fob_open_many(fob, requests, 2 * MESSAGE + LAST);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(opened, MESSAGE + LAST);
    expect(0, MESSAGE, 0);
    expect(MESSAGE, 2 * MESSAGE, EMFILE);
    expect(2 * MESSAGE, 2 * MESSAGE + LAST, 0);
    assert_int_equal(shared->connections, 1);
    fake_finish(fob);
}

static unsigned files_read;

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode)
{
    files_read++;
    return __real_fopen(path, mode);
}

/* It is read from /proc, which takes longer than an open: once for all, also where it is 0, and not at all
 * for those who create nothing. */
static void test_umask(void **state)
{
    (void)state;
    struct fob *fob = fake_begin(HONEST);
    mode_t before = umask(0);
    prepare(O_WRONLY | O_CREAT);
    files_read = 0;
    assert_int_equal(fob_open_many(fob, requests, MANY), MANY);
    umask(before);
    assert_int_equal(files_read, 1);
    expect(0, MANY, 0);
    prepare(O_RDWR);
    assert_int_equal(fob_open_many(fob, requests, MANY), MANY);
    assert_int_equal(files_read, 1);
    expect(0, MANY, 0);
    fake_finish(fob);
}

static int setup(void **state)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max; /* MANY do not fit into the 1024 that are usual */
    setrlimit(RLIMIT_NOFILE, &limit);
    return fake_setup(state);
}

#define leak_test(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_test(test_reading_goes_on),         leak_test(test_what_may_be_done_is_not_asked_again),
        leak_test(test_one_among_many),          leak_test(test_what_was_not_sent_goes_on_a_new_one),
        leak_test(test_repeated_once),           leak_test(test_gone_for_good),
        leak_test(test_no_room_for_one_message), leak_test(test_umask),
    };
    return cmocka_run_group_tests_name("libfob, many files", tests, setup, fake_teardown);
}
