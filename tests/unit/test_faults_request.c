/*
 * The request path with every call of it failing, one after the other: no crash, no leak, no grant. A worker
 * in this process serves a client in this process; after the failure everything is as before, so that each
 * later request must be answered exactly right.
 *
 * Link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray,--wrap=strdup,--wrap=mmap
 * Link: -Wl,--wrap=fstat,--wrap=fstatat,--wrap=fstatfs,--wrap=readlinkat,--wrap=ftruncate,--wrap=syscall
 * Link: -Wl,--wrap=poll,--wrap=__poll_chk,--wrap=epoll_ctl,--wrap=accept4,--wrap=getsockopt,--wrap=sendmsg
 * Link: -Wl,--wrap=recvmsg,--wrap=write,--wrap=close,--wrap=fcntl,--wrap=ioctl
 * Link: -Wl,--wrap=setfsuid,--wrap=setfsgid,--wrap=cap_set_proc,--wrap=abort
 */
#include <pthread.h>
#include <sys/syscall.h>

#include "../../broker/connection.h" /* links the broker */
#include "faults_world.h"

enum { STEPS_MAX = 5, ENTRIES_MAX = 3, TURNS_MAX = 6 };

/* ---- what is asked ---- */

struct entry {
    const char *path; /* beneath the test's directory, or as it is */
    uint32_t flags;
    uint32_t mode;
    int want;         /* errno, 0: granted */
    const char *real; /* what a granted one must be; NULL: path */
};

enum kind {
    OPEN = WIRE_OPEN,
    CHECK = WIRE_CHECK,
    LIST = WIRE_LIST,
    HELLO = WIRE_HELLO,
    TWICE,   /* an OPEN, and again before its reply is read */
    GARBAGE, /* no message: closes */
    STRAY,   /* an OPEN that carries a descriptor: closes */
};

struct step {
    enum kind kind;
    unsigned client; /* 0, 1: whose connection */
    struct entry entries[ENTRIES_MAX];
};

struct scenario {
    const char *name;
    struct step steps[STEPS_MAX];
};

#define R WIRE_READ
#define W WIRE_WRITE
#define SECRET                         \
    {                                  \
        "secret/f", R, 0, EACCES, NULL \
    }
#define PUB_A                  \
    {                          \
        "pub/a", R, 0, 0, NULL \
    }

