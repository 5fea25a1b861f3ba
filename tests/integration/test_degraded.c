/*
 * threats.md, 107: a step of the confinement that cannot be had. It is said, at the start and in the status;
 * with require-confinement, and where nothing is safe without it, fobd does not start.
 */
#include "attacks.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static const char policy[] = "allow user:2001,user:2002 read,list @/pub/**\n"
                             "allow user:2001 write,create @/al/**\n";

struct step {
    const char *name; /* as fobd says it */
    int call;         /* fails with ENOSYS ... */
    int first;        /* ... if its first argument is this; -1: always */
    bool fatal;       /* without it nothing is served */
};

static const struct step steps[] = {
    { "landlock", SYS_landlock_create_ruleset, -1, false },
    { "landlock", SYS_landlock_restrict_self, -1, false },
    { "seccomp", SYS_seccomp, -1, false },
    { "chroot", SYS_fsopen, -1, false },
    { "chroot", SYS_chroot, -1, false },
    { "sealed-mounts", SYS_mount_setattr, -1, false },
    { "undumpable", SYS_prctl, PR_SET_DUMPABLE, false },
    { "no_new_privs", SYS_prctl, PR_SET_NO_NEW_PRIVS, true },
    { "capabilities", SYS_capset, -1, true },
    { "uid", SYS_setresuid, -1, true },
    { "uid", SYS_setgroups, -1, true },
    { "securebits", SYS_prctl, PR_SET_SECUREBITS, true },
    { "bounding set", SYS_prctl, PR_CAPBSET_DROP, true },
};

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define SKIP_UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, (n))
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, (what))

static void take_call(int call, int first)
{
    struct sock_filter any[] = {
        LOAD(nr),
        SKIP_UNLESS(call, 1),
        ANSWER(SECCOMP_RET_ERRNO | ENOSYS),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    struct sock_filter one[] = {
        LOAD(nr),
        SKIP_UNLESS(call, 3),
        LOAD(args[0]),
        SKIP_UNLESS(first, 1),
        ANSWER(SECCOMP_RET_ERRNO | EINVAL),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { first < 0 ? ARRAY_SIZE(any) : ARRAY_SIZE(one), first < 0 ? any : one };
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(125);
}

/* On a kernel that does not have it, or forbids it. Needs CAP_SYS_ADMIN in place of no_new_privs, which is
 * itself one of the steps. */
static pid_t start_without(const struct broker *b, const struct step *step)
{
    char program[512];
    const char *build = getenv("BUILD");
    snprintf(program, sizeof program, "%s/fobd", build && *build ? build : "build");
    unlink(at(b, "fobd.log"));
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    dup2(open(at(b, "fobd.log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), STDERR_FILENO);
    take_call(step->call, step->first);
    if (step->call == SYS_seccomp)
        take_call(SYS_prctl, PR_SET_SECCOMP); /* the other way there */
    execl(program, "fobd", "-f", at(b, "fobd.conf"), (char *)NULL);
    _exit(127);
}

static void expect_no_start(struct broker *b, const struct step *step)
{
    expect_not_started(b, start_without(b, step), step->name);
    assert_int_equal(access(b->socket, F_OK), -1);
}

/* Said at the start, and not among what is said to be in force. */
static void expect_start(struct broker *b, const struct step *step)
{
    char missing[64], text[16384];
    b->pid = start_without(b, step);
    wait_for_log(b, "serving ");
    snprintf(missing, sizeof missing, "not in force: %s: ", step->name);
    wait_for_log(b, missing);
    assert_int_equal(broker_control(b, "status\0text\0", text, sizeof text), 0);
    const char *found = strstr(text, "found by itself: ");
    assert_non_null(found);
    text[found - text + (ptrdiff_t)strcspn(found, "\n")] = '\0';
    if (strstr(found, step->name))
        fail_msg("without %s status says: %s", step->name, found);
    as_user(b, ALICE, expect_served, NULL);
    stop_broker(b);
}

static void with_steps(const char *config, bool required)
{
    struct broker b;
    prepare_with(&b, policy, config);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        print_message("without %s (%d)\n", steps[i].name, steps[i].call);
        if (required || steps[i].fatal)
            expect_no_start(&b, &steps[i]);
        else
            expect_start(&b, &steps[i]);
    }
    broker_end(&b);
}

static void test_107_missing_step_is_said(void **state)
{
    (void)state;
    with_steps("workers 2\naudit none\n", false);
}

static void test_107_required_step_is_missing(void **state)
{
    (void)state;
    with_steps("workers 2\naudit none\nrequire-confinement yes\n", true);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        ATTACK(test_107_missing_step_is_said),
        ATTACK(test_107_required_step_is_missing),
    };
    return cmocka_run_group_tests_name("degraded", tests, shared_setup, NULL);
}
