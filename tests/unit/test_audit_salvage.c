/*
 * Records outlive the process that made them: what a worker had not written when it was killed, the
 * supervisor writes, wherever it was killed.
 *
 * Link: -Wl,--wrap=write -Wl,--wrap=mmap -Wl,--wrap=sock_connect
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/audit.h"
#include "../../broker/board.h"
#include "../../common/util.h"
#include "leak.h"

enum { SLOTS = 3, SLOT = 1, RECORDS = 5 };

/* When a write(2) kills its process. */
enum death { NEVER, BEFORE, AMID, AFTER };
static enum death death;
static bool is_full;

ssize_t __real_write(int fd, const void *bytes, size_t len);
ssize_t __wrap_write(int fd, const void *bytes, size_t len);
ssize_t __wrap_write(int fd, const void *bytes, size_t len)
{
    if (is_full)
        return errno = ENOSPC, -1;
    if (death == AMID)
        len = len / 2;
    ssize_t n = death == BEFORE ? 0 : __real_write(fd, bytes, len);
    if (death != NEVER)
        raise(SIGKILL);
    return n;
}

/* What processes share with their children. */
static struct shared {
    char *at;
    size_t len;
} shared[SLOTS];
static size_t n_shared;

void *__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    void *made = __real_mmap(at, len, protection, flags, fd, offset);
    if (flags & MAP_SHARED && n_shared < ARRAY_SIZE(shared))
        shared[n_shared++] = (struct shared){ made, len };
    return made;
}

/* /dev/log: what comes out there. */
static int syslog_socket = -1;

int __wrap_sock_connect(const char *path, int type);
int __wrap_sock_connect(const char *path, int type)
{
    int pair[2];
    (void)path;
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    syslog_socket = pair[1];
    return pair[0];
}

static char folder[] = "/tmp/fob-test-salvage-XXXXXX", file[64], text[1 << 20];
static struct audit *audit;
static struct board *board;

static int setup(void **state)
{
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    if (leak_setup(state) < 0 || !mkdtemp(folder))
        return -1;
    snprintf(file, sizeof file, "%s/audit", folder);
    board = board_new(SLOTS);
    n_shared = 0;
    return board && audit_open(&audit, CONFIG_AUDIT_FILE, file) == 0 ? audit_share(audit, SLOTS) : -1;
}

static int teardown(void **state)
{
    audit_close(audit);
    board_free(board);
    unlink(file);
    rmdir(folder);
    return leak_teardown(state);
}

/* As its supervisor starts a worker. */
static pid_t fork_worker(unsigned slot)
{
    fflush(NULL);
    audit_lend(audit, slot, true);
    pid_t pid = fork();
    audit_lend(audit, slot, false);
    if (pid == 0)
        audit_tell(audit, board, slot);
    return pid;
}

/* Who has taken a worker over; or NULL. */
static void (*taken_over)(void);

