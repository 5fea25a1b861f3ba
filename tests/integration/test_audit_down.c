/*
 * threats.md, 85 and 99: an audit that cannot be written, because there is no room or because nobody reads.
 * Nobody waits for it. More of audit-required: test_lifecycle.c.
 */
#include "attacks.h"

#include <sys/mount.h>

#include "record_reader.h"

enum { ASKERS = 8 };

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n";

static void ask_often(struct client_env *env)
{
    const int *times = env->data;
    int fd, sock = raw_connect(env->broker);
    for (int i = 0; i < *times; i++) {
        int64_t begin = now_us();
        CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
        CHECK(now_us() - begin < AT_ONCE_MS * 1000);
        close(fd);
    }
}

static void ask(const struct broker *b, int times)
{
    as_user(b, ALICE, ask_often, &times);
}

/* ---- 85: no room for the audit ---- */

/* A file system of its own under the audit's name. */
static bool put_audit_on_small_disk(const struct broker *b)
{
    assert_int_equal(mkdir(at(b, "full"), 0755), 0);
    if (!have_own_mounts() || mount("tmpfs", at(b, "full"), "tmpfs", 0, "size=64k") < 0)
        return false;
    file_write(at(b, "full/audit"), "", 0600, 0);
    file_write(at(b, "audit.log"), "", 0600, 0);
    return mount(at(b, "full/audit"), at(b, "audit.log"), NULL, MS_BIND, NULL) == 0;
}

