/*
 * fobd at work and at its end: how its processes are confined, which of them may die, signals, quotas, an
 * audit that cannot be written. Numbers are rows of threats.md.
 */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "../../common/msg.h"
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

static char text[16384];

/* ---- 101: what the kernel says of the processes ---- */

static void expect_confined(const char *policy_text, unsigned long long capabilities)
{
    struct broker b;
    broker_begin(&b, policy_text);
    pid_t pids[8];
    assert_int_equal(broker_workers(&b, pids, 8), 2);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(status_of(pids[i], "Uid:"), "64999\t64999\t64999\t64999");
        assert_string_equal(status_of(pids[i], "Gid:"), "64999\t64999\t64999\t64999");
        assert_string_equal(status_of(pids[i], "Groups:"), "");
        assert_int_equal(strtoull(status_of(pids[i], "CapPrm:"), NULL, 16), capabilities);
        assert_int_equal(strtoull(status_of(pids[i], "CapEff:"), NULL, 16), capabilities);
        assert_int_equal(strtoull(status_of(pids[i], "CapBnd:"), NULL, 16), capabilities);
        assert_int_equal(strtoull(status_of(pids[i], "CapAmb:"), NULL, 16), 0);
        assert_int_equal(strtoull(status_of(pids[i], "CapInh:"), NULL, 16), 0);
        assert_string_equal(status_of(pids[i], "NoNewPrivs:"), "1");
        assert_string_equal(status_of(pids[i], "Seccomp:"), "2");
    }
    const unsigned long long dac = 1 << 1 | 1 << 2;
    assert_int_equal(strtoull(status_of(b.pid, "CapEff:"), NULL, 16) & dac, 0);
    broker_finish(&b);
}

static void test_101_confinement(void **state)
{
    (void)state;
    const unsigned long long override = 1 << 1, search = 1 << 2, setgid = 1 << 6, setuid = 1 << 7;
    expect_confined("allow user:2001 read @/pub/**\n", search);
    expect_confined("allow user:2001 write @/al/**\n", override);
    expect_confined("allow user:2001 read,create,append @/al/**\n", override | search | setuid | setgid);
    expect_confined("allow user:2001 read @/al/** as=caller\n", setuid | setgid);
    expect_confined("", 0);
}

/* ---- 108: processes that die ---- */

static void kill_all(const struct broker *b, int signal)
{
    pid_t pids[8];
    int n = broker_workers(b, pids, 8);
    assert_true(n > 0);
    for (int i = 0; i < n; i++)
        kill(pids[i], signal);
}

static bool have_new_workers(const struct broker *b, const pid_t *old, int n)
{
    pid_t pids[8];
    int now = broker_workers(b, pids, 8);
    for (int i = 0; i < now; i++)
        for (int j = 0; j < n; j++)
            if (pids[i] == old[j])
                return false;
    return now == n;
}

/* As root: alice could not kill them. */
static void hold_connection(struct client_env *env)
{
    int fd, sock = raw_connect(env->broker);
    CHECK_EQ(raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
    kill_all(env->broker, SIGKILL);
    CHECK_EQ(recv(sock, &(char){ 0 }, 1, 0), 0); /* the end of the connection, nothing else */
    CHECK(fd_reads(fd, "pub a\n"));              /* what was given stays given */
}

static void test_108_workers_are_replaced(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:0,user:2001 read,list @/pub/**\n");
    b.uncounted = true; /* who is killed between reply and audit loses that record */
    for (int round = 0; round < 3; round++) {
        pid_t old[8];
        int n = broker_workers(&b, old, 8);
        assert_int_equal(n, 2);
        if (round == 0)
            as_user(&b, 0, hold_connection, NULL);
        else
            kill_all(&b, SIGSEGV);
        WAIT_FOR(have_new_workers(&b, old, n));
        assert_true(have_new_workers(&b, old, n));
        usleep(200000);
        as_user(&b, ALICE, expect_served, NULL);
    }
    broker_finish(&b);
}

static pid_t find_sealer(const struct broker *b)
{
    char path[64], children[1024];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)b->pid, (int)b->pid);
    assert_true(file_read(path, children, sizeof children) > 0);
    for (char *word = strtok(children, " "); word; word = strtok(NULL, " ")) {
        char comm[32];
        snprintf(path, sizeof path, "/proc/%s/comm", word);
        if (file_read(path, comm, sizeof comm) > 0 && strcmp(comm, "fobd-sealer\n") == 0)
            return (pid_t)atoi(word);
    }
    return 0;
}

