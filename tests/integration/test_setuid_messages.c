/*
 * Where it says what it says: its caller chose that place, and must not reach more through it than before,
 * nor be worse off after it.
 */
#include "setuid_place.h"

/* An error, said on `fd`. */
static int complain_on(int fd, const char *name)
{
    const char *const argv[] = { name, "-x", NULL }, *const none[] = { NULL };
    pid_t pid = fork();
    if (pid == 0) {
        dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
        dup2(fd, STDERR_FILENO);
        execve(PLACE_FOBD, words(argv), words(none));
        _exit(127);
    }
    return status_at_end(pid);
}

/* ---- what its caller may not write to ---- */

static void complain_on_path(struct client_env *env)
{
    CHECK_EQ(open(env->data, O_WRONLY | O_NONBLOCK), -1);
    int fd = open(env->data, O_PATH);
    CHECK(fd >= 0);
    CHECK_EQ(complain_on(fd, "fobd"), 2);
    CHECK_EQ(complain_on(fd, "openfile"), EINVAL);
}

static void complain_on_read_only(struct client_env *env)
{
    int fd = open(env->data, O_RDONLY | O_NONBLOCK);
    CHECK(fd >= 0);
    CHECK_EQ(complain_on(fd, "fobd"), 2);
    CHECK_EQ(complain_on(fd, "openfile"), EINVAL);
}

static void test_fifo_of_another(void **state)
{
    (void)state;
    char bytes[256], path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s/fifo", b.dir);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    as_user(&b, ALICE, complain_on_path, path);
    assert_int_equal(read(reader, bytes, sizeof bytes), -1);
    assert_int_equal(chmod(path, 0644), 0);
    as_user(&b, ALICE, complain_on_read_only, path);
    assert_int_equal(read(reader, bytes, sizeof bytes), -1);
    close(reader);
    unlink(path);
}

static void test_terminal_of_another(void **state)
{
    (void)state;
    char bytes[256];
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(master >= 0);
    unlockpt(master);
    assert_int_equal(chmod(ptsname(master), 0600), 0);
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC); /* somebody sits there */
    assert_true(terminal >= 0);
    as_user(&b, ALICE, complain_on_path, ptsname(master));
    fcntl(master, F_SETFL, O_NONBLOCK);
    assert_int_equal(read(master, bytes, sizeof bytes), -1);
    close(terminal);
    close(master);
}

/* ---- what its caller has still ---- */

static void expect_same_flags(int fd)
{
    int before = fcntl(fd, F_GETFL);
    CHECK_EQ(complain_on(fd, "fobd"), 2);
    CHECK_EQ(complain_on(fd, "openfile"), EINVAL);
    CHECK_EQ(fcntl(fd, F_GETFL), before);
}

static void complain_on_own(struct client_env *env)
{
    (void)env;
    int ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    expect_same_flags(ends[1]);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    expect_same_flags(ends[1]);
    expect_same_flags(open(at(&b, "said"), O_WRONLY | O_APPEND | O_CLOEXEC));
}

static void test_flags_are_kept(void **state)
{
    (void)state;
    as_user(&b, ALICE, complain_on_own, NULL);
    assert_true(says(&b, "options are not taken"));
}

/* ---- nobody reads it ---- */

static void stop_reading(void *end)
{
    dup2(*(int *)end, STDERR_FILENO);
}

static void serve_unheard(int end)
{
    const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, stop_reading, &end };
    CHECK_EQ(complain_on(end, "fobd"), 2);
    CHECK_EQ(complain_on(end, "openfile"), EINVAL);
    expect_service(&how);
}

/* It warns of something first, on a pipe that nobody holds; to a full one it says nothing. */
static void complain_to_nobody(struct client_env *env)
{
    (void)env;
    int ends[2];
    char bytes[4096] = "";
    CHECK_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    while (write(ends[1], bytes, sizeof bytes) > 0 || write(ends[1], bytes, 1) > 0)
        ;
    fcntl(ends[1], F_SETFL, 0);
    CHECK_EQ(complain_on(ends[1], "fobd"), 2);
    close(ends[0]);
    serve_unheard(ends[1]);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    while (send(ends[1], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    CHECK_EQ(complain_on(ends[1], "fobd"), 2);
    close(ends[0]);
    serve_unheard(ends[1]);
    serve_unheard(open("/dev/full", O_WRONLY | O_CLOEXEC));
}

static void test_nobody_reads(void **state)
{
    (void)state;
    write_with_dir(&b, "/etc/fob/fobd.conf", "audit file @/audit.log\n", 0644, 0); /* no account `fob` */
    as_user(&b, ALICE, complain_to_nobody, NULL);
}

int main(void)
{
    RUN_IN_PLACE();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_fifo_of_another, place_reset),
        cmocka_unit_test_setup(test_terminal_of_another, place_reset),
        cmocka_unit_test_setup(test_flags_are_kept, place_reset),
        cmocka_unit_test_setup(test_nobody_reads, place_reset),
    };
    int failed = cmocka_run_group_tests_name("setuid messages", tests, place_install_next, NULL);
    failed += cmocka_run_group_tests_name("messages with file capabilities", tests, place_install_next, NULL);
    place_end();
    return failed;
}