static const struct scenario scenarios[] = {
    { "hello, list", { { HELLO, 0, { { 0 } } }, { LIST, 0, { { 0 } } } } },
    { "open", { { OPEN, 0, { PUB_A } } } },
    { "refused", { { OPEN, 0, { SECRET } }, { OPEN, 0, { { "pub/denied", R, 0, EACCES, NULL } } } } },
    { "batch", { { OPEN, 0, { PUB_A, SECRET, { "pub/b", R, 0, 0, NULL } } } } },
    { "symlink", { { OPEN, 0, { { "pub/good", R, 0, 0, "pub/a" } } } } },
    { "symlink out",
      { { OPEN, 0, { { "pub/bad", R, 0, EACCES, NULL }, { "pub/up/f", R, 0, EACCES, NULL } } } } },
    { "symlink, not followed", { { OPEN, 0, { { "pub/good", R | WIRE_NOFOLLOW, 0, ELOOP, NULL } } } } },
    { "create", { { OPEN, 0, { { "new/x", W | WIRE_CREATE | WIRE_EXCLUSIVE, 0666, 0, NULL } } } } },
    { "create, there",
      { { OPEN, 0, { { "new/y", W | WIRE_CREATE | WIRE_EXCLUSIVE, 0666, EEXIST, NULL } } } } },
    { "truncate", { { OPEN, 0, { { "new/y", W | WIRE_CREATE | WIRE_TRUNCATE, 0600, 0, NULL } } } } },
    { "append", { { OPEN, 0, { { "new/y", WIRE_APPEND | WIRE_SYNC, 0, 0, NULL } } } } },
    { "directory",
      { { OPEN, 0, { { "list", WIRE_DIRECTORY | R, 0, 0, NULL } } },
        { OPEN, 0, { { "list", WIRE_DIRECTORY | R, 0, 0, NULL } } } } },
    { "directory, refused",
      { { OPEN, 0, { { "pub", WIRE_DIRECTORY, 0, EACCES, NULL } } },
        { OPEN, 0, { { "pub/sub", R, 0, EACCES, NULL } } } } },
    { "path", { { OPEN, 0, { { "stat/f", WIRE_PATH, 0, 0, NULL }, { "stat/d", WIRE_PATH, 0, 0, NULL } } } } },
    { "seal=no", { { OPEN, 0, { { "plain/f", R, 0, 0, NULL }, { "plain/good", R, 0, 0, "pub/a" } } } } },
    { "seal=no, out", { { OPEN, 0, { { "plain/bad", R, 0, EACCES, NULL } } } } },
    { "hard link", { { OPEN, 0, { { "open/hard", R, 0, EPERM, NULL } } } } },
    { "types", { { OPEN, 0, { { "pub/fifo", R, 0, EPERM, NULL }, { "new/suid", W, 0, EPERM, NULL } } } } },
    { "slow",
      { { OPEN, 0, { { "slow/f", R, 0, 0, NULL } } }, { OPEN, 0, { SECRET } }, { OPEN, 0, { PUB_A } } } },
    { "slow, create", { { OPEN, 0, { { "slow/x", W | WIRE_CREATE, 0600, 0, NULL }, SECRET } } } },
    { "slow, pipelined", { { TWICE, 0, { { "slow/f", R, 0, 0, NULL } } } } },
    { "timeout", { { OPEN, 0, { { "slow/f", R, 0, ETIMEDOUT, NULL } } }, { OPEN, 0, { PUB_A } } } },
    { "timeout, batch", { { OPEN, 0, { { "slow/f", R, 0, ETIMEDOUT, NULL }, PUB_A, SECRET } } } },
    { "sticky", { { OPEN, 0, { { "sticky/other", WIRE_APPEND | WIRE_CREATE, 0600, EACCES, NULL } } } } },
    { "as=caller", { { OPEN, 0, { { "as/f", R | W, 0, 0, NULL } } } } },
    { "none", { { OPEN, 0, { { "pub/none", R, 0, ENOENT, NULL }, { "/a/../b", R, 0, EINVAL, NULL } } } } },
    { "check", { { CHECK, 0, { PUB_A, SECRET } } } },
    { "pipelined", { { TWICE, 0, { PUB_A } }, { TWICE, 0, { SECRET } } } },
    { "two connections", { { OPEN, 0, { PUB_A, PUB_A } }, { OPEN, 1, { PUB_A, PUB_A } } } },
    { "garbage", { { GARBAGE, 0, { { 0 } } } } },
    { "stray descriptor", { { STRAY, 0, { PUB_A } } } },
};

/* Of alice's, to a broker that can become her: with as=caller, and to create what is hers. */
static const struct scenario as_alice[] = {
    { "own", { { OPEN, 0, { { "alice/own", R | W, 0, 0, NULL } } } } },
    { "root's", { { OPEN, 0, { { "alice/root", R, 0, EACCES, NULL } } } } },
    { "create", { { OPEN, 0, { { "alice/x", W | WIRE_CREATE, 0600, 0, NULL } } } } },
    { "create by the broker", { { OPEN, 0, { { "new/x", W | WIRE_CREATE, 0600, 0, NULL } } } } },
    { "to and fro",
      { { OPEN, 0, { { "alice/own", R, 0, 0, NULL }, PUB_A, SECRET } },
        { OPEN, 0, { { "alice/root", R, 0, EACCES, NULL } } },
        { OPEN, 0, { PUB_A } } } },
};

/* ---- the client ---- */

static struct {
    uid_t uid;          /* and gid: 0 is whoever runs the test */
    int sock[2];        /* -1: closed */
    unsigned asked;     /* entries */
    unsigned granted;   /* descriptors */
    bool lasting;       /* what fails fails until the end of the step */
    bool failed_before; /* ... this step, in which nothing fails any more */
    bool exact;         /* nothing failed in this step: all must be as it is wanted */
} client;

static uint8_t message[WIRE_MAX_MESSAGE];
static const char *now_running;

