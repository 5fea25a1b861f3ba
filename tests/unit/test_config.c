/*
 * The configuration: defaults, the language, whose file is believed, whose account the workers get.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/config.h"
#include "../../common/util.h"
#include "leak.h"

enum { FALLBACK_ID = 61183, OVERFLOW_ID = 65534 };

static char folder[] = "/tmp/fob-test-config-XXXXXX";
static char file[64], other[64];
static struct config config;
static char *messages; /* of the last reading or resolving */

static int setup(void **state)
{
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    if (leak_setup(state) < 0 || mkdtemp(folder) == NULL || config_init(&config, true) < 0)
        return -1;
    snprintf(file, sizeof file, "%s/conf", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    return 0;
}

static int teardown(void **state)
{
    config_deinit(&config);
    free(messages);
    messages = NULL;
    unlink(file);
    unlink(other);
    return rmdir(folder) < 0 ? -1 : leak_teardown(state);
}

static void begin_anew(bool privileged)
{
    config_deinit(&config);
    assert_int_equal(config_init(&config, privileged), 0);
}

static FILE *begin_messages(void)
{
    static size_t len;
    free(messages);
    messages = NULL;
    FILE *out = open_memstream(&messages, &len);
    assert_non_null(out);
    return out;
}

static int read_bytes(const char *text, size_t len)
{
    FILE *out = begin_messages();
    int err = config_read_text(&config, "NAME", text, len, out);
    fclose(out);
    assert_true(err == 0 || *messages); /* every error is said */
    return err;
}

static int read_text(const char *text)
{
    return read_bytes(text, strlen(text));
}

static void expect_text(const char *value, const char *expected)
{
    if (expected)
        assert_string_equal(value ? value : "(null)", expected);
    else
        assert_null(value);
}

/* ---- defaults ---- */

static void expect_common_defaults(void)
{
    assert_true(config.socket.mode == 0666 && config.socket.gid == (gid_t)-1);
    assert_string_equal(config.user, CONFIG_DEFAULT_USER);
    assert_true(!config.audit_file && config.busy_poll_us == 0);
    assert_true(config.workers == 0 && config.max_connections == 0 && config.max_connections_per_user == 256);
    assert_true(config.user_is_default && !config.audit_required && !config.require_confinement);
}

static void set_folders(const char *runtime, const char *configuration, const char *home)
{
    const char *const names[] = { "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME" };
    const char *const values[] = { runtime, configuration, home };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_int_equal(values[i] ? setenv(names[i], values[i], 1) : unsetenv(names[i]), 0);
}

static void test_system_defaults(void **state)
{
    (void)state;
    set_folders("/r", "/c", "/h"); /* mean nothing to it */
    begin_anew(true);
    expect_common_defaults();
    assert_string_equal(config.socket.path, CONFIG_DEFAULT_SOCKET);
    assert_string_equal(config.policy, CONFIG_DEFAULT_POLICY);
    assert_int_equal(config.audit, CONFIG_AUDIT_SYSLOG);
}

static void test_user_defaults(void **state)
{
    (void)state;
    static const struct {
        const char *runtime, *configuration, *home, *socket, *policy;
    } cases[] = {
        { "/r", "/c", "/h", "/r/fob/fob.sock", "/c/fob/policy.d" },
        { "/r", NULL, "/h", "/r/fob/fob.sock", "/h/.config/fob/policy.d" },
        { "/r", "", "/h", "/r/fob/fob.sock", "/h/.config/fob/policy.d" },
        { "/r", "relative", "/h", "/r/fob/fob.sock", "/h/.config/fob/policy.d" },
        { "/r", "/c", NULL, "/r/fob/fob.sock", "/c/fob/policy.d" },
        { "/r", NULL, NULL, "/r/fob/fob.sock", NULL },
        { NULL, "/c", NULL, NULL, "/c/fob/policy.d" },
        { "", "/c", "/h", NULL, "/c/fob/policy.d" },
        { "relative", "", "h", NULL, NULL },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        set_folders(cases[i].runtime, cases[i].configuration, cases[i].home);
        begin_anew(false);
        expect_common_defaults();
        expect_text(config.socket.path, cases[i].socket);
        expect_text(config.policy, cases[i].policy);
        assert_int_equal(config.audit, CONFIG_AUDIT_STDERR);
    }
}

/* ---- the language ---- */

static void test_every_directive(void **state)
{
    (void)state;
    static const char text[] =
        "# all of them\nsocket \"/run/a b/s\" mode=0660 group=4711\n\tpolicy  /etc/p.d\t# a\n"
        "\nuser 64999\nworkers 3\naudit file \"/var/log/\\\"x\\\\\"\naudit-required yes\n"
        "max-connections 1000\nmax-connections-per-user 9\nbusy-poll 50\nrequire-confinement yes";
    assert_int_equal(read_text(text), 0);
    assert_string_equal(config.socket.path, "/run/a b/s");
    assert_true(config.socket.mode == 0660 && config.socket.gid == 4711);
    assert_string_equal(config.policy, "/etc/p.d");
    assert_string_equal(config.user, "64999");
    assert_int_equal(config.workers, 3);
    assert_int_equal(config.audit, CONFIG_AUDIT_FILE);
    assert_string_equal(config.audit_file, "/var/log/\"x\\");
    assert_int_equal(config.max_connections, 1000);
    assert_true(config.max_connections_per_user == 9 && config.busy_poll_us == 50);
    assert_true(config.audit_required && config.require_confinement && !config.user_is_default);
}

static void take(const char *text)
{
    begin_anew(true);
    assert_int_equal(read_text(text), 0);
}

static void test_values(void **state)
{
    (void)state;
    take("workers auto");
    assert_int_equal(config.workers, 0);
    take("workers 256");
    assert_int_equal(config.workers, 256);
    take("socket /s mode=0");
    assert_true(config.socket.mode == 0 && config.socket.gid == (gid_t)-1);
    take("socket /s group=root mode=777");
    assert_true(config.socket.mode == 0777 && config.socket.gid == 0);
    take("socket /s group=4294967294");
    assert_true(config.socket.mode == 0666 && config.socket.gid == 4294967294);
    take("audit stderr");
    assert_int_equal(config.audit, CONFIG_AUDIT_STDERR);
    take("\"audit\" \"none\"#");
    assert_int_equal(config.audit, CONFIG_AUDIT_NONE);
    take("audit syslog # none");
    assert_int_equal(config.audit, CONFIG_AUDIT_SYSLOG);
}

static void test_bad_lines(void **state)
{
    (void)state;
    char all[] =
        "nonsense|\"\"|\"\" \"\"|user|user a b|user \"\"|user \"a|workers|workers -1|workers 257|workers 1x|"
        "workers 99999999999999999999|socket|socket relative|socket /a/../b|socket /a//b|socket \"\"|"
        "socket /s mode=|socket /s mode=1000|socket /s mode=8|socket /s mode=00660|socket /s group=|"
        "socket /s group=no-such-group-here|socket /s group=4294967295|socket /s other|"
        "socket /s mode=0600 group=0 more|policy p|policy /p /q|audit|audit file|audit file f|audit none x|"
        "audit some|audit-required|audit-required maybe|audit-required Yes|max-connections many|"
        "max-connections-per-user 0|busy-poll|busy-poll 1001|busy-poll -1|busy-poll 50us|busy-poll 50 us|"
        "busy-poll 1\nbusy-poll 2|require-confinement 1|audit none\naudit none|audit none\r|"
        "user a\x01|user a\x7f|1 2 3 4 5 6 7 8 9";
    for (char *rest, *line = strtok_r(all, "|", &rest); line; line = strtok_r(NULL, "|", &rest)) {
        begin_anew(true);
        if (read_text(line) != -EINVAL)
            fail_msg("taken: %s", line);
        assert_memory_equal(messages, "NAME:", 5);
    }
    assert_int_equal(read_bytes("audit\0 none", 11), -EINVAL);
}

/* All of them are said, each with its line; what a terminal would act on is escaped. */
static void test_messages(void **state)
{
    (void)state;
    unsigned lines = 0;
    assert_int_equal(
        read_text("bad\xff\xc2\x9b directive\n\nworkers x\nworkers 2\nuser \xe2\x80\xae\xc3\xa9 x"), -EINVAL);
    for (const char *at = messages; *at; at++) {
        lines += *at == '\n';
        assert_true(*at == '\n' || isprint((unsigned char)*at));
    }
    assert_int_equal(lines, 4);
    assert_true(strstr(messages, "NAME:1: ") && strstr(messages, "NAME:3: "));
    assert_true(strstr(messages, "NAME:4: ") && strstr(messages, "NAME:5: "));
}

static void test_long_lines(void **state)
{
    (void)state;
    enum { LONG = 100000, LIMIT = 8184 };
    static char text[LONG];
    for (size_t len = 1; len < LONG; len *= 3)
        for (const char *byte = "x\"\\\n"; *byte; byte++)
            assert_int_equal(read_bytes(memset(text, *byte, len), len), *byte == '\n' ? 0 : -EINVAL);
    assert_int_equal(read_bytes(memset(text, '#', LIMIT - 1), LIMIT - 1), 0);
    assert_int_equal(read_bytes(memset(text, '#', LIMIT + 1), LIMIT + 1), -EINVAL);
}

/* ---- printing and reading again ---- */

static char *print(void)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    config_print(&config, out);
    fclose(out);
    return text;
}

