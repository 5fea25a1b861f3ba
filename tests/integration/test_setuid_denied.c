/*
 * Installed with more rights than its caller has, and started so that it does not get them: it says so and
 * serves nobody (threats.md, 121); what it has of them shows to nobody (125).
 */
#include "setuid_place.h"

#include <dirent.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static const char why[] = "installed with more rights than it has got";

/* ---- 121 ---- */

static void no_new_privs(void *none)
{
    (void)none;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _exit(120);
}

static void start_denied(struct client_env *env)
{
    const struct spawn *how = env->data;
    expect_no_service(&b, how, 1);
}

static void expect_denied(const struct spawn *how)
{
    as_user(&b, ALICE, start_denied, (void *)(uintptr_t)how);
    if (!says(&b, why))
        print_error("said: %s\n", said(&b));
    assert_true(says(&b, why));
    assert_int_equal(audit_count(&b, NULL, NULL), 0);
}

/* A policy of the user's own is there, and is not served either. */
static void make_own_policy(void)
{
    mkdir(at(&b, "al/config"), 0755);
    mkdir(at(&b, "al/config/fob"), 0755);
    mkdir(at(&b, "al/config/fob/policy.d"), 0755);
    write_with_dir(&b, at(&b, "al/config/fob/policy.d/a.policy"), "allow any read @/**\n", 0644, ALICE);
}

static const char *const *own_environment(void)
{
    static char home[DIR_MAX + 64];
    static const char *list[] = { home, NULL };
    snprintf(home, sizeof home, "XDG_CONFIG_HOME=%s", at(&b, "al/config"));
    return list;
}

static struct spawn denied(void (*prepare)(void *))
{
    return (struct spawn){ PLACE_FOBD, NULL, own_environment(), SOCK_STREAM, prepare, NULL };
}

static void test_121_no_new_privs(void **state)
{
    (void)state;
    make_own_policy();
    struct spawn how = denied(no_new_privs);
    expect_denied(&how);
    const char *const own[] = { "fobd", "-p", at(&b, "al/config/fob/policy.d"), NULL };
    how.argv = own;
    expect_denied(&how);
}

static bool has_user_namespaces(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(setgroups(0, NULL) || setresgid(ALICE, ALICE, ALICE) || setresuid(ALICE, ALICE, ALICE) ||
              unshare(CLONE_NEWUSER));
    return child_wait(pid) == 0;
}

static void write_map(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        _exit(121);
    close(fd);
}

/* As uid `inside`, or (-1) as nobody. */
static void enter_user_namespace(void *inside)
{
    char map[64];
    int uid = *(int *)inside;
    if (prctl(PR_SET_DUMPABLE, 1) || unshare(CLONE_NEWUSER)) /* /proc/self is its own again */
        _exit(120);
    if (uid < 0)
        return;
    snprintf(map, sizeof map, "%d %d 1", uid, ALICE);
    write_map("/proc/self/setgroups", "deny");
    write_map("/proc/self/uid_map", map);
    write_map("/proc/self/gid_map", map);
}

static void test_121_user_namespace(void **state)
{
    (void)state;
    if (!has_user_namespaces()) {
        print_message("skipped: no user namespaces for users\n");
        skip();
    }
    int inside[] = { ALICE, -1, 4711, 0 };
    for (size_t i = 0; i < ARRAY_SIZE(inside); i++) {
        struct spawn how = denied(enter_user_namespace);
        how.data = &inside[i];
        said_reset(&b);
        as_user(&b, ALICE, start_denied, &how);
        assert_true(says(&b, "error: "));
        assert_int_equal(audit_count(&b, NULL, NULL), 0);
    }
}

/* The client is in it too: there they agree about who they are. */
static void start_inside(struct client_env *env)
{
    enter_user_namespace(env->data);
    const struct spawn how = denied(NULL);
    expect_no_service(&b, &how, 1);
}

static void test_121_inside_user_namespace(void **state)
{
    (void)state;
    if (!has_user_namespaces()) {
        print_message("skipped: no user namespaces for users\n");
        skip();
    }
    int inside[] = { ALICE, -1, 4711, 0 };
    for (size_t i = 0; i < ARRAY_SIZE(inside); i++) {
        said_reset(&b);
        as_user(&b, ALICE, start_inside, &inside[i]);
        assert_true(says(&b, "error: "));
        assert_int_equal(audit_count(&b, NULL, NULL), 0);
    }
}

