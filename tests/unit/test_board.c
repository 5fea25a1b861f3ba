/*
 * The board: classes of latencies, who may answer, and that a watcher hears whole lines, in order, or is told
 * that some are missing.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/audit.h"
#include "../../broker/board.h"
#include "../../common/util.h"
#include "leak.h"

enum { RING_SIZE = 1 << 18, HEARD_SIZE = 2 * AUDIT_LINE_MAX, LINE_SIZE = 4096 };

static struct board *board;

static int setup(void **state)
{
    board = board_new(3);
    return board ? leak_setup(state) : -1;
}

static int teardown(void **state)
{
    board_free(board);
    return leak_teardown(state);
}

/* ---- latencies ---- */

static void expect_class(uint32_t us)
{
    unsigned latency_class = board_latency_class(us);
    bool fits = latency_class < BOARD_LATENCIES && board_latency_limit(latency_class) >= us;
    if (!fits || (latency_class > 0 && board_latency_limit(latency_class - 1) >= us))
        fail_msg("%u us are in latency_class %u", us, latency_class);
}

static void test_latency_classes(void **state)
{
    (void)state;
    unsigned last = 0, seed = 3;
    for (uint32_t us = 0; us <= 5000; us++) {
        expect_class(us);
        assert_in_range(board_latency_class(us), last, last + 1); /* none is left out */
        last = board_latency_class(us);
    }
    for (int i = 0; i < 1000000; i++)
        expect_class(((uint32_t)rand_r(&seed) << 16 ^ (uint32_t)rand_r(&seed)) >> rand_r(&seed) % 32);
    for (unsigned bit = 0; bit < 32; bit++) {
        expect_class(UINT32_C(1) << bit);
        expect_class((UINT32_C(1) << bit) - 1);
    }
    expect_class(UINT32_MAX);
    for (unsigned latency_class = 1; latency_class <= board_latency_class(UINT32_MAX); latency_class++) {
        assert_true(board_latency_limit(latency_class) > board_latency_limit(latency_class - 1));
        assert_int_equal(board_latency_class(board_latency_limit(latency_class)), latency_class);
        /* within a quarter of what it stands for */
        uint64_t limit = board_latency_limit(latency_class),
                 last_limit = board_latency_limit(latency_class - 1);
        assert_true(latency_class < 5 || (limit + 1) * 4 <= (last_limit + 1) * 5);
    }
}

/* ---- counters ---- */

static void test_counters(void **state)
{
    (void)state;
    struct board_counters *first = board_counters(board, 0), *second = board_counters(board, 1);
    assert_int_equal(board_slots(board), 3);
    assert_ptr_not_equal(first, second);
    board_add(&first->allowed, 1);
    board_add(&first->allowed, UINT64_C(1) << 40);
    board_add(&second->allowed, 5);
    assert_true(first->allowed == (UINT64_C(1) << 40) + 1);
    assert_true(second->allowed == 5);
    assert_true(first->refused == 0 && board_counters(board, 2)->allowed == 0);
    board_count_latency(first, 99999);
    board_count_latency(first, 100000);
    board_count_latency(first, UINT32_MAX);
    assert_true(first->slow == 2);
    assert_true(first->latency[board_latency_class(100000)] >= 1);
    assert_true(first->latency[board_latency_class(UINT32_MAX)] == 1);
    uint64_t sum = 0;
    for (unsigned i = 0; i < BOARD_LATENCIES; i++)
        sum += first->latency[i];
    assert_true(sum == 3);
}

/* What a worker counts is there after it died. */
static void test_counters_of_a_child(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 100000; i++)
            board_add(&board_counters(board, 2)->messages, 1);
        abort();
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(board_counters(board, 2)->messages == 100000);
}

/* ---- generations ---- */

