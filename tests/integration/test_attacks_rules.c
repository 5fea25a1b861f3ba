/*
 * threats.md, 93: rules that overlap. Whatever their order, an open is allowed when one allow rule gives all
 * that it asks for, and no deny rule any of it. OPEN and CHECK say the same.
 */
#include "attacks.h"

enum { STAFF = 3001, GUESTS = 3002, NO_GROUP = 0, LINES_MAX = 32 };

static const char *const rules[] = {
    /* half each: never the whole */
    "allow user:2001 read @/pub/a",
    "allow user:2001 write @/pub/a",
    "allow group:3001 read,append @/pub/a",
    /* the one gives, the other takes a part */
    "allow user:2001,user:2002 read,write @/pub/b",
    "deny user:2002 write @/pub/b",
    "deny group:3002 read @/pub/b",
    /* a deny of less than was allowed, of more, of all */
    "allow any read @/pub/sub/**",
    "deny user:2002+group:3002 read @/pub/sub/*",
    "deny group:3001 write,append @/pub/**",
    "allow user:2002 all @/al/**",
    "deny any create @/al/no*",
    "allow user:2001 read,write @/al/**",
    "deny any all @/al/none",
    /* and is and: each of it may be missing */
    "allow user:2001+group:3001 read @/priv/f",
    "allow group:3001+group:3002 read,write @/priv/shared",
    /* a program: of this test, or of none */
    "allow user:2002+exe:% read @/sticky/x",
    "allow user:2001+exe:/nonexistent/program read @/sticky/x",
    "allow user:2001,user:2002 read @/sticky/y",
    "deny user:2001+exe:% read @/sticky/y",
    "deny user:2002+exe:/nonexistent/program read @/sticky/y",
    "allow user:2002+group:3001+exe:% read,write @/sticky/z",
    "deny group:3002+exe:% write @/sticky/z",
};

enum { R = WIRE_READ, W = WIRE_WRITE, RW = R | W, A = WIRE_APPEND, C = WIRE_CREATE, T = WIRE_TRUNCATE };

struct question {
    const char *path;
    uint32_t flags;
    uid_t uid;
    gid_t groups[2];
    bool allowed;
};

static const struct question questions[] = {
    { "pub/a", R, ALICE, { NO_GROUP }, true },
    { "pub/a", W, ALICE, { NO_GROUP }, true },
    { "pub/a", A, ALICE, { NO_GROUP }, true },
    { "pub/a", RW, ALICE, { NO_GROUP }, false },
    { "pub/a", R | A, ALICE, { NO_GROUP }, false },
    { "pub/a", R | A, ALICE, { STAFF }, false }, /* allowed by the group, denied to it */
    { "pub/a", W, ALICE, { STAFF }, false },
    { "pub/a", R, BOB, { STAFF }, true },
    { "pub/a", R, BOB, { NO_GROUP }, false },
    { "pub/a", R, 0, { NO_GROUP }, false }, /* root is no exception */
    { "pub/b", RW, ALICE, { NO_GROUP }, true },
    { "pub/b", RW, BOB, { NO_GROUP }, false },
    { "pub/b", A, BOB, { NO_GROUP }, false }, /* write includes append */
    { "pub/b", W | T, BOB, { NO_GROUP }, false },
    { "pub/b", R, BOB, { NO_GROUP }, true },
    { "pub/b", R, ALICE, { GUESTS }, false },
    { "pub/b", W, ALICE, { GUESTS }, true },
    { "pub/b", RW, ALICE, { GUESTS }, false },
    { "pub/b", W, ALICE, { GUESTS, STAFF }, false },
    { "pub/b", R, BOB, { STAFF, GUESTS }, false },
    { "pub/sub/c", R, ALICE, { GUESTS }, true },
    { "pub/sub/c", R, BOB, { NO_GROUP }, true },
    { "pub/sub/c", R, BOB, { GUESTS }, false },
    { "pub/sub/c", R, BOB, { STAFF, GUESTS }, false },
    { "pub/sub/c", R, 0, { NO_GROUP }, true },
    { "al/f", RW, BOB, { NO_GROUP }, true },
    { "al/f", W | C, BOB, { NO_GROUP }, true },
    { "al/f", W | C, ALICE, { NO_GROUP }, false },
    { "al/f", RW | T, ALICE, { NO_GROUP }, true },
    { "al/nothing", RW, BOB, { NO_GROUP }, true },
    { "al/nothing", W | C, BOB, { NO_GROUP }, false },
    { "al/none", R, BOB, { NO_GROUP }, false },
    { "al/none", R, ALICE, { NO_GROUP }, false },
    { "priv/f", R, ALICE, { STAFF }, true },
    { "priv/f", R, ALICE, { NO_GROUP }, false },
    { "priv/f", R, BOB, { STAFF }, false },
    { "priv/shared", RW, BOB, { STAFF, GUESTS }, true },
    { "priv/shared", RW, BOB, { STAFF }, false },
    { "priv/shared", RW, BOB, { GUESTS }, false },
    { "sticky/x", R, BOB, { NO_GROUP }, true },
    { "sticky/x", R, ALICE, { NO_GROUP }, false },
    { "sticky/y", R, ALICE, { NO_GROUP }, false },
    { "sticky/y", R, BOB, { NO_GROUP }, true },
    { "sticky/z", RW, BOB, { STAFF }, true },
    { "sticky/z", RW, BOB, { NO_GROUP }, false },
    { "sticky/z", RW, BOB, { STAFF, GUESTS }, false },
    { "sticky/z", R, BOB, { STAFF, GUESTS }, true },
    { "secret/f", R, BOB, { STAFF, GUESTS }, false },
};

