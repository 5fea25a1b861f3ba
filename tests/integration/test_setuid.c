/*
 * Started by its client with more rights than that client has: whose requests they are, and what arguments do
 * (threats.md, section K). Each with set-user-ID root and with file capabilities.
 */
#include "setuid_place.h"

static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET };

/* ---- 111: who asks ---- */

static void ask_as_alice(struct client_env *env)
{
    (void)env;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        for (int p = 0; p < (types[i] == SOCK_STREAM ? PROTOCOLS : APUE); p++) {
            const struct spawn how = elevated(types[i]);
            struct spawned s = spawn(&b, &how);
            int fd;
            expect_content((enum protocol)p, s.sock, at(&b, "priv/f"), "priv f\n");
            CHECK_EQ(ask((enum protocol)p, s.sock, at(&b, "secret/f"), &fd), EACCES);
            CHECK_EQ(ask((enum protocol)p, s.sock, at(&b, "pub/none"), &fd), ENOENT);
            CHECK_EQ(ask((enum protocol)p, s.sock, at(&b, "priv/shared"), &fd), EACCES);
            CHECK_EQ(spawn_end(&s), 0);
        }
}

static void ask_as_bob(struct client_env *env)
{
    (void)env;
    const struct spawn how = elevated(SOCK_STREAM);
    struct spawned s = spawn(&b, &how);
    expect_error(s.sock, at(&b, "priv/f"), EACCES);
    expect_error(s.sock, at(&b, "pub/b"), EACCES); /* also what bob may open himself */
    CHECK_EQ(spawn_end(&s), 0);
}

static void test_111_real_uid(void **state)
{
    (void)state;
    as_user(&b, ALICE, ask_as_alice, NULL);
    as_user(&b, BOB, ask_as_bob, NULL);
    assert_int_equal(opens_recorded("\"uid\":2001,\"gid\":2001,"), 3 * 4);
    assert_int_equal(opens_recorded("\"uid\":2002,\"gid\":2002,"), 2);
    assert_int_equal(audit_count(&b, NULL, NULL), 3 * 4 + 2);
}

static void ask_with_groups(struct client_env *env)
{
    const int *errors = env->data;
    const struct spawn how = elevated(SOCK_STREAM);
    struct spawned s = spawn(&b, &how);
    int fd;
    CHECK_EQ(ask(NATIVE, s.sock, at(&b, "pub/a"), &fd), errors[0]);
    fd_close(fd);
    CHECK_EQ(ask(NATIVE, s.sock, at(&b, "priv/shared"), &fd), errors[1]);
    fd_close(fd);
    CHECK_EQ(spawn_end(&s), 0);
}

enum { GROUPS = 3000 };

static void test_111_groups(void **state)
{
    (void)state;
    static gid_t many[GROUPS];
    const gid_t denied[] = { GROUP_DENIED }, given[] = { GROUP_GIVEN },
                both[] = { GROUP_DENIED, GROUP_GIVEN };
    int neither[] = { 0, EACCES }, only_first[] = { EACCES, EACCES }, only_second[] = { 0, 0 },
        first_and_second[] = { EACCES, 0 };
    assert_int_equal(as_user_groups(&b, ALICE, ALICE, NULL, 0, ask_with_groups, neither), 0);
    assert_int_equal(as_user_groups(&b, ALICE, ALICE, denied, 1, ask_with_groups, only_first), 0);
    assert_int_equal(as_user_groups(&b, ALICE, ALICE, given, 1, ask_with_groups, only_second), 0);
    assert_int_equal(as_user_groups(&b, ALICE, ALICE, both, 2, ask_with_groups, first_and_second), 0);
    assert_int_equal(as_user_groups(&b, ALICE, GROUP_DENIED, NULL, 0, ask_with_groups, only_first), 0);
    assert_int_equal(as_user_groups(&b, ALICE, GROUP_GIVEN, NULL, 0, ask_with_groups, only_second), 0);
    for (gid_t i = 0; i < GROUPS; i++)
        many[i] = 10000 - i; /* not in order */
    assert_int_equal(as_user_groups(&b, ALICE, ALICE, many, GROUPS, ask_with_groups, neither), 0);
    many[GROUPS / 2] = GROUP_DENIED;
    assert_int_equal(as_user_groups(&b, ALICE, ALICE, many, GROUPS, ask_with_groups, only_first), 0);
}

