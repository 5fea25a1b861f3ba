/*
 * policy/fobctl/record.c: lines of the audit read back, and what is none.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../broker/audit.h"
#include "../../policy/fobctl/record.c" // NOLINT(bugprone-suspicious-include): it is in no library

static struct record record;

/* A copy of exactly its size, so that a sanitizer sees a read past the end. */
static int parse_copy(const char *line, size_t len)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, line, len);
    int err = record_parse(&record, copy, len);
    free(copy);
    return err;
}

static int parse(const char *line)
{
    return parse_copy(line, strlen(line));
}

/* What must stand, but for the path. */
#define NEEDED                                                                                            \
    "\"decision\":\"refused\",\"reason\":\"default\",\"rule\":null,\"uid\":7,\"op\":\"open\",\"rights\":" \
    "\"read\""
#define WITH(members) "{" NEEDED "," members "}"

static void expect_path(const char *line, const char *path, size_t len)
{
    assert_int_equal(parse(line), 0);
    assert_true(record.has_path);
    assert_int_equal(record.path_len, len);
    assert_memory_equal(record.path, path, len + 1);
}

/* ---- whole records ---- */

static const char whole[] =
    "{\"time\":\"2026-11-21T02:03:04.567890Z\",\"decision\":\"allowed\",\"errno\":\"ENOENT\",\"reason\":"
    "\"kernel\",\"rule\":\"10-logs.policy:12\",\"id\":null,\"generation\":7,\"uid\":2001,\"gid\":2002,"
    "\"pid\":4711,\"op\":\"open\",\"rights\":\"read,write\",\"flags\":\"READ|WRITE\",\"path\":\"/a\\\"b\","
    "\"real\":\"/c\\u00e9\",\"dev\":\"fe:00\",\"ino\":123,\"as\":\"broker\",\"sealed\":true,\"latency_us\":5}"
    "\n";

static void test_whole(void **state)
{
    (void)state;
    assert_int_equal(parse(whole), 0);
    assert_true(record.allowed && record.has_rule && record.has_path && record.has_real);
    assert_string_equal(record.time, "2026-11-21T02:03:04.567890Z");
    assert_string_equal(record.errno_name, "ENOENT");
    assert_string_equal(record.reason, "kernel");
    assert_string_equal(record.rule, "10-logs.policy:12");
    assert_string_equal(record.op, "open");
    assert_string_equal(record.rights, "read,write");
    assert_int_equal(record.generation, 7);
    assert_int_equal(record.uid, 2001);
    assert_int_equal(record.gid, 2002);
    assert_int_equal(record.pid, 4711);
    assert_int_equal(record.latency_us, 5);
    assert_int_equal(record.path_len, 4);
    assert_string_equal(record.path, "/a\"b");
    assert_int_equal(record.real_len, 4);
    assert_string_equal(record.real, "/c\xc3\xa9");
    assert_false(record_wants_rule(&record));
    assert_int_equal(record_rights(&record), RIGHT_READ | RIGHT_WRITE);
}

/* Nothing of the record before is left. */
static void test_absent(void **state)
{
    (void)state;
    assert_int_equal(parse(whole), 0);
    assert_int_equal(parse(WITH("\"path\":null")), 0);
    assert_false(record.allowed || record.has_rule || record.has_path || record.has_real);
    assert_int_equal(record.path_len + record.real_len + record.gid + record.pid + record.generation, 0);
    assert_string_equal(record.time, "");
    assert_string_equal(record.errno_name, "");
    assert_string_equal(record.rule, "");
    assert_true(record_wants_rule(&record));
}

static void test_good(void **state)
{
    (void)state;
    static const char *const lines[] = {
        WITH("\"path\":\"/x\""),
        " {\t" NEEDED " , \"path\" : \"/x\" } \r\n",
        "Nov 21 02:03:04 host fobd[12]: " WITH("\"path\":\"/x\""),
        "<86>\xff\x80[1]: " WITH("\"path\":\"/x\""),
        WITH("\"path\":\"/x\",\"new\":{}"),
        WITH("\"path\":\"/x\",\"new\":[]"),
        WITH("\"new\":[1,-0.5,1e9,2E+3,[{\"path\":\"/y\",\"uid\":null}],true,false,null],\"path\":\"/x\""),
        WITH("\"new\":{\"a\":{\"b\":[[[[]]]]},\"c\":\"\\u0000\"},\"path\":\"/x\""),
        WITH("\"\":1,\"pathpathpathpathpathpathpathpathpathpath\":2,\"pat\":3,\"path\":\"/x\""),
        WITH("\"new\":\"\",\"new\":\"\",\"path\":\"/x\""),
        WITH("\"\\u0070ath\":\"\\/\\u0078\""),
        WITH("\"raw\":false,\"path\":\"/x\""),
        WITH("\"gid\":4294967295,\"path\":\"/x\""),
        WITH("\"errno\":null,\"real\":null,\"path\":\"/x\""),
    };
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        expect_path(lines[i], "/x", 2);
        assert_int_equal(record.uid, 7);
        assert_true(record_wants_rule(&record));
    }
}

