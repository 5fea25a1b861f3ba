/*
 * The policy library with every allocation, and every call to the system or to the user database, failing,
 * one after the other: an error, nothing leaked, and never a policy or an answer that differs from the right
 * one.
 *
 * Link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray,--wrap=strdup,--wrap=strndup
 * Link: -Wl,--wrap=open_memstream,--wrap=asprintf,--wrap=__asprintf_chk,--wrap=realpath
 * Link: -Wl,--wrap=lstat,--wrap=stat,--wrap=open,--wrap=openat,--wrap=__openat_2,--wrap=fstat,--wrap=read
 * Link: -Wl,--wrap=scandirat,--wrap=fopen,--wrap=getline,--wrap=__getdelim,--wrap=mmap,--wrap=close
 * Link: -Wl,--wrap=syscall,--wrap=fstatfs
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/generation.h"
#include "../../common/log.h"
#include "../../common/util.h"
#include "../../policy/names.h"
#include "../../policy/policy.h"
#include "faults.h"
#include "faults_policies.h"
#include "leak.h"

/* ---- what a function made: its result, and what it wrote ---- */

struct outcome {
    int result;
    char text[16384];
};

/* Runs once with call n failing (0: none). */
typedef void scenario_fn(struct outcome *outcome);
/* Is this what may come of a failure? Not asked when the outcome is the right one. */
typedef bool judge_fn(const struct outcome *outcome);

static struct policy *policy, *other, *before, *after;
static char dir[] = "/tmp/fob-faults.XXXXXX";

static const char *at(const char *file)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    return path;
}

static void run_each(scenario_fn *run, judge_fn *judge, unsigned at_least)
{
    static struct outcome right, got;
    unsigned runs = 0, wrong = 0;
    memset(&right, 0, sizeof right);
    faults_begin(0, 0);
    run(&right);
    faults_end();
    FAULTS_EACH(round, n)
    {
        int fds = fd_count();
        memset(&got, 0, sizeof got);
        faults_begin(n, round);
        run(&got);
        faults_end();
        runs += faults_failed() != NULL;
        if (getenv("FTN"))
            fprintf(stderr, "%s %d\n", faults_failed(), got.result);
        if (faults_failed() && !judge(&got) &&
            (got.result != right.result || strcmp(got.text, right.text) != 0)) {
            print_error("%s (%u): %d, not %d:\n%s\n", faults_failed(), n, got.result, right.result, got.text);
            wrong++;
        }
        assert_int_equal(fd_count(), fds);
    }
    assert_int_equal(wrong, 0);
    assert_true(runs >= at_least);
    print_message("%u failures\n", runs);
}

static bool is_error(const struct outcome *outcome)
{
    return outcome->result < 0;
}

static FILE *memory;

/* Opens and closes are the test's own: they do not fail. */
static FILE *capture(struct outcome *outcome)
{
    faults_pause();
    memory = fmemopen(outcome->text, sizeof outcome->text, "w");
    assert_non_null(memory);
    faults_resume();
    return memory;
}

static void release(void)
{
    faults_pause();
    assert_int_equal(fclose(memory), 0);
    faults_resume();
}

/* ---- loading ---- */

/* Who may read what, which no print shows: groups and homes from the user database. */
static void describe(const struct policy *loaded, struct outcome *outcome)
{
    static const char *const paths[] = { "/var/log/x",  "/home/ann/x",        "/home/bob/.profile",
                                         "/etc/shadow", "/home/cid/.cache/x", "/srv/1002%",
                                         "/",           "/srv/b/x.d1" };
    FILE *out = capture(outcome);
    faults_pause();
    struct policy_scratch *scratch = policy_scratch_new(loaded);
    policy_print(loaded, true, out);
    for (uid_t uid = 1000; uid < 1005; uid++)
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
            for (unsigned right = 1; right < RIGHT_ALL; right <<= 1) {
                struct policy_subject subject = { .uid = uid,
                                                  .gid = 7,
                                                  .user = policy_find_user(loaded, uid) };
                struct policy_decision decision;
                policy_decide(loaded, scratch, &subject, right, paths[i], strlen(paths[i]), 1, &decision);
                fputc(decision.allowed ? '+' : '-', out);
            }
    policy_scratch_free(scratch);
    release();
}

