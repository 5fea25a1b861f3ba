/*
 * threats.md, section C: names that mislead. The number of a test is that of its row.
 */
#include "harness.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../../common/util.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

static const char policy[] = "allow user:2001 read,write,append,create @/al/**\n"
                             "allow user:2001 read,list @/pub/**\n";

static void link_to(const struct broker *broker, const char *target, const char *name)
{
    CHECK_EQ(symlink(target, at(broker, name)), 0);
}

/* ---- 36: symlinks planted by the client ---- */

static void follow_planted_links(struct client_env *env)
{
    const struct broker *b = env->broker;
    link_to(b, at(b, "secret/f"), "al/absolute");
    link_to(b, "../secret/f", "al/relative");
    link_to(b, "../secret", "al/dir");
    link_to(b, "/etc/shadow", "al/shadow");
    link_to(b, at(b, "secret/none"), "al/dangling");
    link_to(b, "loop", "al/loop");
    const char *const planted[] = { "al/absolute", "al/relative", "al/dir/f",   "al/shadow",
                                    "al/dangling", "al/loop",     "al/dir/none" };
    for (size_t i = 0; i < ARRAY_SIZE(planted); i++) {
        /* One answer for all: what stands behind the link, or does not, is not told. */
        CHECK_EQ(open_once(b, at(b, planted[i]), WIRE_READ, NULL), EACCES);
        CHECK_EQ(open_once(b, at(b, planted[i]), WIRE_WRITE | WIRE_TRUNCATE, NULL), EACCES);
        CHECK_EQ(open_once(b, at(b, planted[i]), WIRE_WRITE | WIRE_CREATE, NULL), ELOOP);
    }
    CHECK_EQ(open_once(b, at(b, "al/absolute"), WIRE_READ | WIRE_NOFOLLOW, NULL), ELOOP);
}

/* To what the caller may open anyhow a link may lead; the audit names both. */
static void follow_allowed_links(struct client_env *env)
{
    const struct broker *b = env->broker;
    int fd;
    link_to(b, at(b, "pub/a"), "al/to-a");
    link_to(b, "../pub/sub", "al/to-sub");
    CHECK_EQ(open_once(b, at(b, "al/to-a"), WIRE_READ, &fd), 0);
    CHECK(fd_reads(fd, "pub a\n"));
    CHECK_EQ(open_once(b, at(b, "al/to-sub/c"), WIRE_READ, &fd), 0);
    CHECK(fd_reads(fd, "pub sub c\n"));
    /* pub may be read, not written, by whatever name */
    CHECK_EQ(open_once(b, at(b, "al/to-a"), WIRE_READ | WIRE_WRITE, NULL), EACCES);
}

static void test_36_symlinks(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, follow_planted_links, NULL);
    as_user(&b, ALICE, follow_allowed_links, NULL);
    char real[128];
    snprintf(real, sizeof real, "\"real\":\"%s\"", at(&b, "pub/a"));
    assert_int_equal(audit_count(&b, real, "\"allowed\""), 1);
    char text[16];
    assert_int_equal(file_read(at(&b, "secret/f"), text, sizeof text), 7);
    assert_int_equal(access(at(&b, "secret/none"), F_OK), -1);
    broker_finish(&b);
}

/* ---- 38: lexical tricks ---- */

static void ask_odd_spellings(struct client_env *env)
{
    const struct broker *b = env->broker;
    const char *const odd[] = { "pub/../secret/f", "pub/./a", "pub//a", "pub/a/", "pub/sub/../a",
                                "pub/..",          "pub/.",   "/pub/a", "pub/a/." };
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
        CHECK_EQ(open_once(b, at(b, odd[i]), WIRE_READ, NULL), EINVAL);
    CHECK_EQ(open_once(b, "pub/a", WIRE_READ, NULL), EINVAL);
    CHECK_EQ(open_once(b, ".", WIRE_READ, NULL), EINVAL);
    CHECK_EQ(open_once(b, "//", WIRE_READ, NULL), EINVAL);
    CHECK_EQ(open_once(b, "/", WIRE_READ, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "public"), WIRE_READ, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "pub"), WIRE_READ, NULL), EACCES); /* beneath, not itself */
    CHECK_EQ(open_once(b, at(b, "pub/a"), WIRE_READ, NULL), 0);
}

static void test_38_lexical_tricks(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    file_write(at(&b, "public"), "x", 0644, 0);
    as_user(&b, ALICE, ask_odd_spellings, NULL);
    broker_finish(&b);
}

/* ---- 39: bytes ---- */