static void test_sealer_is_replaced(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    pid_t sealer = find_sealer(&b);
    assert_true(sealer > 0);
    kill(sealer, SIGKILL);
    WAIT_FOR(find_sealer(&b) > 0 && find_sealer(&b) != sealer);
    usleep(300000);
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

/* The supervisor killed: its workers go too, and the next start cleans up. */
static void test_supervisor_killed(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    pid_t workers[8];
    assert_int_equal(broker_workers(&b, workers, 8), 2);
    kill(b.pid, SIGKILL);
    child_wait(b.pid);
    WAIT_FOR(kill(workers[0], 0) < 0 && kill(workers[1], 0) < 0);
    assert_int_equal(kill(workers[0], 0), -1);
    assert_int_equal(kill(workers[1], 0), -1);
    unlink(at(&b, "fobd.log"));
    broker_start(&b, policy, "workers 2");
    as_user(&b, ALICE, expect_served, NULL);
    broker_end(&b);
}

/* ---- 147: SIGTERM under load ---- */

static void ask_until_end(struct client_env *env)
{
    int fd, sock = raw_connect(env->broker);
    unsigned served = 0;
    for (;;) {
        int error = raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd);
        if (error < 0)
            break;
        CHECK_EQ(error, 0);
        CHECK(fd_reads(fd, "pub a\n"));
        close(fd);
        served++;
    }
    CHECK(served > 0);
}

static void test_147_sigterm_under_load(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    pid_t askers[4];
    for (int i = 0; i < 4; i++) {
        askers[i] = fork();
        if (askers[i] == 0)
            _exit(as_user_groups(&b, ALICE, ALICE, NULL, 0, ask_until_end, NULL));
    }
    usleep(300000);
    assert_int_equal(kill(b.pid, SIGTERM), 0);
    assert_int_equal(child_wait(b.pid), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(child_wait(askers[i]), 0);
    assert_int_equal(access(b.socket, F_OK), -1);
    b.pid = 0;
    broker_end(&b);
}

/* ---- 74: replies that nobody reads; connections by user ---- */

static void send_unread(const struct broker *broker, int sock, uint16_t entries)
{
    static uint8_t out[WIRE_MAX_MESSAGE];
    const char *path = at(broker, "pub/a");
    size_t len = WIRE_HEADER_SIZE;
    for (int i = 0; i < entries; i++)
        len += wire_encode_entry(out + len, sizeof out - len, WIRE_READ, 0, path, strlen(path));
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, entries, 1 };
    wire_encode_header(out, sizeof out, &header);
    CHECK_EQ(msg_send(sock, out, len, NULL, 0, NULL, 0), 0);
}

/* 120 connections with 253 descriptors each, unread, are more than the kernel lets one user have in flight.
 */
static void pile_up_batches(struct client_env *env)
{
    for (int i = 0; i < 120; i++)
        send_unread(env->broker, raw_connect(env->broker), 253);
    CHECK_EQ(write(((int *)env->data)[1], "p", 1), 1);
    pause();
}

static void pile_up_singles(struct client_env *env)
{
    for (int i = 0; i < 100; i++) {
        int sock = raw_connect(env->broker);
        for (int k = 0; k < 2 * UNREAD_MAX; k++)
            send_unread(env->broker, sock, 1);
    }
    CHECK_EQ(write(((int *)env->data)[1], "p", 1), 1);
    pause();
}

/* Bob is served while ALICE's replies pile up. The records of opens by then. */
static int serve_beside(struct broker *b, client_fn *pile_up)
{
    int channel[2];
    b->uncounted = true;
    assert_int_equal(pipe2(channel, O_CLOEXEC), 0);
    pid_t piler = fork();
    if (piler == 0) {
        if (setresgid(ALICE, ALICE, ALICE) | setresuid(ALICE, ALICE, ALICE))
            _exit(1);
        struct client_env env = { b, channel };
        pile_up(&env);
    }
    char byte;
    assert_int_equal(read(channel[0], &byte, 1), 1);
    int opened = audit_count(b, "\"op\":\"open\"", "\"errno\":null");
    as_user(b, BOB, expect_served, NULL);
    kill(piler, SIGKILL);
    child_wait(piler);
    close(channel[0]);
    close(channel[1]);
    return opened;
}

static void test_74_unread_replies(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    serve_beside(&b, pile_up_batches);
    assert_true(audit_count(&b, "\"reason\":\"quota\"", "EAGAIN") > 0);
    broker_finish(&b);
}