static void expect_equal(const struct config *a, const struct config *b)
{
    expect_text(a->socket.path, b->socket.path);
    expect_text(a->policy, b->policy);
    expect_text(a->user, b->user);
    expect_text(a->audit_file, b->audit_file);
    assert_true(a->socket.mode == b->socket.mode && a->socket.gid == b->socket.gid);
    assert_true(a->workers == b->workers && a->audit == b->audit && a->audit_required == b->audit_required);
    assert_int_equal(a->max_connections, b->max_connections);
    assert_int_equal(a->max_connections_per_user, b->max_connections_per_user);
    assert_true(a->busy_poll_us == b->busy_poll_us && a->require_confinement == b->require_confinement);
}

/* Prints what is in force and reads that over the defaults: the same, also when it is printed again. */
static void expect_round_trip(bool privileged)
{
    char *first = print();
    struct config before = config;
    assert_int_equal(config_init(&config, privileged), 0);
    assert_int_equal(read_text(first), 0);
    expect_equal(&config, &before);
    char *second = print();
    assert_string_equal(first, second);
    config_deinit(&before);
    free(first);
    free(second);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "socket /s",
        "socket \"/a \\\"b\\\\ #c\" mode=0 group=4294967294",
        "user no-such-account-here",
        "policy \"/p#q\"\nworkers 256\naudit none\nuser 64999",
        "audit file \"/var/log/\xc3\xa9 \xff\"\naudit-required yes\nrequire-confinement yes",
        "audit stderr\nmax-connections 1000000\nmax-connections-per-user 1\nbusy-poll 1000"
    };
    set_folders("/r \"", "/c\\#", NULL);
    for (size_t i = 0; i < 2 * ARRAY_SIZE(texts); i++) {
        begin_anew(i % 2);
        assert_int_equal(read_text(texts[i / 2]), 0);
        expect_round_trip(i % 2);
    }
}

