/*
 * fobctl status against a real broker: what it says is what clients did and what the kernel has.
 *
 * Link: -lcap
 */
#include "control_client.h"

#include <errno.h>
#include <sys/capability.h>
#include <signal.h>

#include "../../common/util.h"

enum { HELD = 3 };

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n"
                             "deny user:2001 read @/pub/b id=keep-out\n";

/* ---- numbers ---- */

static void ask_for_this_and_that(struct client_env *env)
{
    const struct broker *b = env->broker;
    for (int i = 0; i < 5; i++)
        CHECK_EQ(open_once(b, at(b, "pub/a"), WIRE_READ, NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(open_once(b, at(b, "pub/b"), WIRE_READ, NULL), EACCES);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(open_once(b, at(b, "secret/f"), WIRE_READ, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "pub/none"), WIRE_READ, NULL), ENOENT);
    int sock = raw_connect(b);
    CHECK_EQ(send(sock, "nonsense", 8, MSG_NOSIGNAL), 8);
    close(sock);
}

/* Holds connections until the other end of the pipes says that it is enough. */
static void hold_connections(struct client_env *env)
{
    int fd, *pipes = env->data;
    char byte = 0;
    for (int i = 0; i < HELD; i++)
        CHECK_EQ(raw_open(raw_connect(env->broker), at(env->broker, "pub/a"), WIRE_READ, 0, &fd), 0);
    CHECK_EQ(write(pipes[1], &byte, 1), 1);
    CHECK_EQ(read(pipes[2], &byte, 1), 1);
}

static void expect_held(const struct broker *b)
{
    int pipes[4];
    char byte = 0;
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(pipe(pipes + 2), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(as_user_groups(b, BOB, BOB, NULL, 0, hold_connections, pipes));
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    expect_status(b, "\"users\":[{\"uid\":2002,\"connections\":3}],");
    assert_non_null(strstr(said, ",\"connections\":3,"));
    assert_int_equal(ASK(b, "status\0text\0"), 0);
    assert_non_null(strstr(said, "connections: 3 now, "));
    assert_non_null(strstr(said, "\n  uid 2002: 3\n"));
    assert_non_null(strstr(said, "\n  worker 0: "));
    assert_non_null(strstr(said, "\n  worker 1: "));
    assert_int_equal(write(pipes[3], &byte, 1), 1);
    assert_int_equal(child_wait(pid), 0);
    for (int i = 0; i < 4; i++)
        close(pipes[i]);
}

static void test_numbers(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    assert_non_null(strstr(status_json(&b), "\"allowed\":0,\"refused\":0,\"failed\":0,"));
    assert_non_null(strstr(said, "\"users\":[],\"decided_by\":[]}"));
    as_user(&b, ALICE, ask_for_this_and_that, NULL);
    expect_status(&b, ",\"accepted\":12,\"handed_over\":0,\"requests\":11,\"allowed\":5,\"refused\":5,"
                      "\"failed\":1,\"over_quota\":0,\"malformed\":1,");
    assert_non_null(strstr(said, "{\"rule\":\"test.policy:1\",\"id\":null,\"hits\":6,\"last\":\"20"));
    assert_non_null(strstr(said, "{\"rule\":\"test.policy:2\",\"id\":\"keep-out\",\"hits\":3,\"last\":\"20"));
    assert_non_null(strstr(said, "{\"rule\":null,\"id\":null,\"hits\":2,\"last\":\"20"));
    assert_non_null(strstr(said, "\"generation\":1,"));
    assert_non_null(strstr(said, "\"rules\":2,"));
    expect_held(&b);
    expect_status(&b, "\"users\":[],");
    assert_int_equal(ASK(&b, "status\0text\0"), 0);
    assert_non_null(strstr(said, "decisions: 8 allowed, 5 refused, 1 allowed but failed; in 14 requests\n"));
    assert_non_null(strstr(said, "\nturned away: 0 over a quota, 1 malformed; 0 datagrams not answered\n"));
    assert_non_null(strstr(said, "  test.policy:2 keep-out\n"));
    assert_non_null(strstr(said, "  (default: no rule)\n"));
    assert_int_equal(ASK(&b, "reload\0"), 0); /* rules count anew, the broker goes on */
    expect_status(&b, "\"allowed\":8,\"refused\":5,\"failed\":1,");
    assert_non_null(strstr(said, "\"generation\":2,"));
    assert_non_null(strstr(said, "\"reloads\":1,\"reloads_failed\":0,"));
    assert_non_null(strstr(said, "\"decided_by\":[]}"));
    broker_finish(&b);
}

/* ---- confinement ---- */

static void put_caps(char *out, size_t size, pid_t pid, const char *field, const char *name)
{
    uint64_t caps = strtoull(status_of(pid, field), NULL, 16);
    size_t len = strlen(out);
    len += (size_t)snprintf(out + len, size - len, "%s\"%s\":[", *name == 'e' ? "{" : ",", name);
    for (int cap = 0; cap < 64; cap++)
        if (caps >> cap & 1) {
            char *text = cap_to_name(cap);
            len +=
                (size_t)snprintf(out + len, size - len, "%s\"%s\"", out[len - 1] == '[' ? "" : ",", text + 4);
            cap_free(text);
        }
    snprintf(out + len, size - len, "]");
}

/* What status has to say of the process, made of /proc. */
static void expect_process(pid_t pid)
{
    char want[4096];
    unsigned groups = 0;
    for (const char *p = status_of(pid, "Groups:"); *p; p += strcspn(p, " "), p += strspn(p, " "))
        groups++;
    snprintf(want, sizeof want,
             "\"pid\":%d,\"ready\":true,\"uid\":%d,\"gid\":%d,\"groups\":%u,\"capabilities\":", (int)pid,
             atoi(status_of(pid, "Uid:")), atoi(status_of(pid, "Gid:")), groups);
    put_caps(want, sizeof want, pid, "CapEff:", "effective");
    put_caps(want, sizeof want, pid, "CapPrm:", "permitted");
    put_caps(want, sizeof want, pid, "CapBnd:", "bounding");
    size_t len = strlen(want);
    snprintf(want + len, sizeof want - len, "},\"no_new_privs\":%s,\"seccomp\":%s,",
             *status_of(pid, "NoNewPrivs:") == '1' ? "true" : "false", status_of(pid, "Seccomp:"));
    if (!strstr(said, want))
        fail_msg("`%s` is not in %s", want, said);
}

/* All of them; how many. */
static unsigned expect_processes(const struct broker *b)
{
    unsigned n = 0;
    static char all[sizeof said];
    snprintf(all, sizeof all, "%s", status_json(b));
    for (const char *p = all; (p = strstr(p, "\"pid\":")) != NULL; n++) {
        p += strlen("\"pid\":");
        expect_process((pid_t)atoi(p));
    }
    return n;
}

static void test_confinement(void **state)
{
    (void)state;
    struct broker b;
    pid_t workers[8];
    broker_prepare(&b);
    broker_start(&b, "allow user:2001 read @/pub/**\n", "workers 1");
    WAIT_FOR(strstr(status_json(&b), "\"role\":\"opener\"") && !strstr(said, "\"ready\":false"));
    assert_int_equal(expect_processes(&b), 3); /* supervisor, worker, and a slow opener that waits */
    assert_int_equal(broker_workers(&b, workers, 8), 1);
    assert_non_null(strstr(said, "\"role\":\"worker\",\"index\":0,"));
    assert_non_null(strstr(said, "\"uid\":64999,\"gid\":64999,\"groups\":0,\"capabilities\":{\"effective\":["
                                 "\"dac_read_search\"],"));
    assert_non_null(strstr(said, "\"no_new_privs\":true,\"seccomp\":2,"));
    assert_null(strstr(said, "dac_override\"],\"permitted"));
    kill(workers[0], SIGKILL); /* another process is shown once it is there */
    WAIT_FOR(broker_workers(&b, workers + 1, 7) == 1 && workers[1] != workers[0]);
    WAIT_FOR(strstr(status_json(&b), "\"index\":0") && strstr(said, "\"ready\":true,\"uid\":64999"));
    assert_int_equal(expect_processes(&b), 3);
    /* another policy needs other processes */
    broker_write_policy(&b, "allow user:2001 read,write,list @/pub/** as=caller\n");
    assert_int_equal(ASK(&b, "reload\0"), 0);
    WAIT_FOR(strstr(status_json(&b), "\"role\":\"opener\"") && !strstr(said, "\"ready\":false"));
    assert_int_equal(expect_processes(&b), 4);
    assert_non_null(strstr(said, "\"role\":\"sealer\""));
    assert_non_null(strstr(said, "\"setgid\",\"setuid\""));
    assert_int_equal(ASK(&b, "status\0text\0"), 0);
    assert_non_null(strstr(said, "no_new_privs, seccomp filter; found by itself: "));
    broker_write_policy(&b, "allow user:2001 read @/pub/**\n");
    assert_int_equal(ASK(&b, "reload\0"), 0);
    broker_finish(&b);
}

static void test_roots_changed(void **state)
{
    (void)state;
    struct broker b;
    char want[256];
    broker_begin(&b, policy);
    assert_non_null(strstr(status_json(&b), ",\"roots_changed\":[],"));
    assert_int_equal(rename(at(&b, "pub"), at(&b, "pub.old")), 0);
    snprintf(want, sizeof want, ",\"roots_changed\":[\"%s\"],", at(&b, "pub"));
    assert_non_null(strstr(status_json(&b), want)); /* nothing there */
    assert_int_equal(mkdir(at(&b, "pub"), 0755), 0);
    assert_non_null(strstr(status_json(&b), want)); /* another one there */
    assert_int_equal(ASK(&b, "status\0text\0"), 0);
    snprintf(want, sizeof want, "\nroot changed: %s is another directory now", at(&b, "pub"));
    assert_non_null(strstr(said, want));
    assert_int_equal(ASK(&b, "reload\0"), 0);
    assert_non_null(strstr(status_json(&b), ",\"roots_changed\":[],"));
    broker_finish(&b);
}

/* ---- OpenMetrics 1.0 ---- */

struct sample {
    char name[96]; /* with its labels */
    double value;
    bool grows;
};

/* `# HELP` and `# TYPE` of the family stand once; the type in type. */
static void expect_family(const char *text, const char *family, char type[16])
{
    char line[160];
    const char *words[] = { "HELP", "TYPE" };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        snprintf(line, sizeof line, "# %s %s ", words[i], family);
        const char *at = strstr(text, line);
        if (!at || (at != text && at[-1] != '\n') || strstr(at + 1, line))
            fail_msg("not once: %s", line);
        snprintf(type, 16, "%.*s", (int)strcspn(at + strlen(line), "\n"), at + strlen(line));
    }
}

/* The family of a sample: the name without what its type adds to it. */
static void read_sample(const char *text, const char *line, struct sample *sample)
{
    static const char *const suffixes[] = { "_total", "_bucket", "_count", "_sum" };
    char family[96], type[16], *end;
    size_t len = strcspn(line, " ");
    snprintf(sample->name, sizeof sample->name, "%.*s", (int)len, line);
    sample->value = strtod(line + len + 1, &end);
    assert_true(end != line + len + 1 && *end == '\n');
    snprintf(family, sizeof family, "%.*s", (int)strcspn(sample->name, "{"), sample->name);
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        size_t keep = strlen(family) - strlen(suffixes[i]);
        sample->grows = strlen(family) > strlen(suffixes[i]) && strcmp(family + keep, suffixes[i]) == 0;
        if (sample->grows) {
            family[keep] = '\0';
            break;
        }
    }
    expect_family(text, family, type);
    if (strcmp(type, sample->grows ? "counter" : "gauge") != 0)
        assert_true(sample->grows && strcmp(type, "histogram") == 0);
}

