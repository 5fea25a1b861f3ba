/*
 * bench quick|full|tiny [SECTION...]: fob beside its peers, in one run, in interleaved rounds. Prints a table
 * and writes build/bench.json, or $BENCH_JSON. It judges nothing: a goal that is missed is printed, and fails
 * nothing.
 *
 * This process only starts the sections, one after the other, each as a process group of its own: whatever
 * way one ends, and when this one is told to end, no process and no folder is left.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/util.h"
#include "measure.h"
#include "place.h"
#include "sections.h"

enum { PATIENCE_MS = 5000, DESCRIPTORS = 20200 /* 10,000 connections, of which fobd lets half be */ };

static const struct section {
    const char *name, *title;
    void (*run)(void);
    bool quick;
} sections[] = {
    { "single", "one client, one core", section_single, true },
    { "parts", "what one thing adds to the floor", section_parts, false },
    { "syscalls", "system calls", section_syscalls, true },
    { "users", "as=caller", section_users, false },
    { "cores", "one client, two cores", section_cores, true },
    { "many", "many clients, all cores", section_many, true },
    { "whole", "whole processes", section_whole, true },
    { "slow", "a file system that hangs", section_slow, false },
    { "reload", "reloads of 10,000 rules", section_reload, false },
    { "policy", "decisions alone", section_policy, false },
    { "growth", "cost as the work grows", section_growth, false },
    { "workers", "workers", section_workers, false },
    { "connections", "idle connections", section_connections, false },
};

static const struct effort efforts[] = {
    { "quick", 7, 2000, 250 }, { "full", 15, 4000, 400 }, { "tiny", 1, 40, 20 }, /* does it work at all? */
};

static const int ending[] = { SIGINT, SIGTERM, SIGHUP };

/* ---- processes ---- */

static bool is_ending(int signal)
{
    for (size_t i = 0; i < ARRAY_SIZE(ending); i++)
        if (signal == ending[i])
            return true;
    return false;
}

/* Waits for the section's end: its status; -1: we are told to end. Others' orphans come to us too. */
static int await(pid_t section, const sigset_t *signals)
{
    int status, got;
    for (;;) {
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
            if (pid == section)
                return status;
        while ((got = sigwaitinfo(signals, NULL)) < 0)
            if (errno != EINTR)
                return -1;
        if (is_ending(got))
            return -1;
    }
}

/* All that is left of a section. */
static void end_group(pid_t group)
{
    kill(-group, SIGTERM);
    for (int ms = 0; ms < PATIENCE_MS; ms++) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0)
            return; /* no child any more, nor a grandchild: we are their reaper */
        if (pid == 0)
            usleep(1000);
    }
    kill(-group, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0)
        ;
}

static _Noreturn void be_section(const struct section *section, const sigset_t *before)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigprocmask(SIG_SETMASK, before, NULL);
    place_enter(section->name);
    section->run();
    fflush(NULL);
    _exit(0);
}

enum outcome { WELL, FAILED, ENDED /* by a signal: what there is so far is nothing to keep */ };

/* Waits for SIGCHLD and the ending ones, which are blocked. */
static enum outcome run_section(const struct section *section, const sigset_t *signals,
                                const sigset_t *before)
{
    heading(section->title);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        be_section(section, before);
    if (pid < 0) {
        perror("bench: fork");
        return ENDED;
    }
    setpgid(pid, pid);
    int status = await(pid, signals);
    end_group(pid);
    place_leave(section->name);
    if (status > 0)
        report_skipped(section->title, "failed: see above");
    return status == -1 ? ENDED : status ? FAILED : WELL;
}

/* ---- what to do ---- */

static bool is_wanted(const struct section *section, char **names, bool quick)
{
    for (char **name = names; *name; name++)
        if (strcmp(*name, section->name) == 0)
            return true;
    return !*names && (section->quick || !quick);
}

static bool is_section(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
        if (strcmp(name, sections[i].name) == 0)
            return true;
    return false;
}

static int usage(void)
{
    fputs("usage: bench quick|full|tiny [SECTION...]\nsections:", stderr);
    for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
        fprintf(stderr, " %s", sections[i].name);
    fputc('\n', stderr);
    return 2;
}

static bool parse(char **argv)
{
    for (size_t i = 0; argv[1] && i < ARRAY_SIZE(efforts); i++)
        if (strcmp(argv[1], efforts[i].name) == 0)
            effort = efforts[i];
    for (char **name = argv + 2; effort.name && *name; name++)
        if (!is_section(*name))
            return false;
    return effort.name != NULL;
}

static void raise_limit(void)
{
    struct rlimit limit = { DESCRIPTORS, DESCRIPTORS };
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* From now on they wait until they are waited for. */
static void block_signals(sigset_t *signals, sigset_t *before)
{
    sigemptyset(signals);
    sigaddset(signals, SIGCHLD);
    for (size_t i = 0; i < ARRAY_SIZE(ending); i++)
        sigaddset(signals, ending[i]);
    sigprocmask(SIG_BLOCK, signals, before);
}

static enum outcome run_sections(char **names, const sigset_t *signals, const sigset_t *before)
{
    enum outcome worst = WELL;
    for (size_t i = 0; worst != ENDED && i < ARRAY_SIZE(sections); i++)
        if (is_wanted(&sections[i], names, strcmp(effort.name, "full") != 0)) {
            enum outcome outcome = run_section(&sections[i], signals, before);
            worst = outcome > worst ? outcome : worst;
        }
    return worst;
}

int main(int argc, char **argv)
{
    sigset_t signals, before;
    if (argc < 2 || !parse(argv))
        return usage();
    if (geteuid() != 0)
        die("needs root: the broker is measured as it is installed, confined, with clients of other uids");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    raise_limit();
    measure_begin();
    block_signals(&signals, &before);
    int err = place_make();
    if (err < 0)
        die("no folder to work in: %s", strerror(-err));
    puts("fob: confined, audited to a file, 1,000 rules. ratio: median of the rounds, and their range; fob "
         "and "
         "other: medians");
    enum outcome outcome = run_sections(argv + 2, &signals, &before);
    place_remove();
    const char *json = getenv("BENCH_JSON") ? getenv("BENCH_JSON") : built("bench.json");
    err = outcome == ENDED ? 0 : measure_write_json(json);
    if (err < 0)
        die("%s: %s", json, strerror(-err));
    return outcome != WELL;
}
