/*
 * threats.md, section F: creation, and whose file it is. The number of a test is that of its row.
 */
#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "../../common/util.h"

static const char policy[] =
    "allow user:2001,user:2002 read,write,append,create @/al/** @/priv/** @/sticky/**\n"
    "allow user:2001 read,write @/pub/**\n";

static int create(const struct broker *b, const char *path, uint32_t flags, mode_t mode, int *fd)
{
    int got, sock = raw_connect(b);
    int error = raw_open(sock, at(b, path), flags, mode, &got);
    close(sock);
    if (fd)
        *fd = got;
    else
        fd_close(got);
    return error;
}

static struct stat stat_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st;
}

/* ---- 72: owner and mode ---- */

static void create_some(struct client_env *env)
{
    const struct broker *b = env->broker;
    int fd;
    CHECK_EQ(create(b, "priv/plain", WIRE_WRITE | WIRE_CREATE, 0644, &fd), 0);
    CHECK_EQ(write(fd, "mine\n", 5), 5);
    CHECK_EQ(create(b, "priv/special", WIRE_WRITE | WIRE_CREATE, 06777, NULL), 0);
    CHECK_EQ(create(b, "priv/none", WIRE_WRITE | WIRE_CREATE, 0, &fd), 0);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(create(b, "priv/append", WIRE_APPEND | WIRE_CREATE | WIRE_EXCLUSIVE, 0600, NULL), 0);
    CHECK_EQ(create(b, "priv/read", WIRE_READ | WIRE_CREATE, 0600, NULL), 0);
}

static void test_72_owner_and_mode(void **state)
{
    (void)state;
    static const mode_t masks[] = { 0, 022, 0777 };
    for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
        struct broker b;
        broker_prepare(&b);
        umask(masks[i]);
        broker_start(&b, policy, "workers 1");
        umask(022);
        as_user(&b, ALICE, create_some, NULL);
        struct stat st = stat_of(at(&b, "priv/plain"));
        assert_int_equal(st.st_uid, ALICE);
        assert_int_equal(st.st_gid, ALICE);
        assert_int_equal(st.st_mode, S_IFREG | 0644);
        assert_int_equal(stat_of(at(&b, "priv/special")).st_mode,
                         S_IFREG | 0666); /* the rule's default mode=0666 */
        assert_int_equal(stat_of(at(&b, "priv/none")).st_mode, S_IFREG);
        assert_int_equal(stat_of(at(&b, "priv/append")).st_uid, ALICE);
        broker_finish(&b);
    }
}

/* mode= of the rule; as=user: and as=caller with the kernel's own checks. */
static void create_as_others(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(create(b, "priv/masked", WIRE_WRITE | WIRE_CREATE, 0666, NULL), 0);
    CHECK_EQ(create(b, "sticky/as-daemon", WIRE_WRITE | WIRE_CREATE, 0666, NULL), 0);
    CHECK_EQ(create(b, "pub/as-daemon", WIRE_WRITE | WIRE_CREATE, 0666, NULL), EACCES); /* root's directory */
    CHECK_EQ(create(b, "al/as-caller", WIRE_WRITE | WIRE_CREATE, 0666, NULL), 0);
    CHECK_EQ(open_once(b, at(b, "secret/f"), WIRE_READ, NULL), EACCES); /* as=caller: the kernel refuses */
    CHECK_EQ(open_once(b, at(b, "pub/b"), WIRE_READ, NULL), 0);
    CHECK_EQ(open_once(b, at(b, "pub/a"), WIRE_READ, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "priv/masked"), WIRE_WRITE, NULL), 0); /* and back to the broker's rights */
}

static void test_72_as(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001 create,write @/priv/masked mode=0640\n"
                     "allow user:2001 create,write @/sticky/** @/pub/as-daemon as=user:daemon\n"
                     "allow user:2001 create,write @/al/** as=caller\n"
                     "allow user:2001 read @/secret/** @/pub/** as=caller\n");
    as_user(&b, ALICE, create_as_others, NULL);
    assert_int_equal(stat_of(at(&b, "priv/masked")).st_mode, S_IFREG | 0640);
    assert_int_equal(stat_of(at(&b, "priv/masked")).st_uid, ALICE);
    assert_int_equal(stat_of(at(&b, "sticky/as-daemon")).st_uid, 1);
    assert_int_equal(stat_of(at(&b, "al/as-caller")).st_uid, ALICE);
    assert_int_equal(audit_count(&b, "\"as\":\"user:daemon\"", "\"allowed\""), 2);
    assert_int_equal(audit_count(&b, "\"reason\":\"kernel\"", "EACCES"), 3);
    broker_finish(&b);
}

