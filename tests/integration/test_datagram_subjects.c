/*
 * Who asked by a datagram, and what a policy may say of him: uid and gid as the kernel named them, groups and
 * program unknown.
 */
#include "datagram_client.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { STAFF = 3001, BARRED = 3002 };

/* ---- uids ---- */

static const char for_uids[] = "allow user:2001,user:2002,user:2003 read @/pub/**\n"
                               "allow user:2001 read @/priv/f\n"
                               "allow user:0,user:64999,group:0 read @/secret/**\n";

static void ask_as_oneself(struct client_env *env)
{
    int *pid = env->data, fd, sock = asker_new(NULL);
    *pid = getpid();
    expect_datagram(env->broker, sock, "pub/a", "pub a\n");
    CHECK_EQ(datagram_try(env->broker, sock, at(env->broker, "priv/f"), &fd),
             geteuid() == ALICE ? 0 : EACCES);
    CHECK_EQ(datagram_try(env->broker, sock, at(env->broker, "secret/f"), &fd), EACCES);
}

static void test_98_records(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(for_uids, "workers 2");
    int *pid = mmap(NULL, sizeof *pid, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (uid_t uid = ALICE; uid < ALICE + 4; uid++) {
        char who[64];
        if (uid == ALICE + 3)
            continue;
        as_user(b, uid, ask_as_oneself, pid);
        snprintf(who, sizeof who, "\"uid\":%u,\"gid\":%u,\"pid\":%d,\"op\":\"open\"", uid, uid, *pid);
        expect_records(b, who, NULL, 3);
        expect_records(b, who, "\"decision\":\"allowed\"", uid == ALICE ? 2 : 1);
    }
    munmap(pid, sizeof *pid);
    datagram_finish();
}

/* ---- 2: credentials that are not one's own ---- */

static int send_with(const struct broker *b, int sock, struct ucred claim)
{
    uint8_t out[512];
    size_t len = native_open(out, sizeof out, 3, at(b, "secret/f"));
    return msg_send(sock, out, len, NULL, 0, &claim, 0);
}

static void forge(struct client_env *env)
{
    pid_t pid = getpid();
    uid_t uid = getuid();
    gid_t gid = getgid();
    int fd, sock = asker_new(NULL);
    asker_connect(env->broker, sock);
    CHECK_EQ(send_with(env->broker, sock, (struct ucred){ pid, 0, gid }), -EPERM);
    CHECK_EQ(send_with(env->broker, sock, (struct ucred){ pid, BOB, gid }), -EPERM);
    CHECK_EQ(send_with(env->broker, sock, (struct ucred){ pid, WORKER_UID, gid }), -EPERM);
    CHECK_EQ(send_with(env->broker, sock, (struct ucred){ pid, uid, 0 }), -EPERM);
    CHECK_EQ(send_with(env->broker, sock, (struct ucred){ 1, uid, gid }), -EPERM);
    CHECK_EQ(send_with(env->broker, sock, (struct ucred){ getppid(), uid, gid }), -EPERM);
    expect_silence(sock);
    CHECK_EQ(send_with(env->broker, sock, (struct ucred){ pid, uid, gid }), 0); /* the truth may be said */
    CHECK_EQ(datagram_answer(sock, 3, &fd), EACCES);
    count_requests(1);
}

static int write_self(const char *name, const char *text)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/%s", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int err = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
    fd_close(fd);
    return err;
}

/* A user namespace that knows one uid and gid, by this number inside. */
static void enter_namespace(unsigned inside)
{
    char map[32];
    snprintf(map, sizeof map, "%u %u 1", inside, (unsigned)geteuid());
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* else /proc/self is root's since the uid changed */
    if (unshare(CLONE_NEWUSER) < 0)
        skip_in_client("no user namespaces here");
    CHECK_EQ(write_self("uid_map", map), 0);
    CHECK_EQ(write_self("setgroups", "deny"), 0);
    CHECK_EQ(write_self("gid_map", map), 0);
    CHECK_EQ(geteuid(), inside);
}

/* Root of a user namespace is alice outside. */
static void ask_as_root_inside(struct client_env *env)
{
    int fd;
    enter_namespace(0);
    int sock = asker_new(NULL);
    asker_connect(env->broker, sock);
    CHECK_EQ(datagram_try(env->broker, sock, at(env->broker, "secret/f"), &fd), EACCES);
    CHECK_EQ(send_with(env->broker, sock, (struct ucred){ getpid(), 0, 0 }), 0);
    CHECK_EQ(datagram_answer(sock, 3, &fd), EACCES);
    count_requests(1);
    expect_datagram(env->broker, sock, "priv/f", "priv f\n");
}

static void test_2_forged(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(for_uids, "workers 2");
    as_user(b, ALICE, forge, NULL);
    as_user(b, ALICE, ask_as_root_inside, NULL);
    expect_records(b, "\"uid\":2001,\"gid\":2001,", "\"op\":\"open\"", 4);
    expect_records(b, "\"uid\":0,", NULL, 0);
    datagram_finish();
}