/* Paths of any bytes that a line may have. */
static void test_any_path(void **state)
{
    (void)state;
    unsigned seed = 3;
    for (int i = 0; i < 2000; i++) {
        char path[64] = "/";
        size_t len = 2 + (size_t)rand_r(&seed) % 60;
        for (size_t j = 1; j < len; j++) {
            int byte = ' ' + rand_r(&seed) % (256 - ' ');
            path[j] = (char)(byte == '/' || byte == '.' || byte == 0x7f ? '"' : byte);
        }
        begin_anew(true);
        free(config.socket.path);
        config.socket.path = strdup(path);
        config.audit = CONFIG_AUDIT_FILE;
        config.audit_file = strdup(path);
        expect_round_trip(true);
    }
}

/* ---- the account ---- */

static int resolve(const char *user)
{
    char line[160];
    begin_anew(true);
    if (user) {
        snprintf(line, sizeof line, "user \"%s\"", user);
        assert_int_equal(read_text(line), 0);
    }
    FILE *out = begin_messages();
    int err = config_resolve_user(&config, out);
    fclose(out);
    assert_true(err == 0 || *messages);
    return err;
}

static bool is_usable(uid_t uid, gid_t gid)
{
    return uid != 0 && gid != 0 && uid != OVERFLOW_ID && gid != OVERFLOW_ID;
}

static void expect_account(const char *user, uid_t uid, gid_t gid)
{
    assert_int_equal(resolve(user), is_usable(uid, gid) ? 0 : -EINVAL);
    if (is_usable(uid, gid)) {
        assert_true(config.uid == uid && config.gid == gid);
        assert_string_equal(messages, "");
    }
}

/* Every account of this system, by its name and by its number. */
static void test_accounts(void **state)
{
    (void)state;
    enum { MAX = 100 };
    char names[MAX][64], number[16];
    size_t n = 0;
    setpwent();
    for (const struct passwd *account; n < MAX && (account = getpwent()) != NULL; n++)
        snprintf(names[n], sizeof names[n], "%s", account->pw_name);
    endpwent();
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        const struct passwd *account = getpwnam(names[i]);
        uid_t uid = account->pw_uid;
        expect_account(names[i], uid, account->pw_gid);
        snprintf(number, sizeof number, "%u", uid);
        expect_account(number, uid, getpwuid(uid)->pw_gid); /* two accounts can share a number */
    }
}

