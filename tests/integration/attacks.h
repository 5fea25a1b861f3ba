/*
 * What the tests of attacks share: clients in the background, somebody else who is to be served meanwhile, a
 * broker with any configuration, numbers of its status.
 */
#ifndef FOB_TESTS_ATTACKS_H
#define FOB_TESTS_ATTACKS_H

#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"

enum {
#ifdef FOB_SANITIZE
    AT_ONCE_MS = 10000,
#else
    AT_ONCE_MS = 5000, /* who had to wait for others would wait for ever, or for a timeout: no benchmark */
#endif
    CLIENT_SECONDS = 90, /* a client that is not answered ends then, and with it its test */
    LATENCIES = 20000,
};

/* More patient than WAIT_FOR(): on a busy machine even fork(2) can take many seconds, while somebody else
 * changes cgroups. */
#define WAIT_LONG(condition)                                          \
    do {                                                              \
        for (int long_i = 0; long_i < 6000 && !(condition); long_i++) \
            usleep(10000);                                            \
    } while (0)
#define EXPECT_SOON(condition)                                      \
    do {                                                            \
        bool soon_held = false; /* looked at once: it may change */ \
        WAIT_LONG(soon_held = (condition));                         \
        if (!soon_held)                                             \
            fail_msg("not within a minute: %s", #condition);        \
    } while (0)

/* Clients write here too. */
struct shared {
    _Atomic int step; /* how far the test and its clients have come */
    _Atomic bool over;
    _Atomic unsigned served, refused;
    _Atomic size_t n;
    uint32_t us[LATENCIES]; /* what bob had to wait */
};
static struct shared *shared;

static inline int shared_setup(void **state)
{
    (void)state;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC); /* what fobd inherits is known */
    dup2(null, STDIN_FILENO);
    close(null);
    return 0;
}

static inline int shared_new(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED ? -1 : 0;
}

/* Clients that a failed test has left behind are to end; theirs is not what the next test shares. */
static inline int shared_end(void **state)
{
    (void)state;
    shared->over = true;
    return munmap(shared, sizeof *shared);
}

#define ATTACK(name) cmocka_unit_test_setup_teardown(name, shared_new, shared_end)

static inline void wait_for_step(int step)
{
    WAIT_LONG(shared->step >= step);
}

#define EXPECT_STEP(number) EXPECT_SOON(shared->step >= (number))

/* ---- clients ---- */

/* In the background; its pid is the client's own. */
static inline pid_t client_begin(const struct broker *b, uid_t uid, client_fn *fn, void *data)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    struct client_env env = { b, data };
    if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
        _exit(126);
    alarm(CLIENT_SECONDS);
    fn(&env);
    _exit(0);
}

static inline void client_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    child_wait(pid);
}

/* Its exit status; -1: it did not end, and was killed. */
static inline int child_end(pid_t pid)
{
    int status = 0;
    pid_t ended = 0;
    WAIT_LONG((ended = waitpid(pid, &status, WNOHANG)) != 0);
    if (ended != pid) {
        client_kill(pid);
        return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void expect_served(struct client_env *env)
{
    int fd;
    int64_t begin = now_us();
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, &fd), 0);
    CHECK(now_us() - begin < AT_ONCE_MS * 1000);
    CHECK(fd_reads(fd, "pub a\n"));
}

/* Once a millisecond; every 8th time on a new connection. */
static inline void ask_all_the_time(struct client_env *env)
{
    char path[DIR_MAX + 16];
    snprintf(path, sizeof path, "%s", at(env->broker, "pub/a"));
    int fd, own = raw_connect(env->broker);
    while (!shared->over && shared->n < LATENCIES) {
        bool is_new = shared->n % 8 == 7;
        int64_t begin = now_us();
        int sock = is_new ? raw_connect(env->broker) : own;
        CHECK_EQ(raw_open(sock, path, WIRE_READ, 0, &fd), 0);
        int64_t us = now_us() - begin;
        CHECK(fd_reads(fd, "pub a\n"));
        CHECK(us < AT_ONCE_MS * 1000);
        close(fd);
        if (is_new)
            close(sock);
        shared->us[shared->n++] = (uint32_t)us;
        usleep(1000);
    }
}

static inline pid_t bob_begin(const struct broker *b)
{
    shared->over = false;
    shared->n = 0;
    pid_t pid = client_begin(b, BOB, ask_all_the_time, NULL);
    EXPECT_SOON(shared->n > 0);
    return pid;
}