/* ---- 18: a broker that does not know the sender ---- */

/* The one of alice, who has mapped nobody else: as this one, with its own sockets. */
static struct broker hers;

static void ask_hers(struct client_env *env)
{
    int fd, sock = asker_new(NULL);
    datagram_open(&hers, sock, 1, at(env->broker, "al/f"));
    if (geteuid() == ALICE)
        CHECK_EQ(datagram_answer(sock, 1, &fd), 0);
    else
        expect_silence(sock);
}

/* A broker without privileges does not see the namespaces of who has some. */
static void give_up_capabilities(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } };
    CHECK_EQ(syscall(SYS_capset, &header, none), 0);
    CHECK_EQ(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
}

/* Alice asks from inside, for that reason. */
static void serve_and_ask(struct client_env *env)
{
    char conf[DIR_MAX + 32];
    const char *build = getenv("BUILD"), *log = at(env->broker, "al/log");
    static char program[512];
    snprintf(program, sizeof program, "%s/fobd", build && *build ? build : "build");
    snprintf(conf, sizeof conf, "%s", at(env->broker, "al/conf"));
    enter_namespace(ALICE);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execl(program, "fobd", "-f", conf, (char *)NULL);
        _exit(127);
    }
    wait_for_step(1);
    give_up_capabilities();
    ask_hers(env);
    CHECK_EQ(kill(pid, SIGTERM), 0);
    CHECK_EQ(child_wait(pid), 0);
}

static bool says(const struct broker *b, const char *what)
{
    static char text[8192];
    return file_read(at(b, "al/log"), text, sizeof text) > 0 && strstr(text, what);
}

static void prepare_hers(const struct broker *b)
{
    char text[2048], dir[DIR_MAX + 256];
    snprintf(dir, sizeof dir, "%s", at(b, "al"));
    snprintf(text, sizeof text,
             "socket %s/sock\ndgram-socket %s/dgram\npolicy %s/p\nworkers 1\naudit file %s/audit\n", dir, dir,
             dir, dir);
    file_write(at(b, "al/conf"), text, 0644, ALICE);
    snprintf(text, sizeof text, "allow any read %s/**\n", dir);
    file_write(at(b, "al/p"), text, 0644, ALICE);
    file_write(at(b, "al/f"), "hers\n", 0644, ALICE);
    memcpy(hers.dir, dir, strnlen(dir, sizeof hers.dir - 1));
}

static void test_18_unmapped(void **state)
{
    (void)state;
    static const uid_t others[] = { BOB, 65534, 0 };
    char text[4096] = "";
    struct broker *b = datagram_begin("allow user:2001 read @/pub/**\n", "workers 1");
    int status = 0;
    b->uncounted = true;
    prepare_hers(b);
    pid_t alice = client_begin(b, ALICE, serve_and_ask, NULL);
    WAIT_FOR(says(b, "serving ") || waitpid(alice, &status, WNOHANG) == alice);
    bool serves = says(b, "serving ");
    if (serves) {
        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
            as_user(b, others[i], ask_hers, NULL);
        shared->step = 1;
        assert_int_equal(child_wait(alice), 0);
        assert_true(file_read(at(b, "al/audit"), text, sizeof text) > 0);
        assert_non_null(strstr(text, "\"uid\":2001,"));
        assert_ptr_equal(strchr(text, '\n'), strrchr(text, '\n')); /* hers, and no other */
    } else {
        file_read(at(b, "al/log"), text, sizeof text);
        print_message("skipped: no broker in a user namespace here (status %#x) %s\n", (unsigned)status,
                      text);
    }
    datagram_finish();
    if (!serves)
        skip();
}

/* ---- groups ---- */

static const char for_groups[] = "allow group:3001 read @/pub/a\n"
                                 "allow user:2001,user:2002 read @/pub/b\n"
                                 "deny group:3002 read @/pub/b\n";

struct expected {
    int a, b, a_connected, b_connected;
};

static void ask_both_ways(struct client_env *env)
{
    const struct expected *want = env->data;
    int fd, sock = asker_new(NULL), packet = raw_connect(env->broker);
    CHECK_EQ(datagram_try(env->broker, sock, at(env->broker, "pub/a"), &fd), want->a);
    CHECK_EQ(datagram_try(env->broker, sock, at(env->broker, "pub/b"), &fd), want->b);
    CHECK_EQ(raw_open(packet, at(env->broker, "pub/a"), WIRE_READ, 0, &fd), want->a_connected);
    CHECK_EQ(raw_open(packet, at(env->broker, "pub/b"), WIRE_READ, 0, &fd), want->b_connected);
}