static size_t read_metrics(const struct broker *b, struct sample *samples, size_t max)
{
    size_t n = 0;
    assert_int_equal(ASK(b, "status\0openmetrics\0"), 0);
    assert_non_null(strstr(said, "\n# EOF\n"));
    assert_string_equal(strstr(said, "\n# EOF\n"), "\n# EOF\n");
    for (const char *line = said; *line; line += strcspn(line, "\n") + 1) {
        if (*line == '#')
            continue;
        assert_true(n < max);
        read_sample(said, line, &samples[n++]);
    }
    /* who has a count has a sum */
    assert_int_equal(!strstr(said, "\nfob_request_duration_seconds_count "),
                     !strstr(said, "\nfob_request_duration_seconds_sum "));
    return n;
}

static double metric(const struct sample *samples, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(samples[i].name, name) == 0)
            return samples[i].value;
    fail_msg("no sample %s", name);
    return 0;
}

static void test_openmetrics(void **state)
{
    (void)state;
    struct broker b;
    static struct sample before[100], after[100];
    broker_begin(&b, policy);
    size_t n = read_metrics(&b, before, 100);
    for (int round = 0; round < 3; round++) {
        as_user(&b, ALICE, ask_for_this_and_that, NULL);
        if (round == 1)
            assert_int_equal(ASK(&b, "reload\0"), 0);
        usleep(50000);
        assert_int_equal(read_metrics(&b, after, 100), n);
        double last = 0;
        for (size_t i = 0; i < n; i++) {
            assert_string_equal(before[i].name, after[i].name);
            assert_true(!after[i].grows || after[i].value >= before[i].value);
            bool is_bucket = strstr(after[i].name, "_bucket{");
            assert_true(!is_bucket || after[i].value >= last); /* cumulative */
            last = is_bucket ? after[i].value : 0;
        }
        memcpy(before, after, sizeof before);
    }
    assert_true(metric(after, n, "fob_decisions_total{decision=\"allowed\"}") == 15);
    assert_true(metric(after, n, "fob_decisions_total{decision=\"refused\"}") == 15);
    assert_true(metric(after, n, "fob_requests_total") == 33);
    assert_true(metric(after, n, "fob_request_duration_seconds_bucket{le=\"+Inf\"}") == 33);
    assert_true(metric(after, n, "fob_malformed_total") == 3);
    assert_true(metric(after, n, "fob_workers") == 2);
    assert_true(metric(after, n, "fob_generation") == 2);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_confinement),
        cmocka_unit_test(test_roots_changed),
        cmocka_unit_test(test_openmetrics),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
