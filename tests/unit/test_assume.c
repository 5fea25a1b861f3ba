/*
 * Whose rights the opens use, held against the kernel: who may read what, and who owns what is created.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/assume.h"

static char dir[] = "/tmp/fob-assume.XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[4][128];
    static unsigned next;
    char *out = path[next++ % 4];
    snprintf(out, 128, "%s/%s", dir, name);
    return out;
}

static void make(const char *name, mode_t mode, uid_t uid, gid_t gid)
{
    int fd = open(in_dir(name), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0 && fchown(fd, uid, gid) == 0 && fchmod(fd, mode) == 0);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0777), 0);
    make("root", 0600, 0, 0);
    make("alice", 0600, 2001, 2001);
    make("group", 0640, 0, 3000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = { "root", "alice", "group", "new-alice", "new-own" };
    for (size_t i = 0; i < 5; i++)
        unlink(in_dir(names[i]));
    return rmdir(dir);
}

/* As a worker is: uid 64999 with these capabilities and no groups. */
static void become_worker(const cap_value_t *caps, int n)
{
    prctl(PR_SET_KEEPCAPS, 1);
    if (setgroups(0, NULL) || setresgid(64999, 64999, 64999) || setresuid(64999, 64999, 64999))
        _exit(100);
    cap_t set = cap_init();
    cap_set_flag(set, CAP_PERMITTED, n, caps, CAP_SET);
    cap_set_flag(set, CAP_EFFECTIVE, n, caps, CAP_SET);
    if (cap_set_proc(set))
        _exit(101);
    cap_free(set);
}

static bool can_read(const char *name)
{
    int fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

#define MUST(condition)                                                               \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                                 \
        }                                                                             \
    } while (0)

static const struct assume_identity alice = { 2001, 2001, NULL, 0, false };
static const gid_t group_3000[] = { 3000 };
static const struct assume_identity alice_in_group = { 2001, 2001, group_3000, 1, false };

static void switch_about(void)
{
    static const cap_value_t caps[] = { CAP_DAC_READ_SEARCH, CAP_SETUID, CAP_SETGID };
    become_worker(caps, 3);
    struct assume *assume = assume_new(true);
    MUST(assume);
    for (int round = 0; round < 3; round++) {
        MUST(assume_broker(assume) == 0);
        MUST(can_read("root") && can_read("alice") && can_read("group"));
        MUST(assume_identity(assume, &alice) == 0);
        MUST(!can_read("root") && can_read("alice") && !can_read("group"));
        MUST(assume_identity(assume, &alice_in_group) == 0);
        MUST(!can_read("root") && can_read("group"));
        MUST(assume_identity(assume, &alice) == 0);
        MUST(!can_read("group")); /* the groups of before are gone */
    }
    assume_free(assume);
    _exit(0);
}

static void create_for_another(void)
{
    static const cap_value_t caps[] = { CAP_DAC_OVERRIDE, CAP_SETUID, CAP_SETGID };
    become_worker(caps, 3);
    struct assume *assume = assume_new(true);
    struct assume_identity creator = alice;
    struct stat st;
    creator.dac = true;
    MUST(assume_identity(assume, &creator) == 0);
    MUST(can_read("root")); /* the broker's rights, alice's name */
    int fd = open(in_dir("new-alice"), O_WRONLY | O_CREAT | O_EXCL, 0600);
    MUST(fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == 2001 && st.st_gid == 2001);
    MUST(assume_broker(assume) == 0);
    fd = open(in_dir("new-own"), O_WRONLY | O_CREAT | O_EXCL, 0600);
    MUST(fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == 64999);
    _exit(0);
}

/* ---- any order of identities, held against /proc ---- */

static const char *status_of(const char *field)
{
    static char line[1024];
    char *value = NULL;
    FILE *in = fopen("/proc/self/status", "re");
    MUST(in);
    while (!value && fgets(line, sizeof line, in))
        if (strncmp(line, field, strlen(field)) == 0)
            value = line + strlen(field);
    fclose(in);
    MUST(value);
    return value;
}

/* The last of the four ids is that of the file system. */
static unsigned fs_id(const char *field)
{
    unsigned ids[4];
    MUST(sscanf(status_of(field), "%u %u %u %u", &ids[0], &ids[1], &ids[2], &ids[3]) == 4);
    return ids[3];
}

