/*
 * libfob with every call of it failing, one after the other: -1 and errno, no descriptor lost and none for a
 * request that was answered with an error, nothing that changes a file sent twice; and it works again after.
 *
 * Link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=strdup,--wrap=strndup,--wrap=socket,--wrap=connect
 * Link: -Wl,--wrap=sendmsg,--wrap=recvmsg,--wrap=getsockopt,--wrap=fopen,--wrap=close
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../client/fob.h"
#include "../../common/util.h"
#include "fake_broker.h"
#include "faults.h"

enum { CREATED_MODE = 0640 };

/* The fake broker gives /dev/null for everything but paths with "no" in them. */
static bool is_null(int fd)
{
    struct stat got, want;
    return fstat(fd, &got) == 0 && stat("/dev/null", &want) == 0 && got.st_rdev == want.st_rdev &&
           S_ISCHR(got.st_mode) && fcntl(fd, F_GETFD) == FD_CLOEXEC;
}

/* What came of a call, that nothing may have made wrong: `exact`, unless a call of it failed. */
static void check(bool succeeded, int error, bool exact, int want)
{
    if (want || !exact)
        assert_true(!succeeded || !want);
    if (exact)
        assert_int_equal(succeeded ? 0 : error, want);
    assert_true(succeeded || error > 0);
}

static bool lasting;

/* These are made again, or it does not matter what they say. */
static bool is_unnoticed(void)
{
    const char *failed = faults_failed();
    bool retried = failed && faults_error() == EINTR &&
                   (strncmp(failed, "sendmsg", 7) == 0 || strncmp(failed, "recvmsg", 7) == 0);
    return !failed ||
           (!lasting && (retried || strncmp(failed, "close", 5) == 0 || strncmp(failed, "fopen", 5) == 0));
}

/* What failed is over before the next call. */
static bool is_over(bool before)
{
    return before || (!lasting && faults_failed());
}

/* ---- calls of the library ---- */

typedef void call_fn(struct fob *fob, bool before);

static void call_open(struct fob *fob, bool before)
{
    static const struct {
        const char *path;
        int oflags, want;
    } opens[] = {
        { "/x", O_RDONLY, 0 },
        { "/no", O_RDONLY, EACCES },
        { "/x", O_WRONLY | O_CREAT | O_EXCL, 0 },
        { "/no", O_RDWR | O_TRUNC, EACCES },
        { "relative", O_RDONLY, EINVAL },
    };
    for (size_t i = 0; i < ARRAY_SIZE(opens); i++) {
        bool gone = is_over(before);
        errno = 0;
        faults_resume();
        int fd = fob_open(fob, opens[i].path, opens[i].oflags, CREATED_MODE), error = errno;
        faults_pause();
        check(fd >= 0, error, gone || is_unnoticed(), opens[i].want);
        assert_true(fd < 0 || is_null(fd));
        /* It was sent, and may have been done: not again. */
        if (!gone && !lasting && faults_failed() && strcmp(faults_failed(), "recvmsg: ECONNRESET") == 0)
            assert_int_equal(fd >= 0, (opens[i].oflags & O_ACCMODE) == O_RDONLY && !opens[i].want);
        fd_close(fd);
    }
}

static void call_open_many(struct fob *fob, bool before)
{
    enum { MANY = 300 }; /* two messages */
    static struct fob_request requests[MANY];
    static const char *const paths[] = { "/a", "/no", "relative", "/b" };
    static const int wants[] = { 0, EACCES, EINVAL, 0 };
    ssize_t n = 0;
    for (size_t i = 0; i < MANY; i++)
        requests[i] = (struct fob_request){ .path = paths[i % 4], .oflags = O_RDONLY, .fd = 77 };
    errno = 0;
    faults_resume();
    ssize_t opened = fob_open_many(fob, requests, MANY);
    int error = errno;
    faults_pause();
    bool exact = before || is_unnoticed();
    for (size_t i = 0; i < MANY; i++) {
        const struct fob_request *request = &requests[i];
        assert_true((request->fd >= 0) == (request->error == 0));
        check(request->fd >= 0, request->error, exact, wants[i % 4]);
        assert_true(request->fd < 0 || is_null(request->fd));
        n += request->fd >= 0;
        fd_close(request->fd);
    }
    assert_true(opened >= 0 ? opened == n : error > 0 && !exact);
}

static void call_check(struct fob *fob, bool before)
{
    static const char *const paths[] = { "/x", "/no" };
    for (size_t i = 0; i < 2; i++) {
        bool gone = is_over(before);
        errno = 0;
        faults_resume();
        int allowed = fob_check(fob, paths[i], O_RDONLY), error = errno;
        faults_pause();
        check(allowed == 0, error, gone || is_unnoticed(), i ? EACCES : 0);
    }
}

static void call_list(struct fob *fob, bool before)
{
    errno = 0;
    faults_resume();
    char *text = fob_list(fob);
    int error = errno;
    faults_pause();
    check(text, error, before || is_unnoticed(), 0);
    if (text)
        assert_memory_equal(text, "read /srv/**\n", 13);
    free(text);
}

static void call_hello(struct fob *fob, bool before)
{
    struct fob_info info = { 0, 0, 0, 0 };
    struct ucred server = { 0, 0, 0 };
    errno = 0;
    faults_resume();
    int got = fob_hello(fob, &info), error = errno;
    faults_pause();
    check(got == 0, error, before || is_unnoticed(), 0);
    assert_int_equal(info.generation, got == 0 ? 5 : 0);
    bool gone = is_over(before);
    faults_resume();
    got = fob_server(fob, &server), error = errno;
    faults_pause();
    check(got == 0, error, gone || is_unnoticed(), 0);
}

static void call_connect(struct fob *fob, bool before)
{
    (void)fob;
    errno = 0;
    faults_resume();
    struct fob *made = fob_connect(fake_path);
    int error = errno;
    faults_pause();
    check(made, error, before || is_unnoticed(), 0);
    if (made)
        call_open(made, before);
    faults_resume();
    fob_close(made);
    faults_pause();
}

/* ---- every failure of each ---- */

static call_fn *const calls[] = {
    call_open, call_open_many, call_check, call_list, call_hello, call_connect
};

static unsigned run_each(struct fob *with)
{
    unsigned runs = 0;
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        FAULTS_EACH(round, n)
        {
            int fds = fd_count();
            if (lasting)
                faults_begin_lasting(n, round);
            else
                faults_begin(n, round);
            faults_pause();
            calls[i](with, false);
            faults_end();
            for (size_t after = 0; after < ARRAY_SIZE(calls); after++)
                calls[after](with, true);
            assert_int_equal(fd_count(), fds);
            runs++;
        }
    return runs;
}

static struct fob *fob;

static int setup(void **state)
{
    (void)state;
    fob = fake_begin(HONEST);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    faults_end();
    if (faults_failed())
        print_error("last failure: %s\n", faults_failed());
    fake_finish(fob);
    return 0;
}

static void test_one_fails(void **state)
{
    (void)state;
    lasting = false;
    unsigned runs = run_each(fob);
    print_message("%u runs\n", runs);
    assert_true(runs > 100);
}

/* To the end of the call. */
static void test_all_fail_from_then_on(void **state)
{
    (void)state;
    lasting = true;
    assert_true(run_each(fob) > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_fail_from_then_on, setup, teardown),
    };
    return cmocka_run_group_tests_name("faults in libfob", tests, fake_setup, fake_teardown);
}