/* He never had to wait long; says how long. */
static inline void bob_end(pid_t pid, const char *while_what)
{
    shared->over = true;
    assert_int_equal(child_wait(pid), 0);
    size_t n = shared->n;
    assert_true(n > 5);
    sort_ids(shared->us, n);
    print_message("bob, %s: %zu opens, p50 %u us, p99 %u us, longest %u us\n", while_what, n,
                  shared->us[n / 2], shared->us[n * 99 / 100], shared->us[n - 1]);
}

/* ---- processes ---- */

enum { PROCESSES_MAX = 64 };

struct process {
    pid_t pid;
    char name[32];
};

/* The supervisor first; how many. */
static inline int find_processes(const struct broker *b, struct process *found)
{
    char path[64], text[4096], *save = NULL;
    int n = 1;
    found[0] = (struct process){ b->pid, "fobd" };
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)b->pid, (int)b->pid);
    assert_true(file_read(path, text, sizeof text) > 0);
    for (char *word = strtok_r(text, " ", &save); word && n < PROCESSES_MAX;
         word = strtok_r(NULL, " ", &save)) {
        snprintf(path, sizeof path, "/proc/%s/comm", word);
        found[n].pid = (pid_t)atoi(word);
        if (file_read(path, found[n].name, sizeof found[n].name) <= 0)
            continue;
        found[n].name[strcspn(found[n].name, "\n")] = '\0';
        n++;
    }
    return n;
}

static inline int find_named(const struct broker *b, const char *name, pid_t *pids, int max)
{
    struct process all[PROCESSES_MAX];
    int found = 0, n = find_processes(b, all);
    for (int i = 0; i < n && found < max; i++)
        if (strcmp(all[i].name, name) == 0)
            pids[found++] = all[i].pid;
    return found;
}

static inline pid_t find_one(const struct broker *b, const char *name)
{
    pid_t pid = 0;
    return find_named(b, name, &pid, 1) == 1 ? pid : 0;
}

/* By now it is what it is to be: no zombie, no child of fork(2) that has still to be confined. */
static inline bool is_settled(const struct process *p)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)p->pid);
    return strncmp(p->name, "fobd-", 5) == 0 && file_read(path, text, sizeof text) > 0 &&
           !strstr(text, "State:\tZ") && strstr(text, "Seccomp:\t2");
}

/* `n` of them, the supervisor too, and all settled. */
static inline bool are_settled(const struct broker *b, int n)
{
    struct process all[PROCESSES_MAX];
    bool settled = find_processes(b, all) == n;
    for (int i = 1; i < n && settled; i++)
        settled = is_settled(&all[i]);
    return settled;
}

static inline int count_names(const char *dir)
{
    DIR *opened = opendir(dir);
    int n = 0;
    if (!opened)
        return -1;
    for (const struct dirent *entry; (entry = readdir(opened));)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(opened);
    return n;
}

static inline int count_fds_of(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    return count_names(path);
}

static inline int count_workers_fds(const struct broker *b)
{
    pid_t pids[8];
    int n = broker_workers(b, pids, 8), sum = 0;
    for (int i = 0; i < n; i++)
        sum += count_fds_of(pids[i]);
    return sum;
}

/* As at the beginning: n workers, and every connection that ended was noticed. */
static inline bool workers_are_quiet(const struct broker *b, int n)
{
    return broker_workers(b, (pid_t[8]){ 0 }, 8) == n && count_workers_fds(b) == b->worker_fds;
}

/* ---- processor time and memory ---- */

/* Of all workers, in milliseconds. */
static inline long cpu_ms(const struct broker *b)
{
    pid_t pids[8];
    int n = broker_workers(b, pids, 8);
    long ticks = 0;
    for (int i = 0; i < n; i++) {
        char path[64], text[1024];
        unsigned long user = 0, system = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pids[i]);
        assert_true(file_read(path, text, sizeof text) > 0);
        const char *rest = strrchr(text, ')');
        assert_non_null(rest);
        assert_int_equal(
            sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
        ticks += (long)(user + system);
    }
    return ticks * 1000 / sysconf(_SC_CLK_TCK);
}

/* Nobody asks anything: a loop that spins would take a whole second of each worker. */
static inline void expect_idle(const struct broker *b)
{
    long before = cpu_ms(b);
    sleep(1);
    assert_in_range(cpu_ms(b) - before, 0, 300);
}

