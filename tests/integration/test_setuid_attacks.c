/*
 * Started with more rights than its caller has, who goes on having a hand in it: keeps the other end of what
 * it was given, sends before it is there, starts it by other ways than its path. What a caller does so is at
 * most a request of the caller's, and it ends with its client.
 */
#include "setuid_place.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/personality.h>

#include "../../common/compat.h"

/* ---- the other descriptor of its end ---- */

struct kept {
    struct spawned s;
    int end; /* the broker's own, as the client has it too */
};

/* Started, and asked once. */
static struct kept spawn_kept(int type)
{
    const struct spawn how = elevated(type);
    int pair[2];
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    CHECK_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
    struct kept k = { { spawn_on(&b, &how, pair[1]), patient(pair[0]) }, pair[1] };
    expect_content(NATIVE, k.s.sock, at(&b, "priv/f"), "priv f\n");
    return k;
}

static int end_kept(struct kept *k)
{
    close(k->end);
    return spawn_end(&k->s);
}

/* One of these, and requests after it. The connection may end; no process dies of it. */
static void meddle(struct kept *k, int which)
{
    static const int on = 1, off = 0, small = 1, offset = 7;
    char bytes[512];
    switch (which) {
    case 0:
        setsockopt(k->end, SOL_SOCKET, SO_PASSCRED, &off, sizeof off);
        break;
    case 1:
        setsockopt(k->end, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset);
        break;
    case 2:
        setsockopt(k->end, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        setsockopt(k->end, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        break;
    case 3:
        fcntl(k->end, F_SETFL, O_NONBLOCK | O_ASYNC);
        break;
    case 4:
        shutdown(k->end, SHUT_RD);
        break;
    case 5:
        shutdown(k->end, SHUT_WR);
        break;
    case 6:
        setsockopt(k->end, SOL_SOCKET, SO_RCVLOWAT, &(int){ 100000 }, sizeof(int));
        break;
    case 7:
        send_request(NATIVE, k->s.sock, at(&b, "priv/f"));
        send_request(NATIVE, k->s.sock, at(&b, "priv/f"));
        (void)!recv(k->end, bytes, 20, MSG_DONTWAIT); /* a part of it, or all */
        break;
    default:
        setsockopt(k->end, SOL_SOCKET, SO_PASSRIGHTS, &on, sizeof on);
        msg_send(k->s.sock, "FOB1", 4, (const int[]){ k->end, k->s.sock }, 2, NULL, MSG_DONTWAIT);
    }
}

enum { MEDDLINGS = 9 };

static void meddle_with_each(struct client_env *env)
{
    (void)env;
    static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET };
    for (int which = 0; which < MEDDLINGS; which++)
        for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
            struct kept k = spawn_kept(types[t]);
            uint8_t out[512];
            meddle(&k, which);
            size_t len = request_bytes(NATIVE, out, sizeof out, at(&b, "secret/f"));
            for (int i = 0; i < 3; i++)
                (void)!send(k.s.sock, out, len, MSG_NOSIGNAL | MSG_DONTWAIT);
            usleep(5000);
            CHECK_EQ(end_kept(&k), 0);
        }
}

static void test_kept_end(void **state)
{
    (void)state;
    as_user(&b, ALICE, meddle_with_each, NULL);
    assert_false(says(&b, "signal"));
    assert_false(says(&b, "ended with status"));
}

/* The first byte that is looked at is not the first that is read: any offset, both protocols. */
static void look_elsewhere(struct client_env *env)
{
    (void)env;
    for (int offset = 0; offset < 200; offset += offset < 20 ? 1 : 17) {
        const struct spawn how = elevated(SOCK_STREAM);
        int pair[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        struct spawned s = { spawn_on(&b, &how, pair[1]), patient(pair[0]) };
        CHECK_EQ(setsockopt(pair[1], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset), 0);
        for (int i = 0; i < 3; i++) {
            uint8_t out[512];
            size_t len = request_bytes(i % 2 ? NATIVE : APUE, out, sizeof out, at(&b, "priv/f"));
            (void)!send(s.sock, out, len, MSG_NOSIGNAL);
        }
        close(pair[1]);
        usleep(3000);
        CHECK_EQ(spawn_end(&s), 0);
    }
}

static void test_peek_offset(void **state)
{
    (void)state;
    as_user(&b, ALICE, look_elsewhere, NULL);
    assert_false(says(&b, "signal"));
}

/* A signal of the caller's choice when its end can be read: by the owner of a descriptor, not by kill(2). */
static void signal_by_descriptor(struct client_env *env)
{
    (void)env;
    static const int numbers[] = { SIGIO, SIGTERM, SIGUSR1, SIGSTOP, SIGKILL };
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        struct kept k = spawn_kept(SOCK_STREAM);
        fcntl(k.end, F_SETOWN, k.s.pid);
        fcntl(k.end, F_SETSIG, numbers[i]);
        fcntl(k.end, F_SETFL, O_ASYNC);
        for (int n = 0; n < 5; n++)
            expect_content(NATIVE, k.s.sock, at(&b, "priv/f"), "priv f\n");
        CHECK_EQ(end_kept(&k), 0);
    }
}