static void test_121_nosuid(void **state)
{
    (void)state;
    struct spawn how = denied(NULL);
    how.path = "/run/nosuid/fobd";
    mkdir("/run/nosuid", 0755);
    assert_int_equal(mount("/run/bin", "/run/nosuid", NULL, MS_BIND, NULL), 0);
    assert_int_equal(mount(NULL, "/run/nosuid", NULL, MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV, NULL), 0);
    expect_denied(&how);
    assert_int_equal(umount("/run/nosuid"), 0);
}

static void be_traced(void *none)
{
    (void)none;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
        _exit(120);
}

/* Its client traces it, from before it is executed to its end. */
static void trace(struct client_env *env)
{
    (void)env;
    struct spawn how = denied(be_traced);
    struct spawned s = spawn(&b, &how);
    int status, stops = 0;
    uint8_t out[512];
    put(s.sock, out, request_bytes(NATIVE, out, sizeof out, at(&b, "pub/b")));
    while (waitpid(s.pid, &status, 0) == s.pid && WIFSTOPPED(status)) {
        stops++;
        int number = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        CHECK_EQ(ptrace(PTRACE_CONT, s.pid, NULL, (void *)(intptr_t)number), 0);
    }
    CHECK(stops > 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    CHECK(is_closed(s.sock));
}

static void test_121_traced(void **state)
{
    (void)state;
    as_user(&b, ALICE, trace, NULL);
    assert_true(says(&b, why));
    assert_int_equal(audit_count(&b, NULL, NULL), 0);
}

enum { SEIZURES = 100 };

/* At any moment: who could be traced has no rights, and who has them cannot. */
static void seize_at_random(struct client_env *env)
{
    (void)env;
    unsigned seed = (unsigned)now_us(), seized = 0;
    CHECK_EQ(prctl(PR_SET_DUMPABLE, 1), 0); /* until it is executed it can be traced */
    for (int i = 0; i < SEIZURES; i++) {
        struct spawn how = denied(NULL);
        struct spawned s = spawn(&b, &how);
        uint8_t out[512];
        int fd = -1;
        size_t len = request_bytes(NATIVE, out, sizeof out, at(&b, "priv/f"));
        put(s.sock, out, len);
        for (int64_t until = now_us() + rand_r(&seed) % 1500; now_us() < until;)
            ;
        bool traced = ptrace(PTRACE_SEIZE, s.pid, NULL, NULL) == 0;
        CHECK(traced || errno == EPERM || errno == ESRCH);
        int error = receive_native(s.sock, &fd);
        fd_close(fd);
        CHECK_EQ(error, traced ? -1 : 0);
        close(s.sock);
        CHECK_EQ(status_at_end(s.pid), traced ? 1 : 0);
        seized += traced;
    }
    print_message("traced %u of %d times, and never with more rights\n", seized, SEIZURES);
}

static void test_121_seized(void **state)
{
    (void)state;
    as_user(&b, ALICE, seize_at_random, NULL);
}

/* A process that shares directory and root with another one gets no more rights by execve(2) either. */
static void start_with_shared_directory(struct client_env *env)
{
    (void)env;
    int pair[2];
    const struct spawn how = denied(NULL);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FS | SIGCHLD, NULL, NULL, NULL, 0);
    CHECK(pid >= 0);
    if (pid == 0) {
        say_to_file(&b);
        dup2(pair[1], STDIN_FILENO);
        spawn_exec(&how);
    }
    close(pair[1]);
    CHECK(is_closed(patient(pair[0])));
    CHECK_EQ(status_at_end(pid), 1);
}

static void test_121_shared_directory(void **state)
{
    (void)state;
    as_user(&b, ALICE, start_with_shared_directory, NULL);
    assert_true(says(&b, why));
}

/* Some of the rights, and not the ones it needs. */
static void test_121_too_few_rights(void **state)
{
    (void)state;
    static const int some[] = { CAP_DAC_OVERRIDE }, others[] = { CAP_SETUID, CAP_SETGID };
    struct spawn how = denied(NULL);
    place_install(PLACE_FOBD, PLACE_NONE);
    assert_int_equal(place_set_caps(PLACE_FOBD, some, ARRAY_SIZE(some)), 0);
    as_user(&b, ALICE, start_denied, &how);
    assert_true(says(&b, "cannot take the rights that it is installed with"));
    place_install(PLACE_FOBD, PLACE_NONE);
    assert_int_equal(place_set_caps(PLACE_FOBD, others, ARRAY_SIZE(others)), 0);
    as_user(&b, ALICE, start_denied, &how);
    place_install(PLACE_FOBD, PLACE_NONE); /* somebody else's */
    assert_int_equal(chown(PLACE_FOBD, BOB, 0), 0);
    assert_int_equal(chmod(PLACE_FOBD, 04755), 0);
    expect_denied(&how);
    assert_int_equal(chown(PLACE_FOBD, 0, GROUP_GIVEN), 0);
    assert_int_equal(chmod(PLACE_FOBD, 02755), 0);
    expect_denied(&how);
    assert_int_equal(chown(PLACE_FOBD, 0, 0), 0);
    place_install(PLACE_FOBD, place_installed);
}

