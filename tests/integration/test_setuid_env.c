/*
 * Started with more rights than its caller has: environment, descriptors, umask, directory and limits that
 * the caller chose (threats.md, 112, 114 to 118), and what of it shows in /proc.
 */
#include "setuid_place.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "../../common/sock.h"

/* ---- what root sees of it ---- */

/* A client that has been served, and waits until it was looked at. */
static void serve_and_wait(struct client_env *env)
{
    struct spawned s = spawn(&b, env->data);
    expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
    stage->pid = s.pid;
    stage->step = 1;
    stage_wait(2);
    CHECK_EQ(spawn_end(&s), 0);
}

static pid_t begin_service(const struct spawn *how)
{
    pid_t client = client_begin(&b, ALICE, serve_and_wait, (void *)(uintptr_t)how);
    stage_wait(1);
    assert_int_equal(stage->step, 1);
    return client;
}

static void end_service(pid_t client)
{
    stage->step = 2;
    assert_int_equal(child_wait(client), 0);
}

enum { PROCESSES = 16 };

/* The broker that a client started, and its children. */
static int processes_of(pid_t pid, pid_t pids[PROCESSES])
{
    char path[64], text[1024], *save = NULL;
    int n = 0;
    pids[n++] = pid;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    assert_true(file_read(path, text, sizeof text) > 0);
    for (char *word = strtok_r(text, " ", &save); word && n < PROCESSES; word = strtok_r(NULL, " ", &save))
        pids[n++] = (pid_t)atoi(word);
    assert_in_range(n, 2, PROCESSES - 1);
    return n;
}

/* ---- 112: environment ---- */

static char variables[64][256];

static const char *const *hostile_environment(void)
{
    static const char *list[64];
    static const char *const texts[] = {
        "LD_PRELOAD=@/al/evil.so",
        "LD_LIBRARY_PATH=@/al",
        "LD_AUDIT=@/al/evil.so",
        "LD_DEBUG=all",
        "LD_DEBUG_OUTPUT=@/al/debug",
        "LD_BIND_NOT=1",
        "LD_SHOW_AUXV=1",
        "LD_HWCAP_MASK=0",
        "LD_DYNAMIC_WEAK=1",
        "GCONV_PATH=@/al",
        "LOCPATH=@/al",
        "NLSPATH=@/al/%N",
        "LC_ALL=evil.UTF-8",
        "LANG=tr_TR.UTF-8",
        "TZ=:@/al/zone",
        "TZDIR=@/al",
        "MALLOC_CHECK_=3",
        "MALLOC_PERTURB_=170",
        "MALLOC_ARENA_MAX=1",
        "MALLOC_TOP_PAD_=1",
        "IFS=/",
        "PATH=@/al",
        "HOME=@/al",
        "TMPDIR=@/al",
        "GLIBC_TUNABLES=glibc.malloc.check=3:glibc.malloc.perturb=170",
        "NOTIFY_SOCKET=@/al/notify",
        "WATCHDOG_USEC=1000",
        "LISTEN_FDS=1",
        "LISTEN_FDNAMES=fob",
        "FOB_SOCKET=@/al/fob.sock",
        "FOB_CONTROL=@/al/control",
        "FOB_SERVER=2001",
        "XDG_RUNTIME_DIR=@/al",
        "XDG_CONFIG_HOME=@/al/config",
        "RES_OPTIONS=debug",
        "HOSTALIASES=@/al/hosts",
        "LOCALDOMAIN=evil",
        "POSIXLY_CORRECT=1",
        "GETCONF_DIR=@/al",
        "LIBSECCOMP_ABORT=1",
        "BASH_ENV=@/al/evil",
        "=no name",
        "no value",
        "",
    };
    size_t n = 0;
    for (; n < ARRAY_SIZE(texts); n++) {
        const char *place = strchr(texts[n], '@');
        if (place)
            snprintf(variables[n], sizeof variables[n], "%.*s%s%s", (int)(place - texts[n]), texts[n], b.dir,
                     place + 1);
        else
            snprintf(variables[n], sizeof variables[n], "%s", texts[n]);
        list[n] = variables[n];
    }
    list[n++] = variables[63]; /* LISTEN_PID, by the process that executes it */
    list[n] = NULL;
    return list;
}

/* So that LISTEN_FDS would be believed: the pid is its own, and descriptor 3 a socket that listens. */
static void pass_listener(void *listener)
{
    snprintf(variables[63], sizeof variables[63], "LISTEN_PID=%d", (int)getpid());
    dup2(*(int *)listener, 3);
}

