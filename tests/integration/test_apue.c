/*
 * The open server of APUE 3e as its clients know it: one request in one writev(2), an answer read as the book
 * reads it (stream_client.h). What only the records show, and what a client's bound name is good for.
 */
#include "stream_client.h"

static const char policy[] = "allow user:2001 read @/pub/**\n"
                             "allow user:2001 read,write,append,create @/priv/** @/al/**\n"
                             "allow user:2001 list @/pub/sub\n";

/* ---- a client as in the book ---- */

/* Connects once; what goes wrong is said on stderr. A descriptor, or -1 with errno. */
static int open_by_broker(const struct broker *b, const char *path, int oflag)
{
    static int sock = -1;
    int fd;
    if (sock < 0)
        sock = stream_connect(b);
    int status = apue_ask(sock, path, oflag, &fd);
    CHECK(status >= 0);
    if (status == 0)
        return fd;
    CHECK_EQ(write(STDERR_FILENO, apue_said, apue_said_len), (ssize_t)apue_said_len);
    errno = status;
    return -1;
}

static void use_like_open(struct client_env *env)
{
    const struct broker *b = env->broker;
    char text[1024], want[1024];
    int fd = open_by_broker(b, at(b, "pub/a"), O_RDONLY);
    CHECK(fd_reads(fd, "pub a\n"));
    CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    int said = open(at(b, "al/stderr"), O_RDWR | O_CREAT | O_CLOEXEC, 0600), was = dup(STDERR_FILENO);
    dup2(said, STDERR_FILENO);
    int none = open_by_broker(b, at(b, "pub/none"), O_RDONLY), none_errno = errno;
    int secret = open_by_broker(b, at(b, "secret/f"), O_RDWR), secret_errno = errno;
    dup2(was, STDERR_FILENO);
    CHECK(none == -1 && secret == -1);
    CHECK_EQ(none_errno, ENOENT);
    CHECK_EQ(secret_errno, EACCES);
    snprintf(want, sizeof want,
             "can't open %s: No such file or directory\ncan't open %s: Permission denied\n",
             at(b, "pub/none"), at(b, "secret/f"));
    CHECK(file_read(at(b, "al/stderr"), text, sizeof text) > 0);
    CHECK_EQ(strcmp(text, want), 0);
    CHECK(fd_reads(open_by_broker(b, at(b, "pub/b"), O_RDONLY), "pub b\n"));
}

static void test_like_open(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, use_like_open, NULL);
    broker_finish(&b);
}

/* ---- every kind of answer ---- */

static void expect_error(int sock, const char *path, int oflag, int error)
{
    int fd, status = apue_ask(sock, path, oflag, &fd);
    if (status != error || fd >= 0 || !apue_text_is(path, strerror(error)))
        fprintf(stderr, "%.200s %#x: status %d, `%.*s`\n", path, (unsigned)oflag, status, (int)apue_said_len,
                apue_said);
    CHECK_EQ(status, error);
    CHECK_EQ(fd, -1);
    CHECK(apue_text_is(path, strerror(error)));
    CHECK(is_silent(sock));
}

