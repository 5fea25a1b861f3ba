/*
 * threats.md, 148 to 150: what clients notice of crashes and new versions, and how they find out whom they
 * talk to.
 */
#include "attacks.h"

#include <sched.h>
#include <sys/un.h>

#include "../../client/fob.h"

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n"
                             "allow user:2001 read,write,create @/al/**\n";

/* ---- 148: a crash, seen by libfob ---- */

static int open_fob(struct fob *fob, const struct broker *b, const char *path, int flags)
{
    int fd = fob_open(fob, at(b, path), flags, 0600);
    fd_close(fd);
    return fd < 0 ? errno : 0;
}

/* The connection is made anew, once, and nobody notices. */
static void ask_again_after_restart(struct client_env *env)
{
    struct fob *fob = fob_connect(env->broker->socket);
    CHECK(fob != NULL);
    CHECK_EQ(open_fob(fob, env->broker, "pub/a", O_RDONLY), 0);
    shared->step = 1;
    wait_for_step(2);
    CHECK_EQ(open_fob(fob, env->broker, "pub/a", O_RDONLY), 0);
    shared->step = 3;
    wait_for_step(4);
    CHECK_EQ(open_fob(fob, env->broker, "al/after", O_WRONLY | O_CREAT | O_EXCL), 0);
    fob_close(fob);
}

static void crash_and_restart(struct broker *b)
{
    crash_broker(b);
    unlink(at(b, "fobd.log"));
    broker_start(b, policy, "workers 2");
    b->uncounted = true;
}

static void test_148_restart(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    pid_t alice = client_begin(&b, ALICE, ask_again_after_restart, NULL);
    for (int step = 1; step <= 3; step += 2) {
        EXPECT_STEP(step);
        crash_and_restart(&b);
        shared->step = step + 1;
    }
    assert_int_equal(child_wait(alice), 0);
    assert_int_equal(access(at(&b, "al/after"), F_OK), 0);
    broker_finish(&b);
}

static void kill_workers(const struct broker *b, int signal)
{
    pid_t pids[8];
    int n = broker_workers(b, pids, 8);
    for (int i = 0; i < n; i++)
        kill(pids[i], signal);
}

/* Its request is lost with the worker that had it: what may have been done is not done again. */
static void ask_who_dies(struct client_env *env)
{
    struct fob *fob = fob_connect(env->broker->socket);
    CHECK(fob != NULL);
    CHECK_EQ(open_fob(fob, env->broker, "pub/a", O_RDONLY), 0);
    shared->step = 1;
    wait_for_step(2);
    shared->step = 3;
    CHECK_EQ(open_fob(fob, env->broker, "al/lost", O_WRONLY | O_CREAT), ECONNRESET);
    CHECK_EQ(open_fob(fob, env->broker, "pub/a", O_RDONLY), 0);
    shared->step = 4;
    wait_for_step(5);
    shared->step = 6;
    CHECK_EQ(open_fob(fob, env->broker, "pub/a", O_RDONLY), 0); /* this one is */
    fob_close(fob);
}

static void kill_in_request(struct broker *b, int step)
{
    EXPECT_STEP(step);
    kill_workers(b, SIGSTOP);
    shared->step = step + 1;
    EXPECT_STEP(step + 2);
    usleep(200000); /* sent by now */
    kill_workers(b, SIGKILL);
}

static void test_148_lost_request(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    b.uncounted = true;
    pid_t alice = client_begin(&b, ALICE, ask_who_dies, NULL);
    kill_in_request(&b, 1);
    kill_in_request(&b, 4);
    assert_int_equal(child_wait(alice), 0);
    assert_int_equal(access(at(&b, "al/lost"), F_OK), -1);
    EXPECT_SOON(workers_are_quiet(&b, 2));
    broker_finish(&b);
}

/* A second try would be told EEXIST by the first one's file. */
static void create_without_end(struct client_env *env)
{
    char name[32];
    struct fob *fob = fob_connect(env->broker->socket);
    CHECK(fob != NULL);
    for (unsigned i = 0; !shared->over; i++) {
        snprintf(name, sizeof name, "al/%d-%u", (int)getpid(), i);
        int error = open_fob(fob, env->broker, name, O_WRONLY | O_CREAT | O_EXCL);
        CHECK(error == 0 || error == ECONNRESET);
        CHECK(error || access(at(env->broker, name), F_OK) == 0);
        shared->served += error == 0;
        shared->refused += error != 0;
    }
    fob_close(fob);
}

