/*
 * threats.md, section C, what test_paths.c leaves: links that are followed, links that change meanwhile, deep
 * directories. The number of a test is that of its row.
 */
#include "attacks.h"

#include <sys/syscall.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

static const char policy[] = "allow user:2001 read,write,append,create @/al/**\n"
                             "allow user:2001,user:2002 read,list @/pub/**\n"
                             "deny user:2001 all @/al/closed/** @/al/shut\n";

/* Every record of an open is alice's. */
static void expect_hers(const struct broker *b)
{
    assert_int_equal(audit_count(b, "\"op\":\"open\"", NULL),
                     audit_count(b, "\"op\":\"open\"", "\"uid\":2001,"));
}

static void link_to(const struct broker *b, const char *target, const char *name)
{
    CHECK_EQ(symlink(target, at(b, name)), 0);
}

/* ---- 37: where links may lead ---- */

static void expect_opens(const struct broker *b, const char *path, const char *text)
{
    int fd;
    CHECK_EQ(open_once(b, at(b, path), WIRE_READ, &fd), 0);
    CHECK(fd_reads(fd, text));
    close(fd);
}

static void follow_to_her_own(struct client_env *env)
{
    const struct broker *b = env->broker;
    link_to(b, "f", "al/near");
    link_to(b, at(b, "al/f"), "al/absolute");
    link_to(b, "d/../f", "al/up");
    link_to(b, ".//d/.././f", "al/odd");
    link_to(b, "near", "al/chain");
    link_to(b, "d", "al/dir");
    link_to(b, "../../../../../../../../../../../../tmp", "al/tmp"); /* there is nothing above the root */
    static const char *const good[] = { "al/near", "al/absolute", "al/up", "al/odd", "al/chain" };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        expect_opens(b, good[i], "hers\n");
        CHECK_EQ(open_once(b, at(b, good[i]), WIRE_READ | WIRE_WRITE, NULL), 0);
        CHECK_EQ(open_once(b, at(b, good[i]), WIRE_READ | WIRE_NOFOLLOW, NULL), ELOOP);
    }
    expect_opens(b, "al/dir/f", "deep\n");
    char path[2 * DIR_MAX];
    snprintf(path, sizeof path, "%s%s", "al", b->dir); /* al/tmp/fob-test.XXXXXX */
    expect_opens(b, strncmp(b->dir, "/tmp/", 5) == 0 ? strcat(path, "/al/f") : "al/f", "hers\n");
}

/* Denied by what it is, whatever it is called; and by what it is called, whatever it is. */
static void follow_to_what_is_denied(struct client_env *env)
{
    const struct broker *b = env->broker;
    link_to(b, "closed/f", "al/to-closed");
    link_to(b, "closed", "al/closed-dir");
    link_to(b, at(b, "al/closed/../closed/f"), "al/absolute-closed");
    link_to(b, "f", "al/shut");
    link_to(b, "shut", "al/to-shut"); /* its real path is al/f */
    static const char *const bad[] = { "al/to-closed", "al/closed-dir/f", "al/absolute-closed", "al/shut",
                                       "al/closed/f",  "al/closed/none",  "al/closed-dir/none" };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CHECK_EQ(open_once(b, at(b, bad[i]), WIRE_READ, NULL), EACCES);
        CHECK_EQ(open_once(b, at(b, bad[i]), WIRE_WRITE, NULL), EACCES);
    }
    expect_opens(b, "al/to-shut", "hers\n");
}

static void test_37_links_that_are_followed(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    file_write(at(&b, "al/f"), "hers\n", 0600, ALICE);
    assert_int_equal(mkdir(at(&b, "al/d"), 0755) | mkdir(at(&b, "al/closed"), 0755), 0);
    file_write(at(&b, "al/d/f"), "deep\n", 0600, 0);
    file_write(at(&b, "al/closed/f"), "closed\n", 0644, 0);
    as_user(&b, ALICE, follow_to_her_own, NULL);
    as_user(&b, ALICE, follow_to_what_is_denied, NULL);
    expect_hers(&b);
    broker_finish(&b);
}

/* A link that nobody has followed yet is no reason to be asked again: the kernel looks it up without its
 * cache, as for a read. */
static void truncate_through_new_links(struct client_env *env)
{
    const struct broker *b = env->broker;
    char name[16];
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "al/l%d", i);
        link_to(b, i % 2 ? at(b, "al/f") : "f", name);
        CHECK_EQ(open_once(b, at(b, name), WIRE_WRITE | WIRE_TRUNCATE, NULL), 0);
    }
    CHECK_EQ(open_once(b, at(b, "al/to-pub"), WIRE_WRITE | WIRE_TRUNCATE, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "al/to-secret"), WIRE_WRITE | WIRE_TRUNCATE, NULL), EACCES);
}

static void test_37_truncation_through_a_new_link(void **state)
{
    (void)state;
    struct broker b;
    struct stat st;
    broker_begin(&b, policy);
    file_write(at(&b, "al/f"), "hers\n", 0600, ALICE);
    assert_int_equal(symlink("../pub/a", at(&b, "al/to-pub")), 0);
    assert_int_equal(symlink("../secret/f", at(&b, "al/to-secret")), 0);
    as_user(&b, ALICE, truncate_through_new_links, NULL);
    assert_int_equal(stat(at(&b, "al/f"), &st) | (int)st.st_size, 0);
    assert_int_equal(stat(at(&b, "pub/a"), &st), 0);
    assert_int_equal(st.st_size, 6);
    expect_hers(&b);
    broker_finish(&b);
}

