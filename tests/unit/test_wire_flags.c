/*
 * common/wire_flags.c: which flags stand together, and open(2)'s.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../common/util.h"
#include "../../common/wire.h"

/* ---- what stands together: restated as a table of "this needs one of those" and "this goes not with that"
 * ---- */

enum {
    R = 0x001,
    W = 0x002,
    A = 0x004,
    C = 0x008,
    E = 0x010,
    T = 0x020,
    D = 0x040,
    F = 0x080,
    P = 0x100,
    N = 0x200,
    S = 0x400
};

static const struct {
    uint32_t flag, needs, excludes;
} TABLE[] = {
    { E, C, 0 },
    { T, W | A, 0 },
    { D, 0, W | A | C | E | T | S },
    { P, 0, R | W | A | C | E | T | N | S },
};

static bool is_allowed(uint32_t flags)
{
    for (size_t i = 0; i < ARRAY_SIZE(TABLE); i++) {
        if (!(flags & TABLE[i].flag))
            continue;
        if ((TABLE[i].needs && !(flags & TABLE[i].needs)) || flags & TABLE[i].excludes)
            return false;
    }
    return (flags & R) || (flags & W) || (flags & A) || (flags & P) || (flags & D);
}

static void test_all_combinations(void **state)
{
    (void)state;
    unsigned allowed = 0;
    for (uint32_t flags = 0; flags < 2048; flags++) {
        bool good = is_allowed(flags);
        if ((wire_check_flags(flags, 0) == 0) != good)
            fail_msg("flags 0x%03x", (unsigned)flags);
        allowed += good;
        bool mode_good = good && flags & C;
        assert_int_equal(wire_check_flags(flags, 0640), mode_good ? 0 : EINVAL);
        assert_int_equal(wire_check_flags(flags, 07777), mode_good ? 0 : EINVAL);
        assert_int_equal(wire_check_flags(flags, 010000), EINVAL);
        assert_int_equal(wire_check_flags(flags, 0x80000000), EINVAL);
        for (unsigned bit = 11; bit < 32; bit++)
            assert_int_equal(wire_check_flags(flags | UINT32_C(1) << bit, 0), EINVAL);
    }
    /*
     * Counted by hand: files: R alone, or one of the 6 sets with W or A, those with T or not; none, C or CE;
     * any of F N S. Directories: any of R F N. PATH: any of D F.
     */
    assert_int_equal(allowed, (1 + 6 * 2) * 3 * 8 + 8 + 4);
}

/* ---- open(2) ---- */

