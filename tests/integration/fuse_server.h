/*
 * A FUSE file system for tests, spoken by hand over /dev/fuse (linux/fuse.h), in a process of its own. What a
 * name begins with says how its file behaves; such names exist in every directory, as `fast`, `fast-7`, ...:
 *
 *   fast         a file, answered at once; its name is never cached
 *   later        a file whose open is answered after FUSE_SERVER_LATER_MS
 *   slow-lookup, slow-open, slow-flush, slow-stat
 *                files that hang in look-up, open, close and stat, until released
 *   slow-list    a directory that hangs in opendir
 *   slow-create  is not there; creating it hangs
 *   dir          a directory
 *
 * A file holds its name and a newline. Any other name can be created. Names of later and slow-* are cached
 * by the kernel once looked up: then RESOLVE_CACHED does not refuse what hangs in the open.
 *
 * A hung creation keeps its directory locked: others who look a name up there wait in the kernel. Let it
 * hang in a directory of its own.
 */
#ifndef FOB_TESTS_FUSE_SERVER_H
#define FOB_TESTS_FUSE_SERVER_H

#include <stdint.h>
#include <sys/types.h>

enum { FUSE_SERVER_LATER_MS = 300 };

struct fuse_server {
    pid_t pid; /* 0: none, or it was aborted */
    char point[128];
    struct fuse_board *board; /* shared with it */
};

/* Mounts at `point` (a directory) with allow_other, as root. 0 or a negative errno: no FUSE here. */
int fuse_server_start(struct fuse_server *fs, const char *point);
/* Answers all that hangs, and from now on everything at once; -ETIMEDOUT: something hangs still. */
int fuse_server_release(struct fuse_server *fs);
/* The slow ones hang again. */
void fuse_server_hold(struct fuse_server *fs);
/* Every request hangs, whatever it is for. */
void fuse_server_freeze(struct fuse_server *fs);
/* Requests that hang now. */
unsigned fuse_server_hung(const struct fuse_server *fs);
/* Requests of this opcode (FUSE_OPEN ...) that were seen since the start; 0: of all. */
unsigned fuse_server_seen(const struct fuse_server *fs, uint32_t opcode);
/* SIGKILL: the kernel fails all that hangs. The mount stays, dead. */
void fuse_server_abort(struct fuse_server *fs);
/* Lazy unmount, then as abort. May be called at any time, and twice. */
void fuse_server_stop(struct fuse_server *fs);

/*
 * For the one test that defines FUSE_SERVER_CLIENTS: a broker over this file system, clients who ask for what
 * hangs, another one who must not notice, and the cleaning up.
 */
#ifdef FUSE_SERVER_CLIENTS

#include "control_client.h"

#include <errno.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../../common/msg.h"
#include "../../common/util.h"

enum {
    DEADLINE_MS = 1000, /* open-timeout 1 */
    TIMED_OUT_MIN_MS = 900,
    TIMED_OUT_MAX_MS = 5000, /* the machine may be busy */
#ifdef FOB_SANITIZE
    AT_ONCE = 900, /* milliseconds: an invariant, not a benchmark */
#else
    AT_ONCE = 900,
#endif
    ASKERS = 8,
    LATENCIES = 50000,
};

#define WITHOUT_FUSE                                                          \
    "allow user:2001,user:2002,user:2003,user:2004,user:2005 read @/pub/**\n" \
    "allow user:2001,user:2002 read @/al/**\n"
static const char policy[] =
    WITHOUT_FUSE "allow user:2001,user:2002,user:2003,user:2004,user:2005 read,list @/fuse/**\n"
                 "allow user:2001 read,write,create @/fuse/**\n";
#define CONFIG "workers 2\nopen-timeout 1\n"
static const char config[] = CONFIG "slow-openers 16\n"; /* 4 for a user */

/* One client: what it asked for and got. Shared with it. */
struct asker {
    char path[128];
    uint32_t flags;
    pid_t pid;             /* waits for the client */
    _Atomic pid_t client;  /* it has connected */
    _Atomic bool answered; /* error and what follows are there */
    _Atomic bool may_end;  /* it keeps its descriptor until then */
    int error;
    int64_t ms;
    char text[64]; /* what the descriptor read as */
    int again;     /* the next request of the connection, for pub/a */
};

/* What others had to wait meanwhile. */
struct latencies {
    _Atomic bool over;
    size_t n;
    uint32_t us[LATENCIES];
};

static struct broker b;
static struct fuse_server fs;
static struct asker *askers;
static struct latencies *others;

/* ---- askers ---- */

/* A broker that never answers fails the test, in place of stopping it. */
static int connect_patiently(const struct broker *broker)
{
    struct timeval patience = { .tv_sec = 10 };
    int sock = raw_connect(broker);
    CHECK_EQ(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    return sock;
}

static void ask(struct client_env *env)
{
    struct asker *a = env->data;
    int fd, other, sock = connect_patiently(env->broker);
    a->client = getpid();
    int64_t begin = now_us();
    a->error = raw_open(sock, a->path, a->flags, a->flags & WIRE_CREATE ? 0640 : 0, &fd);
    a->ms = (now_us() - begin) / 1000;
    CHECK_EQ(fd >= 0, a->error == 0);
    if (fd >= 0 && !(a->flags & (WIRE_DIRECTORY | WIRE_WRITE)))
        CHECK(pread(fd, a->text, sizeof a->text - 1, 0) >= 0);
    a->again = raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &other);
    a->answered = true;
    for (int ms = 0; ms < 10000 && !a->may_end; ms++)
        usleep(1000);
}

