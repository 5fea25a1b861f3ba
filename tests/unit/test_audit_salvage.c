/*
 * Records outlive the process that made them: what a worker had not written when it was killed, the
 * supervisor writes, wherever it was killed.
 *
 * Link: -Wl,--wrap=write
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

/* A worker that makes records 0..n-1, and dies when it writes them; NEVER: before. */
static void run_worker(int n, enum death when)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        audit_tell(audit, board, SLOT);
        for (int i = 0; i < n; i++) {
            const struct audit_record record = { .reason = "rule", .op = "open", .pid = i, .uid = 2001 };
            audit_add(audit, &record);
        }
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
    is_full = false;
    assert_int_equal(audit_salvage(audit, board, SLOT), 0);
    expect_each(RECORDS, 0);
    run_worker(RECORDS, NEVER);
    assert_int_equal(audit_salvage(audit, board, SLOT), 0);
    expect_each(RECORDS, 1);
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
    };
    return cmocka_run_group_tests_name("audit salvage", tests, NULL, NULL);
}