static void finish_load(int err, struct policy *loaded, const struct policy_messages *messages,
                        struct outcome *outcome)
{
    outcome->result = err;
    if (err < 0)
        assert_null(loaded);
    if (err == -EINVAL)
        assert_true(messages->n_errors > 0);
    if (err < 0)
        return;
    describe(loaded, outcome);
    faults_pause();
    policy_free(loaded);
    faults_resume();
}

static void load_text(struct outcome *outcome)
{
    static const char *const pseudo[] = { "/proc", "/sys" };
    const struct policy_env env = { .pseudo = pseudo, .n_pseudo = 2, .now = 1 };
    struct policy_messages messages = { 0 };
    struct policy *loaded = NULL;
    int err = policy_load_text(&loaded, "test", policy_text, sizeof policy_text - 1, &env, &messages);
    finish_load(err, loaded, &messages, outcome);
    policy_messages_deinit(&messages);
}

static void load_path(struct outcome *outcome)
{
    const struct policy_env env = { .trusted_uid = geteuid(), .now = 1 };
    struct policy_messages messages = { 0 };
    struct policy *loaded = NULL;
    int err = policy_load(&loaded, dir, &env, &messages);
    finish_load(err, loaded, &messages, outcome);
    policy_messages_deinit(&messages);
}

static void test_load(void **state)
{
    (void)state;
    run_each(load_text, is_error, 100);
    run_each(load_path, is_error, 100);
}

/* Text that is wrong: each error that is told is one of those. */
static void load_wrong(struct outcome *outcome)
{
    static const char text[] =
        "allow user:ann raed /x\nset @a = user:x\nallow @b read x\nassert allow any read /x\n"
        "allow user:ann read /[z\nallow any read /y as=user:nobody-at-all id=\"\"\n";
    const struct policy_env env = { .now = 1 };
    struct policy_messages messages = { 0 };
    struct policy *loaded = NULL;
    outcome->result = policy_load_text(&loaded, "test", text, sizeof text - 1, &env, &messages);
    assert_null(loaded);
    if (messages.text && !messages.out_of_memory)
        snprintf(outcome->text, sizeof outcome->text, "%s", messages.text);
    policy_messages_deinit(&messages);
}

static void test_load_wrong(void **state)
{
    (void)state;
    run_each(load_wrong, is_error, 20);
}

/* ---- what is asked of a policy ---- */

static void print(struct outcome *outcome)
{
    outcome->result = policy_print(policy, true, capture(outcome));
    release();
}

/* A name that is not found is told as a number, which means the same. */
static bool is_error_or_same_policy(const struct outcome *outcome)
{
    if (outcome->result < 0)
        return true;
    const struct policy_env env = { .now = 1 };
    struct policy_messages messages = { 0 };
    struct policy *again = NULL;
    static struct outcome right, got;
    memset(&right, 0, sizeof right);
    memset(&got, 0, sizeof got);
    if (policy_load_text(&again, "test", outcome->text, strlen(outcome->text), &env, &messages) < 0)
        fail_msg("%s", messages.text);
    policy_messages_deinit(&messages);
    describe(policy, &right);
    describe(again, &got);
    policy_free(again);
    return strcmp(strrchr(right.text, '\n'), strrchr(got.text, '\n')) == 0;
}

static void explain(struct outcome *outcome)
{
    static char errors[1024];
    FILE *out = capture(outcome);
    faults_pause();
    FILE *said = fmemopen(errors, sizeof errors, "w");
    assert_non_null(said);
    faults_resume();
    outcome->result =
        policy_explain(policy, "user:bob+group:elf", "read", "/home/bob/.profile", 1, out, said);
    faults_pause();
    bool silent = ftell(said) == 0;
    fclose(said);
    faults_resume();
    release();
    if (outcome->result == POLICY_BAD_QUESTION)
        assert_false(silent); /* the user is told why there is no answer */
}