/* By syscall(2) a thread alone becomes somebody else: the worker is in this process, and stays root. */
static void *connect_as(void *sock)
{
    const uid_t uid = client.uid;
    if (uid && (syscall(SYS_setresgid, uid, uid, uid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0))
        return NULL;
    *(int *)sock = sock_connect(at("sock"), SOCK_SEQPACKET);
    return NULL;
}

static void client_connect(unsigned which)
{
    pthread_t thread;
    if (client.uid == 0) {
        connect_as(&client.sock[which]);
    } else {
        assert_int_equal(pthread_create(&thread, NULL, connect_as, &client.sock[which]), 0);
        pthread_join(thread, NULL);
    }
    assert_true(client.sock[which] >= 0);
}

static bool is_open(enum kind kind)
{
    return kind == OPEN || kind == TWICE || kind == STRAY;
}

static unsigned count_entries(const struct step *step)
{
    unsigned n = 0;
    while (n < ENTRIES_MAX && step->entries[n].path)
        n++;
    return n;
}

static void client_send(const struct step *step)
{
    static const int stray[] = { STDIN_FILENO };
    unsigned n = count_entries(step);
    struct wire_header header = { WIRE_HEADER_SIZE, is_open(step->kind) ? WIRE_OPEN : (uint16_t)step->kind,
                                  (uint16_t)n, 42 };
    for (unsigned i = 0; i < n; i++) {
        const struct entry *entry = &step->entries[i];
        const char *path = at(entry->path);
        header.length += (uint32_t)wire_encode_entry(message + header.length, sizeof message - header.length,
                                                     entry->flags, entry->mode, path, strlen(path));
    }
    wire_encode_header(message, sizeof message, &header);
    if (step->kind == GARBAGE)
        memset(message, 'x', header.length);
    client.asked += n;
    const struct ucred self = { getpid(), client.uid, client.uid };
    int err = msg_send(client.sock[step->client], message, header.length, stray, step->kind == STRAY,
                       client.uid ? &self : NULL, 0);
    /* Since Linux 6.16 a descriptor does not even leave (SO_PASSRIGHTS); or closed after the last answer. */
    if ((err == -EPERM && step->kind == STRAY) || (err == -EPIPE && faults_failed()))
        client.sock[step->client] = fd_close(client.sock[step->client]);
    else
        assert_int_equal(err, 0);
}

/* The very file, open for what was asked and no more. */
static void check_granted(const struct entry *entry, int fd)
{
    struct stat want, got;
    int flags = fcntl(fd, F_GETFL);
    assert_int_equal(entry->want, 0);
    assert_int_equal(lstat(at(entry->real ? entry->real : entry->path), &want), 0);
    assert_int_equal(fstat(fd, &got), 0);
    assert_int_equal(got.st_ino, want.st_ino);
    assert_int_equal(flags & O_ACCMODE, wire_flags_to_open(entry->flags) & O_ACCMODE);
    assert_int_equal(flags & (O_APPEND | O_PATH), wire_flags_to_open(entry->flags) & (O_APPEND | O_PATH));
    if (entry->flags & WIRE_TRUNCATE)
        assert_int_equal(got.st_size, 0);
    if (entry->flags & WIRE_CREATE && client.uid)
        assert_int_equal(got.st_uid, client.uid);
    close(fd);
    client.granted++;
}

static void check_result(const struct step *step, const struct entry *entry, const uint8_t *bytes,
                         const struct msg_in *in)
{
    struct wire_result result;
    assert_int_equal(wire_decode_result(bytes, WIRE_RESULT_SIZE, &result), 0);
    if (entry->want)
        assert_int_not_equal(result.error, 0);
    if (client.exact && result.error != entry->want)
        print_error("%s: %d, not %d\n", entry->path, result.error, entry->want);
    if (client.exact)
        assert_int_equal(result.error, entry->want);
    assert_true((result.fd_index != WIRE_NO_FD) == (result.error == 0 && is_open(step->kind)));
    if (result.fd_index == WIRE_NO_FD)
        return;
    assert_true(result.fd_index < in->n_fds);
    check_granted(entry, in->fds[result.fd_index]);
}

static void check_reply(const struct step *step, const struct msg_in *in)
{
    struct wire_header header;
    unsigned granted = client.granted;
    assert_int_equal(wire_decode_header(message, in->len, &header), 0);
    assert_int_equal(header.type, (is_open(step->kind) ? WIRE_OPEN : step->kind) | WIRE_REPLY);
    assert_int_equal(header.id, 42);
    assert_int_equal(header.count, count_entries(step));
    for (unsigned i = 0; i < header.count; i++)
        check_result(step, &step->entries[i], message + WIRE_HEADER_SIZE + i * WIRE_RESULT_SIZE, in);
    assert_int_equal(in->n_fds, client.granted - granted);
    if (step->kind == LIST)
        assert_non_null(memmem(message, in->len, "deny read ", 10));
}

/* These are made again, so that nobody notices. */
static bool is_retried(void)
{
    static const char *const calls[] = { "recvmsg", "sendmsg", "accept4", "write", "poll", "close" };
    const char *failed = faults_failed();
    for (size_t i = 0; failed && faults_error() == EINTR && i < ARRAY_SIZE(calls); i++)
        if (strncmp(failed, calls[i], strlen(calls[i])) == 0)
            return true;
    return false;
}

/* What comes back, or the end: one of both must come, and when only one call failed, soon. */
static void client_receive(const struct step *step)
{
    static struct msg_in in;
    int *sock = &client.sock[step->client], got = -EAGAIN;
    for (int i = 0; i < 2 * TURNS_MAX && got == -EAGAIN; i++) {
        if (i == TURNS_MAX && client.lasting)
            faults_end();
        turn();
        got = msg_recv(*sock, message, sizeof message, MSG_DONTWAIT, &in);
    }
    if (got == -EAGAIN)
        fail_msg("neither answered nor closed");
    client.exact = client.failed_before || !faults_failed() || is_retried();
    if (got == 1) {
        check_reply(step, &in);
        return;
    }
    assert_false(client.exact && step->kind != GARBAGE && step->kind != STRAY);
    *sock = fd_close(*sock);
}

static void client_step(const struct step *step)
{
    int *sock = &client.sock[step->client];
    client.failed_before = faults_failed() != NULL;
    if (*sock < 0)
        client_connect(step->client);
    client_send(step);
    if (*sock < 0 && step->kind != STRAY) {
        client_connect(step->client);
        client_send(step);
    }
    int answers = step->kind == TWICE ? 2 : 1;
    if (answers == 2 && *sock >= 0)
        client_send(step);
    for (int i = 0; i < answers && *sock >= 0; i++)
        client_receive(step);
    if (client.lasting && faults_failed())
        faults_end();
}

static void client_close(void)
{
    fd_close_many(client.sock, 2);
    for (int i = 0; i < TURNS_MAX && worker->connections; i++)
        turn();
}

/* ---- audit ---- */

/* A record for every descriptor, or it is counted as lost; never more records than there was to record (one
 * for a connection, one for a message that could not be received). */
static void check_audit(off_t begin, uint64_t lost)
{
    static char text[1 << 16];
    int fd = open(at("audit.log"), O_RDONLY | O_CLOEXEC);
    ssize_t len = pread(fd, text, sizeof text - 1, begin);
    assert_true(len >= 0);
    text[len] = '\0';
    close(fd);
    lost = audit_lost(setup.audit) - lost;
    assert_true(count_lines(text, "\"decision\":\"allowed\",\"errno\":null") + lost >= client.granted);
    assert_true(count_lines(text, NULL) <= client.asked + 2 + lost);
    assert_true(lost == 0 || client.lasting ||
                (faults_failed() && strncmp(faults_failed(), "write", 5) == 0));
}

/* ---- with failures ---- */

/* After all it serves as well as ever. */
static const struct step honest[] = { { OPEN, 0, { PUB_A } }, { OPEN, 1, { SECRET } } };

static void run(const struct scenario *scenario, unsigned n, int round, bool lasting, uid_t uid)
{
    int fds = fd_count();
    off_t begin = audit_size();
    uint64_t lost = audit_lost(setup.audit);
    unlink(at("new/x"));
    unlink(at("alice/x"));
    now_running = scenario->name;
    unlink(at("slow/x"));
    helper_hangs = strncmp(scenario->name, "timeout", 7) == 0;
    config.open_timeout_ms = helper_hangs ? 1 : 60000;
    client = (__typeof__(client)){ .sock = { -1, -1 }, .lasting = lasting, .uid = uid };
    worker_begin(uid != 0);
    if (lasting)
        faults_begin_lasting(n, round);
    else
        faults_begin(n, round);
    faults_pause();
    for (size_t i = 0; i < STEPS_MAX && scenario->steps[i].kind; i++)
        client_step(&scenario->steps[i]);
    client_close();
    faults_end();
    helper_hangs = false;
    for (size_t i = 0; i < ARRAY_SIZE(honest); i++)
        client_step(&honest[i]);
    client_close();
    check_audit(begin, lost);
    worker_end();
    assert_int_equal(fd_count(), fds);
}

static bool can_run(const struct scenario *scenario)
{
    bool sticky = strcmp(scenario->name, "sticky") == 0,
         sealed = strcmp(scenario->name, "directory") == 0 || strcmp(scenario->name, "path") == 0;
    return (!sticky || geteuid() == 0) && (!sealed || seals);
}

/* Says which failure it was when a check does not hold. */
static int say_what_failed(void **state)
{
    (void)state;
    if (faults_failed())
        print_error("last failure: %s, in scenario \"%s\"\n", faults_failed(), now_running);
    return 0;
}

static void run_each(bool lasting)
{
    unsigned runs = 0;
    for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++) {
        if (!can_run(&scenarios[i])) {
            print_message("skipped: %s: not without privilege\n", scenarios[i].name);
            continue;
        }
        run(&scenarios[i], 0, 0, lasting, 0);
        FAULTS_EACH(round, n)
        {
            run(&scenarios[i], n, round, lasting, 0);
            runs++;
        }
    }
    print_message("%u runs\n", runs);
    assert_true(runs > 1000);
}

