/*
 * The protocol of APUE's open server as bytes: requests of every shape, and what is answered to those that
 * fail.
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../common/apue.h"
#include "../../common/util.h"

/* ---- requests ---- */

/* In a block that ends where the request ends: ASan sees a read behind it. */
static struct apue_request parse_bytes(const char *bytes, size_t len, char **block)
{
    struct apue_request request;
    *block = malloc(len + 1);
    assert_non_null(*block);
    memcpy(*block + 1, bytes, len);
    apue_parse(*block + 1, len, &request);
    if (!request.path)
        assert_int_equal(request.path_len, 0);
    return request;
}

static void expect_path(const char *text, const char *path, size_t len, int oflag)
{
    CLEANUP(free_cleanup) char *block = NULL;
    struct apue_request request = parse_bytes(text, strlen(text), &block);
    if (!request.path || request.path_len != len || memcmp(request.path, path, len) != 0 ||
        request.oflag != oflag)
        fail_msg("`%s`: path %zu bytes, oflag %d; not %zu bytes, %d", text, request.path_len, request.oflag,
                 len, oflag);
    assert_true(request.path > block && request.path + len < block + 1 + strlen(text));
}

static void expect(const char *text, const char *path, int oflag)
{
    expect_path(text, path, strlen(path), oflag);
}

static void expect_none(const char *bytes, size_t len)
{
    CLEANUP(free_cleanup) char *block = NULL;
    struct apue_request request = parse_bytes(bytes, len, &block);
    if (request.path)
        fail_msg("`%.*s` is taken for a request", (int)len, bytes);
    assert_int_equal(request.oflag, -1);
}

static void test_requests(void **state)
{
    (void)state;
    expect("open /etc/hosts 0", "/etc/hosts", 0);
    expect("open /etc/hosts 1", "/etc/hosts", 1);
    expect("open relative 2", "relative", 2);
    expect("open / 65536", "/", 65536);
    expect("open open 0", "open", 0);
    expect("open 0 0", "0", 0);
    expect("open 0 1 2", "0 1", 2);
    expect("open /a;uid=0; 0", "/a;uid=0;", 0);
    expect("open \xff\x01\x7f 0", "\xff\x01\x7f", 0);
}

/* One blank or several, of each kind, at every place. */
static void test_separators(void **state)
{
    (void)state;
    static const char *const blanks[] = { " ",    "\t",    "\n",    "  ",    " \t", "\t ",
                                          "\n\n", "\t\n ", " \n\t", "     ", "\n " };
    char text[128];
    for (size_t i = 0; i < ARRAY_SIZE(blanks); i++)
        for (size_t j = 0; j < ARRAY_SIZE(blanks); j++) {
            snprintf(text, sizeof text, "open%s/a/b%s577", blanks[i], blanks[j]);
            expect(text, "/a/b", 577);
            snprintf(text, sizeof text, "%sopen /a/b 577%s", blanks[i], blanks[j]);
            expect(text, "/a/b", 577);
        }
}

/* No other byte separates. */
static void test_no_separators(void **state)
{
    (void)state;
    char text[] = "open?/a?0";
    for (int byte = 1; byte < 256; byte++) {
        if (strchr(" \t\n", byte))
            continue;
        text[4] = (char)byte;
        text[7] = ' ';
        expect_none(text, sizeof text - 1);
        text[4] = ' ';
        text[7] = (char)byte;
        expect_none(text, sizeof text - 1);
    }
}

/* The last word is the number, what is between is the path, as it is. */
static void test_paths_with_blanks(void **state)
{
    (void)state;
    expect("open /a b 0", "/a b", 0);
    expect("open /a  b 0", "/a  b", 0);
    expect("open /a\tb\nc 0", "/a\tb\nc", 0);
    expect("open  /My Documents/to do.txt   1", "/My Documents/to do.txt", 1);
    expect("open /a 0 0", "/a 0", 0);
    expect("open /a b", "/a", -1); /* the last word is no number */
    expect("open open /a 0", "open /a", 0);
}

static void test_no_requests(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",          "o",         "op",         "ope",        "open",     "open ",      "open\n",
        "open  \t ", "open /a",   "open 0",     "/a 0",       "openx",    "openx /a 0", "opens /a 0",
        "OPEN /a 0", "Open /a 0", "xopen /a 0", "close /a 0", "open/a 0", "open,/a 0",  "pen /a 0",
        " ",         "   \t\n",   " open",      "open /a ",   " open /a",
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        expect_none(wrong[i], strlen(wrong[i]));
    expect_none("open\0/a 0", 9);
    expect_none("ope\0n /a 0", 10);
}

static void test_every_beginning(void **state)
{
    (void)state;
    static const char text[] = " open /ab c 12";
    for (size_t len = 0; len < sizeof text - 1; len++) {
        CLEANUP(free_cleanup) char *block = NULL;
        struct apue_request request = parse_bytes(text, len, &block);
        if (len < strlen(" open /ab c"))
            assert_null(request.path);
        else if (len < strlen(" open /ab c 1"))
            assert_int_equal(request.oflag, -1);
        else
            assert_int_equal(request.oflag, len == strlen(" open /ab c 1") ? 1 : 12);
    }
}