static void test_120_signals_by_descriptor(void **state)
{
    (void)state;
    as_user(&b, ALICE, signal_by_descriptor, NULL);
}

/* ---- before it is there ---- */

/* Descriptors that wait for it, the socket itself among them, are not taken, and nothing of them is left. */
static void send_descriptors_first(struct client_env *env)
{
    (void)env;
    static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET };
    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        int pair[2], fds[200], pipes[2];
        uint8_t out[512];
        const struct spawn how = elevated(types[t]);
        CHECK_EQ(socketpair(AF_UNIX, types[t] | SOCK_CLOEXEC, 0, pair), 0);
        CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
            fds[i] = i < 100 ? pair[i % 2] : pipes[1];
        size_t len = request_bytes(NATIVE, out, sizeof out, at(&b, "priv/f"));
        CHECK_EQ(msg_send(pair[0], out, len, fds, ARRAY_SIZE(fds), NULL, 0), 0);
        struct spawned s = { spawn_on(&b, &how, pair[1]), patient(pair[0]) };
        close(pair[1]);
        close(pipes[1]);
        CHECK(is_closed(s.sock));
        CHECK_EQ(spawn_end(&s), 0);
        CHECK_EQ(read(pipes[0], out, 1), 0); /* nobody holds it */
        close(pipes[0]);
    }
}

static void test_29_descriptors_first(void **state)
{
    (void)state;
    as_user(&b, ALICE, send_descriptors_first, NULL);
    assert_int_equal(opens_recorded(NULL), 0);
}

/* All requests are there, and its client has gone, before it starts. */
static void send_and_go(struct client_env *env)
{
    (void)env;
    static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET };
    for (int i = 0; i < 8; i++) {
        int pair[2];
        const struct spawn how = elevated(types[i % 2]);
        CHECK_EQ(socketpair(AF_UNIX, how.type | SOCK_CLOEXEC, 0, pair), 0);
        for (int n = 0; n < i; n++)
            send_request(NATIVE, pair[0], at(&b, "priv/f"));
        close(pair[0]);
        pid_t pid = spawn_on(&b, &how, pair[1]);
        close(pair[1]);
        CHECK_EQ(status_at_end(pid), 0);
        expect_no_children();
    }
}

static void test_124_client_has_gone(void **state)
{
    (void)state;
    as_user(&b, ALICE, send_and_go, NULL);
}

/* ---- other ways to start it ---- */

static void start_by(const char *path)
{
    const struct spawn how = { path, NULL, NULL, SOCK_STREAM, NULL, NULL };
    expect_service(&how);
}

static void start_by_links(struct client_env *env)
{
    (void)env;
    char path[64];
    start_by("/run/links/symlink");
    start_by("/run/links/hard");
    start_by("/run/links/../links/././symlink");
    start_by("/proc/self/root/run/bin/fobd");
    int fd = open("/run/links/hard", O_PATH);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    start_by(path);
    close(fd);
}

static void test_links_to_it(void **state)
{
    (void)state;
    mkdir("/run/links", 0755);
    assert_int_equal(symlink(PLACE_FOBD, "/run/links/symlink"), 0);
    assert_int_equal(link(PLACE_FOBD, "/run/links/hard"), 0);
    as_user(&b, ALICE, start_by_links, NULL);
    nftw("/run/links", place_remove, 8, FTW_PHYS | FTW_DEPTH);
    rmdir("/run/links");
}

/* As its interpreter's argument, and as the interpreter of a script: options, at most. */
static void start_by_others(struct client_env *env)
{
    const char *loader = env->data;
    const char *const argv[] = { loader, PLACE_FOBD, NULL };
    const struct spawn by_loader = { loader, argv, NULL, SOCK_STREAM, NULL, NULL },
                       by_script = { at(&b, "al/script"), NULL, NULL, SOCK_STREAM, NULL, NULL };
    struct spawned s = spawn(&b, &by_loader);
    uint8_t out[512];
    int fd;
    size_t len = request_bytes(NATIVE, out, sizeof out, at(&b, "priv/f"));
    (void)!send(s.sock, out, len, MSG_NOSIGNAL);
    CHECK(receive_native(s.sock, &fd) != 0);
    CHECK(spawn_end(&s) != 0);
    expect_no_service(&b, &by_script, 2);
}