/* In the background. */
static struct asker *begin_client(uid_t uid, client_fn *fn, const char *path, uint32_t flags)
{
    struct asker *a = askers;
    while (a->pid)
        assert_true(++a < askers + ASKERS);
    memset(a, 0, sizeof *a);
    snprintf(a->path, sizeof a->path, "%s", at(&b, path));
    a->flags = flags;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(as_user_groups(&b, uid, uid, NULL, 0, fn, a));
    a->pid = pid; /* by the parent alone: it is shared */
    return a;
}

/* It hangs, or was answered, when this returns. */
static struct asker *asker_begin(uid_t uid, const char *path, uint32_t flags)
{
    unsigned hung = fuse_server_hung(&fs);
    struct asker *a = begin_client(uid, ask, path, flags);
    WAIT_FOR(a->answered || fuse_server_hung(&fs) > hung);
    return a;
}

static void asker_wait(const struct asker *a)
{
    for (int ms = 0; ms < 8000 && !a->answered; ms++)
        usleep(1000);
    if (!a->answered)
        fail_msg("%s: no answer", a->path);
}

static void asker_end(struct asker *a)
{
    a->may_end = true;
    assert_int_equal(child_wait(a->pid), 0);
    a->pid = 0;
}

static void expect_asker(struct asker *a, int error, int64_t min_ms, int64_t max_ms)
{
    asker_wait(a);
    if (a->error != error || a->ms < min_ms || a->ms > max_ms)
        fail_msg("%s: error %d after %lld ms, not %d after %lld to %lld ms", a->path, a->error,
                 (long long)a->ms, error, (long long)min_ms, (long long)max_ms);
    assert_int_equal(a->again, 0); /* the connection works still */
    asker_end(a);
}

static void expect_timeout(struct asker *a)
{
    expect_asker(a, ETIMEDOUT, TIMED_OUT_MIN_MS, TIMED_OUT_MAX_MS);
}

static void expect_served(uid_t uid, const char *path, const char *text)
{
    struct asker *a = asker_begin(uid, path, WIRE_READ);
    asker_wait(a);
    assert_string_equal(a->text, text);
    expect_asker(a, 0, 0, TIMED_OUT_MIN_MS - 1);
}

/* ---- the others ---- */

/* Old and new connections, to reach every worker. */
static void open_at_once(struct client_env *env)
{
    struct latencies *l = env->data;
    int fd, socks[4];
    char path[128];
    snprintf(path, sizeof path, "%s", at(env->broker, "pub/a"));
    for (size_t i = 0; i < ARRAY_SIZE(socks); i++)
        socks[i] = connect_patiently(env->broker);
    while (!l->over && l->n < LATENCIES) {
        int64_t begin = now_us();
        bool is_new = l->n % 16 == 0;
        int sock = is_new ? connect_patiently(env->broker) : socks[l->n % ARRAY_SIZE(socks)];
        CHECK_EQ(raw_open(sock, path, WIRE_READ, 0, &fd), 0);
        CHECK(fd_reads(fd, "pub a\n"));
        close(fd);
        if (is_new)
            close(sock);
        int64_t us = now_us() - begin;
        CHECK(us < AT_ONCE * 1000);
        l->us[l->n++] = (uint32_t)us;
        usleep(200);
    }
}

/* bob, in the background. */
static pid_t others_begin(void)
{
    others->over = false;
    others->n = 0;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(as_user_groups(&b, BOB, BOB, NULL, 0, open_at_once, others));
    return pid;
}

/* They all were served at once; the 99th percentile in microseconds. */
static unsigned others_end(pid_t pid)
{
    others->over = true;
    assert_int_equal(child_wait(pid), 0);
    assert_true(others->n > 20);
    sort_ids(others->us, others->n);
    return others->us[others->n * 99 / 100];
}

/* ---- around every test ---- */

static void mount_fuse(void)
{
    broker_prepare(&b);
    assert_int_equal(mkdir(at(&b, "fuse"), 0755), 0);
    int err = fuse_server_start(&fs, at(&b, "fuse"));
    if (err < 0) {
        print_message("skipped: no FUSE file system can be mounted here: %s\n", strerror(-err));
        skip();
    }
}

static void begin(const char *more_config)
{
    mount_fuse();
    broker_start(&b, policy, more_config);
}

/* One of the numbers of "slow_openers"; -1: not there. */
static int slow_openers(const char *name)
{
    char field[32];
    snprintf(field, sizeof field, "\"%s\":", name);
    const char *p = strstr(status_json(&b), "\"slow_openers\":{");
    p = p ? strstr(p, field) : NULL;
    return p ? atoi(p + strlen(field)) : -1;
}

