/*
 * threats.md, section I: what an attacker would do to the audit: forge records, drown them; and that what it
 * says is true. Who stops its reader: test_audit_down.c.
 */
#include "attacks.h"

#include <sys/sysmacros.h>
#include <time.h>

#include "../../common/escape.h"
#include "record_reader.h"

enum {
    FLOODERS = 4,
    FLOOD_MESSAGES = 100, /* of 253 entries: 101,200 refusals */
};

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n";

/* ---- 95: names that would forge records ---- */

static const char *const names[] = {
    "\n{\"time\":\"2026-01-01T00:00:00.000000Z\",\"decision\":\"allowed\",\"uid\":0,\"path\":\"shadow\"}\n",
    "\r\n\r\n",
    "\",\"decision\":\"allowed\",\"uid\":0,\"x\":\"",
    "\\",
    "\\\"",
    "\\u0041\\n",
    "\x1b]0;title\a\x1b[2J\x1b[1;1H",
    "%s%n%n%d%1000000c",
    "\x01\x02\x08\x0b\x0c\x1f\x7f",
    "\xff\xfe\x80",                  /* no UTF-8 */
    "\xc0\xaf",                      /* overlong */
    "\xed\xa0\x80",                  /* a surrogate */
    "\xf4\x90\x80\x80",              /* beyond Unicode */
    "\xc3\xa9\xe2\x82\xac",          /* fine */
    "\xc2\x85\xc2\x9b",              /* C1 controls */
    "\xe2\x80\xaegpj.exe",           /* right to left */
    "\xe2\x80\xa8line\xe2\x80\xa9x", /* line separators */
    "tab\there",
    "null",
    " ",
    "<script>&'`$(id)",
};

/* Each is asked for as a file, as a link of that name to it, and where nothing is allowed. */
static const char *const ways[] = { "al/f/", "al/l/", "secret/" };
enum { WAYS = ARRAY_SIZE(ways) };

static const char *named(const struct broker *b, size_t way, size_t name)
{
    static char path[DIR_MAX + 512];
    snprintf(path, sizeof path, "%s/%s%s", b->dir, ways[way], names[name]);
    return path;
}

static void ask_for_names(struct client_env *env)
{
    int fd, sock = raw_connect(env->broker);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        for (size_t way = 0; way < WAYS; way++) {
            const char *path = named(env->broker, way, i);
            CHECK_EQ(raw_open(sock, path, WIRE_READ, 0, &fd), way == 2 ? EACCES : 0);
            fd_close(fd);
        }
    /* Not clean, so it is no path; shown all the same. */
    CHECK_EQ(raw_ask(sock, WIRE_OPEN, "x\n\"\xff", 4, WIRE_READ, 0, &fd), EINVAL);
}

static void make_named(const struct broker *b)
{
    assert_int_equal(mkdir(at(b, "al/f"), 0755) | mkdir(at(b, "al/l"), 0755), 0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char target[512];
        file_write(named(b, 0, i), "x", 0600, 0);
        snprintf(target, sizeof target, "../f/%s", names[i]);
        assert_int_equal(symlink(target, named(b, 1, i)), 0);
    }
}