/* All on one connection, and something good between them. */
static void ask_for_errors(struct client_env *env)
{
    const struct broker *b = env->broker;
    const struct {
        const char *path;
        int oflag, error;
    } wrong[] = {
        { "pub/none", O_RDONLY, ENOENT },
        { "pub/none/deeper", O_RDONLY, ENOENT },
        { "pub/a/deeper", O_RDONLY, ENOTDIR },
        { "secret/f", O_RDONLY, EACCES },
        { "pub/a", O_WRONLY, EACCES },
        { "pub/a", O_RDWR, EACCES },
        { "pub/new", O_WRONLY | O_CREAT, EACCES },
        { "priv/dir", O_WRONLY, EISDIR },
        { "priv/f", O_RDONLY | O_DIRECTORY, EACCES }, /* no right to list */
        { "priv/f", O_WRONLY | O_CREAT | O_EXCL, EEXIST },
        { "al/link", O_RDONLY | O_NOFOLLOW, ELOOP },
        { "al/link", O_WRONLY | O_CREAT, ELOOP },
        { "pub/a", O_RDONLY | O_TRUNC, EINVAL },
        { "pub/a", O_ACCMODE, EINVAL },
        { "priv/dir", O_TMPFILE | O_RDWR, EINVAL },
        { "pub/a", O_RDONLY | O_DIRECT, EINVAL },
        { "pub/a", O_RDONLY | O_NOATIME, EINVAL },
        { "pub/a", 1 << 30, EINVAL },
        { "pub/a", -1, EINVAL },
        { "pub//a", O_RDONLY, EINVAL },
        { "pub/../pub/a", O_RDONLY, EINVAL },
        { "pub/./a", O_RDONLY, EINVAL },
        { "pub/a/", O_RDONLY, EINVAL },
    };
    int sock = stream_connect(b);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        expect_error(sock, at(b, wrong[i].path), wrong[i].oflag, wrong[i].error);
        if (i % 4 == 0)
            expect_text(APUE, sock, at(b, "pub/b"), "pub b\n");
    }
    expect_error(sock, "pub/a", O_RDONLY, EINVAL);
    expect_error(sock, ".", O_RDONLY, EINVAL);
    expect_error(sock, "%s%n;uid=0", O_RDONLY, EINVAL);
}

static void test_errors(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    assert_int_equal(mkdir(at(&b, "priv/dir"), 0755), 0);
    assert_int_equal(symlink(at(&b, "pub/a"), at(&b, "al/link")), 0);
    broker_start(&b, policy, STREAM "workers 2");
    as_user(&b, ALICE, ask_for_errors, NULL);
    assert_int_equal(audit_count(&b, "\"uid\":2001,", "\"errno\":\"EINVAL\""), 14);
    broker_finish(&b);
}

/* What is no request is told how one looks, and the connection goes on. */
static void ask_wrongly(struct client_env *env)
{
    static const char *const wrong[] = { "open", "open ",      "open /etc/hosts", "open 0", "opens /a 0", "o",
                                         "",     "close /a 0", "OPEN /a 0",       "\t\n ",  "open/a 0" };
    int fd, sock = stream_connect(env->broker);
    expect_text(APUE, sock, at(env->broker, "pub/a"), "pub a\n");
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        put(sock, wrong[i], strlen(wrong[i]) + 1);
        count_requests(1);
        CHECK_EQ(apue_receive(sock, &fd), EINVAL);
        CHECK_EQ(apue_said_len, strlen("usage: <pathname> <oflag>\n"));
        CHECK_EQ(memcmp(apue_said, "usage: <pathname> <oflag>\n", apue_said_len), 0);
        CHECK(is_silent(sock));
    }
    /* no number: the path is known */
    put(sock, "open /etc/hosts O_RDONLY", 25);
    count_requests(1);
    CHECK_EQ(apue_receive(sock, &fd), EINVAL);
    CHECK(apue_text_is("/etc/hosts", "Invalid argument"));
    expect_text(APUE, sock, at(env->broker, "pub/a"), "pub a\n");
}

static void test_usage(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, ask_wrongly, NULL);
    assert_int_equal(audit_count(&b, "\"op\":\"open\"", "\"reason\":\"malformed\""), 12);
    broker_finish(&b);
}

/* ---- requests of every shape ---- */

static void expect_request(int sock, const char *text)
{
    int fd;
    put(sock, text, strlen(text) + 1);
    count_requests(1);
    CHECK_EQ(apue_receive(sock, &fd), 0);
    CHECK(fd_reads(fd, "blanks\n"));
    close(fd);
}