static void test_to_open(void **state)
{
    (void)state;
    static const struct {
        uint32_t flags;
        int oflags;
    } cases[] = {
        { R, O_RDONLY },
        { W, O_WRONLY },
        { R | W, O_RDWR },
        { A, O_WRONLY | O_APPEND },
        { W | A, O_WRONLY | O_APPEND },
        { R | A, O_RDWR | O_APPEND },
        { R | W | A, O_RDWR | O_APPEND },
        { D, O_RDONLY | O_DIRECTORY },
        { R | D | F | N, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK },
        { P, O_PATH },
        { P | D | F, O_PATH | O_DIRECTORY | O_NOFOLLOW },
        { W | C | E | T | S, O_WRONLY | O_CREAT | O_EXCL | O_TRUNC | O_SYNC },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(wire_flags_to_open(cases[i].flags), cases[i].oflags);
}

static void test_from_open(void **state)
{
    (void)state;
    static const struct {
        int oflags;
        int64_t flags;
    } cases[] = {
        { O_RDONLY, R },
        { O_WRONLY, W },
        { O_RDWR, R | W },
        { O_WRONLY | O_APPEND, A },
        { O_RDWR | O_APPEND, R | A },
        { O_RDONLY | O_APPEND, -EINVAL },
        { O_ACCMODE, -EINVAL },
        { O_WRONLY | O_CREAT | O_EXCL | O_TRUNC, W | C | E | T },
        { O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK, R | D | F | N },
        { O_RDONLY | O_CLOEXEC | O_NOCTTY | O_LARGEFILE, R },
        { O_RDWR | O_SYNC, R | W | S },
        { O_RDWR | O_DSYNC, -EINVAL },
        { O_RDWR | (O_SYNC & ~O_DSYNC), -EINVAL },
        { O_RDWR | O_TMPFILE, -EINVAL },
        { O_RDONLY | O_DIRECT, -EINVAL },
        { O_RDONLY | O_NOATIME, -EINVAL },
        { O_RDONLY | O_ASYNC, -EINVAL },
        { 1 << 30, -EINVAL },
        { (int)0x80000000, -EINVAL },
        { O_PATH, P },
        { O_PATH | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW, P | D | F },
        { O_PATH | O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_SYNC, P }, /* open(2) ignores them */
        { O_PATH | O_ACCMODE, -EINVAL },
        { O_PATH | O_TMPFILE, -EINVAL },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (wire_flags_from_open(cases[i].oflags) != cases[i].flags)
            fail_msg("case %zu: %lld", i, (long long)wire_flags_from_open(cases[i].oflags));
    }
}

/* Every allowed combination survives the way there and back, as the same open(2). */
static void test_round_trip(void **state)
{
    (void)state;
    for (uint32_t flags = 0; flags < 2048; flags++) {
        if (!is_allowed(flags))
            continue;
        int64_t back = wire_flags_from_open(wire_flags_to_open(flags));
        uint32_t expected =
            flags & A ? flags & ~(uint32_t)W : flags; /* O_APPEND asks for no more than APPEND */
        if (flags == (flags & (D | F | N)))
            expected |= R; /* a directory to be listed is opened O_RDONLY */
        assert_true(back == (int64_t)expected);
        assert_int_equal(wire_flags_to_open((uint32_t)back), wire_flags_to_open(flags));
        assert_int_equal(wire_check_flags((uint32_t)back, 0), 0);
    }
}

static void test_from_open_every_single_bit(void **state)
{
    (void)state;
    const int known = O_WRONLY | O_RDWR | O_CREAT | O_EXCL | O_TRUNC | O_DIRECTORY | O_NOFOLLOW | O_PATH |
                      O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    const int kernel_largefile = 0100000; /* x86-64 */
    for (unsigned bit = 0; bit < 31; bit++) {
        int oflag = 1 << bit;
        if (known & oflag)
            assert_true(wire_flags_from_open(oflag) > 0);
        else if (oflag != kernel_largefile)
            assert_true(wire_flags_from_open(oflag) == -EINVAL);
    }
}

/* The kernel shows its own O_LARGEFILE in F_GETFL, which glibc calls 0 where off_t has 64 bits. */
static void test_from_getfl(void **state)
{
    (void)state;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    int oflags = fcntl(fd, F_GETFL);
    close(fd);
#ifdef __x86_64__
    assert_int_equal(oflags, 0100000);
#endif
    assert_true(wire_flags_from_open(oflags) == R);
}

/* ---- text ---- */

static void test_text(void **state)
{
    (void)state;
    static const struct {
        uint32_t flags;
        const char *text;
    } cases[] = {
        { 0, "0" },
        { R, "READ" },
        { R | W, "READ|WRITE" },
        { A | C | E, "APPEND|CREATE|EXCLUSIVE" },
        { 0x800, "0x800" },
        { R | 0x80000000, "READ|0x80000000" },
        { 0xffffffff,
          "READ|WRITE|APPEND|CREATE|EXCLUSIVE|TRUNCATE|DIRECTORY|NOFOLLOW|PATH|NONBLOCK|SYNC|0xfffff800" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char out[WIRE_FLAGS_TEXT];
        memset(out, '#', sizeof out);
        assert_ptr_equal(wire_flags_text(out, cases[i].flags), out);
        assert_string_equal(out, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_combinations),
        cmocka_unit_test(test_to_open),
        cmocka_unit_test(test_from_open),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_from_open_every_single_bit),
        cmocka_unit_test(test_from_getfl),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests_name("wire_flags", tests, NULL, NULL);
}