static inline long resident_kb(const struct broker *b)
{
    pid_t pids[8];
    int n = broker_workers(b, pids, 8);
    long sum = atol(status_of(b->pid, "VmRSS:"));
    for (int i = 0; i < n; i++)
        sum += atol(status_of(pids[i], "VmRSS:"));
    return sum;
}

/* ---- the broker ---- */

static inline int status_number(const struct broker *b, const char *name)
{
    static char text[64 << 10];
    char field[64];
    assert_int_equal(broker_control(b, "status\0json\0", text, sizeof text), 0);
    snprintf(field, sizeof field, "\"%s\":", name);
    const char *found = strstr(text, field);
    assert_non_null(found);
    return atoi(found + strlen(field));
}

static inline void reload(const struct broker *b)
{
    char text[1024];
    assert_int_equal(broker_control(b, "reload\0", text, sizeof text), 0);
}

static inline bool log_says(const struct broker *b, const char *what)
{
    static char text[64 << 10];
    return file_read(at(b, "fobd.log"), text, sizeof text) > 0 && strstr(text, what);
}

static inline void wait_for_log(const struct broker *b, const char *what)
{
    EXPECT_SOON(log_says(b, what));
}

/* The answer comes before its record. */
static inline void expect_records(const struct broker *b, const char *one, const char *two, int n)
{
    WAIT_LONG(audit_count(b, one, two) >= n);
    assert_int_equal(audit_count(b, one, two), n);
}

/* By SIGTERM. */
static inline void stop_broker(struct broker *b)
{
    assert_int_equal(kill(b->pid, SIGTERM), 0);
    assert_int_equal(child_end(b->pid), 0);
    b->pid = 0;
}

static inline bool is_listened_at(const char *path)
{
    int sock = sock_connect(path, SOCK_SEQPACKET);
    fd_close(sock);
    return sock >= 0;
}

/* Its workers follow it. */
static inline void crash_broker(struct broker *b)
{
    kill(b->pid, SIGKILL);
    child_wait(b->pid);
    b->pid = 0;
    EXPECT_SOON(!is_listened_at(b->socket));
}

/* The files of a test and a configuration that the harness does not make (lines after socket, policy and
 * user); nothing runs. */
static inline void prepare_with(struct broker *b, const char *policy_text, const char *lines)
{
    char text[2048];
    broker_prepare(b);
    broker_start(b, policy_text, "workers 1"); /* for the policy's file, and the count of requests */
    stop_broker(b);
    unlink(at(b, "fobd.log"));
    unlink(b->audit);
    snprintf(text, sizeof text, "socket %s\npolicy %s/test.policy\nuser %d\n%s", b->socket, b->dir,
             WORKER_UID, lines);
    file_write(at(b, "fobd.conf"), text, 0644, 0);
    b->uncounted = true;
}

/* With the configuration that is there. */
static inline pid_t start_again(const struct broker *b, const char *log)
{
    char conf[DIR_MAX + 16];
    snprintf(conf, sizeof conf, "%s", at(b, "fobd.conf"));
    const char *arguments[] = { "-f", conf, NULL };
    return fobd_run(0, log, arguments);
}

/* That no other test has: the kernel counts descriptors on their way by user, and another test of this
 * machine may have many. */
static inline uid_t own_uid(void)
{
    return (uid_t)(1000000 + now_us() % 1000000);
}

/* As broker_begin(), with workers of this uid. */
static inline void begin_as(struct broker *b, uid_t uid, const char *policy_text, const char *lines)
{
    char text[1024];
    prepare_with(b, policy_text, "");
    snprintf(text, sizeof text, "socket %s\npolicy %s/test.policy\naudit file %s\nuser %u\n%s", b->socket,
             b->dir, b->audit, (unsigned)uid, lines);
    file_write(at(b, "fobd.conf"), text, 0644, 0);
    b->pid = start_again(b, at(b, "fobd.log"));
    wait_for_log(b, "serving ");
    b->worker_fds = count_workers_fds(b);
    b->uncounted = false;
}

/* It ends with 1, and never serves. */
static inline void expect_not_started(const struct broker *b, pid_t pid, const char *because)
{
    int status = -1;
    pid_t ended = 0;
    WAIT_LONG((ended = waitpid(pid, &status, WNOHANG)) != 0 || log_says(b, "serving "));
    if (ended != pid) {
        client_kill(pid);
        fail_msg("fobd serves, or hangs: %s", because);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_false(log_says(b, "serving "));
}

#endif