/* ---- 73a: through a dangling symlink ---- */

static void create_through_links(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(symlink(at(b, "secret/new"), at(b, "al/new")), 0);
    CHECK_EQ(symlink(at(b, "secret"), at(b, "al/dir")), 0);
    CHECK_EQ(create(b, "al/new", WIRE_WRITE | WIRE_CREATE, 0644, NULL), ELOOP);
    CHECK_EQ(create(b, "al/new", WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE, 0644, NULL), ELOOP);
    CHECK_EQ(create(b, "al/dir/new", WIRE_WRITE | WIRE_CREATE, 0644, NULL), ELOOP);
}

static void test_73a_dangling_symlink(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, create_through_links, NULL);
    assert_int_equal(access(at(&b, "secret/new"), F_OK), -1);
    broker_finish(&b);
}

/* ---- 73b: O_EXCL ---- */

enum { ROUNDS = 1000 };

static void create_exclusively(struct client_env *env)
{
    int *pipe_fd = env->data, sock = raw_connect(env->broker), fd;
    char path[32];
    unsigned won = 0;
    for (int i = 0; i < ROUNDS; i++) {
        snprintf(path, sizeof path, "al/x%d", i);
        int error =
            raw_open(sock, at(env->broker, path), WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE, 0600, &fd);
        CHECK(error == 0 || error == EEXIST);
        won += error == 0;
        fd_close(fd);
    }
    CHECK_EQ(write(*pipe_fd, &won, sizeof won), sizeof won);
}

static void test_73b_exclusive(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid_t racer = fork();
    if (racer == 0)
        _exit(as_user_groups(&b, BOB, BOB, NULL, 0, create_exclusively, &pipe_fds[1]));
    as_user(&b, ALICE, create_exclusively, &pipe_fds[1]);
    assert_int_equal(child_wait(racer), 0);
    unsigned won[2];
    assert_int_equal(read(pipe_fds[0], won, sizeof won), sizeof won);
    assert_int_equal(won[0] + won[1], ROUNDS);
    print_message("O_EXCL: %u and %u of %d won\n", won[0], won[1], ROUNDS);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    broker_finish(&b);
}

/* ---- 73c, 73d: without the right; flags that are not ---- */

static void create_without_right(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(create(b, "pub/new", WIRE_WRITE | WIRE_CREATE, 0644, NULL), EACCES);
    CHECK_EQ(create(b, "pub/new", WIRE_WRITE, 0, NULL), ENOENT);
    CHECK_EQ(create(b, "pub/b", WIRE_WRITE | WIRE_EXCLUSIVE, 0, NULL), EINVAL);
    CHECK_EQ(create(b, "priv/none/new", WIRE_WRITE | WIRE_CREATE, 0644, NULL), ENOENT);
    CHECK_EQ(create(b, "priv/f/new", WIRE_WRITE | WIRE_CREATE, 0644, NULL), ENOTDIR);
}

static void test_73c_without_the_right(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, create_without_right, NULL);
    assert_int_equal(access(at(&b, "pub/new"), F_OK), -1);
    broker_finish(&b);
}

/* ---- 73e: somebody else's file in a sticky directory ---- */

static void create_over_planted(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(create(b, "sticky/bobs", WIRE_WRITE | WIRE_CREATE, 0644, NULL), EACCES);
    CHECK_EQ(create(b, "sticky/bobs", WIRE_WRITE, 0, NULL), 0); /* no O_CREAT: as fs.protected_regular */
    CHECK_EQ(create(b, "sticky/hers", WIRE_WRITE | WIRE_CREATE, 0644, NULL), 0);
    CHECK_EQ(create(b, "sticky/roots", WIRE_WRITE | WIRE_CREATE, 0644, NULL), 0); /* the directory's owner */
    CHECK_EQ(create(b, "sticky/new", WIRE_WRITE | WIRE_CREATE, 0644, NULL), 0);
}