static bool is_no_answer(const struct outcome *outcome)
{
    return outcome->result == POLICY_BAD_QUESTION;
}

/* Here too. */
static bool is_error_or_numbers(const struct outcome *outcome)
{
    return outcome->result < 0 || (outcome->result > 0 && strncmp(faults_failed(), "get", 3) == 0);
}

static void diff(struct outcome *outcome)
{
    outcome->result = policy_diff(before, after, 1, capture(outcome));
    release();
}

static void lint(struct outcome *outcome)
{
    struct policy_messages messages = { 0 };
    outcome->result = policy_lint(other, dir, &messages);
    if (outcome->result == 0)
        outcome->result = (int)messages.n_warnings;
    policy_messages_deinit(&messages);
}

static void get_roots(struct outcome *outcome)
{
    struct policy_root *roots = NULL;
    size_t n = 0, len = 0;
    outcome->result = policy_get_roots(policy, 4, &roots, &n);
    for (size_t i = 0; outcome->result == 0 && i < n; i++)
        len += (size_t)snprintf(outcome->text + len, sizeof outcome->text - len, "%s %u %d %d\n",
                                roots[i].path, roots[i].rights, roots[i].sealed, roots[i].unsealed);
    if (outcome->result == 0)
        policy_roots_free(roots, n);
}

static void parse_who(struct outcome *outcome)
{
    struct policy_messages messages = { 0 };
    struct policy_who *who = NULL;
    outcome->result =
        policy_who_parse(&who, policy, "user:bob+group:elf+group:77+exe:/bin/x+unit:u", &messages);
    if (outcome->result == 0) {
        const struct policy_subject *s = policy_who_subject(who);
        size_t len = (size_t)snprintf(outcome->text, sizeof outcome->text, "%u %u %s %s", (unsigned)s->uid,
                                      (unsigned)s->gid, s->exe, s->unit);
        for (size_t i = 0; i < s->n_groups; i++)
            len += (size_t)snprintf(outcome->text + len, sizeof outcome->text - len, " %u",
                                    (unsigned)s->groups[i]);
        policy_who_free(who);
    } else {
        assert_null(who);
    }
    policy_messages_deinit(&messages);
}

static void hold_tests(struct outcome *outcome)
{
    const struct policy_env env = { .now = 1 };
    struct policy_messages messages = { 0 };
    struct policy_test_result result = { 0, 0 };
    outcome->result = policy_test(policy, at("tests"), &env, &messages, &result);
    if (outcome->result == 0)
        snprintf(outcome->text, sizeof outcome->text, "%u %u", result.passed, result.failed);
    policy_messages_deinit(&messages);
}

static void test_questions(void **state)
{
    (void)state;
    run_each(print, is_error_or_same_policy, 5);
    run_each(explain, is_no_answer, 5);
    run_each(diff, is_error_or_numbers, 20);
    run_each(lint, is_error, 10);
    run_each(get_roots, is_error, 5);
    run_each(parse_who, is_error, 5);
    run_each(hold_tests, is_error, 10);
}

/* ---- output that cannot be written ---- */

static ssize_t write_some(void *left, const char *bytes, size_t len)
{
    (void)bytes;
    if (len > *(size_t *)left) {
        errno = ENOSPC;
        return 0;
    }
    *(size_t *)left -= len;
    return (ssize_t)len;
}

static int write_to(size_t room, bool differences)
{
    FILE *out = fopencookie(&room, "w", (cookie_io_functions_t){ .write = write_some });
    assert_non_null(out);
    setvbuf(out, NULL, _IONBF, 0);
    int err = differences ? policy_diff(before, after, 1, out) : policy_print(policy, true, out);
    fclose(out);
    return err;
}