/* An allow by group counts the primary one alone, a deny by group holds for everybody. */
static void test_groups(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(for_groups, "workers 2");
    static const struct {
        gid_t gid, more[2];
        size_t n;
        struct expected want;
    } cases[] = {
        { ALICE, { 0 }, 0, { EACCES, EACCES, EACCES, 0 } },
        { ALICE, { STAFF }, 1, { EACCES, EACCES, 0, 0 } },
        { STAFF, { 0 }, 0, { 0, EACCES, 0, 0 } },
        { STAFF, { BARRED }, 1, { 0, EACCES, 0, EACCES } },
        { ALICE, { STAFF, BARRED }, 2, { EACCES, EACCES, 0, EACCES } },
        { BARRED, { 0 }, 0, { EACCES, EACCES, EACCES, EACCES } },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(as_user_groups(b, i % 2 ? ALICE : BOB, cases[i].gid, cases[i].more, cases[i].n,
                                        ask_both_ways, (void *)(uintptr_t)&cases[i].want),
                         0);
    datagram_finish();
}

/* What LIST says is what holds. */
static void list_by_datagram(struct client_env *env)
{
    static struct native_reply reply;
    int sock = asker_new(NULL);
    datagram_ask(env->broker, sock, WIRE_LIST, 1, NULL, 0);
    CHECK(datagram_receive(sock, &reply, NULL));
    reply.bytes[reply.header.length] = '\0';
    const char *text = (const char *)reply.bytes + WIRE_HEADER_SIZE;
    CHECK(!strstr(text, "/pub/a\n"));
    CHECK(strstr(text, "deny read "));
}

static void test_list_of_groups(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(for_groups, "workers 1");
    assert_int_equal(as_user_groups(b, ALICE, ALICE, (gid_t[]){ STAFF }, 1, list_by_datagram, NULL), 0);
    datagram_finish();
}

/* ---- programs ---- */

static const char for_programs[] = "allow user:2001+exe:/** read @/pub/a\n"
                                   "allow user:2001 read @/pub/b\n"
                                   "deny user:2001+exe:/none/of/these read @/pub/b\n";

static void test_programs(void **state)
{
    (void)state;
    struct expected want = { EACCES, EACCES, 0, 0 };
    struct broker *b = datagram_begin(for_programs, "workers 2");
    as_user(b, ALICE, ask_both_ways, &want);
    datagram_finish();
}

static const char for_units[] =
    "allow user:2001+unit:a.service,user:2001+cgroup:/**,user:2001+label:** read @/pub/a\n"
    "allow user:2001,user:2002 read @/pub/b\n"
    "deny user:2001+unit:no.service read @/pub/b\n"
    "allow user:2001 read @/pub/sub/c\n"
    "deny user:2001+cgroup:/none read @/pub/sub/c\n"
    "allow user:2001 read @/priv/f\n"
    "deny user:2001+label:none read @/priv/f\n";

static void ask_all(struct client_env *env)
{
    static const char *const refused[] = { "pub/a", "pub/b", "pub/sub/c", "priv/f" };
    int fd, sock = asker_new(NULL);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
        CHECK_EQ(datagram_try(env->broker, sock, at(env->broker, refused[i]), &fd), EACCES);
}

static void ask_for_b(struct client_env *env)
{
    expect_datagram(env->broker, asker_new(NULL), "pub/b", "pub b\n"); /* bob, whom no deny names */
}

/* Unit, cgroup and label. */
static void test_units(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(for_units, "workers 1");
    as_user(b, ALICE, ask_all, NULL);
    as_user(b, BOB, ask_for_b, NULL);
    datagram_finish();
}

/* ---- 79: requests a second ---- */

static void ask_too_often(struct client_env *env)
{
    int fd, sock = asker_new(NULL);
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(env->broker, "pub/a"));
    for (int i = 0; i < 300; i++) {
        int error = datagram_try(env->broker, sock, path, &fd);
        CHECK(error == 0 || error == EAGAIN);
        fd_close(fd);
        shared->served += error == 0;
        shared->refused += error != 0;
    }
}

static void test_79_rate(void **state)
{
    (void)state;
    struct broker *b = datagram_begin(for_uids, "workers 2\nmax-requests-per-second-per-user 50");
    int64_t begin = now_us();
    as_user(b, ALICE, ask_too_often, NULL);
    int seconds = (int)((now_us() - begin) / 1000000);
    assert_in_range(shared->served, 50, 100 + 50 * seconds); /* a second's worth at once */
    assert_int_equal(shared->served + shared->refused, 300);
    as_user(b, BOB, ask_by_datagram, NULL);
    expect_records(b, "\"reason\":\"quota\"", "\"uid\":2001,", (int)shared->refused);
    datagram_finish();
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        DATAGRAMS(test_98_records), DATAGRAMS(test_2_forged),       DATAGRAMS(test_18_unmapped),
        DATAGRAMS(test_groups),     DATAGRAMS(test_list_of_groups), DATAGRAMS(test_programs),
        DATAGRAMS(test_units),      DATAGRAMS(test_79_rate),
    };
    return cmocka_run_group_tests_name("datagrams, subjects", tests, shared_setup, NULL);
}