/* A worker that makes records 0..n-1, and dies when it writes them; NEVER: before. */
static void run_worker(int n, enum death when)
{
    pid_t pid = fork_worker(SLOT);
    if (pid == 0) {
        for (int i = 0; i < n; i++) {
            const struct audit_record record = { .reason = "rule", .op = "open", .pid = i, .uid = 2001 };
            audit_add(audit, &record);
        }
        if (taken_over)
            taken_over();
        death = when;
        if (when != NEVER)
            audit_flush(audit);
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* How many whole lines there are of record i. */
static int count(int i)
{
    char pid[32];
    int n = 0;
    snprintf(pid, sizeof pid, "\"pid\":%d,", i);
    FILE *in = fopen(file, "re");
    assert_non_null(in);
    while (fgets(text, sizeof text, in))
        n += strncmp(text, "{\"time\":", 8) == 0 && strstr(text, pid) &&
             strcmp(text + strlen(text) - 2, "}\n") == 0;
    fclose(in);
    return n;
}

static void expect_each(int n, int times)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(count(i), times);
    assert_int_equal(count(n), 0);
}

static void test_before_it_wrote(void **state)
{
    (void)state;
    run_worker(RECORDS, NEVER);
    expect_each(RECORDS, 0);
    for (unsigned slot = 0; slot < SLOTS + 1; slot++) /* beyond the last one: a slow opener's */
        if (slot != SLOT)
            assert_int_equal(audit_salvage(audit, board, slot), 0);
    expect_each(RECORDS, 0);
    for (int i = 0; i < 2; i++) { /* the second time there is nothing left */
        assert_int_equal(audit_salvage(audit, board, SLOT), 0);
        expect_each(RECORDS, 1);
    }
}

static void test_while_it_wrote(void **state)
{
    (void)state;
    run_worker(RECORDS, BEFORE);
    audit_salvage(audit, board, SLOT);
    expect_each(RECORDS, 1);
    run_worker(RECORDS, AFTER);
    expect_each(RECORDS, 2);
    audit_salvage(audit, board, SLOT);
    expect_each(RECORDS, 2);
}

/* Others wrote behind it meanwhile. */
static void test_written_and_followed(void **state)
{
    (void)state;
    static const char line[] = "{\"another\":\"line\"}\n";
    run_worker(RECORDS, AFTER);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(write(audit_fd(audit), line, sizeof line - 1), sizeof line - 1);
    audit_salvage(audit, board, SLOT);
    expect_each(RECORDS, 1);
}

/* Nothing is lost, nothing is glued to what was cut; what stands there whole already stands there twice. */
static void test_cut(void **state)
{
    (void)state;
    run_worker(RECORDS, AMID);
    audit_salvage(audit, board, SLOT);
    for (int i = 0; i < RECORDS; i++)
        assert_int_equal(count(i), 1 + (i < RECORDS / 2));
}

/* The next worker in its place begins with nothing. */
static void test_next_worker(void **state)
{
    (void)state;
    run_worker(RECORDS, NEVER);
    audit_salvage(audit, board, SLOT);
    run_worker(1, NEVER);
    audit_salvage(audit, board, SLOT);
    assert_int_equal(count(0), 2);
    assert_int_equal(count(1), 1);
}

/* Who watches hears of them too. */
static void test_watched(void **state)
{
    (void)state;
    uint64_t position = board_now(board, SLOT), lost = 0;
    board_watch(board, true);
    run_worker(RECORDS, NEVER);
    audit_salvage(audit, board, SLOT);
    size_t len = board_hear(board, SLOT, &position, text, sizeof text, &lost);
    int lines = 0;
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    assert_int_equal(lines, RECORDS);
}

/* A disk that is full: how many were lost is known, and the next ones are written. */
static void test_lost(void **state)
{
    (void)state;
    run_worker(RECORDS, NEVER);
    is_full = true;
    assert_int_equal(audit_salvage(audit, board, SLOT), RECORDS);
    pid_t pid = fork_worker(SLOT);
    if (pid == 0)
        _exit(audit_lost(audit) != 0); /* they are counted already */
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    is_full = false;
    assert_int_equal(audit_salvage(audit, board, SLOT), 0);
    expect_each(RECORDS, 0);
    run_worker(RECORDS, NEVER);
    assert_int_equal(audit_salvage(audit, board, SLOT), 0);
    expect_each(RECORDS, 1);
}

/* ---- a worker that was taken over ---- */

/* In what this process shares with others; NULL: nowhere. */
static char *find_shared(const char *what)
{
    static unsigned char pages[1 << 16];
    char *found = NULL;
    for (size_t i = 0; i < n_shared && !found; i++)
        if (mincore(shared[i].at, shared[i].len, pages) == 0)
            found = memmem(shared[i].at, shared[i].len, what, strlen(what));
    return found;
}

/* All that there is room for, as one line; its length stands before it. */
static void write_one_line(void)
{
    const size_t all = (size_t)2 * AUDIT_LINE_MAX;
    char *line = find_shared("{\"time\"");
    size_t have = line ? strlen(line) : 0, len = 0;
    for (char *at = line; line && at > line - 64 && len != have;)
        memcpy(&len, --at, sizeof len), memcpy(at, len == have ? &all : &len, sizeof len);
    if (len != have || !have)
        _exit(1);
    memset(line, 'x', all - 1);
    line[all - 1] = '\n';
}

/* Longer than any line that is made here, and than what it would be copied to. */
static void test_a_line_too_long(void **state)
{
    (void)state;
    struct audit *to_syslog;
    assert_int_equal(audit_open(&to_syslog, CONFIG_AUDIT_SYSLOG, NULL), 0);
    audit_replace(audit, to_syslog);
    taken_over = write_one_line;
    run_worker(1, NEVER);
    taken_over = NULL;
    audit_salvage(audit, board, SLOT);
    assert_int_equal(recv(syslog_socket, text, sizeof text, 0), -1);
    run_worker(1, NEVER);
    audit_salvage(audit, board, SLOT);
    assert_true(recv(syslog_socket, text, sizeof text, 0) > 0);
    assert_int_equal(close(syslog_socket), 0);
}

/* What another worker has still to write. */
static void test_others_are_out_of_reach(void **state)
{
    (void)state;
    for (unsigned slot = 0; slot < SLOTS + 1; slot++) {
        int status;
        run_worker(RECORDS, NEVER);
        pid_t pid = fork_worker(slot);
        if (pid == 0)
            _exit(find_shared("\"pid\":0,") != NULL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, slot == SLOT ? 1 << 8 : 0);
        audit_salvage(audit, board, SLOT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_before_it_wrote, setup, teardown),
        cmocka_unit_test_setup_teardown(test_while_it_wrote, setup, teardown),
        cmocka_unit_test_setup_teardown(test_written_and_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_next_worker, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watched, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_line_too_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_others_are_out_of_reach, setup, teardown),
    };
    return cmocka_run_group_tests_name("audit salvage", tests, NULL, NULL);
}