static void test_73e_sticky_directory(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    file_write(at(&b, "sticky/bobs"), "b", 0666, BOB);
    file_write(at(&b, "sticky/hers"), "a", 0644, ALICE);
    file_write(at(&b, "sticky/roots"), "r", 0644, 0);
    as_user(&b, ALICE, create_over_planted, NULL);
    assert_int_equal(audit_count(&b, "\"reason\":\"sticky\"", "EACCES"), 1);
    broker_finish(&b);
}

/* ---- 73f: workers killed while they create ---- */

static void create_many(struct client_env *env)
{
    (void)env;
    char path[32];
    for (int i = 0; i < 3000; i++) {
        int fd, sock = raw_connect(env->broker);
        snprintf(path, sizeof path, "priv/k%d", i);
        raw_open(sock, at(env->broker, path), WIRE_WRITE | WIRE_CREATE, 0600, &fd);
        fd_close(fd);
        close(sock);
    }
}

/* The file is its caller's from the first moment: there is no later to be killed before. */
static void test_73f_killed_while_creating(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    b.uncounted = true;
    pid_t creator = fork();
    if (creator == 0)
        _exit(as_user_groups(&b, ALICE, ALICE, NULL, 0, create_many, NULL));
    int status;
    for (int round = 0; round < 20 && waitpid(creator, &status, WNOHANG) == 0; round++) {
        pid_t pids[8];
        usleep(20000);
        int n = broker_workers(&b, pids, 8);
        if (n > 0)
            kill(pids[round % n], SIGKILL);
    }
    kill(creator, SIGKILL);
    waitpid(creator, &status, 0);
    (void)!system("pkill -KILL -u 2001 -f test_create >/dev/null 2>&1");
    unsigned seen = 0;
    for (int i = 0; i < 3000; i++) {
        char path[32];
        struct stat st;
        snprintf(path, sizeof path, "priv/k%d", i);
        if (lstat(at(&b, path), &st) < 0)
            continue;
        seen++;
        assert_int_equal(st.st_uid, ALICE);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
    }
    assert_true(seen > 0);
    WAIT_FOR(broker_workers(&b, (pid_t[8]){ 0 }, 8) == 2);
    usleep(300000);
    broker_finish(&b);
}

/* ---- 73g: the file system says no ---- */

static void create_on_full(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(create(b, "priv/full/new", WIRE_WRITE | WIRE_CREATE, 0644, NULL), ENOSPC);
    CHECK_EQ(create(b, "priv/ro/new", WIRE_WRITE | WIRE_CREATE, 0644, NULL), EROFS);
}

static void test_73g_errors_of_the_file_system(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    assert_int_equal(mkdir(at(&b, "priv/full"), 0755) | mkdir(at(&b, "priv/ro"), 0755), 0);
    if (mount("tmpfs", at(&b, "priv/full"), "tmpfs", 0, "nr_inodes=2") < 0 ||
        mount("tmpfs", at(&b, "priv/ro"), "tmpfs", MS_RDONLY, NULL) < 0) {
        umount(at(&b, "priv/full"));
        broker_end(&b);
        puts("skipped: cannot mount a tmpfs");
        skip();
    }
    file_write(at(&b, "priv/full/f"), "", 0644, 0);
    broker_start(&b, policy, "workers 1");
    as_user(&b, ALICE, create_on_full, NULL);
    assert_int_equal(access(at(&b, "priv/full/new"), F_OK), -1);
    umount2(at(&b, "priv/full"), MNT_DETACH);
    umount2(at(&b, "priv/ro"), MNT_DETACH);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_72_owner_and_mode),
        cmocka_unit_test(test_72_as),
        cmocka_unit_test(test_73a_dangling_symlink),
        cmocka_unit_test(test_73b_exclusive),
        cmocka_unit_test(test_73c_without_the_right),
        cmocka_unit_test(test_73e_sticky_directory),
        cmocka_unit_test(test_73f_killed_while_creating),
        cmocka_unit_test(test_73g_errors_of_the_file_system),
    };
    return cmocka_run_group_tests_name("create", tests, NULL, NULL);
}