/* ---- 37, 40: a link that leads elsewhere, all the time ---- */

enum { FLIPS = 10000 };

static void flip(struct client_env *env)
{
    const char *one = at(env->broker, "al/l"), *other = at(env->broker, "al/m");
    for (;;)
        syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
}

struct flips {
    uint32_t flags;
    const char *path;
    unsigned good, refused;
};

/* What she gets is always the file that she may have. */
static void open_what_flips(struct client_env *env)
{
    struct flips *flips = env->data;
    char path[DIR_MAX + 32];
    snprintf(path, sizeof path, "%s", at(env->broker, flips->path));
    int sock = raw_connect(env->broker), fd;
    for (int i = 0; i < FLIPS; i++) {
        int error = raw_open(sock, path, flips->flags, 0, &fd);
        CHECK(error == 0 || error == EACCES);
        CHECK(error || fd_reads(fd, "good\n"));
        flips->good += error == 0;
        flips->refused += error != 0;
        fd_close(fd);
    }
    fprintf(stderr, "%d opens of a link that flips: %u good, %u refused\n", FLIPS, flips->good,
            flips->refused);
    CHECK(flips->good > 10 && flips->refused > 10);
}

static void race_flips(const char *good, const char *bad, const char *path, uint32_t flags)
{
    struct broker b;
    broker_begin(&b, policy);
    assert_int_equal(mkdir(at(&b, "al/d"), 0755), 0);
    file_write(at(&b, "al/d/f"), "good\n", 0644, 0);
    assert_int_equal(symlink(good, at(&b, "al/l")) | symlink(bad, at(&b, "al/m")), 0);
    struct flips flips = { .flags = flags, .path = path };
    pid_t flipper = client_begin(&b, ALICE, flip, NULL);
    as_user(&b, ALICE, open_what_flips, &flips);
    client_kill(flipper);
    expect_hers(&b);
    broker_finish(&b);
}

static void test_37_40_link_that_flips(void **state)
{
    (void)state;
    race_flips("d/f", "../secret/f", "al/l", WIRE_READ);           /* to what no rule names */
    race_flips("d/f", "../pub/a", "al/l", WIRE_READ | WIRE_WRITE); /* to what may be read only */
    race_flips("d", "../secret", "al/l/f", WIRE_READ);             /* in the middle */
}

/* ---- 42: deep ---- */

enum { DEPTH = 1980 };

/* Its path is just short enough; how long. */
static size_t make_deep(const struct broker *b, char *path, size_t size)
{
    size_t len = (size_t)snprintf(path, size, "%s", at(b, "al"));
    int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < DEPTH && len + 4 < size; i++) {
        assert_int_equal(mkdirat(dir, "d", 0700), 0);
        int below = openat(dir, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_true(below >= 0);
        close(dir);
        dir = below;
        len += (size_t)snprintf(path + len, size - len, "/d");
    }
    int file = openat(dir, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(file, "deep\n", 5), 5);
    close(file);
    close(dir);
    return len + (size_t)snprintf(path + len, size - len, "/f");
}

/* Without recursion in the test: the harness' own removal is for shallow trees. */
static void remove_deep(char *path, size_t len, size_t top)
{
    assert_int_equal(unlink(path), 0);
    for (len -= 2; len > top; len -= 2) {
        path[len] = '\0';
        if (rmdir(path) < 0)
            unlink(path);
    }
}

static void ask_deep(struct client_env *env)
{
    const char *path = env->data;
    int sock = raw_connect(env->broker), fd;
    for (int i = 0; i < 3; i++) {
        int64_t begin = now_us();
        CHECK_EQ(raw_open(sock, path, WIRE_READ, 0, &fd), 0);
        int64_t us = now_us() - begin;
        CHECK(us < AT_ONCE_MS * 1000);
        fprintf(stderr, "%zu bytes of path: %lld us\n", strlen(path), (long long)us);
        CHECK(fd_reads(fd, "deep\n"));
        close(fd);
    }
    char other[4096];
    snprintf(other, sizeof other, "%s", path);
    other[strlen(other) - 1] = 'g';
    CHECK_EQ(raw_open(sock, other, WIRE_READ, 0, &fd), ENOENT);
    CHECK_EQ(raw_open(sock, other, WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE, 0600, &fd), 0);
    close(fd);
    CHECK_EQ(unlink(other), -1); /* root's directories, 0700 */
}

static void test_42_deep_directory(void **state)
{
    (void)state;
    static char path[4096], other[4096];
    struct broker b;
    broker_begin(&b, policy);
    size_t len = make_deep(&b, path, sizeof path);
    as_user(&b, ALICE, ask_deep, path);
    memcpy(other, path, sizeof other);
    other[len - 1] = 'g';
    assert_int_equal(unlink(other), 0);
    expect_hers(&b);
    remove_deep(path, len, strlen(at(&b, "al")));
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_37_links_that_are_followed),
        ATTACK(test_37_truncation_through_a_new_link),
        ATTACK(test_37_40_link_that_flips),
        ATTACK(test_42_deep_directory),
    };
    return cmocka_run_group_tests_name("attacks_names", tests, shared_setup, NULL);
}
