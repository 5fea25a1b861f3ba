/*
 * Workers that are killed under load: what they had answered stands in the audit, though they collect records
 * before they write them.
 */
#include "attacks.h"

enum { ROUNDS = 5 };

static const char policy[] = "allow user:2001 read @/pub/**\n";

/* Until its worker is gone; the answers that it had. */
static void ask_until_killed(struct client_env *env)
{
    _Atomic int *answers = env->data;
    int fd, sock = raw_connect(env->broker);
    while (raw_open(sock, at(env->broker, "pub/a"), WIRE_READ, 0, &fd) == 0) {
        ++*answers;
        close(fd);
    }
}

static pid_t only_worker(const struct broker *b)
{
    pid_t pids[4];
    WAIT_LONG(broker_workers(b, pids, 4) == 1);
    assert_int_equal(broker_workers(b, pids, 4), 1);
    return pids[0];
}

/* One record may be missing: of the answer that was sent when the worker died. One may be too many: the
 * client was killed off between its answer and counting it, or the answer never left. */
static void test_108_records_of_the_killed(void **state)
{
    (void)state;
    struct broker b;
    _Atomic int *answers =
        mmap(NULL, sizeof *answers, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(answers != MAP_FAILED);
    broker_prepare(&b);
    broker_start(&b, policy, "workers 1");
    b.uncounted = true;
    for (int round = 1; round <= ROUNDS; round++) {
        pid_t asker = client_begin(&b, ALICE, ask_until_killed, (void *)(uintptr_t)answers),
              worker = only_worker(&b);
        int before = *answers;
        WAIT_LONG(*answers > before + 200);
        assert_int_equal(kill(worker, SIGKILL), 0);
        assert_int_equal(child_wait(asker), 0);
        WAIT_LONG(audit_count(&b, "\"allowed\"", "/pub/a") >= *answers - round);
        assert_in_range(audit_count(&b, "\"allowed\"", "/pub/a"), *answers - round, *answers + round);
    }
    munmap((void *)(uintptr_t)answers, sizeof *answers);
    broker_finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ATTACK(test_108_records_of_the_killed),
    };
    return cmocka_run_group_tests_name("audit_killed", tests, shared_setup, NULL);
}