/* ---- 111: who made the socket ---- */

struct person {
    uid_t real, effective;
    gid_t gid;
    gid_t groups[2];
    size_t n_groups;
};

static const struct person alice = { ALICE, ALICE, ALICE, { 0 }, 0 };

static void become(const struct person *person)
{
    CHECK_EQ(setgroups(person->n_groups, person->groups), 0);
    CHECK_EQ(setresgid(person->gid, person->gid, person->gid), 0);
    CHECK_EQ(setresuid(person->real, person->effective, person->effective), 0);
}

static void make_pair_as(const struct person *person, int pair[2])
{
    int carrier[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, carrier), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int made[2];
        become(person);
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, made), 0);
        CHECK_EQ(msg_send(carrier[1], "x", 1, made, 2, NULL, 0), 0);
        _exit(0);
    }
    static struct msg_in in;
    char byte;
    CHECK_EQ(msg_recv(carrier[0], &byte, 1, 0, &in), 1);
    CHECK_EQ(in.n_fds, 2);
    CHECK_EQ(status_at_end(pid), 0);
    memcpy(pair, in.fds, 2 * sizeof(int));
    close(carrier[0]);
    close(carrier[1]);
}

/* One of them makes the socket, the other starts it. Its exit status. */
static int start_by_another(const struct person *maker, const struct person *starter)
{
    int pair[2];
    uint8_t out[512];
    const struct spawn how = elevated(SOCK_STREAM);
    make_pair_as(maker, pair);
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    pid_t pid = fork();
    if (pid == 0) {
        become(starter);
        say_to_file(&b);
        CHECK_EQ(dup2(pair[1], STDIN_FILENO), STDIN_FILENO);
        spawn_exec(&how);
    }
    close(pair[1]);
    put(patient(pair[0]), out, request_bytes(NATIVE, out, sizeof out, at(&b, "priv/f")));
    CHECK(is_closed(pair[0]));
    close(pair[0]);
    int status = status_at_end(pid);
    expect_no_children();
    return status;
}

static void start_by_others(struct client_env *env)
{
    (void)env;
    static const struct person others[] = {
        { 0, 0, 0, { 0 }, 0 },
        { BOB, BOB, BOB, { 0 }, 0 },
        { ALICE, ALICE, BOB, { 0 }, 0 },
        { ALICE, ALICE, ALICE, { GROUP_DENIED }, 1 }, /* the dodge: gone when it is started */
        { BOB, BOB, ALICE, { 0 }, 0 },
    };
    static const struct person set_user_id = { ALICE, BOB, ALICE, { 0 }, 0 };
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        CHECK_EQ(start_by_another(&others[i], &alice), 1);
        if (others[i].real)
            CHECK_EQ(start_by_another(&alice, &others[i]), 1);
    }
    CHECK_EQ(start_by_another(&set_user_id, &set_user_id), 1);
}

static void test_111_socket_of_another(void **state)
{
    (void)state;
    as_user(&b, 0, start_by_others, NULL);
    assert_true(says(&b, "was connected by uid 0"));
    assert_true(says(&b, "was connected by uid 2002"));
    assert_int_equal(opens_recorded(NULL), 0);
}

/* Who has become alice for a while starts it; then somebody else, and another process of alice's, asks. */
static void lend(struct client_env *env)
{
    (void)env;
    int fd;
    const struct spawn how = elevated(SOCK_STREAM);
    CHECK_EQ(setgroups(0, NULL), 0);
    CHECK_EQ(setresgid(ALICE, ALICE, 0), 0);
    CHECK_EQ(setresuid(ALICE, ALICE, 0), 0);
    struct spawned s = spawn(&b, &how);
    expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
    for (int i = 0; i < 2; i++) {
        pid_t asker = fork();
        if (asker == 0) {
            CHECK_EQ(setresuid(0, 0, 0), 0);
            CHECK_EQ(setresuid(i ? BOB : ALICE, i ? BOB : ALICE, 0), 0);
            CHECK_EQ(ask(NATIVE, s.sock, at(&b, "priv/f"), &fd), EPERM);
            _exit(0);
        }
        CHECK_EQ(status_at_end(asker), 0);
    }
    expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
    CHECK_EQ(spawn_end(&s), 0);
}