static void test_bad(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "\n",
        "-- Boot --",
        "{}",
        "{",
        "}",
        "{{",
        "[]",
        "{" NEEDED "}", /* no path */
        WITH("\"path\":\"/x\"") "x",
        WITH("\"path\":\"/x\"") WITH("\"path\":\"/x\""),
        WITH("\"path\":\"/x\","),
        WITH("\"path\":\"/x\",,\"gid\":1"),
        WITH("\"path\":\"/x\" \"gid\":1"),
        WITH("\"path\" \"/x\""),
        WITH("path:\"/x\""),
        WITH("\"path\":'/x'"),
        WITH("\"path\":7"),
        WITH("\"path\":[\"/x\"]"),
        WITH("\"path\":\"/x\",\"path\":\"/y\""),
        WITH("\"path\":\"/x\",\"uid\":7"),
        WITH("\"path\":\"/x\\q\""),
        WITH("\"path\":\"/x\\x41\""),
        WITH("\"path\":\"/x\\u12g4\""),
        WITH("\"path\":\"/x\\u+123\""),
        WITH("\"path\":\"/x\n\""),
        WITH("\"path\":\"/x\x01\""),
        WITH("\"path\":\"/x\xff\""),
        WITH("\"path\":\"/x\xc0\xaf\""),
        WITH("\"path\":\"/x\xed\xa0\x80\""),
        WITH("\"path\":\"/x\",\"gid\":-1"),
        WITH("\"path\":\"/x\",\"gid\":01"),
        WITH("\"path\":\"/x\",\"gid\":1.0"),
        WITH("\"path\":\"/x\",\"gid\":1e1"),
        WITH("\"path\":\"/x\",\"gid\":\"1\""),
        WITH("\"path\":\"/x\",\"gid\":null"),
        WITH("\"path\":\"/x\",\"gid\":4294967296"),
        WITH("\"path\":\"/x\",\"gid\":18446744073709551617"),
        WITH("\"path\":\"/x\",\"raw\":1"),
        WITH("\"path\":\"/x\",\"raw\":null"),
        WITH("\"path\":\"/x\",\"raw\":false,\"raw\":true"),
        WITH("\"path\":\"/x\",\"time\":\"a\\u0000b\""),
        WITH("\"path\":\"/x\",\"time\":null"),
        WITH("\"path\":\"/x\",\"time\":\"0123456789012345678901234567890123456789\""),
        WITH("\"path\":\"/x\",\"new\":tru"),
        WITH("\"path\":\"/x\",\"new\":nulll"),
        WITH("\"path\":\"/x\",\"new\":"),
        WITH("\"path\":\"/x\",\"new\":."),
        WITH("\"path\":\"/x\",\"new\":-"),
        WITH("\"path\":\"/x\",\"new\":1."),
        WITH("\"path\":\"/x\",\"new\":1e"),
        WITH("\"path\":\"/x\",\"new\":00"),
        WITH("\"path\":\"/x\",\"new\":NaN"),
        WITH("\"path\":\"/x\",\"new\":[1,]"),
        WITH("\"path\":\"/x\",\"new\":[1}"),
        WITH("\"path\":\"/x\",\"new\":{1:2}"),
        "{\"decision\":\"maybe\",\"reason\":\"default\",\"rule\":null,\"uid\":7,\"op\":\"open\",\"rights\":"
        "\"read\",\"path\":\"/x\"}",
        "{\"decision\":\"refused\",\"reason\":null,\"rule\":null,\"uid\":7,\"op\":\"open\",\"rights\":"
        "\"read\",\"path\":\"/x\"}",
        "{\"decision\":\"refused\",\"reason\":\"default\",\"uid\":7,\"op\":\"open\",\"rights\":\"read\","
        "\"path\":\"/x\"}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        if (parse(lines[i]) != -EINVAL)
            fail_msg("taken for a record: %s", lines[i]);
    assert_int_equal(parse_copy(WITH("\"path\":\"/x\"") "\0", sizeof WITH("\"path\":\"/x\"")), -EINVAL);
}