static void test_148_nothing_twice(void **state)
{
    (void)state;
    struct broker b;
    pid_t clients[4];
    broker_begin(&b, policy);
    b.uncounted = true;
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
        clients[i] = client_begin(&b, ALICE, create_without_end, NULL);
    for (int i = 0; i < 6; i++) {
        usleep(150000);
        kill_workers(&b, SIGKILL);
    }
    usleep(300000);
    shared->over = true;
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
        assert_int_equal(child_wait(clients[i]), 0);
    print_message("%u files created, %u requests lost\n", shared->served, shared->refused);
    assert_true(shared->served > 0);
    EXPECT_SOON(workers_are_quiet(&b, 2));
    broker_finish(&b);
}

/* ---- 149: who is the server? ---- */

static void expect_real_server(struct client_env *env)
{
    struct ucred server;
    struct fob *fob = fob_connect(env->broker->socket);
    CHECK(fob != NULL);
    CHECK_EQ(fob_server(fob, &server), 0);
    CHECK_EQ(server.uid, 0);
    CHECK_EQ(server.pid, env->broker->pid);
    CHECK_EQ(open_fob(fob, env->broker, "pub/a", O_RDONLY), 0);
    count_requests(1);
    fob_close(fob);
}

/* Somebody else's, unless one says that it is the one that is meant. */
static void expect_false_server(struct client_env *env)
{
    struct ucred server;
    char fake[DIR_MAX + 32], text[16];
    snprintf(fake, sizeof fake, "%s", at(env->broker, "sticky/sock"));
    CHECK(fob_connect(fake) == NULL && errno == EPERM);
    snprintf(text, sizeof text, "%d", ALICE);
    CHECK_EQ(setenv("FOB_SERVER", text, 1), 0);
    struct fob *fob = fob_connect(fake);
    CHECK(fob != NULL);
    CHECK_EQ(fob_server(fob, &server), 0);
    CHECK_EQ(server.uid, ALICE);
    fob_close(fob);
}

/* In a user namespace nobody has a name, and where others can put sockets no path vouches for one. Who asks,
 * the broker knows all the same. */
static void expect_server_from_inside(struct client_env *env)
{
    struct ucred server;
    if (unshare(CLONE_NEWUSER) < 0)
        skip_in_client("no user namespaces here");
    CHECK(fob_connect(env->broker->socket) == NULL && errno == EREMOTE);
    CHECK_EQ(setenv("FOB_SERVER", "65534", 1), 0);
    struct fob *fob = fob_connect(env->broker->socket);
    CHECK(fob != NULL);
    CHECK_EQ(fob_server(fob, &server), 0);
    CHECK_EQ(server.uid, 65534);
    CHECK_EQ(open_fob(fob, env->broker, "pub/a", O_RDONLY), 0);
    count_requests(1);
    fob_close(fob);
}

static void serve_falsely(struct client_env *env)
{
    struct sockaddr_un address;
    int len = sock_address(&address, at(env->broker, "sticky/sock"));
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(bind(sock, (struct sockaddr *)&address, (socklen_t)len) == 0);
    CHECK(chmod(at(env->broker, "sticky/sock"), 0666) == 0);
    CHECK(listen(sock, 8) == 0);
    shared->step = 1;
    for (int accepted; (accepted = accept4(sock, NULL, NULL, SOCK_CLOEXEC)) >= 0; close(accepted)) {
        CHECK_EQ(recv(accepted, &(char){ 0 }, 1, 0), 0); /* nothing is said to it */
        shared->served++;
    }
}

/* Neither removed, nor moved, nor hidden. */
static void take_its_place(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK(unlink(b->socket) < 0 && errno == EACCES);
    CHECK(rename(b->socket, at(b, "al/sock")) < 0 && errno == EACCES);
    CHECK(rename(at(b, "sticky/sock"), b->socket) < 0 && errno == EACCES);
    CHECK(link(at(b, "sticky/sock"), b->socket) < 0);
    CHECK(chmod(b->socket, 0600) < 0 && errno == EPERM);
    CHECK(open(at(b, "sock.lock"), O_RDWR | O_CLOEXEC) < 0 && errno == EACCES);
}

static void test_149_who_serves(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    pid_t alice = client_begin(&b, ALICE, serve_falsely, NULL);
    EXPECT_STEP(1);
    unsetenv("FOB_SERVER");
    as_user(&b, BOB, expect_real_server, NULL);
    as_user(&b, BOB, expect_false_server, NULL);
    EXPECT_SOON(shared->served == 2);
    as_user(&b, ALICE, take_its_place, NULL);
    client_kill(alice);
    broker_finish(&b);
}