static void test_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "0", "65534", "root", "4294967295", "-1", "18446744073709551617", "no-such-account-here"
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(resolve(bad[i]), -EINVAL);
        assert_non_null(strstr(messages, bad[i]));
    }
    for (uid_t uid = 61184; uid < 61200; uid++) {
        char number[16];
        snprintf(number, sizeof number, "%u", uid);
        if (!getpwuid(uid))
            expect_account(number, uid, uid); /* needs no account */
    }
}

static void test_default_account(void **state)
{
    (void)state;
    const struct passwd *account = getpwnam(CONFIG_DEFAULT_USER);
    if (account) {
        expect_account(NULL, account->pw_uid, account->pw_gid);
        return;
    }
    assert_int_equal(resolve(NULL), 0);
    assert_true(config.uid == FALLBACK_ID && config.gid == FALLBACK_ID);
    assert_true(strstr(messages, "warning: ") && strstr(messages, "61183"));
    assert_int_equal(resolve(CONFIG_DEFAULT_USER), -EINVAL); /* somebody asked for it: no other will do */
}

/* ---- files ---- */

static int read_file(const char *name)
{
    begin_anew(true);
    FILE *out = begin_messages();
    int err = config_read(&config, name, out);
    fclose(out);
    return err;
}

static void make_file(const char *text, mode_t mode)
{
    int fd = open(file, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    assert_int_equal(fchmod(fd, mode), 0);
    fd_close(fd);
}

static void test_modes(void **state)
{
    (void)state;
    static const mode_t modes[] = { 0600, 0644, 0400, 0444, 0755, 0620, 0602, 0664, 0646, 0666, 0777 };
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        bool is_safe = !(modes[i] & 022);
        make_file("workers 7\n", modes[i]);
        assert_int_equal(read_file(file), is_safe ? 0 : -EPERM);
        assert_int_equal(config.workers, is_safe ? 7 : 0);
        assert_int_equal(strstr(messages, file) != NULL, !is_safe);
        unlink(file);
    }
    make_file("workers 7\n", 0600);
    if (geteuid() == 0 && chown(file, 2001, 0) == 0)
        assert_int_equal(read_file(file), -EPERM);
}

static void test_other_types(void **state)
{
    (void)state;
    assert_int_equal(read_file(file), -ENOENT);
    assert_int_equal(read_file(folder), -EPERM);
    assert_int_equal(read_file("/dev/zero"), -EPERM);
    assert_int_equal(mkfifo(file, 0600), 0);
    alarm(10);
    assert_int_equal(read_file(file), -EPERM); /* and no waiting for a writer */
    alarm(0);
    unlink(file);
    assert_int_equal(symlink(file, file), 0);
    assert_int_equal(read_file(file), -ELOOP);
    unlink(file);
    make_file("workers 8\nsocket s\n", 0600);
    assert_int_equal(symlink(file, other), 0);
    assert_int_equal(read_file(other), -EINVAL); /* whoever owns the file wrote it, by whatever name */
    assert_ptr_equal(strstr(messages, other), messages);
    assert_memory_equal(messages + strlen(other), ":2: ", 4);
}

static void test_size(void **state)
{
    (void)state;
    enum { MEGABYTE = 1 << 20 };
    make_file("workers 9\n", 0600);
    assert_int_equal(truncate(file, 2 * MEGABYTE), 0);
    assert_int_equal(read_file(file), -EFBIG);
    unlink(file);
    static char text[MEGABYTE]; /* comments and, at the very end, a directive */
    for (size_t i = 0; i < MEGABYTE - 64; i++)
        text[i] = i % 64 == 63 ? '\n' : '#';
    memcpy(text + MEGABYTE - 64, "workers 9\n", 10);
    make_file(text, 0600);
    assert_int_equal(read_file(file), 0);
    assert_int_equal(config.workers, 9);
    make_file("", 0600);
    assert_int_equal(read_file(file), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_system_defaults), TEST(test_user_defaults), TEST(test_every_directive),
        TEST(test_values),          TEST(test_bad_lines),     TEST(test_messages),
        TEST(test_long_lines),      TEST(test_round_trip),    TEST(test_any_path),
        TEST(test_accounts),        TEST(test_numbers),       TEST(test_default_account),
        TEST(test_modes),           TEST(test_other_types),   TEST(test_size),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