/* Wherever a record is cut it is none; and no byte that is changed makes it crash. */
static void test_torn(void **state)
{
    (void)state;
    size_t len = strlen(whole) - 1;
    for (size_t i = 0; i < len; i++)
        assert_int_equal(parse_copy(whole, i), -EINVAL);
    assert_int_equal(parse_copy(whole, len), 0);
    for (size_t i = 0; i < len; i++)
        for (unsigned byte = 0; byte < 256; byte++) {
            char changed[sizeof whole];
            memcpy(changed, whole, sizeof whole);
            changed[i] = (char)byte;
            int err = parse_copy(changed, len);
            assert_true(err == 0 || err == -EINVAL);
        }
}

static void test_depth(void **state)
{
    (void)state;
    static char line[200000];
    for (int depth = 1; depth <= 60000; depth = depth < 40 ? depth + 1 : depth * 10) {
        char *at = stpcpy(line, "{" NEEDED ",\"path\":\"/x\",\"new\":");
        memset(at, '[', (size_t)depth);
        memset(at + depth, ']', (size_t)depth);
        stpcpy(at + 2 * depth, "}");
        int err = parse(line);
        assert_int_equal(err, depth <= DEPTH_MAX ? 0 : -EINVAL);
    }
}

/* ---- strings ---- */

