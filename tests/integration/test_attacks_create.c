/*
 * threats.md, section F, what test_create.c leaves: flags that are not, whose quota it is, and what is
 * planted while a file is created. The number of a test is that of its row.
 */
#include "attacks.h"

#include <dirent.h>
#include <sys/mount.h>

#include "../../client/fob.h"

enum { GROUP = 3333, RACES = 5000 };

static const char policy[] = "allow user:2001,user:2002 read,write,append,create @/al/** @/sticky/**\n"
                             "allow user:2001 write,create @/priv/** @/team/**\n"
                             "allow user:2001 write,create @/own/** as=caller\n";

static int create(const struct broker *b, const char *path, uint32_t flags, int *fd)
{
    int sock = raw_connect(b);
    int error = raw_open(sock, at(b, path), flags, flags & WIRE_CREATE ? 0640 : 0, fd);
    close(sock);
    return error;
}

/* ---- 73d: open(2) has more flags than the protocol ---- */

static void expect_invalid(struct fob *fob, const char *path, int oflags)
{
    errno = 0;
    int fd = fob_open(fob, path, oflags, 0644);
    if (fd >= 0 || errno != EINVAL)
        fprintf(stderr, "oflags %#x of %s\n", (unsigned)oflags, path);
    CHECK_EQ(fd, -1);
    CHECK_EQ(errno, EINVAL);
}

/* Those that the protocol cannot say, and those that it can: libfob and the broker refuse the same way. */
static const int unknown[] = { O_TMPFILE | O_RDWR,
                               O_TMPFILE | O_WRONLY,
                               O_DIRECT,
                               O_NOATIME,
                               O_ASYNC,
                               O_DSYNC,
                               O_ACCMODE,
                               1 << 27,
                               1 << 28,
                               1 << 29,
                               1 << 30,
                               INT32_MIN };
static const int senseless[] = { O_RDONLY | O_TRUNC, O_RDONLY | O_EXCL, O_WRONLY | O_DIRECTORY,
                                 O_WRONLY | O_CREAT | O_DIRECTORY };

static void ask_by_libfob(struct client_env *env)
{
    static const char *const names[] = { "al", "al/f", "al/new" };
    const struct broker *b = env->broker;
    struct fob *fob = fob_connect(b->socket);
    CHECK(fob);
    for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
        for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
            expect_invalid(fob, at(b, names[n]), unknown[i]);
            if (!(unknown[i] & O_DIRECTORY))
                expect_invalid(fob, at(b, names[n]), unknown[i] | O_CREAT | O_WRONLY);
        }
        for (size_t i = 0; i < ARRAY_SIZE(senseless); i++)
            expect_invalid(fob, at(b, names[n]), senseless[i]);
        count_requests(ARRAY_SIZE(senseless));
    }
    CHECK_EQ(fob_open(fob, at(b, "al/f"), O_PATH, 0), -1); /* a right of its own, and not given */
    CHECK_EQ(errno, EACCES);
    int fd = fob_open(fob, at(b, "al/f"), O_RDWR | O_CLOEXEC | O_NOCTTY, 0);
    CHECK(fd_reads(fd, "hers\n"));
    close(fd);
    count_requests(2);
    fob_close(fob);
}

static void ask_by_bits(struct client_env *env)
{
    const struct broker *b = env->broker;
    int fd;
    for (int bit = 11; bit < 32; bit++) {
        CHECK_EQ(create(b, "al/new", WIRE_WRITE | WIRE_CREATE | UINT32_C(1) << bit, &fd), EINVAL);
        CHECK_EQ(create(b, "al/f", WIRE_WRITE | WIRE_TRUNCATE | UINT32_C(1) << bit, &fd), EINVAL);
        CHECK_EQ(fd, -1);
    }
    CHECK_EQ(create(b, "al", WIRE_WRITE | WIRE_CREATE, &fd), EACCES); /* beneath, not itself */
    CHECK_EQ(create(b, "al/new", WIRE_CREATE, &fd), EINVAL);
    CHECK_EQ(create(b, "al/new", WIRE_CREATE | WIRE_PATH, &fd), EINVAL);
    CHECK_EQ(create(b, "al/new", WIRE_CREATE | WIRE_WRITE | WIRE_DIRECTORY, &fd), EINVAL);
}