/* One line, which a terminal shows as it is, and which says the very bytes. */
static void expect_name(const char *line, const struct broker *b, size_t way, size_t name)
{
    static char got[LINE_SIZE];
    for (const char *p = line; p[1]; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            fail_msg("a control character in: %s", line);
    assert_true(escape_is_utf8(line, strlen(line)));
    expect_field(line, "path", named(b, way, name));
    expect_field(line, "decision", way == 2 ? "refused" : "allowed");
    expect_number(line, "uid", ALICE);
    if (way == 1) {
        assert_true(record_get(line, "real", got) > 0);
        assert_string_equal(got, named(b, 0, name));
    } else {
        expect_field(line, "real", "null");
    }
}

static void expect_clean_log(const struct broker *b)
{
    static char log[64 << 10];
    assert_true(file_read(at(b, "fobd.log"), log, sizeof log) > 0);
    for (char *line = strtok(log, "\n"); line; line = strtok(NULL, "\n"))
        assert_memory_equal(line, "fobd: ", 6);
}

static void test_95_forged_records(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    make_named(&b);
    broker_start(&b, "allow user:2001,user:2002 read @/al/** @/pub/**\n", "workers 1");
    as_user(&b, ALICE, ask_for_names, NULL);
    as_user(&b, BOB, expect_served, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        for (size_t way = 0; way < WAYS; way++)
            expect_name(find_record(&b, named(&b, way, i), "READ"), &b, way, i);
    const char *line = find_record(&b, "x\n\"\xff", "READ");
    expect_field(line, "raw", "true");
    expect_field(line, "reason", "malformed");
    expect_clean_log(&b);
    broker_finish(&b);
}

/* ---- 97: so many refusals that others' records are lost in them ---- */

static void refuse_253(const struct client_env *env, int sock)
{
    static uint8_t out[WIRE_MAX_MESSAGE], in[WIRE_MAX_MESSAGE];
    const char *path = at(env->broker, "secret/f");
    size_t len = WIRE_HEADER_SIZE;
    for (int i = 0; i < WIRE_MAX_ENTRIES; i++)
        len += wire_encode_entry(out + len, sizeof out - len, WIRE_READ, 0, path, strlen(path));
    struct wire_header header = { (uint32_t)len, WIRE_OPEN, WIRE_MAX_ENTRIES, 1 };
    wire_encode_header(out, sizeof out, &header);
    CHECK_EQ(msg_send(sock, out, len, NULL, 0, NULL, 0), 0);
    CHECK_EQ(recv(sock, in, sizeof in, 0), WIRE_MAX_RESULTS_MESSAGE);
}

static void flood_with_refusals(struct client_env *env)
{
    int sock = raw_connect(env->broker);
    for (int i = 0; i < FLOOD_MESSAGES; i++) {
        refuse_253(env, sock);
        count_requests(WIRE_MAX_ENTRIES);
    }
}

/* What is refused by a rule that says log=none is not recorded, and so not to be counted either. */
static void flood_unrecorded(struct client_env *env)
{
    int sock = raw_connect(env->broker);
    for (int i = 0; i < FLOOD_MESSAGES; i++)
        refuse_253(env, sock);
}

static void flood(const char *more, client_fn *fn)
{
    struct broker b;
    char text[512];
    pid_t flooders[FLOODERS];
    snprintf(text, sizeof text, "%s%s", policy, more);
    broker_begin(&b, text);
    pid_t bob = bob_begin(&b);
    for (int i = 0; i < FLOODERS; i++)
        flooders[i] = client_begin(&b, ALICE, fn, NULL);
    for (int i = 0; i < FLOODERS; i++)
        assert_int_equal(child_wait(flooders[i]), 0);
    bob_end(bob, "while alice is refused so often");
    int served = (int)shared->n;
    int refused = fn == flood_with_refusals ? FLOODERS * FLOOD_MESSAGES * WIRE_MAX_ENTRIES : 0;
    expect_records(&b, "\"uid\":2002", "\"decision\":\"allowed\"", served);
    expect_records(&b, "\"uid\":2001", "\"decision\":\"refused\"", refused);
    broker_finish(&b);
}

static void test_97_flood_of_refusals(void **state)
{
    (void)state;
    flood("", flood_with_refusals);
    flood("deny user:2001 read @/secret/** log=none\n", flood_unrecorded);
}

/* ---- 98: what is recorded is what was done ---- */

struct truth {
    const char *path;
    uint32_t flags;
    mode_t mode;
    int error;
    const char *reason, *rule, *id, *rights, *flags_text, *as, *sealed, *real;
};

static const char rules[] = "allow user:2001 read,list @/pub/** id=public\n"
                            "allow user:2001 read,create,write @/al/** mode=0600\n"
                            "deny user:2001 read @/al/denied\n"
                            "allow user:2001 read @/priv/** as=caller\n"
                            "allow user:2001 read @/sticky/** seal=no\n"
                            "allow user:2002 read @/pub/**\n";

static const struct truth truths[] = {
    { "pub/a", WIRE_READ, 0, 0, "rule", "test.policy:1", "public", "read", "READ", "broker", "true", NULL },
    { "pub/sub", WIRE_DIRECTORY, 0, 0, "rule", "test.policy:1", "public", "list", "DIRECTORY", "broker",
      "true", NULL },
    { "pub/none", WIRE_READ, 0, ENOENT, "kernel", "test.policy:1", "public", "read", "READ", "broker",
      "false", NULL },
    { "al/new", WIRE_WRITE | WIRE_CREATE, 0600, 0, "rule", "test.policy:2", "null", "write,create",
      "WRITE|CREATE", "broker", "true", NULL },
    { "al/link", WIRE_READ, 0, 0, "rule", "test.policy:1", "public", "read", "READ", "broker", "true",
      "pub/b" },
    { "al/denied", WIRE_READ, 0, EACCES, "rule", "test.policy:3", "null", "read", "READ", "null", "false",
      NULL },
    { "al/fifo", WIRE_READ, 0, EPERM, "type", "test.policy:2", "null", "read", "READ", "broker", "false",
      NULL },
    { "al/twice", WIRE_READ, 0, EPERM, "links", "test.policy:2", "null", "read", "READ", "broker", "true",
      NULL },
    { "priv/f", WIRE_READ, 0, EACCES, "kernel", "test.policy:4", "null", "read", "READ", "caller", "false",
      NULL },
    { "sticky/f", WIRE_READ, 0, 0, "rule", "test.policy:5", "null", "read", "READ", "broker", "false", NULL },
    { "secret/f", WIRE_READ, 0, EACCES, "default", "null", "null", "read", "READ", "null", "false", NULL },
    { "pub/a", WIRE_READ | WIRE_TRUNCATE, 0, EINVAL, "malformed", "null", "null", "read,write",
      "READ|TRUNCATE", "null", "false", NULL },
};

/* What the client knows of each. */
struct got {
    pid_t pid;
    struct stat st[ARRAY_SIZE(truths)];
};
static struct got *got;

static void ask_for_truths(struct client_env *env)
{
    int fd, sock = raw_connect(env->broker);
    got->pid = getpid();
    for (size_t i = 0; i < ARRAY_SIZE(truths); i++) {
        const struct truth *t = &truths[i];
        CHECK_EQ(raw_open(sock, at(env->broker, t->path), t->flags, t->mode, &fd), t->error);
        CHECK(t->error || fstat(fd, &got->st[i]) == 0);
        fd_close(fd);
    }
}

static void make_truths(const struct broker *b)
{
    file_write(at(b, "al/denied"), "x", 0600, 0);
    file_write(at(b, "al/once"), "x", 0600, 0);
    file_write(at(b, "sticky/f"), "x", 0600, 0);
    assert_int_equal(link(at(b, "al/once"), at(b, "al/twice")), 0);
    assert_int_equal(mkfifo(at(b, "al/fifo"), 0600), 0);
    assert_int_equal(symlink("../pub/b", at(b, "al/link")), 0);
}

static void expect_file(const char *line, const struct truth *t, const struct stat *st)
{
    char dev[32], want[32];
    snprintf(want, sizeof want, "%02x:%02x", major(st->st_dev), minor(st->st_dev));
    assert_true(record_get(line, "dev", dev) > 0);
    if (t->error == 0) {
        assert_string_equal(dev, want);
        expect_number(line, "ino", st->st_ino);
    }
}

static void expect_truth(const char *line, const struct broker *b, const struct truth *t,
                         const struct stat *st)
{
    expect_field(line, "path", at(b, t->path));
    expect_field(line, "decision", t->error && strcmp(t->reason, "kernel") != 0 ? "refused" : "allowed");
    expect_field(line, "errno", t->error ? strerrorname_np(t->error) : "null");
    expect_field(line, "reason", t->reason);
    expect_field(line, "rule", t->rule);
    expect_field(line, "id", t->id);
    expect_field(line, "rights", t->rights);
    expect_field(line, "flags", t->flags_text);
    expect_field(line, "as", t->as);
    expect_field(line, "sealed", t->sealed);
    expect_field(line, "real", t->real ? at(b, t->real) : "null");
    expect_number(line, "uid", ALICE);
    expect_number(line, "gid", ALICE);
    expect_number(line, "pid", (unsigned long long)got->pid);
    expect_number(line, "generation", 1);
    expect_file(line, t, st);
}

/* Of that second, or between the two. */
static void expect_time(const char *line, time_t begin, time_t end)
{
    char said[LINE_SIZE / 64], from[32], to[32];
    assert_int_equal(record_get(line, "time", said), sizeof "2026-01-01T00:00:00.000000Z" - 1);
    strftime(from, sizeof from, "%Y-%m-%dT%H:%M:%S", gmtime(&begin));
    strftime(to, sizeof to, "%Y-%m-%dT%H:%M:%S", gmtime(&end));
    assert_true(strncmp(said, from, 19) >= 0 && strncmp(said, to, 19) <= 0);
}

static void expect_second_generation(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/b"), WIRE_READ, NULL), 0);
}

static void test_98_truth(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    make_truths(&b);
    broker_start(&b, rules, "workers 1");
    time_t begin = time(NULL);
    as_user(&b, ALICE, ask_for_truths, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(truths); i++) {
        const char *line = find_record(&b, at(&b, truths[i].path), truths[i].flags_text);
        expect_truth(line, &b, &truths[i], &got->st[i]);
        expect_time(line, begin, time(NULL));
    }
    reload(&b);
    as_user(&b, ALICE, expect_second_generation, NULL);
    expect_number(find_record(&b, at(&b, "pub/b"), "READ"), "generation", 2);
    broker_finish(&b);
}

static int setup(void **state)
{
    got = mmap(NULL, sizeof *got, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return got == MAP_FAILED ? -1 : shared_setup(state);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_95_forged_records),
        ATTACK(test_97_flood_of_refusals),
        ATTACK(test_98_truth),
    };
    return cmocka_run_group_tests_name("audit attacks", tests, setup, NULL);
}