static void ask(struct client_env *env)
{
    const struct question *q = env->data;
    const char *path = at(env->broker, q->path);
    const mode_t mode = q->flags & WIRE_CREATE ? 0600 : 0;
    int fd, sock = raw_connect(env->broker);
    int checked = raw_ask(sock, WIRE_CHECK, path, strlen(path), q->flags, mode, &fd);
    int opened = raw_open(sock, path, q->flags, mode, &fd);
    if (checked == opened && opened == (q->allowed ? 0 : EACCES) && (fd >= 0) == q->allowed)
        return;
    fprintf(stderr, "%s, flags %#x, uid %u, groups %u %u: check %d, open %d, not %s\n", q->path, q->flags,
            (unsigned)q->uid, (unsigned)q->groups[0], (unsigned)q->groups[1], checked, opened,
            q->allowed ? "allowed" : "refused");
    _exit(1);
}

static const char *own_program(void)
{
    static char self[256];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(len > 0);
    self[len] = '\0';
    return self;
}

/* `%` in a rule stands for this program. */
static void append_rule(char *out, size_t size, const char *rule)
{
    const char *self = own_program();
    size_t used = strlen(out);
    const char *mark = strchr(rule, '%');
    if (mark)
        snprintf(out + used, size - used, "%.*s%s%s\n", (int)(mark - rule), rule, self, mark + 1);
    else
        snprintf(out + used, size - used, "%s\n", rule);
    assert_true(strlen(out) < size - 1);
}

/* From rule `first` on, then round; or the other way. */
static void order_rules(char *out, size_t size, size_t first, bool backwards)
{
    const size_t n = ARRAY_SIZE(rules);
    out[0] = '\0';
    for (size_t i = 0; i < n; i++)
        append_rule(out, size, rules[backwards ? (first + n - i) % n : (first + i) % n]);
}

static void ask_all(const struct broker *b)
{
    for (size_t i = 0; i < ARRAY_SIZE(questions); i++) {
        struct question q = questions[i];
        size_t n = (size_t)(q.groups[0] != NO_GROUP) + (q.groups[1] != NO_GROUP);
        assert_int_equal(as_user_groups(b, q.uid, q.uid, q.groups, n, ask, &q), 0);
    }
}

static void test_93_order_of_rules(void **state)
{
    (void)state;
    static char text[LINES_MAX * 256];
    static const char *const files[] = {
        "al/f", "al/nothing", "al/none", "sticky/x", "sticky/y", "sticky/z"
    };
    struct broker b;
    broker_prepare(&b);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        file_write(at(&b, files[i]), "x\n", 0666, BOB);
    order_rules(text, sizeof text, 0, false);
    broker_start(&b, text, "workers 2");
    ask_all(&b);
    for (size_t first = 5; first < ARRAY_SIZE(rules); first += 8) {
        order_rules(text, sizeof text, first, first % 2);
        broker_write_policy(&b, text);
        reload(&b);
        ask_all(&b);
    }
    assert_int_equal(audit_count(&b, "\"uid\":2001,", "\"reason\":\"credentials\""), 0);
    assert_true(audit_count(&b, "\"decision\":\"allowed\"", "\"rule\":null") == 0);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = { ATTACK(test_93_order_of_rules) };
    return cmocka_run_group_tests_name("attacks_rules", tests, shared_setup, NULL);
}
