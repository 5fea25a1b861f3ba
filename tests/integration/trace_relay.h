/*
 * What the tests of fob trace share: a relay run by alice, what it has printed, and that nothing is left of it.
 */
#ifndef FOB_TESTS_TRACE_RELAY_H
#define FOB_TESTS_TRACE_RELAY_H

#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>

#include "../../client/trace/trace.h"
#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"

enum { CLIENT_SECONDS = 60 }; /* a client that is not answered ends then, and its test fails */

struct relay_test {
    struct broker broker;
    struct broker via; /* the same with the relay's socket */
    pid_t pid;
    int fds; /* open in the relay when it has no connection */
};

/* ---- the relay, run by alice ---- */

static char journal[1 << 20];

static inline const char *read_journal(const struct relay_test *t)
{
    if (file_read(at(&t->broker, "journal"), journal, sizeof journal) < 0)
        *journal = '\0';
    return journal;
}

static inline bool journal_has(const struct relay_test *t, const char *text)
{
    return strstr(read_journal(t), text) != NULL;
}

static inline void expect_journal(const struct relay_test *t, const char *text)
{
    WAIT_FOR(journal_has(t, text));
    if (!journal_has(t, text))
        fail_msg("not there: %s\nin:\n%s", text, journal);
}

static inline int count_open(pid_t pid)
{
    char path[64];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static inline pid_t start_as(uid_t uid, const char *journal_path, const char *listen_path, const char *upstream)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    int out = open(journal_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
        _exit(126);
    if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
        _exit(126);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nothing; a change of user would clear it */
    _exit(trace_run(listen_path, upstream));
}

static inline void relay_start(struct relay_test *t, const char *upstream)
{
    t->via = t->broker;
    snprintf(t->via.socket, sizeof t->via.socket, "%s/al/relay", t->broker.dir);
    t->pid = start_as(ALICE, at(&t->broker, "journal"), t->via.socket, upstream);
    expect_journal(t, "listening on ");
    t->fds = count_open(t->pid);
}

static inline void relay_begin(struct relay_test *t, const char *policy)
{
    broker_begin(&t->broker, policy);
    relay_start(t, t->broker.socket);
}

/* Nothing is left: no descriptor, no name, status 0. */
static inline void relay_end(struct relay_test *t)
{
    WAIT_FOR(count_open(t->pid) == t->fds);
    if (count_open(t->pid) != t->fds)
        print_error("journal:\n%s", read_journal(t));
    assert_int_equal(count_open(t->pid), t->fds);
    assert_int_equal(kill(t->pid, SIGTERM), 0);
    assert_int_equal(child_wait(t->pid), 0);
    assert_int_equal(access(at(&t->broker, "al/relay"), F_OK), -1);
    assert_int_equal(access(at(&t->broker, "al/relay.lock"), F_OK), -1);
    expect_journal(t, "ended after ");
}

#endif