static void make_evil_files(void)
{
    mkdir(at(&b, "al/config"), 0755);
    mkdir(at(&b, "al/config/fob"), 0755);
    mkdir(at(&b, "al/config/fob/policy.d"), 0755);
    write_with_dir(&b, at(&b, "al/config/fob/policy.d/a.policy"), "allow any read,write @/**\n", 0644, ALICE);
    file_write(at(&b, "al/evil.so"), "not a library", 0755, ALICE);
}

static int listen_on(const char *path, int type)
{
    struct sockaddr_un address;
    unlink(path);
    int length = sock_address(&address, path), sock = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(sock, (struct sockaddr *)&address, (socklen_t)length), 0);
    if (type != SOCK_DGRAM)
        CHECK_EQ(listen(sock, 5), 0);
    return sock;
}

static void start_with_environment(struct client_env *env)
{
    (void)env;
    int notify = listen_on(at(&b, "al/notify"), SOCK_DGRAM), fobs = listen_on(at(&b, "al/l"), SOCK_SEQPACKET);
    struct spawn how = { .path = PLACE_FOBD,
                         .envp = hostile_environment(),
                         .type = SOCK_STREAM,
                         .prepare = pass_listener,
                         .data = &fobs };
    for (int i = 0; i < 3; i++)
        expect_service(&how);
    CHECK(is_silent(notify));
    CHECK_EQ(access(at(&b, "al/debug"), F_OK), -1);
}

static void test_112_environment(void **state)
{
    (void)state;
    make_evil_files();
    as_user(&b, ALICE, start_with_environment, NULL);
    assert_string_equal(said(&b), ""); /* no word of ld.so's, of libc's, of its own */
    assert_int_equal(opens_recorded("\"uid\":2001,\"gid\":2001,"), 6);
    assert_int_equal(opens_recorded("Z\",\"decision\""), 6); /* times of UTC */
}

static void test_112_nothing_is_kept(void **state)
{
    (void)state;
    static char text[64 << 10];
    pid_t pids[PROCESSES];
    struct spawn how = { .path = PLACE_FOBD, .envp = hostile_environment(), .type = SOCK_STREAM };
    pid_t client = begin_service(&how);
    for (int i = 0, n = processes_of(stage->pid, pids); i < n; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/environ", (int)pids[i]);
        ssize_t len = file_read(path, text, sizeof text);
        assert_true(len >= 0);
        for (ssize_t at = 0; at < len; at++)
            assert_int_equal(text[at], '\0');
    }
    end_service(client);
}

/* ---- 115: descriptors that it inherited ---- */

static void open_many(void *last)
{
    const int *limit = last;
    int fd = open(at(&b, "al/held"), O_RDWR | O_CREAT, 0600);
    while (fd >= 0 && fd < *limit)
        fd = dup(fd);
}

/* No descriptor of any process of it is that file. */
static void expect_not_held(pid_t pid)
{
    char path[64], target[512];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));) {
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        assert_null(strstr(target, "/al/held"));
    }
    closedir(dir);
}

static void test_115_inherited_descriptors(void **state)
{
    (void)state;
    pid_t pids[PROCESSES];
    int last = 1020;
    struct spawn how = { .path = PLACE_FOBD, .type = SOCK_STREAM, .prepare = open_many, .data = &last };
    pid_t client = begin_service(&how);
    for (int i = 0, n = processes_of(stage->pid, pids); i < n; i++)
        expect_not_held(pids[i]);
    end_service(client);
}

/* ---- 114: 0 to 2 ---- */

static void close_some(void *which)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (*(int *)which >> fd & 1)
            close(fd);
}

static void close_standard(struct client_env *env)
{
    (void)env;
    for (int which = 0; which < 8; which += 2) { /* 0 is the client */
        const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, close_some, &which };
        expect_service(&how);
    }
}

/* A file of the client's is never written to because its number is 2. */
static void test_114_closed_standard_descriptors(void **state)
{
    (void)state;

    as_user(&b, ALICE, close_standard, NULL);
}

int main(void)
{
    RUN_IN_PLACE();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_112_environment, place_reset),
        cmocka_unit_test_setup(test_112_nothing_is_kept, place_reset),
        cmocka_unit_test_setup(test_115_inherited_descriptors, place_reset),
        cmocka_unit_test_setup(test_114_closed_standard_descriptors, place_reset),
    };
    int failed = cmocka_run_group_tests_name("setuid environment", tests, NULL, NULL);
    place_end();
    return failed;
}