static void test_one_fails(void **state)
{
    (void)state;
    run_each(false);
}

/* As when memory or descriptors are used up: all that can fail so fails, to the end of a request. */
static void test_all_fail_from_then_on(void **state)
{
    (void)state;
    run_each(true);
}

/* ---- a failure that anybody can cause ---- */

/* While any file is renamed, `..` of a link fails with EAGAIN now and then (openat2(2)): to be tried again.
 */
static void test_others_rename(void **state)
{
    (void)state;
    char real[PATH_TEXT_MAX + 1];
    const struct policy_subject subject = { .uid = geteuid(), .gid = getegid() };
    const char *path = at("plain/dots");
    const struct opener_request request = { &subject, path, strlen(path), R, 0, 1 };
    unsigned refused = 0;
    pid_t pid = start_renaming();
    worker_begin(false);
    for (int i = 0; i < 5000; i++) {
        struct opener_result result = { .real = real };
        opener_open(&helper->opener, &request, &result);
        refused += result.fd < 0;
        fd_close(result.fd);
    }
    worker_end();
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    rename(at("new/z"), at("new/y"));
    assert_int_equal(refused, 0);
}

/* ---- a worker that becomes others ---- */

enum { NOTHING_FAILED, GONE_ON, ENDED, WRONG };

