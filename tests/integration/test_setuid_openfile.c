/*
 * The two forms of APUE's open servers that its examples execute: `openfile SOCKFD PATH MODE`, which opens
 * one file and ends, and ./opend on a socketpair, with more rights than who executes them.
 */
#include "setuid_place.h"

#include <limits.h>

/* ---- one file ---- */

struct one {
    const char *words[6]; /* of execve(2); [1] NULL: the number of the socket */
    int number, type;
    unsigned closed; /* of 0 to 2, as bits */
    const char *const *envp;
};

static void exec_one(const struct one *one, int sock)
{
    static const char *const nothing[] = { NULL };
    char number[16];
    const char *argv[7];
    say_to_file(&b);
    memcpy(argv, one->words, sizeof one->words);
    argv[6] = NULL;
    snprintf(number, sizeof number, "%d", one->number);
    if (!argv[1])
        argv[1] = number;
    int high = fcntl(sock, F_DUPFD_CLOEXEC, 500);
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (one->closed >> fd & 1)
            close(fd);
    if (one->number >= 0 && dup2(high, one->number) != one->number)
        _exit(126);
    execve(PLACE_OPENFILE, words(argv), words(one->envp ? one->envp : nothing));
    _exit(127);
}

/* Its exit status, and the descriptor that came with one byte of zero; nothing else came. */
static int run_one(const struct one *one, int *fd)
{
    int pair[2];
    char bytes[16];
    static struct msg_in in;
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    CHECK_EQ(socketpair(AF_UNIX, one->type | SOCK_CLOEXEC, 0, pair), 0);
    pid_t pid = fork();
    if (pid == 0)
        exec_one(one, pair[1]);
    close(pair[1]);
    patient(pair[0]);
    int status = status_at_end(pid);
    expect_no_children();
    *fd = -1;
    if (msg_recv(pair[0], bytes, sizeof bytes, MSG_DONTWAIT, &in) == 1) {
        if (in.len != 1)
            fprintf(stderr, "SOCKFD %d: \"%.16s...\" came\n", one->number, bytes);
        CHECK_EQ(in.len, 1);
        CHECK_EQ(bytes[0], 0);
        CHECK_EQ(in.n_fds, 1);
        *fd = in.fds[0];
        ssize_t n = recv(pair[0], bytes, sizeof bytes, MSG_DONTWAIT);
        CHECK(one->type == SOCK_DGRAM ? n < 0 : n == 0);
    }
    CHECK_EQ(*fd >= 0, status == 0);
    close(pair[0]);
    return status;
}

static struct one plain(const char *path, const char *mode)
{
    return (struct one){ { "openfile", NULL, path, mode }, 5, SOCK_STREAM, 0, NULL };
}

static void expect_one(const struct one *one, const char *text)
{
    int fd;
    CHECK_EQ(run_one(one, &fd), 0);
    CHECK(fd_reads(fd, text));
    close(fd);
}

static int status_of_one(const char *path, const char *mode)
{
    int fd;
    struct one one = plain(path, mode);
    int status = run_one(&one, &fd);
    fd_close(fd);
    return status;
}

static void open_on_numbers(struct client_env *env)
{
    (void)env;
    static const int numbers[] = { 0, 1, 2, 3, 4, 63, 199, 300, 1000 },
                     types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
    for (size_t n = 0; n < ARRAY_SIZE(numbers); n++) {
        struct one one = plain(at(&b, "priv/f"), "0");
        one.number = numbers[n];
        one.type = types[(n / 3 + n) % 3];
        expect_one(&one, "priv f\n");
        one.words[2] = at(&b, "secret/f");
        int fd;
        CHECK_EQ(run_one(&one, &fd), EACCES);
    }
}

static void test_openfile_numbers(void **state)
{
    (void)state;
    as_user(&b, ALICE, open_on_numbers, NULL);
    assert_int_equal(opens_recorded("\"uid\":2001,\"gid\":2001,"), 2 * 9);
    assert_int_equal(audit_count(&b, NULL, NULL), 2 * 9);
}

