/*
 * How fobd starts, and does not: what stands at the socket's path, policies, options, service managers, a
 * user's own broker. Numbers are rows of threats.md.
 */
#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../../common/sock.h"
#include "../../common/util.h"

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n";

static void expect_served(struct client_env *env)
{
    int fd;
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, &fd), 0);
    CHECK(fd_reads(fd, "pub a\n"));
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/sub"), WIRE_DIRECTORY, NULL), 0);
}

static void expect_refused(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL), EACCES);
}

/* Runs fobd to its end with the broker's configuration and these options; what it said is in out. */
static int run_to_end(const struct broker *b, const char *const *arguments, char *out, size_t size)
{
    const char *log = at(b, "second.log");
    unlink(log);
    int status = child_wait(fobd_run(0, log, arguments));
    if (file_read(log, out, size) < 0)
        out[0] = '\0';
    return status;
}

static char text[16384];

/* ---- 143, 144: what stands at the socket's path ---- */

static void test_144_second_daemon(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    const char *arguments[] = { "-f", at(&b, "fobd.conf"), NULL };
    assert_int_equal(run_to_end(&b, arguments, text, sizeof text), 1);
    assert_non_null(strstr(text, "serves it already"));
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

static void leave_stale_socket(const struct broker *b)
{
    struct sockaddr_un address;
    int length = sock_address(&address, at(b, "sock")),
        sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(sock, (struct sockaddr *)&address, (socklen_t)length), 0);
    close(sock);
}

static void test_143_stale_socket_is_replaced(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    leave_stale_socket(&b);
    broker_start(&b, policy, "workers 1");
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

static void expect_start_to_fail(const char *policy_text, const char *said, void prepare(struct broker *))
{
    struct broker b;
    broker_begin(&b, policy);
    assert_int_equal(kill(b.pid, SIGTERM), 0);
    assert_int_equal(child_wait(b.pid), 0);
    b.pid = 0;
    file_write(at(&b, "test.policy"), policy_text, 0644, 0);
    prepare(&b);
    const char *arguments[] = { "-f", at(&b, "fobd.conf"), NULL };
    assert_int_equal(run_to_end(&b, arguments, text, sizeof text), 1);
    if (!strstr(text, said))
        print_error("said: %s", text);
    assert_non_null(strstr(text, said));
    broker_end(&b);
}

static void put_file(struct broker *b)
{
    file_write(at(b, "sock"), "precious", 0600, 0);
}

static void put_symlink(struct broker *b)
{
    assert_int_equal(symlink(at(b, "pub/a"), at(b, "sock")), 0);
}

static void open_directory_to_all(struct broker *b)
{
    assert_int_equal(chmod(b->dir, 0777), 0);
}

static void test_143_what_is_not_a_socket_stays(void **state)
{
    (void)state;
    expect_start_to_fail("", "not a socket", put_file);
    expect_start_to_fail("", "not a socket", put_symlink);
    expect_start_to_fail("", "writable by others", open_directory_to_all);
}

/* ---- policies ---- */

static void make_policy_writable(struct broker *b)
{
    assert_int_equal(chmod(at(b, "test.policy"), 0666), 0);
}

static void give_policy_away(struct broker *b)
{
    assert_int_equal(chown(at(b, "test.policy"), ALICE, 0), 0);
}

static void nothing(struct broker *b)
{
    (void)b;
}

static void test_88_unsafe_policies(void **state)
{
    (void)state;
    expect_start_to_fail("allow any read /srv/**\n", "test.policy", make_policy_writable);
    assert_non_null(strstr(text, "chmod"));
    expect_start_to_fail("allow any read /srv/**\n", "test.policy", give_policy_away);
}

static void test_87_bad_policies(void **state)
{
    (void)state;
    expect_start_to_fail("alow any read /srv/**\nallow user:nobody-of-that-name read /x\n",
                         "test.policy:1:1: ", nothing);
    assert_non_null(strstr(text, "test.policy:2:"));
    expect_start_to_fail("allow any read /srv/**\nassert deny user:2001 read /srv/x\n",
                         "test.policy:2:", nothing);
}

static void test_no_policy_refuses_all(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    broker_start(&b, "", "workers 1\n");
    broker_end(&b);

    broker_prepare(&b);
    file_write(at(&b, "second.conf"), "", 0644, 0);
    FILE *conf = fopen(at(&b, "second.conf"), "we");
    fprintf(conf, "socket %s\npolicy %s/none.d\naudit file %s\nuser %d\nworkers 1\n", b.socket, b.dir,
            b.audit, WORKER_UID);
    fclose(conf);
    const char *arguments[] = { "-f", at(&b, "second.conf"), NULL };
    b.pid = fobd_run(0, at(&b, "fobd.log"), arguments);
    WAIT_FOR(file_read(at(&b, "fobd.log"), text, sizeof text) > 0 && strstr(text, "serving "));
    assert_non_null(strstr(text, "every request is refused"));
    as_user(&b, ALICE, expect_refused, NULL);
    broker_end(&b);
}

static void expect_later_directory(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "later/f"), WIRE_READ, NULL), 0);
}