static void expect(const struct assume_identity *identity, unsigned long long with_dac)
{
    const unsigned long long dac = 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_DAC_READ_SEARCH;
    gid_t groups[8];
    int n = getgroups(8, groups);
    MUST(fs_id("Uid:") == identity->uid && fs_id("Gid:") == identity->gid);
    MUST(n == (int)identity->n_groups);
    for (int i = 0; i < n; i++)
        MUST(groups[i] == identity->groups[i]);
    MUST(strtoull(status_of("CapEff:"), NULL, 16) == (identity->dac ? with_dac : with_dac & ~dac));
}

static void switch_at_random(void)
{
    static const cap_value_t caps[] = { CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SETUID, CAP_SETGID };
    static const gid_t groups[] = { 10, 20, 30, 40, 50 };
    static const uid_t ids[] = { 0, 2001, 2002 };
    become_worker(caps, 4);
    struct assume *assume = assume_new(true);
    const unsigned long long with_dac = strtoull(status_of("CapEff:"), NULL, 16);
    MUST(assume);
    srand(7);
    for (int i = 0; i < 3000; i++) {
        struct assume_identity identity = { ids[rand() % 3], ids[rand() % 3], NULL, 0, rand() % 2 };
        unsigned first = (unsigned)rand() % 5;
        gid_t *own = malloc(sizeof groups); /* another place each time, and not kept */
        MUST(own);
        memcpy(own, groups + first, (5 - first) * sizeof *own);
        identity.groups = own;
        identity.n_groups = (unsigned)rand() % (6 - first);
        MUST(assume_identity(assume, &identity) == 0);
        expect(&identity, with_dac);
        free(own);
        if (rand() % 8 == 0) {
            const struct assume_identity broker = { 64999, 64999, NULL, 0, true };
            MUST(assume_broker(assume) == 0);
            expect(&broker, with_dac);
        }
    }
    assume_free(assume);
    _exit(0);
}

/* Without CAP_SETUID only the own identity is to be had, and never one with other groups. */
static void cannot_switch(void)
{
    gid_t groups[] = { 4000, 3999 }, sorted[] = { 3999, 4000 };
    if (setgroups(2, groups) || setresgid(2001, 2001, 2001) || setresuid(2001, 2001, 2001))
        _exit(100);
    struct assume *assume = assume_new(false);
    struct assume_identity own = { 2001, 2001, sorted, 2, false };
    MUST(assume_broker(assume) == 0);
    MUST(assume_identity(assume, &own) == 0);
    MUST(assume_identity(assume, &alice) == -EPERM);
    MUST(assume_identity(assume, &(struct assume_identity){ 2002, 2002, NULL, 0, false }) == -EPERM);
    MUST(assume_identity(assume, &(struct assume_identity){ 0, 0, NULL, 0, true }) == -EPERM);
    _exit(0);
}

/* The kernel refuses in the middle: the process must not go on as it does not know whom. */
static void refused_midway(void)
{
    static const cap_value_t caps[] = { CAP_SETGID };
    become_worker(caps, 1);
    struct assume *assume = assume_new(true);
    assume_identity(assume, &alice);
    _exit(0);
}

static int run(void (*fn)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        fn();
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_switching(void **state)
{
    (void)state;
    assert_int_equal(run(switch_about), 0);
}

static void test_any_order(void **state)
{
    (void)state;
    assert_int_equal(run(switch_at_random), 0);
}

static void test_creating(void **state)
{
    (void)state;
    assert_int_equal(run(create_for_another), 0);
}

static void test_without_privilege(void **state)
{
    (void)state;
    assert_int_equal(run(cannot_switch), 0);
}

static void test_refused_midway_aborts(void **state)
{
    (void)state;
    int status = run(refused_midway);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == 6);
}

int main(void)
{
    if (geteuid() != 0) {
        puts("skipped: needs root (several uids)");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_switching),
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_creating),
        cmocka_unit_test(test_without_privilege),
        cmocka_unit_test(test_refused_midway_aborts),
    };
    return cmocka_run_group_tests_name("assume", tests, setup, teardown);
}