/* What it and its broker say does not go where the descriptor goes. */
static void open_on_standard(struct client_env *env)
{
    (void)env;
    for (int number = 0; number <= STDERR_FILENO; number++) {
        struct one one = plain(at(&b, "priv/f"), "0");
        one.number = number;
        expect_one(&one, "priv f\n");
        one.words[2] = at(&b, "secret/f");
        int fd;
        CHECK_EQ(run_one(&one, &fd), EACCES);
    }
}

static void test_openfile_messages(void **state)
{
    (void)state;
    write_with_dir(&b, "/etc/fob/fobd.conf", "audit file @/audit.log\n", 0644, 0); /* no account `fob` */
    as_user(&b, ALICE, open_on_standard, NULL);
}

static void open_with_closed(struct client_env *env)
{
    (void)env;
    int fd;
    for (unsigned closed = 0; closed < 8; closed++)
        for (int number = (int)closed % 2; number < 5; number += 2) {
            struct one one = plain(at(&b, "priv/f"), "0");
            one.closed = closed;
            one.number = number;
            expect_one(&one, "priv f\n");
            one.words[2] = at(&b, "secret/f");
            CHECK_EQ(run_one(&one, &fd), EACCES);
        }
}

static void test_114_openfile_closed_descriptors(void **state)
{
    (void)state;
    as_user(&b, ALICE, open_with_closed, NULL);
    assert_int_equal(opens_recorded(NULL), 2 * (4 * 3 + 4 * 2));
}

/* ---- its exit status ---- */

static void open_wrong_paths(struct client_env *env)
{
    (void)env;
    static char longest[PATH_MAX], longer[PATH_MAX + 1], huge[100000];
    memset(longest, 'a', sizeof longest - 1);
    memset(longer, 'a', sizeof longer - 1);
    memset(huge, 'a', sizeof huge - 1);
    longest[0] = longer[0] = huge[0] = '/';
    char flags[16];
    CHECK_EQ(status_of_one(at(&b, "priv/f"), "0"), 0);
    CHECK_EQ(status_of_one(at(&b, "pub/none"), "0"), ENOENT);
    CHECK_EQ(status_of_one(at(&b, "secret/f"), "0"), EACCES);
    CHECK_EQ(status_of_one(at(&b, "priv/f"), "1"), EACCES);
    CHECK_EQ(status_of_one(at(&b, "pub/b/x"), "0"), ENOTDIR);
    CHECK_EQ(status_of_one("priv/f", "0"), EINVAL);
    CHECK_EQ(status_of_one("", "0"), EINVAL);
    CHECK_EQ(status_of_one("/../etc/shadow", "0"), EINVAL);
    CHECK_EQ(status_of_one(longest, "0"), EACCES);
    CHECK_EQ(status_of_one(longer, "0"), EINVAL);
    CHECK_EQ(status_of_one(huge, "0"), EINVAL);
    snprintf(flags, sizeof flags, "%d", O_WRONLY | O_CREAT | O_EXCL);
    CHECK_EQ(status_of_one(at(&b, "priv/made/one"), flags), 0);
    CHECK_EQ(status_of_one(at(&b, "priv/made/one"), flags), EEXIST);
}