static void test_73d_flags_that_are_not(void **state)
{
    (void)state;
    struct broker b;
    struct stat st;
    broker_begin(&b, policy);
    file_write(at(&b, "al/f"), "hers\n", 0600, ALICE);
    as_user(&b, ALICE, ask_by_libfob, NULL);
    as_user(&b, ALICE, ask_by_bits, NULL);
    assert_int_equal(count_names(at(&b, "al")), 1);
    assert_int_equal(stat(at(&b, "al/f"), &st), 0);
    assert_int_equal(st.st_size, 5);
    broker_finish(&b);
}

/* ---- 73h: whose file it is, and so whose quota ---- */

static const char *const places[] = { "al", "priv", "sticky", "team", "own" };

/* Each to be one inode more of hers. */
static void create_everywhere(struct client_env *env)
{
    const struct broker *b = env->broker;
    char path[32];
    int fd;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        for (uint32_t more = 0; more < 8; more++) {
            uint32_t flags = WIRE_WRITE | WIRE_CREATE | (more & 1 ? WIRE_EXCLUSIVE : 0) |
                             (more & 2 ? WIRE_TRUNCATE : 0) | (more & 4 ? WIRE_APPEND : 0);
            snprintf(path, sizeof path, "%s/%u", places[i], more);
            CHECK_EQ(create(b, path, flags, &fd), 0);
            struct stat st;
            CHECK_EQ(fstat(fd, &st), 0);
            CHECK_EQ(st.st_uid, ALICE);
            CHECK(write(fd, path, sizeof path) == sizeof path);
            CHECK(fchown(fd, BOB, (gid_t)-1) < 0 && errno == EPERM); /* she cannot give it away */
            close(fd);
        }
}

static void expect_all_hers(const char *path)
{
    DIR *dir = opendir(path);
    struct stat st;
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '7')
            continue;
        assert_int_equal(fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_uid, ALICE);
        assert_int_equal(st.st_mode, S_IFREG | 0640);
    }
    closedir(dir);
}

static void make_place(const struct broker *b, const char *name, mode_t mode, uid_t uid, gid_t gid)
{
    assert_int_equal(mkdir(at(b, name), 0755), 0);
    assert_int_equal(chown(at(b, name), uid, gid), 0);
    assert_int_equal(chmod(at(b, name), mode), 0);
}