static void fill_disk(const struct broker *b)
{
    static const char filler[4096] = "x";
    int fd = open(at(b, "full/filler"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (write(fd, filler, sizeof filler) > 0)
        ;
    close(fd);
}

static int count_lines(const struct broker *b, bool whole)
{
    static char text[128 << 10];
    int n = 0;
    assert_true(file_read(b->audit, text, sizeof text) >= 0);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        n += !whole || (line[0] == '{' && line[strlen(line) - 1] == '}');
    return n;
}

static void expect_written_and_lost(const struct broker *b, int n)
{
    EXPECT_SOON(count_lines(b, true) + status_number(b, "audit_lost") >= n);
    assert_int_equal(count_lines(b, true) + status_number(b, "audit_lost"), n);
}

/* audit-required no, the default: served all the same, and what is lost is counted. */
static void test_85_disk_full(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    if (!put_audit_on_small_disk(&b)) {
        broker_end(&b);
        print_message("skipped: cannot mount a tmpfs\n");
        skip();
    }
    broker_start(&b, policy, "workers 1");
    b.uncounted = true;
    ask(&b, 40);
    expect_written_and_lost(&b, 40);
    assert_int_equal(status_number(&b, "audit_lost"), 0);
    fill_disk(&b);
    ask(&b, 40);
    expect_written_and_lost(&b, 80);
    int written = count_lines(&b, true);
    assert_in_range(written, 40, 79);
    assert_int_equal(unlink(at(&b, "full/filler")), 0);
    ask(&b, 40);
    expect_written_and_lost(&b, 120);
    assert_int_equal(count_lines(&b, true), written + 40); /* nothing is glued to the line that was cut */
    assert_in_range(count_lines(&b, false), written + 40, written + 41);
    assert_int_equal(umount2(b.audit, MNT_DETACH) | umount2(at(&b, "full"), MNT_DETACH), 0);
    broker_finish(&b);
}

/* ---- 99: standard error that nobody reads ---- */

/* It reads what is said at the start, and no more. */
static int begin_with_fifo(struct broker *b, const char *config)
{
    static char text[8192];
    size_t len = 0;
    prepare_with(b, policy, config);
    text[0] = '\0';
    assert_int_equal(mkfifo(at(b, "stderr"), 0600), 0);
    int fifo = open(at(b, "stderr"), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    assert_true(fifo >= 0);
    b->pid = start_again(b, at(b, "stderr"));
    for (int i = 0; i < 2000 && !strstr(text, "serving "); i++) {
        ssize_t n = read(fifo, text + len, sizeof text - 1 - len);
        len += n > 0 ? (size_t)n : 0;
        text[len] = '\0';
        usleep(10000);
    }
    assert_non_null(strstr(text, "serving "));
    return fifo;
}

/* Several workers at once: there may be room for one of them when each of them looks. */
static void test_99_stderr_not_read(void **state)
{
    (void)state;
    struct broker b;
    pid_t askers[ASKERS];
    int times = 300, served = 0;
    int fifo = begin_with_fifo(&b, "workers 4\naudit stderr\n");
    for (int i = 0; i < ASKERS; i++)
        askers[i] = client_begin(&b, ALICE, ask_often, &times);
    for (int i = 0; i < ASKERS; i++)
        served += child_wait(askers[i]) == 0;
    if (served == ASKERS) {
        EXPECT_SOON(status_number(&b, "audit_lost") > 0);
        as_user(&b, BOB, expect_served, NULL);
    }
    close(fifo); /* so that fobd can end, whatever it waits for */
    assert_int_equal(served, ASKERS);
    broker_end(&b);
}

/* Each is a line of the log: a request of another process than the one that connected. */
static void cause_warnings(struct client_env *env)
{
    for (int i = 0; i < 1000; i++) {
        int fd, sock = raw_connect(env->broker);
        struct timeval patience = { .tv_sec = AT_ONCE_MS / 1000 };
        CHECK_EQ(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
        pid_t pid = fork();
        if (pid == 0)
            _exit(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd) == EPERM ? 0 : 1);
        CHECK_EQ(child_wait(pid), 0);
        close(sock);
    }
}

/* What clients can make fobd say of them stops nobody either. */
static void test_99_log_not_read(void **state)
{
    (void)state;
    struct broker b;
    int fifo = begin_with_fifo(&b, "workers 1\naudit none\n");
    int status = child_wait(client_begin(&b, ALICE, cause_warnings, NULL));
    char drained[4096];
    if (status == 0)
        as_user(&b, BOB, expect_served, NULL);
    while (status && read(fifo, drained, sizeof drained) > 0)
        usleep(1000); /* so that fobd can end */
    close(fifo);
    broker_end(&b);
    assert_int_equal(status, 0);
}

/* ---- 99: syslog ---- */

/* Until `want` have come, or for a while. */
static int take_records(int sock, int want)
{
    int n = 0;
    WAIT_LONG((n += take_datagrams(sock)) >= want);
    return n;
}

static int begin_with_syslog(struct broker *b, const char *config)
{
    prepare_with(b, policy, config);
    if (!make_dev(b)) {
        broker_end(b);
        print_message("skipped: no mount namespace of its own\n");
        skip();
    }
    int sock = listen_as_syslog(b);
    assert_int_equal(mount(at(b, "dev"), "/dev", NULL, MS_BIND | MS_REC, NULL), 0);
    b->pid = start_again(b, at(b, "fobd.log"));
    wait_for_log(b, "serving ");
    as_user(b, ALICE, expect_served, NULL);
    assert_int_equal(take_records(sock, 1), 1);
    return sock;
}

static void test_99_syslog_down(void **state)
{
    (void)state;
    struct broker b;
    int sock = begin_with_syslog(&b, "workers 1\naudit syslog\n");
    int taken = 0;
    ask(&b, 300); /* its queue is full */
    WAIT_LONG((taken += take_datagrams(sock)) + status_number(&b, "audit_lost") >= 300);
    int lost = status_number(&b, "audit_lost");
    assert_int_equal(taken + lost, 300);
    assert_in_range(taken, 1, 299);
    as_user(&b, BOB, expect_served, NULL);
    assert_int_equal(take_records(sock, 1), 1);
    close(sock); /* it is gone */
    ask(&b, 300);
    EXPECT_SOON(status_number(&b, "audit_lost") == lost + 300);
    sock = listen_as_syslog(&b); /* another one is there */
    reload(&b);
    as_user(&b, BOB, expect_served, NULL);
    assert_int_equal(take_records(sock, 1), 1);
    close(sock);
    take_dev_away(&b);
    broker_end(&b);
}

static void expect_refused_soon(struct client_env *env)
{
    int fd, error = 0, sock = raw_connect(env->broker);
    for (int i = 0; i < 3 && error == 0; i++)
        error = raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd);
    CHECK_EQ(error, EACCES);
}

/* audit-required yes: what cannot be recorded is refused, and served again when it can. */
static void test_99_syslog_down_and_required(void **state)
{
    (void)state;
    struct broker b;
    int sock = begin_with_syslog(&b, "workers 1\naudit syslog\naudit-required yes\n");
    close(sock);
    as_user(&b, ALICE, expect_refused_soon, NULL);
    as_user(&b, BOB, expect_refused_soon, NULL);
    sock = listen_as_syslog(&b);
    reload(&b);
    as_user(&b, BOB, expect_served, NULL);
    assert_int_equal(take_records(sock, 1), 1);
    close(sock);
    take_dev_away(&b);
    broker_end(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_85_disk_full),   ATTACK(test_99_stderr_not_read),          ATTACK(test_99_log_not_read),
        ATTACK(test_99_syslog_down), ATTACK(test_99_syslog_down_and_required),
    };
    return cmocka_run_group_tests_name("audit down", tests, shared_setup, NULL);
}