static void test_openfile_errors(void **state)
{
    (void)state;
    struct stat st;
    as_user(&b, ALICE, open_wrong_paths, NULL);
    assert_int_equal(stat(at(&b, "priv/made/one"), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(st.st_uid, ALICE);
}

static void give_wrong_modes(struct client_env *env)
{
    (void)env;
    static const char *const modes[] = { "",     "-1",         "r",          "0x0",
                                         " 0",   "0 ",         "+0",         "1e1",
                                         "00:0", "4294967296", "2147483648", "99999999999999999999",
                                         "3",    "1073741824" };
    static const char *const allowed[] = { "00", "0000000000" };
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
        CHECK_EQ(status_of_one(at(&b, "priv/f"), modes[i]), EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
        CHECK_EQ(status_of_one(at(&b, "priv/f"), allowed[i]), 0);
}

/* Numbers that are no socket of the caller's, and words that are no numbers. */
static void give_wrong_sockets(struct client_env *env)
{
    (void)env;
    static const char *const numbers[] = { "",  "-1", "x",  "0x5",        "5 ",         " 5",        "+5",
                                           "9", "0",  "77", "2147483647", "2147483648", "4294967301" };
    int fd;
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        struct one one = plain(at(&b, "priv/f"), "0");
        one.words[1] = numbers[i];
        CHECK_EQ(run_one(&one, &fd), EINVAL);
    }
    struct one none = plain(at(&b, "priv/f"), "0"), no_mode = none, more = none, nothing = none;
    none.words[1] = "5";
    none.number = -1;
    CHECK_EQ(run_one(&none, &fd), EINVAL);
    no_mode.words[3] = NULL;
    CHECK_EQ(run_one(&no_mode, &fd), EINVAL);
    more.words[4] = "0";
    CHECK_EQ(run_one(&more, &fd), EINVAL);
    nothing.words[1] = "5";
    nothing.words[2] = NULL;
    CHECK_EQ(run_one(&nothing, &fd), EINVAL);
}

static void test_openfile_wrong_arguments(void **state)
{
    (void)state;
    as_user(&b, ALICE, give_wrong_modes, NULL);
    as_user(&b, ALICE, give_wrong_sockets, NULL);
    assert_true(says(&b, "usage: openfile SOCKFD PATH MODE"));
}

static void expect_refusal(struct client_env *env)
{
    (void)env;
    CHECK_EQ(status_of_one(at(&b, "pub/a"), "0"), EACCES);
}

static void test_111_openfile_identity(void **state)
{
    (void)state;
    const gid_t denied[] = { GROUP_DENIED };
    as_user(&b, BOB, expect_refusal, NULL);
    assert_int_equal(as_user_groups(&b, ALICE, ALICE, denied, 1, expect_refusal, NULL), 0);
    assert_int_equal(opens_recorded("\"uid\":2002,"), 1);
    assert_int_equal(opens_recorded("\"uid\":2001,"), 1);
}

/* ---- ./opend ---- */

/* csopen of APUE 3e, figure 17.26: a socketpair, a child with its other end as 0 and 1. */
static int start_opend(void)
{
    int pair[2];
    CHECK_EQ(chdir("/run/bin"), 0);
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(pair[0]);
        if (pair[1] != STDIN_FILENO)
            dup2(pair[1], STDIN_FILENO);
        if (pair[1] != STDOUT_FILENO)
            dup2(pair[1], STDOUT_FILENO);
        execl("./opend", "opend", (char *)0);
        _exit(127);
    }
    close(pair[1]);
    return patient(pair[0]);
}

static void ask_opend(struct client_env *env)
{
    (void)env;
    int sock = start_opend(), fd;
    for (int i = 0; i < 20; i++) {
        expect_content(APUE, sock, at(&b, "priv/f"), "priv f\n");
        CHECK_EQ(ask(APUE, sock, at(&b, "secret/f"), &fd), EACCES);
        CHECK(apue_text_is(at(&b, "secret/f"), "Permission denied"));
    }
    send_request(APUE, sock, "relative");
    CHECK_EQ(receive_reply(APUE, sock, &fd), EINVAL);
    put(sock, "close the door", sizeof "close the door");
    CHECK_EQ(receive_reply(APUE, sock, &fd), EINVAL);
    close(sock);
    expect_no_children();
}

static void test_opend(void **state)
{
    (void)state;
    as_user(&b, ALICE, ask_opend, NULL);
    assert_int_equal(opens_recorded("\"uid\":2001,"), 42);
}

int main(void)
{
    RUN_IN_PLACE();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_openfile_numbers, place_reset),
        cmocka_unit_test_setup(test_openfile_messages, place_reset),
        cmocka_unit_test_setup(test_114_openfile_closed_descriptors, place_reset),
        cmocka_unit_test_setup(test_openfile_errors, place_reset),
        cmocka_unit_test_setup(test_openfile_wrong_arguments, place_reset),
        cmocka_unit_test_setup(test_111_openfile_identity, place_reset),
        cmocka_unit_test_setup(test_opend, place_reset),
    };
    int failed = cmocka_run_group_tests_name("openfile", tests, place_install_next, NULL);
    failed += cmocka_run_group_tests_name("openfile with file capabilities", tests, place_install_next, NULL);
    place_end();
    return failed;
}