/* Each connection may leave some replies unread, all of them together not: the kernel lets the broker have
 * 1,024 descriptors in flight here, of which it uses half. The last test: nobody raises the limit again. */
static void test_74_unread_replies_of_many(void **state)
{
    (void)state;
    struct broker b;
    const struct rlimit low = { 1024, 1024 };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    broker_prepare(&b);
    broker_start(&b, policy, "workers 2\nmax-connections 400");
    assert_in_range(serve_beside(&b, pile_up_singles), 100, 512);
    assert_int_equal(audit_count(&b, "\"reason\":\"quota\"", NULL), 0); /* they wait, and are not refused */
    broker_finish(&b);
}

/* Two workers accept at the same time: any four of them are served. */
static void connect_too_often(struct client_env *env)
{
    int socks[6], fd, served = 0;
    for (int i = 0; i < 6; i++)
        socks[i] = raw_connect(env->broker);
    usleep(200000);
    for (int i = 0; i < 6; i++)
        served += recv(socks[i], &(char){ 0 }, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN &&
                  raw_open(socks[i], at(env->broker, "pub/a"), WIRE_READ, 0, &fd) == 0;
    CHECK_EQ(served, 4);
}

static void test_76_connections_of_a_user(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    broker_start(&b, policy, "workers 2\nmax-connections-per-user 4");
    as_user(&b, ALICE, connect_too_often, NULL);
    as_user(&b, BOB, expect_served, NULL);
    assert_int_equal(audit_count(&b, "\"op\":\"connect\"", "\"reason\":\"quota\""), 2);
    usleep(100000);
    as_user(&b, ALICE, expect_served, NULL);
    broker_finish(&b);
}

/* ---- audit-required ---- */

static void ask_somehow(struct client_env *env)
{
    open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL);
}

static void test_audit_required(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    assert_int_equal(mkdir(at(&b, "full"), 0755), 0);
    if (mount("tmpfs", at(&b, "full"), "tmpfs", 0, "size=4096") < 0) {
        broker_end(&b);
        puts("skipped: cannot mount a tmpfs");
        skip();
    }
    FILE *conf = fopen(at(&b, "full.conf"), "we");
    fprintf(conf,
            "socket %s\npolicy %s/full.policy\naudit file %s/full/audit\naudit-required yes\nuser "
            "%d\nworkers 1\n",
            b.socket, b.dir, b.dir, WORKER_UID);
    fclose(conf);
    FILE *rules = fopen(at(&b, "full.policy"), "we");
    fprintf(rules, "allow user:2001 read,list %s/pub/**\n", b.dir);
    fclose(rules);
    const char *arguments[] = { "-f", at(&b, "full.conf"), NULL };
    b.pid = fobd_run(0, at(&b, "fobd.log"), arguments);
    WAIT_FOR(file_read(at(&b, "fobd.log"), text, sizeof text) > 0 && strstr(text, "serving "));
    as_user(&b, ALICE, expect_served, NULL);
    static char filler[8192];
    memset(filler, 'x', sizeof filler);
    int fill = open(at(&b, "full/filler"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fill, filler, sizeof filler) > 0)
        ;
    for (int i = 0; i < 40; i++) /* until the last block is full, and one loss is noticed */
        as_user_groups(&b, ALICE, ALICE, NULL, 0, ask_somehow, NULL);
    as_user(&b, ALICE, expect_refused, NULL);
    usleep(200000); /* its record comes after its answer, and must find the disk full */
    assert_int_equal(ftruncate(fill, 0), 0);
    close(fill);
    unlink(at(&b, "full/filler"));
    assert_int_equal(truncate(at(&b, "full/audit"), 0), 0);
    as_user(&b, ALICE, expect_refused, NULL); /* its own record is the one that tries */
    as_user(&b, ALICE, expect_served, NULL);
    umount2(at(&b, "full"), MNT_DETACH);
    broker_end(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_101_confinement),           cmocka_unit_test(test_108_workers_are_replaced),
        cmocka_unit_test(test_sealer_is_replaced),        cmocka_unit_test(test_supervisor_killed),
        cmocka_unit_test(test_147_sigterm_under_load),    cmocka_unit_test(test_74_unread_replies),
        cmocka_unit_test(test_76_connections_of_a_user),  cmocka_unit_test(test_audit_required),
        cmocka_unit_test(test_74_unread_replies_of_many),
    };
    return cmocka_run_group_tests_name("lifecycle", tests, NULL, NULL);
}