static void ask_odd_bytes(struct client_env *env)
{
    const struct broker *b = env->broker;
    char path[256];
    int sock = raw_connect(b), fd;
    int len = snprintf(path, sizeof path, "%s", at(b, "pub/a"));
    memcpy(path + len, "\0/../../secret/f", 17);
    CHECK_EQ(raw_ask(sock, WIRE_OPEN, path, (size_t)len + 1, WIRE_READ, 0, &fd), EINVAL);
    CHECK_EQ(raw_ask(sock, WIRE_OPEN, path, (size_t)len + 16, WIRE_READ, 0, &fd), EINVAL);
    static const char *const names[] = {
        "new\nline",        "tab\t",   "esc\033[2J", "del\177",          "bad\377utf8",
        "over\300\257long", "%s%n%x",  "semi;colon", "rtl\342\200\256x", "quote\"",
        "back\\slash",      " blank ", "\xc3\xa9",
    };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        snprintf(path, sizeof path, "%s/%s", at(b, "al"), names[i]);
        CHECK_EQ(raw_open(sock, path, WIRE_READ, 0, &fd), ENOENT);
        int own = open(path, O_WRONLY | O_CREAT, 0600);
        CHECK_EQ(write(own, "odd\n", 4), 4);
        close(own);
        CHECK_EQ(raw_open(sock, path, WIRE_READ, 0, &fd), 0);
        CHECK(fd_reads(fd, "odd\n"));
        close(fd);
    }
}

/* Every record is one line of printable text; how it is escaped is held by test_audit. */
static void test_39_bytes(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, ask_odd_bytes, NULL);
    static char text[65536];
    WAIT_FOR(audit_count(&b, "\"op\":\"open\"", NULL) == 28);
    ssize_t len = file_read(b.audit, text, sizeof text);
    assert_true(len > 0);
    for (ssize_t i = 0; i < len; i++) {
        assert_true(text[i] == '\n' || (unsigned char)text[i] >= 0x20);
        assert_true(text[i] != 0x7f && text[i] != '\033');
        assert_true(i == 0 || text[i - 1] != '\n' || text[i] == '{');
    }
    broker_finish(&b);
}

/* ---- 40: a directory exchanged with a symlink, all the time ---- */

enum { RACES = 200000 };

static pid_t start_exchanging(const struct broker *b)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    if (setresgid(ALICE, ALICE, ALICE) | setresuid(ALICE, ALICE, ALICE))
        _exit(1);
    const char *good = at(b, "al/d"), *bad = at(b, "al/l");
    for (;;)
        syscall(SYS_renameat2, AT_FDCWD, good, AT_FDCWD, bad, RENAME_EXCHANGE);
}

struct race_tally {
    unsigned good, refused, other, leaked;
};

static void race_opens(struct client_env *env)
{
    struct race_tally tally = { 0 };
    const char *path = at(env->broker, "al/d/f");
    int sock = raw_connect(env->broker), fd;
    for (int i = 0; i < RACES; i++) {
        int error = raw_open(sock, path, WIRE_READ, 0, &fd);
        if (fd >= 0 && fd_reads(fd, "SECRET\n"))
            tally.leaked++;
        else if (error == 0)
            tally.good++;
        else if (error == EACCES || error == ELOOP)
            tally.refused++;
        else
            tally.other++;
        fd_close(fd);
    }
    fprintf(stderr, "%d opens against renameat2(EXCHANGE): %u good, %u refused, %u other, %u leaked\n", RACES,
            tally.good, tally.refused, tally.other, tally.leaked);
    CHECK_EQ(tally.leaked, 0);
    CHECK_EQ(tally.other, 0);
    CHECK(tally.good > 100 && tally.refused > 100); /* the race was on */
}

/* What the race does to open(2) with O_NOFOLLOW, asked by root: the attack works where fob is not. */
static unsigned leaks_without_fob(const struct broker *b)
{
    unsigned leaked = 0;
    const char *path = at(b, "al/d/f");
    for (int i = 0; i < RACES / 10; i++) {
        int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        leaked += fd >= 0 && fd_reads(fd, "SECRET\n");
        fd_close(fd);
    }
    return leaked;
}

static void test_40_exchange_race(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    assert_int_equal(mkdir(at(&b, "al/d"), 0755), 0);
    assert_int_equal(chown(at(&b, "al/d"), ALICE, ALICE), 0);
    file_write(at(&b, "al/d/f"), "good\n", 0644, ALICE);
    assert_int_equal(symlink(at(&b, "secret"), at(&b, "al/l")), 0);
    pid_t exchanger = start_exchanging(&b);
    unsigned leaked = leaks_without_fob(&b);
    as_user(&b, ALICE, race_opens, NULL);
    kill(exchanger, SIGKILL);
    child_wait(exchanger);
    print_message("open(2) with O_NOFOLLOW leaked %u of %d\n", leaked, RACES / 10);
    assert_true(leaked > 0);
    broker_finish(&b);
}

/* ---- 42: long ---- */