/* ---- numbers ---- */

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int value;
    } numbers[] = {
        { "0", 0 },
        { "00", 0 },
        { "0000000000000000000000000000", 0 },
        { "010", 10 },
        { "0000000577", 577 },
        { "1", 1 },
        { "9", 9 },
        { "2097152", 2097152 },
        { "1073741824", 1 << 30 },
        { "-0", -1 },
        { "-1", -1 },
        { "+1", -1 },
        { "0x10", -1 },
        { "0X1", -1 },
        { "1e3", -1 },
        { "1.0", -1 },
        { "1,", -1 },
        { "o", -1 },
        { "O_RDONLY", -1 },
        { "1_0", -1 },
        { "\xd9\xa1", -1 },
        { "2147483648", -1 },
        { "4294967295", -1 },
        { "4294967296", -1 },
        { "4294967297", -1 },
        { "8589934592", -1 },
        { "18446744073709551616", -1 },
        { "21474836470", -1 },
        { "99999999999999999999999999999999999999", -1 },
        { "-2147483648", -1 },
        { "1\x01", -1 },
        { "1\r", -1 },
    };
    char text[128];
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        snprintf(text, sizeof text, "open /a %s", numbers[i].text);
        expect(text, "/a", numbers[i].value);
    }
}

/* A flag is a bit: none of them may be lost, and the largest number never becomes another one. */
static void test_every_bit(void **state)
{
    (void)state;
    char text[64];
    for (int bit = 0; bit < 31; bit++) {
        snprintf(text, sizeof text, "open /a %u", 1u << bit);
        expect(text, "/a", 1 << bit);
    }
    for (unsigned i = 0; i < 20; i++) {
        CLEANUP(free_cleanup) char *block = NULL;
        snprintf(text, sizeof text, "open /a %u", (unsigned)INT_MAX - i);
        struct apue_request request = parse_bytes(text, strlen(text), &block);
        assert_true(request.oflag == -1 || (unsigned)request.oflag == (unsigned)INT_MAX - i);
    }
}

/* ---- long paths ---- */

static void test_long_paths(void **state)
{
    (void)state;
    static const size_t lengths[] = { 1, 255, 256, 4094, 4095, 4096, 4300, 100000 };
    static char text[100016], path[100001];
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        memset(path, 'p', lengths[i]);
        path[0] = '/';
        path[lengths[i]] = '\0';
        snprintf(text, sizeof text, "open %s 2", path);
        expect_path(text, path, lengths[i], 2);
    }
}

/* The longest path fits with the blanks that clients write. */
static void test_longest_request(void **state)
{
    (void)state;
    assert_true(APUE_MAX_REQUEST >= (int)sizeof "open  " + 4095 + (int)sizeof "2147483647");
}

/* ---- replies ---- */

static size_t encode(uint8_t out[APUE_MAX_REPLY], const char *path, size_t len, int error)
{
    CLEANUP(free_cleanup) char *block = malloc(len + 1); /* not terminated */
    assert_non_null(block);
    memcpy(block + 1, path, len);
    size_t size = apue_encode_error(out, block + 1, len, error);
    assert_in_range(size, 4, APUE_MAX_REPLY);
    assert_int_equal(out[size - 3], '\n');
    assert_int_equal(out[size - 2], 0);
    assert_ptr_equal(memchr(out, 0, size), out + size - 2); /* the only one */
    assert_int_not_equal(out[size - 1], 0);
    return size;
}

static void expect_text(const char *path, int error, const char *text)
{
    uint8_t out[APUE_MAX_REPLY];
    size_t size = encode(out, path, strlen(path), error);
    assert_int_equal(size, strlen(text) + 2);
    assert_memory_equal(out, text, strlen(text));
    assert_int_equal(out[size - 1], error);
}

static void test_replies(void **state)
{
    (void)state;
    expect_text("/none", ENOENT, "can't open /none: No such file or directory\n");
    expect_text("/secret", EACCES, "can't open /secret: Permission denied\n");
    expect_text("/a b", ETIMEDOUT, "can't open /a b: Connection timed out\n");
    expect_text("%s%n%d", EPERM, "can't open %s%n%d: Operation not permitted\n");
    expect_text("", EINVAL, "usage: <pathname> <oflag>\n");
    assert_int_equal(apue_success[0], 0);
    assert_int_equal(apue_success[1], 0);
    assert_int_equal(sizeof apue_success, 2);
}

/* The status is a byte, and never the one of success. */
static void test_every_error(void **state)
{
    (void)state;
    uint8_t out[APUE_MAX_REPLY];
    for (int error = -300; error <= 1000; error++) {
        size_t size = encode(out, "/a", 2, error);
        if (error > 0 && error <= 255)
            assert_int_equal(out[size - 1], error);
        encode(out, "", 0, error);
    }
    encode(out, "/a", 2, INT_MIN);
    encode(out, "/a", 2, INT_MAX);
}

/* Whatever its length, one read of 4096 takes it, with its newline. */
static void test_long_replies(void **state)
{
    (void)state;
    static char path[70000];
    uint8_t out[APUE_MAX_REPLY];
    memset(path, 'p', sizeof path);
    for (size_t len = 1; len <= 4400; len++) {
        size_t size = encode(out, path, len, ENOTRECOVERABLE); /* of the longest texts */
        assert_memory_equal(out, "can't open p", 12);
        if (len <= 3900)
            assert_int_equal(size, strlen("can't open : \n") + len + strlen(strerror(ENOTRECOVERABLE)) + 2);
        assert_memory_equal(out + size - 3 - 11, "recoverable", 11);
    }
    for (int error = 1; error <= 255; error++)
        encode(out, path, sizeof path, error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),      cmocka_unit_test(test_separators),
        cmocka_unit_test(test_no_separators), cmocka_unit_test(test_paths_with_blanks),
        cmocka_unit_test(test_no_requests),   cmocka_unit_test(test_every_beginning),
        cmocka_unit_test(test_numbers),       cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_long_paths),    cmocka_unit_test(test_longest_request),
        cmocka_unit_test(test_replies),       cmocka_unit_test(test_every_error),
        cmocka_unit_test(test_long_replies),
    };
    return cmocka_run_group_tests_name("apue", tests, NULL, NULL);
}