static void test_started_by_others(void **state)
{
    (void)state;
    static const char *const loaders[] = { "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1" };
    const char *loader = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(loaders) && !loader; i++)
        loader = access(loaders[i], X_OK) == 0 ? loaders[i] : NULL;
    if (!loader) {
        print_message("skipped: the loader is somewhere else here\n");
        skip();
    }
    file_write(at(&b, "al/script"), "#!/run/bin/fobd\n", 0755, ALICE);
    as_user(&b, ALICE, start_by_others, (void *)(uintptr_t)loader);
    assert_int_equal(opens_recorded(NULL), 0);
}

/* ---- what else it inherits ---- */

static void be_odd(void *which)
{
    static const unsigned long odd[] = { ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC | MMAP_PAGE_ZERO,
                                         UNAME26 | WHOLE_SECONDS | STICKY_TIMEOUTS | SHORT_INODE,
                                         ADDR_LIMIT_3GB | ADDR_COMPAT_LAYOUT, PER_LINUX32 };
    int number = *(int *)which;
    if (number < (int)ARRAY_SIZE(odd))
        personality(odd[number]);
    else if (number == 4)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    else if (number == 5)
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    else if (number == 6)
        prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    else if (number == 7)
        prctl(PR_SET_TIMERSLACK, 1000000000L);
    else if (number == 8)
        prctl(PR_SET_KEEPCAPS, 1);
    else
        setsid();
}

static void start_oddly(struct client_env *env)
{
    (void)env;
    for (int which = 0; which < 10; which++) {
        const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, be_odd, &which };
        expect_service(&how);
    }
}

static void test_odd_inheritance(void **state)
{
    (void)state;
    as_user(&b, ALICE, start_oddly, NULL);
}

#ifdef PR_SET_TSC
static void forbid_clock(void *none)
{
    (void)none;
    prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
}

/* Without a clock it dies, or serves; a file that it made is recorded. */
static void start_without_clock(struct client_env *env)
{
    (void)env;
    const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, forbid_clock, NULL };
    struct spawned s = spawn(&b, &how);
    uint8_t out[512];
    int fd = -1;
    size_t len = encode_open(out, sizeof out, at(&b, "priv/made/clock"), WIRE_WRITE | WIRE_CREATE, 0600);
    (void)!send(s.sock, out, len, MSG_NOSIGNAL);
    int error = receive_native(s.sock, &fd);
    int status = spawn_end(&s);
    CHECK(error == 0 ? status == 0 : status != 0);
}

static void test_no_clock(void **state)
{
    (void)state;
    as_user(&b, ALICE, start_without_clock, NULL);
    assert_int_equal(opens_recorded(NULL), access(at(&b, "priv/made/clock"), F_OK) == 0);
}
#endif

enum { AT_ONCE = 40 };

/* Many of them at once: each has its own client. */
static void start_many(struct client_env *env)
{
    (void)env;
    struct spawned s[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++) {
        const struct spawn how = elevated(i % 2 ? SOCK_STREAM : SOCK_SEQPACKET);
        s[i] = spawn(&b, &how);
    }
    for (int i = 0; i < AT_ONCE; i++)
        expect_content(NATIVE, s[i].sock, at(&b, "priv/f"), "priv f\n");
    for (int i = AT_ONCE - 1; i > 0; i--)
        close(s[i].sock);
    CHECK_EQ(spawn_end(&s[0]), 0);
}

static void test_many_at_once(void **state)
{
    (void)state;
    as_user(&b, ALICE, start_many, NULL);
    assert_int_equal(opens_recorded("\"uid\":2001"), AT_ONCE);
}

int main(void)
{
    RUN_IN_PLACE();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_kept_end, place_reset),
        cmocka_unit_test_setup(test_peek_offset, place_reset),
        cmocka_unit_test_setup(test_120_signals_by_descriptor, place_reset),
        cmocka_unit_test_setup(test_29_descriptors_first, place_reset),
        cmocka_unit_test_setup(test_124_client_has_gone, place_reset),
        cmocka_unit_test_setup(test_links_to_it, place_reset),
        cmocka_unit_test_setup(test_started_by_others, place_reset),
        cmocka_unit_test_setup(test_odd_inheritance, place_reset),
#ifdef PR_SET_TSC
        cmocka_unit_test_setup(test_no_clock, place_reset),
#endif
        cmocka_unit_test_setup(test_many_at_once, place_reset),
    };
    int failed = cmocka_run_group_tests_name("setuid attacks", tests, place_install_next, NULL);
    failed += cmocka_run_group_tests_name("attacks with file capabilities", tests, place_install_next, NULL);
    place_end();
    return failed;
}