static void test_149_from_inside(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    int status = as_user_groups(&b, BOB, BOB, NULL, 0, expect_server_from_inside, NULL);
    if (status == 77) {
        broker_end(&b);
        skip();
    }
    assert_int_equal(status, 0);
    broker_finish(&b);
}

/* ---- 150: versions ---- */

/* Of a protocol that is not spoken yet: the connection ends, the audit says why, nobody else notices. */
static void ask_from_the_future(struct client_env *env)
{
    static const struct {
        char magic[5];
        uint16_t type;
    } future[] = { { "FOB2", WIRE_HELLO }, { "FOB1", 5 }, { "FOB1", 0x7fff }, { "fob1", WIRE_HELLO } };
    for (size_t i = 0; i < ARRAY_SIZE(future); i++) {
        uint8_t out[WIRE_HEADER_SIZE];
        struct wire_header header = { sizeof out, WIRE_HELLO, 0, 1 };
        int sock = raw_connect(env->broker);
        wire_encode_header(out, sizeof out, &header);
        memcpy(out, future[i].magic, 4);
        memcpy(out + 8, &future[i].type, sizeof future[i].type);
        CHECK_EQ(send(sock, out, sizeof out, MSG_NOSIGNAL), sizeof out);
        CHECK_EQ(recv(sock, &(char){ 0 }, 1, 0), 0);
        close(sock);
    }
    struct fob_info info;
    struct fob *fob = fob_connect(env->broker->socket);
    CHECK(fob != NULL);
    CHECK_EQ(fob_hello(fob, &info), 0);
    CHECK_EQ(info.version, 1);
    fob_close(fob);
}

static void test_150_newer_client(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, ask_from_the_future, NULL);
    expect_records(&b, "\"reason\":\"malformed\"", "\"op\":\"message\"", 4);
    broker_finish(&b);
}

/* Answers everything in the protocol of tomorrow, with a descriptor that nobody asked for. */
static void serve_tomorrow(struct client_env *env)
{
    static const char reply[] = "FOB2 not what was asked";
    struct sockaddr_un address;
    int len = sock_address(&address, at(env->broker, "al/tomorrow"));
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), null = STDIN_FILENO;
    CHECK(bind(listener, (struct sockaddr *)&address, (socklen_t)len) == 0);
    CHECK(listen(listener, 8) == 0);
    shared->step = 1;
    for (int sock; (sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0; close(sock))
        while (recv(sock, &(char){ 0 }, 1, 0) > 0)
            msg_send(sock, reply, sizeof reply, &null, 1, NULL, 0);
}

static int count_own_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void ask_tomorrow(struct client_env *env)
{
    struct fob_info info;
    struct fob *fob = fob_connect(at(env->broker, "al/tomorrow"));
    CHECK(fob != NULL);
    CHECK(fob_hello(fob, &info) < 0 && errno == EPROTO);
    int before = count_own_fds();
    for (int i = 0; i < 10; i++)
        CHECK_EQ(open_fob(fob, env->broker, "pub/a", O_RDONLY), EPROTO);
    CHECK_EQ(count_own_fds(), before);
    fob_close(fob);
}

/* What a person is told. */
static void ping_tomorrow(struct client_env *env)
{
    const char *build = getenv("BUILD");
    char command[1024], said[512];
    snprintf(command, sizeof command, "%s/fob -s %s ping 2>&1", build && *build ? build : "build",
             at(env->broker, "al/tomorrow"));
    FILE *out = popen(command, "re");
    CHECK(out != NULL);
    CHECK(fgets(said, sizeof said, out) != NULL);
    CHECK(strstr(said, "fob: ") == said && strstr(said, strerror(EPROTO)));
    CHECK(pclose(out) != 0);
}

static void test_150_newer_server(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    pid_t server = client_begin(&b, ALICE, serve_tomorrow, NULL);
    EXPECT_STEP(1);
    as_user(&b, ALICE, ask_tomorrow, NULL);
    as_user(&b, ALICE, ping_tomorrow, NULL);
    client_kill(server);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_148_restart),      ATTACK(test_148_lost_request), ATTACK(test_148_nothing_twice),
        ATTACK(test_149_who_serves),   ATTACK(test_149_from_inside),  ATTACK(test_150_newer_client),
        ATTACK(test_150_newer_server),
    };
    return cmocka_run_group_tests_name("client life", tests, shared_setup, NULL);
}