static void expect_slow(const char *name, int n)
{
    WAIT_FOR(slow_openers(name) == n);
    if (slow_openers(name) != n)
        fail_msg("slow_openers: %s is not %d in %s", name, n, said);
}

static void expect_timeouts(int n)
{
    expect_slow("timeouts", n);
    assert_int_equal(audit_count(&b, "\"reason\":\"timeout\"", "\"errno\":\"ETIMEDOUT\""), n);
}

/* Processes beneath this one that are no more but not waited for. */
static int count_zombies(pid_t parent)
{
    char path[64], text[4096];
    int zombies = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    if (file_read(path, text, sizeof text) <= 0)
        return 0;
    char *save = NULL;
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        char stat[512];
        pid_t pid = (pid_t)atoi(word);
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        zombies += file_read(path, stat, sizeof stat) > 0 && strstr(stat, ") Z ");
        zombies += count_zombies(pid);
    }
    return zombies;
}

static void reload(const char *text)
{
    broker_write_policy(&b, text);
    assert_int_equal(control_end(control_send(&b, "reload", sizeof "reload"), 3000), 0);
}

/* The file system has recovered, or died: nothing is stuck any more. */
static void expect_recovered(void)
{
    expect_slow("stuck", 0);
    WAIT_FOR(count_zombies(b.pid) == 0);
    assert_int_equal(count_zombies(b.pid), 0);
}

static void finish(void)
{
    assert_int_equal(fuse_server_release(&fs), 0);
    expect_recovered();
    fuse_server_stop(&fs);
    broker_finish(&b);
    memset(&b, 0, sizeof b);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

/* What fobd has left comes to us (PR_SET_CHILD_SUBREAPER). True: there is no process any more. */
static bool reap_all(int ms)
{
    for (; ms > 0; ms--) {
        pid_t pid;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        if (pid < 0)
            return true;
        usleep(1000);
    }
    return false;
}

/* After a failure too: no mount, no process, no folder stays. */
static int clean_up(void **state)
{
    (void)state;
    fuse_server_stop(&fs);
    for (struct asker *a = askers; a < askers + ASKERS; a++) {
        a->may_end = true;
        if (a->pid && a->client > 0)
            kill(a->client, SIGKILL);
        a->pid = 0;
    }
    others->over = true;
    bool runs = b.pid > 0 && waitpid(b.pid, NULL, WNOHANG) == 0;
    if (runs)
        kill(b.pid, SIGTERM);
    for (int ms = 0; runs && ms < 3000; ms++) {
        usleep(1000);
        runs = waitpid(b.pid, NULL, WNOHANG) == 0;
    }
    if (runs)
        kill(b.pid, SIGKILL);
    bool gone = reap_all(12000);
    if (b.dir[0]) {
        char log[4096] = "";
        if (file_read(at(&b, "fobd.log"), log, sizeof log) > 0)
            print_error("fobd said:\n%s", log);
        nftw(b.dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    }
    memset(&b, 0, sizeof b);
    if (!gone)
        print_error("a process of the test is left\n");
    return gone ? 0 : -1;
}

/* ---- messages by hand ---- */

static void send_open(int sock, uint32_t id, const char *const *paths, uint16_t n)
{
    uint8_t out[1024];
    size_t len = WIRE_HEADER_SIZE;
    for (uint16_t i = 0; i < n; i++)
        len += wire_encode_entry(out + len, sizeof out - len, WIRE_READ, 0, paths[i], strlen(paths[i]));
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, n, id };
    CHECK_EQ(wire_encode_header(out, sizeof out, &header), WIRE_HEADER_SIZE);
    CHECK_EQ(msg_send(sock, out, len, NULL, 0, NULL, 0), 0);
    count_requests(n);
}

static void expect_reply(int sock, uint32_t id, const int *errors, uint16_t n)
{
    static struct msg_in in;
    uint8_t reply[1024];
    struct wire_header header;
    CHECK_EQ(msg_recv(sock, reply, sizeof reply, 0, &in), 1);
    CHECK_EQ(wire_decode_header(reply, in.len, &header), 0);
    CHECK_EQ(header.id, id);
    CHECK_EQ(header.count, n);
    for (uint16_t i = 0; i < n; i++) {
        struct wire_result result;
        CHECK_EQ(
            wire_decode_result(reply + WIRE_HEADER_SIZE + i * WIRE_RESULT_SIZE, WIRE_RESULT_SIZE, &result),
            0);
        CHECK_EQ(result.error, errors[i]);
    }
    fd_close_many(in.fds, in.n_fds);
}

/* ---- before all tests ---- */

/* Mounts of the test are gone with its last process, whatever happens. */
static int set_up_all(void **state)
{
    (void)state;
    size_t size = ASKERS * sizeof *askers + sizeof *others;
    char *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return -1;
    askers = (struct asker *)(void *)shared;
    others = (struct latencies *)(void *)(askers + ASKERS);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        print_message("no mount namespace of our own: %s\n", strerror(errno));
    return prctl(PR_SET_CHILD_SUBREAPER, 1);
}

#endif
#endif