/* A worker that does not know any more whom it is must end: then, and by no other failure. */
_Noreturn void __wrap_abort(void);
_Noreturn void __wrap_abort(void)
{
    static const char *const steps[] = { "setgroups", "setfsuid", "setfsgid", "cap_set_proc" };
    const char *failed = faults_failed();
    for (size_t i = 0; failed && i < ARRAY_SIZE(steps); i++)
        if (strncmp(failed, steps[i], strlen(steps[i])) == 0)
            _exit(ENDED);
    _exit(WRONG);
}

static int run_in_child(const struct scenario *scenario, unsigned n, int round)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("CMOCKA_TEST_ABORT", "1", 1);
        run(scenario, n, round, false, ALICE);
        _exit(faults_failed() ? GONE_ON : NOTHING_FAILED);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == WRONG)
        fail_msg("scenario \"%s\", failure %u of round %d: status %x", scenario->name, n, round, status);
    return WEXITSTATUS(status);
}

static void test_becoming_others(void **state)
{
    (void)state;
    unsigned ended = 0;
    if (geteuid() != 0) {
        print_message("skipped: needs root, to become other users\n");
        skip();
    }
    for (size_t i = 0; i < ARRAY_SIZE(as_alice); i++) {
        assert_int_equal(run_in_child(&as_alice[i], 0, 0), NOTHING_FAILED);
        for (int round = 0; round < FAULTS_ROUNDS; round++) {
            int end = GONE_ON;
            for (unsigned n = 1; end != NOTHING_FAILED; n++)
                ended += (end = run_in_child(&as_alice[i], n, round)) == ENDED;
        }
    }
    assert_true(ended > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_one_fails, say_what_failed),
        cmocka_unit_test_teardown(test_all_fail_from_then_on, say_what_failed),
        cmocka_unit_test(test_others_rename),
        cmocka_unit_test(test_becoming_others),
    };
    if (getenv("FOB_VALGRIND")) {
        puts("skipped: valgrind has no openat2(2)");
        return 77;
    }
    return cmocka_run_group_tests_name("faults in requests", tests, group_setup, group_teardown);
}