static void ask_with_blanks(struct client_env *env)
{
    const char *path = at(env->broker, "pub/to do\tnow\n now.txt");
    char text[512];
    int sock = stream_connect(env->broker);
    const char *const shapes[] = { "open %s 0",  "open\t%s\t0", "open\n%s\n0", "open  \t %s \n  0",
                                   "open %s 00", "open %s 0\n", " open %s 0 ", "\n\topen %s 0\t\n" };
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, shapes[i], path);
#pragma GCC diagnostic pop
        expect_request(sock, text);
    }
}

static void test_blanks(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    file_write(at(&b, "pub/to do\tnow\n now.txt"), "blanks\n", 0600, 0);
    as_user(&b, ALICE, ask_with_blanks, NULL);
    assert_int_equal(audit_count(&b, "/pub/to do", "\"allowed\""), 8);
    broker_finish(&b);
}

/* ---- long ones ---- */

/* Text and status come in one read of 4,096 bytes. */
static void expect_long(int sock, size_t path_len, const char *prefix, int error)
{
    static char request[6000];
    char line[APUE_LINE + 1];
    size_t len = (size_t)sprintf(request, "open %s", prefix);
    memset(request + len, 'p', sizeof request - len);
    if (strlen(prefix) < path_len)
        len = 5 + path_len;
    memcpy(request + len, " 0", 3);
    put(sock, request, len + 3);
    count_requests(1);
    ssize_t n = recv(sock, line, sizeof line, 0);
    CHECK(n > 3 && n <= APUE_LINE);
    CHECK_EQ(line[n - 3], '\n');
    CHECK_EQ(line[n - 2], 0);
    CHECK_EQ((unsigned char)line[n - 1], error);
    CHECK(!memchr(line, 0, (size_t)n - 2));
    CHECK(memmem(line, (size_t)n, strerror(error), strlen(strerror(error))) ||
          strncmp(line, "usage: ", 7) == 0);
    if (path_len <= 3900)
        CHECK_EQ(n, (ssize_t)(strlen("can't open : \n") + path_len + strlen(strerror(error)) + 2));
    CHECK(is_silent(sock));
}

static void ask_for_long_paths(struct client_env *env)
{
    char prefix[DIR_MAX + 16];
    snprintf(prefix, sizeof prefix, "%s/", at(env->broker, "pub"));
    int sock = stream_connect(env->broker);
    for (size_t len = 3800; len <= 4095; len += 5) {
        expect_long(sock, len, prefix, ENAMETOOLONG);
        expect_long(sock, len, "/", EACCES);
    }
    expect_long(sock, 4000, prefix, ENAMETOOLONG);
    expect_long(sock, 4000, "/", EACCES);
    expect_long(sock, 4096, "/", EINVAL);
    expect_long(sock, 4300, "/", EINVAL);
    expect_long(sock, 5500, "/", EINVAL);
    expect_text(APUE, sock, at(env->broker, "pub/a"), "pub a\n");
}

static void test_long_paths(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, ask_for_long_paths, NULL);
    broker_finish(&b);
}

/* ---- flags ---- */

static void expect_flags(int sock, const char *path, int oflag, int want)
{
    int fd;
    CHECK_EQ(apue_ask(sock, path, oflag, &fd), 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC), want);
    close(fd);
}

static void ask_with_flags(struct client_env *env)
{
    const char *path = at(env->broker, "priv/f");
    int fd, sock = stream_connect(env->broker);
    struct stat st;
    expect_flags(sock, path, O_RDONLY, O_RDONLY);
    expect_flags(sock, path, O_WRONLY, O_WRONLY);
    expect_flags(sock, path, O_RDWR, O_RDWR);
    expect_flags(sock, path, O_RDWR | O_APPEND, O_RDWR | O_APPEND);
    expect_flags(sock, path, O_RDONLY | O_NONBLOCK, O_RDONLY | O_NONBLOCK);
    expect_flags(sock, path, O_WRONLY | O_SYNC, O_WRONLY | O_SYNC);
    expect_flags(sock, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | 0100000, O_RDONLY);
    expect_flags(sock, path, O_RDWR | O_CREAT, O_RDWR);
    CHECK_EQ(apue_ask(sock, path, O_RDONLY, &fd), 0);
    CHECK(fd_reads(fd, "priv f\n"));
    CHECK_EQ(apue_ask(sock, path, O_WRONLY | O_TRUNC, &fd), 0);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 0);
    CHECK_EQ(apue_ask(sock, at(env->broker, "pub/sub"), O_RDONLY | O_DIRECTORY, &fd), 0);
    CHECK(fstat(fd, &st) == 0 && S_ISDIR(st.st_mode));
}

