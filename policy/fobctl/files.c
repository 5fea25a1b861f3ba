/*
 * What needs no broker: check, print, test, explain -p, diff.
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "fobctl.h"

/* The one option -p; false after an error. */
static bool read_policy_option(int argc, char **argv, const char **policy)
{
    int option;
    while ((option = getopt(argc, argv, "+p:")) != -1) {
        if (option != 'p') {
            usage_error(argv[0], "%s: unknown option", argv[0]);
            return false;
        }
        *policy = optarg;
    }
    return true;
}

int command_check(struct fobctl *ctl, int argc, char **argv)
{
    (void)ctl;
    struct policy *policy;
    const char *path = DEFAULT_POLICY;
    if (!read_policy_option(argc, argv, &path))
        return STATUS_USAGE;
    if (argc - optind > 1)
        return usage_error(argv[0], "check: one policy at a time");
    path = optind < argc ? argv[optind] : path;
    int status = load_policy(&policy, path);
    if (status != STATUS_YES)
        return status;
    struct policy_messages messages = { 0 };
    int err = policy_lint(policy, path, &messages);
    if (messages.text)
        fwrite(messages.text, 1, messages.len, stdout);
    policy_messages_deinit(&messages);
    policy_free(policy);
    if (err < 0)
        say("%s: %s", path, strerror(-err));
    return err < 0 ? STATUS_NO : STATUS_YES;
}

int command_print(struct fobctl *ctl, int argc, char **argv)
{
    (void)ctl;
    struct policy *policy;
    const char *path = DEFAULT_POLICY;
    if (!read_policy_option(argc, argv, &path))
        return STATUS_USAGE;
    if (optind < argc)
        return usage_error(argv[0], "print: takes no argument but -p POLICY");
    int status = load_policy(&policy, path);
    if (status != STATUS_YES)
        return status;
    int err = policy_print(policy, true, stdout);
    policy_free(policy);
    if (err < 0)
        say("%s: %s", path,
            err == -E2BIG ? "too many subjects to write down (see the last line)" : strerror(-err));
    return err < 0 ? STATUS_NO : STATUS_YES;
}

/* ---- test ---- */

/* False: nothing could be said of this file. */
static bool test_file(const struct policy *policy, const char *file, struct policy_test_result *sum)
{
    struct policy_messages messages = { 0 };
    struct policy_env env = { .trusted_uid = geteuid() };
    struct policy_test_result result;
    int err = policy_test(policy, file, &env, &messages, &result);
    if (messages.text)
        fwrite(messages.text, 1, messages.len, stderr);
    else if (err < 0)
        say("%s: %s", file, strerror(-err));
    policy_messages_deinit(&messages);
    sum->passed += result.passed;
    sum->failed += result.failed;
    return err == 0;
}

int command_test(struct fobctl *ctl, int argc, char **argv)
{
    (void)ctl;
    struct policy *policy;
    struct policy_test_result sum = { 0 };
    const char *path = DEFAULT_POLICY;
    bool good = true;
    if (!read_policy_option(argc, argv, &path))
        return STATUS_USAGE;
    if (optind == argc)
        return usage_error(argv[0], "test: needs a file of assertions");
    int status = load_policy(&policy, path);
    if (status != STATUS_YES)
        return status;
    for (int i = optind; i < argc; i++)
        good = test_file(policy, argv[i], &sum) && good;
    policy_free(policy);
    printf("%u passed, %u failed\n", sum.passed, sum.failed);
    return !good ? STATUS_ERRORS : sum.failed ? STATUS_NO : STATUS_YES;
}

/* ---- explain ---- */

static int explain_file(const char *path, char **question)
{
    struct policy *policy;
    int status = load_policy(&policy, path);
    if (status != STATUS_YES)
        return status;
    enum policy_answer answer =
        policy_explain(policy, question[0], question[1], question[2], time(NULL), stdout, stderr);
    policy_free(policy);
    return answer == POLICY_ALLOWED ? STATUS_YES : answer == POLICY_REFUSED ? STATUS_NO : STATUS_USAGE;
}

int command_explain(struct fobctl *ctl, int argc, char **argv)
{
    const char *path = NULL;
    if (!read_policy_option(argc, argv, &path))
        return STATUS_USAGE;
    if (argc - optind != 3)
        return usage_error(argv[0], "explain: needs SUBJECT RIGHTS PATH (user:alice read /var/log/syslog)");
    if (path)
        return explain_file(path, argv + optind);
    const char *words[] = { "explain", argv[optind], argv[optind + 1], argv[optind + 2], NULL };
    return control_ask(ctl, words);
}

/* ---- diff ---- */

int command_diff(struct fobctl *ctl, int argc, char **argv)
{
    (void)ctl;
    struct policy *old, *new;
    const char *path = DEFAULT_POLICY;
    if (!read_policy_option(argc, argv, &path))
        return STATUS_USAGE;
    if (argc - optind != 1)
        return usage_error(argv[0], "diff: needs the new policy");
    int status = load_policy(&old, path);
    if (status != STATUS_YES)
        return status;
    status = load_policy(&new, argv[optind]);
    if (status == STATUS_YES) {
        int changes = policy_diff(old, new, time(NULL), stdout);
        if (changes < 0)
            say("diff: %s", strerror(-changes));
        status = changes ? STATUS_NO : STATUS_YES;
        policy_free(new);
    }
    policy_free(old);
    return status;
}