/* A directory that is made after the start, beneath one that was there, is served; what was missing beneath
 * "/" is not, and is named. */
static void test_missing_directories(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001 read @/later/** /fob-missing/x/**\n");
    assert_true(file_read(at(&b, "fobd.log"), text, sizeof text) > 0);
    assert_non_null(strstr(text, "/fob-missing/x: No such file or directory"));
    assert_int_equal(mkdir(at(&b, "later"), 0700), 0);
    file_write(at(&b, "later/f"), "f", 0600, 0);
    as_user(&b, ALICE, expect_later_directory, NULL);
    broker_finish(&b);
}

/* ---- -t, -n, usage ---- */

static void test_options(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    const char *good[] = { "-t", "-f", at(&b, "fobd.conf"), NULL };
    assert_int_equal(run_to_end(&b, good, text, sizeof text), 0);
    assert_string_equal(text, "");
    file_write(at(&b, "bad.policy"), "allow\n", 0644, 0);
    const char *bad[] = { "-t", "-f", at(&b, "fobd.conf"), "-p", at(&b, "bad.policy"), NULL };
    assert_int_equal(run_to_end(&b, bad, text, sizeof text), 1);
    assert_non_null(strstr(text, "bad.policy:1:"));
    file_write(at(&b, "bad.conf"), "sokcet /x\nworkers none\n", 0644, 0);
    const char *bad_config[] = { "-t", "-f", at(&b, "bad.conf"), NULL };
    assert_int_equal(run_to_end(&b, bad_config, text, sizeof text), 1);
    assert_non_null(strstr(text, "bad.conf:1: "));
    assert_non_null(strstr(text, "bad.conf:2: "));
    const char *print[] = { "-n", "-f", at(&b, "fobd.conf"), NULL };
    assert_int_equal(run_to_end(&b, print, text, sizeof text), 0);
    assert_non_null(strstr(text, "user 64999"));
    const char *missing[] = { "-f", "/nonexistent/fobd.conf", NULL };
    assert_int_equal(run_to_end(&b, missing, text, sizeof text), 1);
    const char *unknown[] = { "-x", NULL };
    assert_int_equal(run_to_end(&b, unknown, text, sizeof text), 2);
    const char *operand[] = { "operand", NULL };
    assert_int_equal(run_to_end(&b, operand, text, sizeof text), 2);
    const char *help[] = { "-h", NULL };
    assert_int_equal(run_to_end(&b, help, text, sizeof text), 0);
    assert_non_null(strstr(text, "usage: fobd"));
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

/* ---- service managers ---- */

static void test_146_readiness(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    char name[128];
    snprintf(name, sizeof name, "%s", at(&b, "notify"));
    struct sockaddr_un address;
    int length = sock_address(&address, name), sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(sock, (struct sockaddr *)&address, (socklen_t)length), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    broker_start(&b, policy, "workers 1");
    unsetenv("NOTIFY_SOCKET");
    char message[64];
    ssize_t n = recv(sock, message, sizeof message, 0);
    assert_true(n >= 7 && memcmp(message, "READY=1", 7) == 0);
    broker_finish(&b);
    n = recv(sock, message, sizeof message, 0);
    assert_true(n >= 10 && memcmp(message, "STOPPING=1", 10) == 0);
    close(sock);
    setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
    broker_begin(&b, policy);
    unsetenv("NOTIFY_SOCKET");
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

static void exec_activated(const struct broker *b, int listener)
{
    int log = open(at(b, "fobd.log"), O_WRONLY | O_CREAT | O_APPEND, 0666);
    char pid[16], program[512];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    snprintf(program, sizeof program, "%s/fobd", getenv("BUILD") ? getenv("BUILD") : "build");
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
    dup2(log, 2);
    if (listener != 3)
        dup2(listener, 3);
    fcntl(3, F_SETFD, 0);
    execl(program, "fobd", "-f", at(b, "fobd.conf"), (char *)NULL);
    _exit(127);
}

static void test_socket_activation(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy); /* for the files */
    assert_int_equal(kill(b.pid, SIGTERM), 0);
    assert_int_equal(child_wait(b.pid), 0);
    unlink(at(&b, "fobd.log"));
    struct sockaddr_un address;
    int length = sock_address(&address, b.socket),
        listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, (socklen_t)length), 0);
    assert_int_equal(chmod(b.socket, 0666) | listen(listener, 16), 0);
    b.pid = fork();
    if (b.pid == 0)
        exec_activated(&b, listener);
    WAIT_FOR(file_read(at(&b, "fobd.log"), text, sizeof text) > 0 && strstr(text, "serving "));
    as_user(&b, ALICE, expect_served, NULL);
    assert_int_equal(kill(b.pid, SIGTERM), 0);
    assert_int_equal(child_wait(b.pid), 0);
    assert_int_equal(access(b.socket, F_OK), 0); /* the service manager's, not ours to remove */
    close(listener);
    b.pid = 0;
    broker_end(&b);
}