static void test_generations(void **state)
{
    (void)state;
    board_announce(board, 7);
    assert_true(board_is_announced(board, 7));
    assert_false(board_is_announced(board, 6));
    assert_true(board_enter(board, 1, 7));
    assert_true(board_is_busy(board, 1));
    assert_false(board_is_busy(board, 0));
    board_announce(board, 8);
    assert_true(board_is_busy(board, 1)); /* what began is waited for */
    board_leave(board, 1);
    assert_false(board_is_busy(board, 1));
    assert_false(board_enter(board, 1, 7)); /* and nothing begins */
    assert_false(board_is_busy(board, 1));
    assert_true(board_enter(board, 1, 8));
    board_leave(board, 1);
}

static void work_until_replaced(_Atomic unsigned *working)
{
    do {
        if (board_enter(board, 0, 1)) {
            ++*working;
            --*working;
            board_leave(board, 0);
        }
    } while (board_is_announced(board, 1));
    for (;;)
        if (board_enter(board, 0, 1))
            ++*working;
}

/* Once it is not busy after an announcement, it never works again. */
static void test_announce_against_enter(void **state)
{
    (void)state;
    _Atomic unsigned *working =
        mmap(NULL, sizeof *working, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(working != MAP_FAILED);
    for (int round = 0; round < 100; round++) {
        *working = 0;
        board_announce(board, 1);
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            work_until_replaced(working);
        usleep((useconds_t)round * 20);
        board_announce(board, 2);
        while (board_is_busy(board, 0))
            ;
        for (int i = 0; i < 1000; i++)
            assert_int_equal(*working, 0);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        board_leave(board, 0);
    }
    munmap((void *)working, sizeof *working);
}

/* ---- lines ---- */

static void test_watched(void **state)
{
    (void)state;
    assert_false(board_is_watched(board));
    board_watch(board, true);
    assert_true(board_is_watched(board));
    board_watch(board, false);
    assert_false(board_is_watched(board));
}

/* Line `number`: that, and letters that follow from it. Lengths of all sorts. */
static size_t make_line(char out[LINE_SIZE], unsigned number)
{
    size_t letters = number * 2654435761u % (number % 50 ? 500 : LINE_SIZE - 20);
    size_t len = (size_t)sprintf(out, "%u ", number);
    memset(out + len, 'a' + (int)(number % 26), letters);
    out[len + letters] = '\n';
    return len + letters + 1;
}

struct hearer {
    uint64_t position, lost;
    unsigned next, heard; /* the least number that may come; lines */
    char text[HEARD_SIZE];
};

/* One turn: whole lines that were told, none twice, none in between but where it is said. */
static size_t hear(struct hearer *h, unsigned slot)
{
    char line[LINE_SIZE];
    uint64_t lost = h->lost;
    size_t len = board_hear(board, slot, &h->position, h->text, sizeof h->text, &h->lost);
    assert_true(len == 0 || h->text[len - 1] == '\n');
    assert_true(h->lost == lost || len == 0);
    for (size_t at = 0; at < len;) {
        unsigned number = (unsigned)strtoul(h->text + at, NULL, 10);
        size_t want = make_line(line, number);
        if (want > len - at || memcmp(h->text + at, line, want) != 0)
            fail_msg("line %u is not what was told", number);
        if (h->lost ? number < h->next : number != h->next)
            fail_msg("line %u, not %u", number, h->next);
        h->next = number + 1;
        h->heard++;
        at += want;
    }
    return len;
}

static void tell(unsigned slot, unsigned number)
{
    char line[LINE_SIZE];
    size_t len = make_line(line, number);
    board_tell(board, slot, line, len);
}

/* Twenty times around the ring, with one to a hundred lines in between. */
static void test_what_is_told_is_heard(void **state)
{
    (void)state;
    static struct hearer h;
    unsigned number = 0, seed = 11;
    h = (struct hearer){ .position = board_now(board, 1) };
    while (board_now(board, 1) < 20 * RING_SIZE) {
        for (int i = rand_r(&seed) % 100; i >= 0; i--)
            tell(1, number++);
        while (hear(&h, 1))
            ;
        assert_int_equal(h.next, number);
        assert_true(h.position == board_now(board, 1));
    }
    assert_true(h.lost == 0);
    assert_int_equal(h.heard, number);
    assert_true(board_now(board, 0) == 0 && board_now(board, 2) == 0); /* slots of their own */
}

/* Two readers at their own pace, one too late. */
static void test_who_is_late_loses_whole_lines(void **state)
{
    (void)state;
    static struct hearer early, late;
    unsigned number = 0;
    early = late = (struct hearer){ 0 };
    while (board_now(board, 0) < RING_SIZE) {
        tell(0, number++);
        while (hear(&early, 0))
            ;
    }
    assert_true(hear(&late, 0) == 0 && late.lost == 1);
    assert_true(hear(&late, 0) == 0 && late.lost == 1); /* said once */
    for (int i = 0; i < 100; i++) {
        tell(0, number++);
        while (hear(&late, 0) || hear(&early, 0))
            ;
        assert_int_equal(late.next, number);
        assert_int_equal(early.next, number);
    }
    assert_true(early.lost == 0 && early.heard == number);
    assert_true(late.lost == 1 && late.heard == 100);
}

/* As far behind as a reader may be, nothing is lost. */
static void test_who_is_not_too_late(void **state)
{
    (void)state;
    static struct hearer h;
    char line[LINE_SIZE];
    unsigned number = 0;
    h = (struct hearer){ .lost = 0 };
    for (int round = 0; round < 10; round++) {
        while (board_now(board, 0) - h.position + make_line(line, number) <= RING_SIZE / 2)
            tell(0, number++);
        while (hear(&h, 0))
            ;
        assert_int_equal(h.next, number);
    }
    assert_true(h.lost == 0);
    while (board_now(board, 0) - h.position <= RING_SIZE / 2)
        tell(0, number++);
    assert_true(hear(&h, 0) == 0 && h.lost == 1); /* the writer may be writing that half already */
}

/* ---- writer and reader at full speed ---- */

#ifdef FOB_SANITIZE
enum { LINES = 50000 };
#else
enum { LINES = 300000 };
#endif

/* pace: lines in between two short rests, 0: none. */
static void tell_all(unsigned pace)
{
    static char batch[HEARD_SIZE];
    for (unsigned number = 0; number < LINES;) {
        size_t len = 0;
        for (unsigned i = 0; i <= number % 7 && number < LINES; i++)
            len += make_line(batch + len, number++);
        board_tell(board, 2, batch, len);
        if (pace && number % pace < 7)
            usleep(100);
    }
    _exit(0);
}

static unsigned hear_a_child(unsigned pace)
{
    static struct hearer h;
    int status = -1;
    h = (struct hearer){ .position = board_now(board, 2) };
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        tell_all(pace);
    while (waitpid(pid, &status, WNOHANG) == 0)
        hear(&h, 2);
    assert_int_equal(status, 0);
    while (hear(&h, 2))
        ;
    printf("pace %u: %u of %u lines heard, %lu gaps\n", pace, h.heard, (unsigned)LINES,
           (unsigned long)h.lost);
    assert_true(h.lost ? h.heard < LINES : h.heard == LINES);
    return h.heard;
}

static void test_at_full_speed(void **state)
{
    (void)state;
    unsigned heard = 0;
    for (int i = 0; i < 20 && heard == 0; i++) /* on a busy machine the reader may not run in between */
        heard = hear_a_child(0) + hear_a_child(50);
    assert_true(heard > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_latency_classes),        TEST(test_counters),
        TEST(test_counters_of_a_child),    TEST(test_generations),
        TEST(test_announce_against_enter), TEST(test_watched),
        TEST(test_what_is_told_is_heard),  TEST(test_who_is_late_loses_whole_lines),
        TEST(test_who_is_not_too_late),    TEST(test_at_full_speed),
    };
    return cmocka_run_group_tests_name("board", tests, NULL, NULL);
}