/* ---- 125: what shows of it ---- */

static void expect_hidden(pid_t pid)
{
    static const char *const names[] = { "mem",       "maps",    "environ", "fd",    "fdinfo", "cwd",
                                         "root",      "exe",     "auxv",    "smaps", "io",     "syscall",
                                         "map_files", "pagemap", "stack",   "ns/mnt" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char path[64], byte;
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, names[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        bool shut = fd < 0 ? errno == EACCES || errno == EPERM
                           : read(fd, &byte, 1) < 0 && (errno == EACCES || errno == EPERM || errno == EISDIR);
        DIR *dir = fd >= 0 && errno == EISDIR ? fdopendir(fd) : NULL;
        if (!shut || dir)
            fprintf(stderr, "%s can be opened\n", path);
        CHECK(shut && !dir);
        fd_close(fd);
    }
}

static void expect_untouchable(pid_t pid)
{
    char bytes[16];
    struct iovec own = { bytes, sizeof bytes }, other = { (void *)0x10000, sizeof bytes };
    struct rlimit limit = { 0, 0 };
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    CHECK(ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0 && errno == EPERM);
    CHECK(process_vm_readv(pid, &own, 1, &other, 1, 0) < 0 && errno == EPERM);
    CHECK(prlimit(pid, RLIMIT_NOFILE, &limit, NULL) < 0 && errno == EPERM);
    CHECK(prlimit(pid, RLIMIT_NOFILE, NULL, &limit) < 0 && errno == EPERM);
    CHECK(pidfd < 0 || (syscall(SYS_pidfd_getfd, pidfd, 0, 0) < 0 && errno == EPERM));
    CHECK(syscall(SYS_kcmp, getpid(), pid, 0, 0, 0) < 0 && (errno == EPERM || errno == ENOSYS));
    CHECK(setpriority(PRIO_PROCESS, (id_t)pid, 19) < 0 && (errno == EPERM || errno == EACCES));
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(0, &cpus);
    CHECK(sched_setaffinity(pid, sizeof cpus, &cpus) < 0 && errno == EPERM);
    fd_close(pidfd);
}

static void look_at_it(struct client_env *env)
{
    (void)env;
    const struct spawn how = elevated(SOCK_STREAM);
    struct spawned s = spawn(&b, &how);
    expect_content(NATIVE, s.sock, at(&b, "priv/f"), "priv f\n");
    stage->pid = s.pid;
    stage->step = 1;
    stage_wait(2);
    expect_hidden(s.pid);
    expect_untouchable(s.pid);
    expect_hidden(stage->status);
    expect_untouchable(stage->status);
    CHECK_EQ(spawn_end(&s), 0);
}

static void test_125_hidden(void **state)
{
    (void)state;
    pid_t client = client_begin(&b, ALICE, look_at_it, NULL), worker = 0;
    stage_wait(1);
    b.pid = stage->pid;
    assert_int_equal(broker_workers(&b, &worker, 1), 1);
    b.pid = 0;
    stage->status = worker;
    stage->step = 2;
    assert_int_equal(child_wait(client), 0);
}

int main(void)
{
    RUN_IN_PLACE();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_121_no_new_privs, place_reset),
        cmocka_unit_test_setup(test_121_user_namespace, place_reset),
        cmocka_unit_test_setup(test_121_inside_user_namespace, place_reset),
        cmocka_unit_test_setup(test_121_nosuid, place_reset),
        cmocka_unit_test_setup(test_121_traced, place_reset),
        cmocka_unit_test_setup(test_121_seized, place_reset),
        cmocka_unit_test_setup(test_121_shared_directory, place_reset),
        cmocka_unit_test_setup(test_121_too_few_rights, place_reset),
        cmocka_unit_test_setup(test_125_hidden, place_reset),
    };
    int failed = cmocka_run_group_tests_name("setuid denied", tests, place_install_next, NULL);
    failed += cmocka_run_group_tests_name("file capabilities denied", tests, place_install_next, NULL);
    place_end();
    return failed;
}