static void test_flags(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, ask_with_flags, NULL);
    broker_finish(&b);
}

/* ---- created ---- */

static void create_both_ways(struct client_env *env)
{
    const struct broker *b = env->broker;
    int fd, sock = stream_connect(b), packet = raw_connect(b);
    umask(0);
    CHECK_EQ(apue_ask(sock, at(b, "priv/apue"), O_WRONLY | O_CREAT | O_EXCL, &fd), 0);
    CHECK_EQ(write(fd, "mine\n", 5), 5);
    CHECK_EQ(raw_open(packet, at(b, "priv/native"), WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE, 0600, &fd), 0);
    CHECK_EQ(apue_ask(sock, at(b, "priv/apue"), O_WRONLY | O_CREAT | O_EXCL, &fd), EEXIST);
    CHECK_EQ(apue_ask(sock, at(b, "priv/read"), O_RDONLY | O_CREAT, &fd), 0);
}

static struct stat stat_of(const struct broker *b, const char *path)
{
    struct stat st;
    assert_int_equal(lstat(at(b, path), &st), 0);
    return st;
}

static void test_created(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, create_both_ways, NULL);
    struct stat apue = stat_of(&b, "priv/apue"), native = stat_of(&b, "priv/native");
    assert_int_equal(apue.st_mode, S_IFREG | 0600);
    assert_int_equal(apue.st_mode, native.st_mode);
    assert_int_equal(apue.st_uid, ALICE);
    assert_int_equal(apue.st_gid, ALICE);
    assert_int_equal(native.st_gid, ALICE);
    assert_int_equal(stat_of(&b, "priv/read").st_mode, S_IFREG | 0600);
    broker_finish(&b);
}

/* ---- a name of the client's own ---- */

struct names {
    char own[108], others[108]; /* paths */
    int expected;
};

static int bind_to(const char *name)
{
    struct sockaddr_un own;
    int length = sock_address(&own, name);
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(sock, (struct sockaddr *)&own, (socklen_t)length), 0);
    CHECK_EQ(chmod(name, S_IRWXU), 0); /* so the book's server can tell who its owner is */
    return patient(sock);
}

static void connect_to(int sock, const char *to)
{
    struct sockaddr_un server;
    int length = sock_address(&server, to);
    CHECK_EQ(connect(sock, (struct sockaddr *)&server, (socklen_t)length), 0);
}