/* ---- without privilege: a user's own broker ---- */

static void ask_own_broker(struct client_env *env)
{
    const struct broker *b = env->broker;
    int fd;
    CHECK_EQ(open_once(b, at(b, "al/own"), WIRE_READ, &fd), 0);
    CHECK(fd_reads(fd, "own\n"));
    CHECK_EQ(open_once(b, at(b, "al/other"), WIRE_READ, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "secret/f"), WIRE_READ, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "pub/a"), WIRE_READ, NULL),
             EACCES); /* the policy allows, alice's rights do not */
    CHECK_EQ(open_once(b, at(b, "pub/b"), WIRE_READ, NULL), 0);
}

static void test_own_broker(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    file_write(at(&b, "al/own"), "own\n", 0600, ALICE);
    file_write(at(&b, "al/other"), "other\n", 0600, ALICE);
    assert_int_equal(mkdir(at(&b, "al/run"), 0700), 0);
    assert_int_equal(chown(at(&b, "al/run"), ALICE, ALICE), 0);
    char rules[256];
    snprintf(rules, sizeof rules, "allow user:2001 read %s %s/**\n", at(&b, "al/own"), at(&b, "pub"));
    file_write(at(&b, "al/own.policy"), rules, 0644, ALICE);
    snprintf(b.socket, sizeof b.socket, "%s", at(&b, "al/run/s"));
    const char *arguments[] = { "-p", at(&b, "al/own.policy"), "-s", b.socket, NULL };
    file_write(at(&b, "fobd.log"), "", 0666, 0);
    b.pid = fobd_run(ALICE, at(&b, "fobd.log"), arguments);
    WAIT_FOR(file_read(at(&b, "fobd.log"), text, sizeof text) > 0 && strstr(text, "serving "));
    as_user(&b, ALICE, ask_own_broker, NULL);
    pid_t workers[8];
    assert_true(broker_workers(&b, workers, 8) > 0);
    assert_string_equal(status_of(workers[0], "Uid:"), "2001\t2001\t2001\t2001");
    assert_string_equal(status_of(workers[0], "NoNewPrivs:"), "1");
    assert_string_equal(status_of(workers[0], "Seccomp:"), "2");
    broker_end(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_144_second_daemon),
        cmocka_unit_test(test_143_stale_socket_is_replaced),
        cmocka_unit_test(test_143_what_is_not_a_socket_stays),
        cmocka_unit_test(test_88_unsafe_policies),
        cmocka_unit_test(test_87_bad_policies),
        cmocka_unit_test(test_no_policy_refuses_all),
        cmocka_unit_test(test_missing_directories),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_146_readiness),
        cmocka_unit_test(test_socket_activation),
        cmocka_unit_test(test_own_broker),
    };
    return cmocka_run_group_tests_name("start", tests, NULL, NULL);
}