static void test_disk_full(void **state)
{
    (void)state;
    for (int differences = 0; differences < 2; differences++) {
        size_t room = 0;
        while (write_to(room, differences) < 0)
            assert_true(++room < 16384);
        assert_true(room > 100); /* never said to be whole before it was */
        for (size_t i = 0; i < room; i++)
            assert_int_equal(write_to(i, differences), -EIO);
    }
}

/* ---- a generation of the broker's ---- */

static struct config config;

/* As the broker loads it at start and on reload: all of it, or an error. */
static void load_generation(struct outcome *outcome)
{
    static char said[4096];
    struct generation generation;
    FILE *out = capture(outcome);
    faults_pause();
    FILE *messages = fmemopen(said, sizeof said, "w");
    assert_non_null(messages);
    faults_resume();
    int err = generation_load(&generation, &config, 2, messages);
    faults_pause();
    assert_int_equal(fclose(messages), 0);
    faults_resume();
    if (err == 0) {
        err = generation_clone_mounts(&generation);
        if (err == 0)
            err = generation_share(&generation, 2);
        if (err == 0) { /* roots and clones may be missing, which is said: nothing is served from there */
            fprintf(out, "%u rules, %zu pseudo file systems, %zu devices\n",
                    policy_rule_count(generation.policy), generation.n_pseudo, generation.mounts.n_devices);
            for (size_t i = 0; generation.mounts.sealed && i < generation.mounts.n_roots; i++)
                assert_true(generation.mounts.roots[i].read_only >= 0);
        }
        faults_pause();
        generation_deinit(&generation);
        faults_resume();
    }
    outcome->result = err;
    release();
}

static void test_generation(void **state)
{
    (void)state;
    config.policy = dir;
    run_each(load_generation, is_error, 100);
}

/* ---- the whole ---- */

static void write_file(const char *file, const char *text, size_t len)
{
    int fd = open(at(file), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, len), 0);
    close(fd);
}

static struct policy *load(const char *text, size_t len)
{
    const struct policy_env env = { .now = 1 };
    struct policy_messages messages = { 0 };
    struct policy *loaded = NULL;
    if (policy_load_text(&loaded, "test", text, len, &env, &messages) < 0)
        fail_msg("%s", messages.text);
    policy_messages_deinit(&messages);
    return loaded;
}

static int group_setup(void **state)
{
    (void)state;
    static const char tests[] =
        "assert allow user:ann read /var/log/x\nassert deny user:cid+group:wheel write "
        "/home/ann/.profile\nassert allow user:bob read /etc/shadow\n";
    log_set_level(LOG_LEVEL_ERROR);
    names_set_source(&database);
    /* A mount table that nobody else changes meanwhile, where that can be had. */
    if (unshare(CLONE_NEWNS) == 0)
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    if (!mkdtemp(dir))
        return -1;
    /* In two files; the second begins at its asserts. */
    const char *second = strstr(policy_text, "assert");
    write_file("10-a.policy", policy_text, (size_t)(second - policy_text));
    write_file("20-b.policy", second, strlen(second));
    write_file("tests", tests, sizeof tests - 1);
    policy = load(policy_text, sizeof policy_text - 1);
    other = load(other_text, sizeof other_text - 1);
    before = load(before_text, sizeof before_text - 1);
    after = load(after_text, sizeof after_text - 1);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    policy_free(policy);
    policy_free(other);
    policy_free(before);
    policy_free(after);
    names_set_source(NULL);
    unlink(at("10-a.policy"));
    unlink(at("20-b.policy"));
    unlink(at("tests"));
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),      cmocka_unit_test(test_load_wrong), cmocka_unit_test(test_questions),
        cmocka_unit_test(test_disk_full), cmocka_unit_test(test_generation),
    };
    return cmocka_run_group_tests_name("faults in policies", tests, group_setup, group_teardown);
}
