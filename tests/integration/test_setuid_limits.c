/*
 * Started with more rights than its caller has, and with limits that the caller chose so that it fails
 * somewhere in the middle (threats.md, 116, 117): what is done is recorded, and what is not done leaves
 * nothing behind. Each with set-user-ID root, which can lift limits, and with file capabilities, which
 * cannot.
 */
#include "setuid_place.h"

#include <ftw.h>
#include <sys/resource.h>

struct limit {
    int resource;
    rlim_t soft, hard;
};

static void set_limit(void *data)
{
    const struct limit *limit = data;
    struct rlimit rlimit = { limit->soft, limit->hard };
    if (setrlimit(limit->resource, &rlimit) < 0)
        _exit(120);
}

enum outcome { SERVED, REFUSED };

static unsigned made;

/*
 * Asks for a file that is to be created, and for one to read. Without an answer it must have ended otherwise
 * than with 0, and the file must not be there.
 */
static enum outcome create_one(const struct limit *limit)
{
    struct limit copy = *limit;
    const struct spawn how = { PLACE_FOBD, NULL, NULL, SOCK_STREAM, set_limit, &copy };
    struct spawned s = spawn(&b, &how);
    char name[32], path[DIR_MAX + 64];
    uint8_t out[512];
    int fd = -1, error = -1;
    struct stat st;
    snprintf(name, sizeof name, "priv/made/%u", ++made);
    snprintf(path, sizeof path, "%s", at(&b, name));
    size_t len = encode_open(out, sizeof out, path, WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE, 0644);
    if (send(s.sock, out, len, MSG_NOSIGNAL) == (ssize_t)len)
        error = receive_native(s.sock, &fd);
    int status = spawn_end(&s);
    if (error == 0) {
        CHECK_EQ(fstat(fd, &st), 0);
        CHECK_EQ(st.st_mode, S_IFREG | 0644);
        CHECK_EQ(st.st_nlink, 1);
        CHECK_EQ(status, 0);
        close(fd);
        return SERVED;
    }
    if (error != -1 || status == 0 || status == 120)
        fprintf(stderr, "limit %d: %ld: error %d, status %d\n", limit->resource, (long)limit->soft, error,
                status);
    CHECK_EQ(error, -1);
    CHECK(status != 0 && status != 120);
    return REFUSED;
}

/* ---- the record ---- */

static char audit[1 << 20];
static int files, unrecorded;

static int look_at_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)ftw;
    if (type != FTW_F)
        return 0;
    char text[256];
    snprintf(text, sizeof text, "\"path\":\"%s\"", path);
    files++;
    const char *record = strstr(audit, text);
    if (!record || st->st_size != 0) {
        print_error("%s: it was made, and is not recorded\n", path);
        unrecorded++;
    }
    return unlink(path);
}

/* For each file that is there now the audit has one record, and no other. How many. */
static int expect_recorded(void)
{
    int records = 0;
    if (file_read(b.audit, audit, sizeof audit) < 0)
        audit[0] = '\0';
    for (const char *at = audit; (at = strchr(at, '\n')); at++)
        records++;
    files = unrecorded = 0;
    assert_int_equal(nftw(at(&b, "priv/made"), look_at_file, 8, FTW_PHYS), 0);
    assert_int_equal(unrecorded, 0);
    assert_int_equal(records, files);
    unlink(b.audit);
    return files;
}

/* ---- 116: descriptors ---- */

static rlim_t at_most(int resource, rlim_t wanted)
{
    struct rlimit now;
    CHECK_EQ(getrlimit(resource, &now), 0);
    return now.rlim_max < wanted ? now.rlim_max : wanted;
}

static void limit_descriptors(struct client_env *env)
{
    (void)env;
    const rlim_t most = at_most(RLIMIT_NOFILE, 4096);
    for (rlim_t n = 0; n < 300; n += n < 20 ? 1 : n < 250 ? 23 : 2)
        create_one(&(struct limit){ RLIMIT_NOFILE, n, n });
    for (rlim_t n = 0; n < 20; n++) {
        enum outcome outcome = create_one(&(struct limit){ RLIMIT_NOFILE, n, most });
        CHECK(n < 16 || outcome == SERVED);
    }
    CHECK_EQ(create_one(&(struct limit){ RLIMIT_NOFILE, 100, 200 }), REFUSED);
    CHECK_EQ(create_one(&(struct limit){ RLIMIT_NOFILE, 256, 256 }), SERVED);
}

static void test_116_descriptors(void **state)
{
    (void)state;
    as_user(&b, ALICE, limit_descriptors, NULL);
    assert_true(says(&b, "resource limit NOFILE"));
    assert_in_range(expect_recorded(), 4, 60);
}

/* ---- 117: those that would cut something short ---- */

/* Root in a container may be without it. */
static bool can_lift_limits(void)
{
    return place_installed == PLACE_SETUID && prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE) == 1;
}