static void ask_long_paths(struct client_env *env)
{
    static char path[70000];
    int sock = raw_connect(env->broker), fd;
    int prefix = snprintf(path, sizeof path, "%s/", at(env->broker, "al"));
    memset(path + prefix, 'x', sizeof path - (size_t)prefix);
    CHECK_EQ(raw_ask(sock, WIRE_OPEN, path, 4096, WIRE_READ, 0, &fd), EINVAL);
    CHECK_EQ(raw_ask(sock, WIRE_OPEN, path, 65000, WIRE_READ, 0, &fd), EINVAL);
    CHECK_EQ(raw_ask(sock, WIRE_OPEN, path, 4095, WIRE_READ, 0, &fd), ENAMETOOLONG);
    CHECK_EQ(raw_ask(sock, WIRE_OPEN, path, (size_t)prefix + 255, WIRE_READ, 0, &fd), ENOENT);
    CHECK_EQ(raw_ask(sock, WIRE_OPEN, path, (size_t)prefix + 256, WIRE_READ, 0, &fd), ENAMETOOLONG);
    for (int i = prefix; i < 4095; i++)
        path[i] = (i - prefix) % 2 ? '/' : 'd';
    CHECK_EQ(raw_ask(sock, WIRE_OPEN, path, 4094 - (4094 - (size_t)prefix + 1) % 2, WIRE_READ, 0, &fd),
             ENOENT);
}

static void test_42_long(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, ask_long_paths, NULL);
    broker_finish(&b);
}

/* ---- 43: magic links ---- */

static void ask_magic_links(struct client_env *env)
{
    const char *const magic[] = { "/proc/self/root/etc/shadow",
                                  "/proc/1/root/etc/shadow",
                                  "/proc/self/cwd",
                                  "/proc/self/fd/0",
                                  "/proc/thread-self/root/etc/passwd",
                                  "/dev/fd/0",
                                  "/dev/stdin",
                                  "/proc/self/exe" };
    for (size_t i = 0; i < ARRAY_SIZE(magic); i++)
        CHECK_EQ(open_once(env->broker, magic[i], WIRE_READ, NULL), EACCES);
}

static void test_43_magic_links(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001 read /proc/** /dev/**\nallow user:2001 read /**\n");
    as_user(&b, ALICE, ask_magic_links, NULL);
    broker_finish(&b);
}

/* ---- 45: hard links ---- */

static void ask_hard_links(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "al/h"), WIRE_READ, NULL), EPERM);
    CHECK_EQ(open_once(env->broker, at(env->broker, "al/h"), WIRE_WRITE, NULL), EPERM);
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/h"), WIRE_READ, NULL),
             0); /* only root could have linked it there */
}

static void ask_hard_links_any(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "al/h"), WIRE_READ, NULL), 0);
}

static void test_45_hard_links(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    assert_int_equal(link(at(&b, "secret/f"), at(&b, "al/h")), 0);
    assert_int_equal(link(at(&b, "secret/f"), at(&b, "pub/h")), 0);
    as_user(&b, ALICE, ask_hard_links, NULL);
    assert_int_equal(audit_count(&b, "\"reason\":\"links\"", "EPERM"), 2);
    broker_finish(&b);
    broker_begin(&b, "allow user:2001 read @/al/** links=any\n");
    assert_int_equal(link(at(&b, "secret/f"), at(&b, "al/h")), 0);
    as_user(&b, ALICE, ask_hard_links_any, NULL);
    broker_finish(&b);
}

/* The directory is looked at by descriptor: exchanging it with a root-owned one between open and check gains
 * nothing. */
static void race_hard_links(struct client_env *env)
{
    unsigned leaked = 0;
    int sock = raw_connect(env->broker), fd;
    for (int i = 0; i < RACES / 10; i++) {
        if (raw_open(sock, at(env->broker, "al/d/f"), WIRE_READ, 0, &fd) == 0)
            leaked += fd_reads(fd, "SECRET\n");
        fd_close(fd);
    }
    CHECK_EQ(leaked, 0);
}

static void test_45_hard_link_race(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    assert_int_equal(mkdir(at(&b, "al/d"), 0755) | mkdir(at(&b, "al/l"), 0755), 0);
    assert_int_equal(chown(at(&b, "al/d"), ALICE, ALICE), 0);
    assert_int_equal(link(at(&b, "secret/f"), at(&b, "al/d/f")), 0);
    file_write(at(&b, "al/l/f"), "root's\n", 0644, 0);
    pid_t exchanger = start_exchanging(&b);
    as_user(&b, ALICE, race_hard_links, NULL);
    kill(exchanger, SIGKILL);
    child_wait(exchanger);
    broker_finish(&b);
}

/* ---- 46, 47: mounts that come after the policy was loaded ---- */