static void test_111_lent(void **state)
{
    (void)state;
    as_user(&b, 0, lend, NULL);
}

/* ---- 113: arguments ---- */

static void start_with_options(struct client_env *env)
{
    (void)env;
    char policy[DIR_MAX + 16];
    snprintf(policy, sizeof policy, "%s", at(&b, "al/own.policy"));
    const char *const lists[][4] = {
        { "fobd", "-p", policy, NULL },        { "fobd", "-f", policy, NULL },
        { "fobd", "-s", "/tmp/x.sock", NULL }, { "fobd", "-t", NULL, NULL },
        { "fobd", "-n", NULL, NULL },          { "fobd", "-h", NULL, NULL },
        { "fobd", "--", NULL, NULL },          { "fobd", "", NULL, NULL },
        { "fobd", "operand", NULL, NULL },     { "", "-t", NULL, NULL },
        { "./opend", "-p", policy, NULL },     { "openfile/", "-t", NULL, NULL },
    };
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        struct spawn how = elevated(SOCK_STREAM);
        how.argv = lists[i];
        expect_no_service(&b, &how, 2);
    }
}

static void test_113_options(void **state)
{
    (void)state;
    write_with_dir(&b, at(&b, "al/own.policy"), "allow any read,write @/**\n", 0644, ALICE);
    as_user(&b, ALICE, start_with_options, NULL);
    assert_true(says(&b, "options are not taken"));
    assert_false(says(&b, "usage"));
    assert_int_equal(audit_count(&b, NULL, NULL), 0);
}

/* Whatever it is called, it is what it is. */
static void start_by_other_names(struct client_env *env)
{
    (void)env;
    static char long_name[100000];
    memset(long_name, 'n', sizeof long_name - 1);
    const char *const lists[][2] = { { NULL },          { "", NULL },    { long_name, NULL },
                                     { "opend", NULL }, { "\n", NULL },  { "/bin/su", NULL },
                                     { "-fobd", NULL }, { "%s%n", NULL } };
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        struct spawn how = elevated(types[i % 2]);
        how.argv = lists[i];
        how.path = place_names[i % 3];
        expect_service(&how);
    }
}

static void test_113_names(void **state)
{
    (void)state;
    as_user(&b, ALICE, start_by_other_names, NULL);
}

enum { ARGUMENTS = 20000 };

static void start_with_many_arguments(struct client_env *env)
{
    (void)env;
    static const char *list[ARGUMENTS + 1];
    static char long_argument[100000];
    memset(long_argument, 'a', sizeof long_argument - 1);
    for (size_t i = 0; i < ARGUMENTS; i++)
        list[i] = i % 2000 == 1999 ? long_argument : "-p";
    struct spawn how = elevated(SOCK_STREAM);
    for (size_t n = ARGUMENTS; n > 1; n /= 3) {
        list[n] = NULL;
        how.argv = list;
        how.path = PLACE_FOBD;
        expect_no_service(&b, &how, 2);
    }
}

static void test_113_many_arguments(void **state)
{
    (void)state;
    as_user(&b, ALICE, start_with_many_arguments, NULL);
}

int main(void)
{
    RUN_IN_PLACE();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_111_real_uid, place_reset),
        cmocka_unit_test_setup(test_111_groups, place_reset),
        cmocka_unit_test_setup(test_111_socket_of_another, place_reset),
        cmocka_unit_test_setup(test_111_lent, place_reset),
        cmocka_unit_test_setup(test_113_options, place_reset),
        cmocka_unit_test_setup(test_113_names, place_reset),
        cmocka_unit_test_setup(test_113_many_arguments, place_reset),
    };
    int failed = cmocka_run_group_tests_name("setuid", tests, place_install_next, NULL);
    failed += cmocka_run_group_tests_name("file capabilities", tests, place_install_next, NULL);
    place_end();
    return failed;
}