static bool is_socket(const char *name)
{
    struct stat st;
    return lstat(name, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void ask_from_own_name(struct client_env *env)
{
    const struct broker *b = env->broker;
    char name[64];
    int fd;
    snprintf(name, sizeof name, "/var/tmp/%05ld", (long)getpid());
    unlink(name);
    int sock = bind_to(name);
    connect_to(sock, at(b, "stream"));
    CHECK_EQ(apue_ask(sock, at(b, "pub/a"), O_RDONLY, &fd), 0);
    CHECK(fd_reads(fd, "pub a\n"));
    bool still = is_socket(name);
    unlink(name);
    CHECK(still);
    CHECK_EQ(apue_ask(sock, at(b, "pub/b"), O_RDONLY, &fd), 0);
}

/* Bob's name leads to what is alice's: by a symlink, or it is hers indeed. */
static void ask_from_anothers_name(struct client_env *env)
{
    const struct broker *b = env->broker;
    const struct names *names = env->data;
    int fd, sock = bind_to(names->own);
    CHECK_EQ(unlink(names->own), 0);
    CHECK_EQ(symlink(names->others, names->own), 0);
    connect_to(sock, at(b, "stream"));
    expect_error(sock, at(b, "pub/a"), O_RDONLY, EACCES);
    CHECK_EQ(apue_ask(sock, at(b, "pub/b"), O_RDONLY, &fd), EACCES);
    CHECK(is_socket(names->others));
    CHECK_EQ(unlink(names->own), 0); /* it is there still */
}

static void hold_name(struct client_env *env)
{
    const struct names *names = env->data;
    close(bind_to(names->others));
}

static void test_names(void **state)
{
    (void)state;
    struct broker b;
    struct names names;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, ask_from_own_name, NULL);
    snprintf(names.own, sizeof names.own, "%s", at(&b, "sticky/bob"));
    snprintf(names.others, sizeof names.others, "%s", at(&b, "sticky/alice"));
    as_user(&b, ALICE, hold_name, &names);
    as_user(&b, BOB, ask_from_anothers_name, &names);
    snprintf(names.own, sizeof names.own, "%s", at(&b, "sticky/x;uid=0;"));
    as_user(&b, BOB, ask_from_anothers_name, &names);
    snprintf(names.own, sizeof names.own, "%s", at(&b, "sticky/y\n2001"));
    as_user(&b, BOB, ask_from_anothers_name, &names);
    assert_int_equal(audit_count(&b, "\"uid\":2002,", "\"refused\""), 6);
    assert_int_equal(audit_count(&b, "\"uid\":2001,", "\"allowed\""), 2);
    assert_int_equal(audit_count(&b, "uid=0", NULL), 0);
    assert_int_equal(audit_count(&b, "sticky", NULL), 0);
    broker_finish(&b);
}

/* ---- records ---- */

static void ask_once(struct client_env *env)
{
    int fd, sock = stream_connect(env->broker);
    apue_ask(sock, at(env->broker, env->data), O_RDWR | O_APPEND, &fd);
}

/* One for each request, with what it asked for and who asked. */
static void test_records(void **state)
{
    (void)state;
    struct broker b;
    stream_begin(&b, policy, "workers 2");
    as_user(&b, ALICE, ask_once, "priv/f");
    as_user(&b, BOB, ask_once, "priv/shared");
    as_user(&b, 0, ask_once, "secret/f");
    as_user(&b, ALICE, ask_once, "al/x\xff\n{\"uid\":0}");
    const char *alice = "\"uid\":2001,\"gid\":2001,", *bob = "\"uid\":2002,\"gid\":2002,";
    WAIT_FOR(audit_count(&b, NULL, NULL) == 4);
    assert_int_equal(audit_count(&b, NULL, NULL), 4);
    assert_int_equal(audit_count(&b, alice, "/priv/f\",\"real\":"), 1);
    assert_int_equal(
        audit_count(&b, "\"decision\":\"allowed\",\"errno\":null", "\"op\":\"open\",\"rights\":"), 1);
    assert_int_equal(audit_count(&b, bob, "/priv/shared\","), 1);
    assert_int_equal(audit_count(&b, "\"uid\":0,\"gid\":0,", "/secret/f\","), 1);
    assert_int_equal(audit_count(&b, alice, "\"errno\":\"ENOENT\""), 1);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_open), cmocka_unit_test(test_errors),     cmocka_unit_test(test_usage),
        cmocka_unit_test(test_blanks),    cmocka_unit_test(test_long_paths), cmocka_unit_test(test_flags),
        cmocka_unit_test(test_created),   cmocka_unit_test(test_names),      cmocka_unit_test(test_records),
    };
    return cmocka_run_group_tests_name("apue", tests, NULL, NULL);
}