static void ask_covered(struct client_env *env)
{
    int fd;
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/sub/c"), WIRE_READ, &fd), 0);
    CHECK(fd_reads(fd, "pub sub c\n")); /* what was loaded, not what was mounted over it */
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/sub/new"), WIRE_READ, NULL), ENOENT);
}

static void test_46_mounts_that_come(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    if (mount("tmpfs", at(&b, "pub/sub"), "tmpfs", 0, NULL) < 0) {
        broker_finish(&b);
        puts("skipped: cannot mount a tmpfs");
        skip();
    }
    file_write(at(&b, "pub/sub/new"), "new\n", 0644, 0);
    as_user(&b, ALICE, ask_covered, NULL);
    assert_int_equal(umount(at(&b, "pub/sub")), 0);
    broker_finish(&b);
}

static void ask_replaced_root(struct client_env *env)
{
    int fd;
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, &fd), 0);
    CHECK(fd_reads(fd, "pub a\n"));
}

static void test_47_root_replaced(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    assert_int_equal(rename(at(&b, "pub"), at(&b, "pub.old")), 0);
    assert_int_equal(mkdir(at(&b, "pub"), 0755), 0);
    file_write(at(&b, "pub/a"), "another\n", 0644, 0);
    as_user(&b, ALICE, ask_replaced_root, NULL);
    broker_finish(&b);
}

/* ---- 48: the path is the broker's, wherever the client lives ---- */

static void ask_from_chroot(struct client_env *env)
{
    const struct broker *b = env->broker;
    char path[256];
    snprintf(path, sizeof path, "%s", at(b, "pub/a"));
    int sock = raw_connect(b), fd;
    CHECK_EQ(chroot(at(b, "al")), 0);
    CHECK_EQ(chdir("/"), 0);
    CHECK_EQ(raw_open(sock, path, WIRE_READ, 0, &fd), 0);
    CHECK(fd_reads(fd, "pub a\n"));
}

static void test_48_client_in_a_chroot(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:0 read @/pub/**\n");
    as_user(&b, 0, ask_from_chroot, NULL);
    broker_finish(&b);
}

/* ---- 51: what is refused is not touched ---- */

static void probe_denied(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(open_once(b, at(b, "secret/f"), WIRE_READ, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "secret/none"), WIRE_READ, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "secret/none"), WIRE_WRITE | WIRE_CREATE, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "secret"), WIRE_DIRECTORY, NULL), EACCES);
    char longest[300];
    memset(longest, 'x', sizeof longest);
    memcpy(longest, "secret/", 7);
    longest[290] = '\0';
    CHECK_EQ(open_once(b, at(b, longest), WIRE_READ, NULL), EACCES);
}

/* No system call names a file while refusals are answered: seen by strace(1). */
static void test_51_refused_is_untouched(void **state)
{
    (void)state;
    if (system("command -v strace >/dev/null 2>&1") != 0) {
        puts("skipped: strace is not installed");
        skip();
    }
    struct broker b;
    broker_prepare(&b);
    broker_start(&b, policy, "workers 1");
    pid_t worker;
    assert_int_equal(broker_workers(&b, &worker, 1), 1);
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)worker);
    pid_t tracer = fork();
    if (tracer == 0) {
        execlp("strace", "strace", "-q", "-o", at(&b, "trace"), "-p", pid, (char *)NULL);
        _exit(127);
    }
    char status_path[64], status[4096];
    snprintf(status_path, sizeof status_path, "/proc/%d/status", (int)worker);
    WAIT_FOR(file_read(status_path, status, sizeof status) > 0 && !strstr(status, "TracerPid:\t0\n"));
    as_user(&b, ALICE, probe_denied, NULL);
    usleep(100000);
    kill(tracer, SIGTERM);
    child_wait(tracer);
    static char trace[65536];
    assert_true(file_read(at(&b, "trace"), trace, sizeof trace) > 0);
    assert_non_null(strstr(trace, "recvmsg"));
    assert_null(strstr(trace, "openat"));
    assert_null(strstr(trace, "stat"));
    assert_null(strstr(trace, "readlink"));
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_36_symlinks),
        cmocka_unit_test(test_38_lexical_tricks),
        cmocka_unit_test(test_39_bytes),
        cmocka_unit_test(test_40_exchange_race),
        cmocka_unit_test(test_42_long),
        cmocka_unit_test(test_43_magic_links),
        cmocka_unit_test(test_45_hard_links),
        cmocka_unit_test(test_45_hard_link_race),
        cmocka_unit_test(test_46_mounts_that_come),
        cmocka_unit_test(test_47_root_replaced),
        cmocka_unit_test(test_48_client_in_a_chroot),
        cmocka_unit_test(test_51_refused_is_untouched),
    };
    return cmocka_run_group_tests_name("paths", tests, NULL, NULL);
}