static void test_73h_owner_of_what_is_created(void **state)
{
    (void)state;
    struct broker b;
    struct stat st;
    broker_prepare(&b);
    make_place(&b, "team", 02770, 0, GROUP); /* the directory says the group, and the group alone */
    make_place(&b, "own", 0777, 0, 0);
    broker_start(&b, policy, "workers 2");
    as_user(&b, ALICE, create_everywhere, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        expect_all_hers(at(&b, places[i]));
    assert_int_equal(stat(at(&b, "team/0"), &st), 0);
    assert_int_equal(st.st_gid, GROUP);
    assert_int_equal(stat(at(&b, "priv/0"), &st), 0);
    assert_int_equal(st.st_gid, ALICE);
    broker_finish(&b);
}

/* ---- 73g, 73h: a quota that is used up ---- */

enum { INODES = 4 };

static void create_until_full(struct client_env *env)
{
    char path[32];
    int fd, error = 0, made = 0;
    for (int i = 0; i <= INODES && !error; i++) {
        snprintf(path, sizeof path, "priv/quota/%d", i);
        error = create(env->broker, path, WIRE_WRITE | WIRE_CREATE, &fd);
        made += error == 0;
        fd_close(fd);
    }
    CHECK_EQ(error, EDQUOT);
    CHECK_EQ(made, INODES);
    CHECK_EQ(open(at(env->broker, path), O_RDONLY | O_CLOEXEC), -1);
}

static void test_73g_73h_quota_of_the_asker(void **state)
{
    (void)state;
    struct broker b;
    char options[64];
    broker_prepare(&b);
    assert_int_equal(mkdir(at(&b, "priv/quota"), 0755), 0);
    snprintf(options, sizeof options, "usrquota,usrquota_inode_hardlimit=%d", INODES);
    if (mount("tmpfs", at(&b, "priv/quota"), "tmpfs", 0, options) < 0) {
        broker_end(&b);
        puts("skipped: this kernel has no tmpfs with quotas");
        skip();
    }
    broker_start(&b, policy, "workers 2");
    as_user(&b, ALICE, create_until_full, NULL);
    assert_int_equal(count_names(at(&b, "priv/quota")), INODES);
    umount2(at(&b, "priv/quota"), MNT_DETACH);
    broker_finish(&b);
}

/* ---- 73a, 73e: planted between the look and the creation ---- */

static void pause_unless(bool tight)
{
    if (!tight)
        usleep(1);
}

static void plant_link(struct client_env *env)
{
    const char *name = at(env->broker, "sticky/x"), *target = at(env->broker, "secret/new");
    for (;;) {
        (void)!symlink(target, name);
        bool tight = shared->n++ & 8; /* now as fast as can be, now with time for both */
        pause_unless(tight);
        unlink(name);
        pause_unless(tight);
    }
}

/* One that alice could write, and bob would read. */
static void plant_file(struct client_env *env)
{
    const char *name = at(env->broker, "sticky/x");
    umask(0);
    for (;;) {
        fd_close(open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
        bool tight = shared->n++ & 8; /* now as fast as can be, now with time for both */
        pause_unless(tight);
        unlink(name);
        pause_unless(tight);
    }
}

static void create_meanwhile(struct client_env *env)
{
    const char *name = at(env->broker, "sticky/x");
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", name);
    unsigned made = 0, refused = 0, raced = 0;
    int sock = raw_connect(env->broker), fd;
    for (int i = 0; i < RACES; i++) {
        struct stat st;
        int error = raw_open(sock, path, WIRE_WRITE | WIRE_CREATE, 0644, &fd);
        if (error == 0) {
            CHECK_EQ(fstat(fd, &st), 0);
            CHECK_EQ(st.st_uid, ALICE);
            close(fd);
            unlink(path);
        }
        made += error == 0;
        refused += error == EACCES || error == ELOOP;
        raced += error == EEXIST || error == ENOENT;
    }
    fprintf(stderr, "%d creations meanwhile: %u made, %u refused, %u lost the race\n", RACES, made, refused,
            raced);
    CHECK_EQ(made + refused + raced, RACES);
    CHECK(made > 0 && refused > 0); /* the race was on */
    CHECK(raced < RACES / 2);
}

static void race(client_fn *planter)
{
    struct broker b;
    broker_begin(&b, policy);
    pid_t bob = client_begin(&b, BOB, planter, NULL);
    WAIT_FOR(shared->n > 10);
    as_user(&b, ALICE, create_meanwhile, NULL);
    client_kill(bob);
    assert_int_equal(count_names(at(&b, "secret")), 1);
    assert_int_equal(audit_count(&b, "\"op\":\"open\"", NULL), RACES);
    assert_int_equal(audit_count(&b, "\"op\":\"open\"", "\"uid\":2001,"), RACES);
    broker_finish(&b);
}

static void test_73a_link_planted_meanwhile(void **state)
{
    (void)state;
    race(plant_link);
}

static void test_73e_file_planted_meanwhile(void **state)
{
    (void)state;
    race(plant_file);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_73d_flags_that_are_not),     ATTACK(test_73h_owner_of_what_is_created),
        ATTACK(test_73g_73h_quota_of_the_asker), ATTACK(test_73a_link_planted_meanwhile),
        ATTACK(test_73e_file_planted_meanwhile),
    };
    return cmocka_run_group_tests_name("attacks_create", tests, shared_setup, NULL);
}