static void test_unicode(void **state)
{
    (void)state;
    expect_path(WITH("\"path\":\"/\\u00E9\\u20ac\xe2\x82\xac\""), "/\xc3\xa9\xe2\x82\xac\xe2\x82\xac", 9);
    expect_path(WITH("\"path\":\"\\ud83d\\ude00\xf0\x9f\x98\x80\""), "\xf0\x9f\x98\x80\xf0\x9f\x98\x80", 8);
    expect_path(WITH("\"path\":\"\\uD800\\uDC00\\uDBFF\\uDFFF\""), "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8);
    expect_path(WITH("\"path\":\"\\u007f\\u0080\\u07ff\\u0800\\uffff\""),
                "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf", 11);
    expect_path(WITH("\"path\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), "\"\\/\b\f\n\r\t", 8);
    expect_path(WITH("\"path\":\"a\\u0000b\""), "a\0b", 3);
    static const char *const lone[] = {
        WITH("\"path\":\"\\ud83d\""),
        WITH("\"path\":\"\\ude00\""),
        WITH("\"path\":\"\\ud83dx\""),
        WITH("\"path\":\"\\ud83d\\n\""),
        WITH("\"path\":\"\\ud83d\\ud83d\""),
        WITH("\"path\":\"\\ude00\\ud83d\""),
        WITH("\"path\":\"\\ud83d\\u0041\""),
        WITH("\"path\":\"\\ud83d\\u\""),
        WITH("\"path\":\"/x\",\"new\":\"\\ud83d\""),
    };
    for (size_t i = 0; i < ARRAY_SIZE(lone); i++)
        assert_int_equal(parse(lone[i]), -EINVAL);
}

static void test_raw(void **state)
{
    (void)state;
    expect_path(WITH("\"raw\":true,\"path\":\"/\\u00e9\\u00ff\\u0080\""), "/\xe9\xff\x80", 4);
    expect_path(WITH("\"path\":\"/\\u00e9\",\"raw\" : true"), "/\xe9", 2);
    expect_path(WITH("\"path\":\"/\xc3\xa9\",\"r\\u0061w\":true"), "/\xe9", 2);
    expect_path(WITH("\"path\":\"/\\u00e9\",\"new\":{\"raw\":true}"), "/\xc3\xa9", 3); /* of something else */
    expect_path(WITH("\"raw\":true,\"new\":\"\\u20ac\",\"\\u20ac\":1,\"path\":\"/\""), "/", 1);
    assert_int_equal(parse(WITH("\"raw\":true,\"path\":\"/\\u0100\"")), -EINVAL);
    assert_int_equal(parse(WITH("\"raw\":true,\"path\":\"/\xe2\x82\xac\"")), -EINVAL);
    assert_int_equal(parse(WITH("\"raw\":true,\"path\":\"/\\ud83d\\ude00\"")), -EINVAL);
}

static void test_longest(void **state)
{
    (void)state;
    static char line[8 * PATH_TEXT_MAX], path[PATH_TEXT_MAX + 2];
    for (int raw = 0; raw < 2; raw++)
        for (size_t len = PATH_TEXT_MAX - 1; len <= PATH_TEXT_MAX + 1; len++) {
            char *at = stpcpy(line, "{" NEEDED ",\"path\":\"");
            for (size_t i = 0; i < len; i++)
                at = stpcpy(at, raw ? "\\u00ff" : "x");
            stpcpy(at, raw ? "\",\"raw\":true}" : "\"}");
            memset(path, raw ? 0xff : 'x', len);
            path[len] = '\0';
            if (len <= PATH_TEXT_MAX)
                expect_path(line, path, len);
            else
                assert_int_equal(parse(line), -EINVAL);
        }
}

/* ---- what the broker writes ---- */

static size_t random_bytes(char *out, size_t max)
{
    static const char likely[] = "/abc\"\\\n\t{}[]: \x7f\xc3\xa9\xff";
    size_t len = (size_t)random() % (max + 1);
    long kind = random() % 4;
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(kind == 0   ? random() % 256
                        : kind == 1 ? 0x20 + random() % 0x60
                                    : likely[(size_t)random() % (sizeof likely - 1)]);
    for (size_t i = 0; kind == 3 && i + 4 <= len; i += 4)
        memcpy(out + i, random() % 2 ? "\xf0\x9f\x98\x80" : "\xe2\x80\xae/", 4);
    return len;
}

static void round_trip(size_t max)
{
    static char line[AUDIT_LINE_MAX], path[PATH_TEXT_MAX], real[PATH_TEXT_MAX];
    struct audit_record in = {
        .allowed = random() % 2,
        .error = random() % 2 ? EACCES : 0,
        .reason = "default",
        .rule_file = random() % 2 ? "1\xc3\xa9 \"x\".policy" : NULL,
        .rule_line = (unsigned)random(),
        .generation = (uint32_t)random(),
        .uid = (uid_t)random() * 2,
        .gid = (gid_t)random() * 2,
        .pid = (pid_t)(random() & INT32_MAX),
        .op = "check",
        .rights = (unsigned)random() % 64,
        .path = random() % 16 ? path : NULL,
        .path_len = random_bytes(path, max),
        .real = random() % 2 ? real : NULL,
        .real_len = random_bytes(real, max),
        .latency_us = (uint32_t)random(),
    };
    size_t len = audit_format(line, sizeof line, &in, random() * INT64_C(1000003));
    assert_int_not_equal(len, 0);
    assert_int_equal(parse_copy(line, len), 0);
    assert_int_equal(record.allowed, in.allowed);
    assert_int_equal(record.has_rule, in.rule_file != NULL);
    assert_int_equal(record.has_path, in.path != NULL);
    assert_int_equal(record.has_real, in.real != NULL);
    assert_int_equal(record.path_len, in.path ? in.path_len : 0);
    assert_memory_equal(record.path, path, record.path_len);
    assert_int_equal(record.real_len, in.real ? in.real_len : 0);
    assert_memory_equal(record.real, real, record.real_len);
    assert_true(record.uid == in.uid && record.gid == in.gid && record.pid == (uint32_t)in.pid);
    assert_true(record.generation == in.generation && record.latency_us == in.latency_us);
    assert_int_equal(record_rights(&record), in.rights);
    assert_string_equal(record.errno_name, in.error ? "EACCES" : "");
}

static void test_round_trip(void **state)
{
    (void)state;
    srandom(1);
    for (int i = 0; i < 20000; i++)
        round_trip(24);
    for (int i = 0; i < 2000; i++)
        round_trip(PATH_TEXT_MAX);
}

static void test_rights(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "all", ",", "read,", ",read", "read,,write", "Read", "read write"
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        stpcpy(record.rights, bad[i]);
        assert_int_equal(record_rights(&record), 0);
    }
    stpcpy(record.rights, "stat,read");
    assert_int_equal(record_rights(&record), RIGHT_READ | RIGHT_STAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),   cmocka_unit_test(test_absent),     cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),     cmocka_unit_test(test_torn),       cmocka_unit_test(test_depth),
        cmocka_unit_test(test_unicode), cmocka_unit_test(test_raw),        cmocka_unit_test(test_longest),
        cmocka_unit_test(test_rights),  cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