static void limit_to_nothing(struct client_env *env)
{
    (void)env;
#ifdef FOB_SANITIZE
    static const int fatal[] = { RLIMIT_FSIZE, RLIMIT_CPU };
#else
    static const int fatal[] = { RLIMIT_FSIZE, RLIMIT_CPU, RLIMIT_AS, RLIMIT_DATA };
#endif
    const enum outcome hard = can_lift_limits() ? SERVED : REFUSED;
    for (size_t i = 0; i < ARRAY_SIZE(fatal); i++) {
        CHECK_EQ(create_one(&(struct limit){ fatal[i], 1 << 30, 1 << 30 }), hard);
        CHECK_EQ(create_one(&(struct limit){ fatal[i], 1 << 30, RLIM_INFINITY }), SERVED);
    }
    for (rlim_t n = 0; n < 3; n++) {
        CHECK_EQ(create_one(&(struct limit){ RLIMIT_FSIZE, n, n }), hard);
        CHECK_EQ(create_one(&(struct limit){ RLIMIT_FSIZE, n, RLIM_INFINITY }), SERVED);
        if (n == 0)
            continue; /* that is over before it begins, sooner or later */
        CHECK_EQ(create_one(&(struct limit){ RLIMIT_CPU, n, RLIM_INFINITY }), SERVED);
        CHECK_EQ(create_one(&(struct limit){ RLIMIT_CPU, n, n }), hard);
    }
}

#ifdef FOB_SANITIZE
enum { FATAL_CASES = 7 };
#else
enum { FATAL_CASES = 9 };
#endif

static void test_117_fatal_limits(void **state)
{
    (void)state;
    as_user(&b, ALICE, limit_to_nothing, NULL);
    assert_int_equal(expect_recorded(), (can_lift_limits() ? 2 : 1) * FATAL_CASES);
    if (!can_lift_limits())
        assert_true(says(&b, "resource limit FSIZE: it is lower than fobd needs"));
}

static void limit_others(struct client_env *env)
{
    (void)env;
    static const int harmless[] = { RLIMIT_NPROC, RLIMIT_MEMLOCK, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE,
                                    RLIMIT_LOCKS, RLIMIT_RTTIME,  RLIMIT_NICE,       RLIMIT_RTPRIO,
                                    RLIMIT_CORE,  RLIMIT_RSS };
    for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
        for (rlim_t n = 0; n < 2; n++) {
            rlim_t allowed = at_most(harmless[i], n);
            CHECK_EQ(create_one(&(struct limit){ harmless[i], allowed, allowed }), SERVED);
        }
}

static void test_117_other_limits(void **state)
{
    (void)state;
    as_user(&b, ALICE, limit_others, NULL);
    assert_int_equal(expect_recorded(), 20);
}

/* The memory that it may have ends everywhere in turn: in the loader, at the start, when it answers. */
static void limit_memory(struct client_env *env)
{
    (void)env;
    static const int resources[] = { RLIMIT_AS, RLIMIT_DATA };
    for (size_t i = 0; i < ARRAY_SIZE(resources); i++)
        for (rlim_t kb = 16; kb < 100000; kb += kb / 8)
            create_one(&(struct limit){ resources[i], kb << 10, kb << 10 });
}

static void test_117_memory(void **state)
{
    (void)state;
#ifdef FOB_SANITIZE
    print_message("skipped: the sanitizer takes all addresses for itself\n");
    skip();
#endif
    as_user(&b, ALICE, limit_memory, NULL);
    expect_recorded();
}

static void limit_stack(struct client_env *env)
{
    (void)env;
#ifdef FOB_SANITIZE
    const rlim_t step = 16;
#else
    const rlim_t step = 4;
#endif
    for (rlim_t kb = 4; kb < 600; kb += kb < 256 ? step : 16)
        create_one(&(struct limit){ RLIMIT_STACK, kb << 10, kb << 10 });
    CHECK_EQ(create_one(&(struct limit){ RLIMIT_STACK, 1 << 20, 1 << 20 }), SERVED);
}

static void test_117_stack(void **state)
{
    (void)state;
    as_user(&b, ALICE, limit_stack, NULL);
    assert_in_range(expect_recorded(), 1, 100);
}

int main(void)
{
    RUN_IN_PLACE();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_116_descriptors, place_reset),
        cmocka_unit_test_setup(test_117_fatal_limits, place_reset),
        cmocka_unit_test_setup(test_117_other_limits, place_reset),
        cmocka_unit_test_setup(test_117_memory, place_reset),
        cmocka_unit_test_setup(test_117_stack, place_reset),
    };
    int failed = cmocka_run_group_tests_name("setuid limits", tests, place_install_next, NULL);
    failed += cmocka_run_group_tests_name("limits with file capabilities", tests, place_install_next, NULL);
    place_end();
    return failed;
}
