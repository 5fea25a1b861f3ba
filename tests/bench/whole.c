/*
 * Whole processes: what it costs a script to read one file it may not open itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/util.h"
#include "clients.h"
#include "measure.h"
#include "sections.h"
#include "servers.h"

enum { SLOWER = 100 }; /* than an open, about */

struct command {
    const char *words[8];
    uid_t uid;
    char *const *environment;
};

static posix_spawn_file_actions_t to_null;
static posix_spawnattr_t as_real_user;

/* Who asks is the real user here: what is spawned has it as its effective one too (POSIX_SPAWN_RESETIDS). */
static int run_once(const struct command *c)
{
    pid_t pid;
    int status;
    if (setresgid(c->uid, 0, 0) < 0 || setresuid(c->uid, 0, 0) < 0)
        return -errno;
    int err =
        posix_spawnp(&pid, c->words[0], &to_null, &as_real_user, (char *const *)c->words, c->environment);
    if (err == 0 && waitpid(pid, &status, 0) != pid)
        err = errno;
    if (setresuid(0, 0, 0) < 0 || setresgid(0, 0, 0) < 0)
        return -errno;
    return err ? -err : status ? -ECHILD : 0;
}

static void run_command(const void *command)
{
    const struct command *c = command;
    int err = run_once(c);
    if (err < 0)
        die("%s %s: %s", c->words[0], c->words[1], strerror(-err));
}

static void prepare(void)
{
    if (posix_spawn_file_actions_init(&to_null) ||
        posix_spawn_file_actions_addopen(&to_null, STDIN_FILENO, "/dev/null", O_RDONLY, 0) ||
        posix_spawn_file_actions_addopen(&to_null, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) ||
        posix_spawn_file_actions_addopen(&to_null, STDERR_FILENO, "/dev/null", O_WRONLY, 0) ||
        posix_spawnattr_init(&as_real_user) || posix_spawnattr_setflags(&as_real_user, POSIX_SPAWN_RESETIDS))
        die("posix_spawn is not to be had");
    if (setgroups(0, NULL) < 0)
        die("setgroups: %s", strerror(errno));
}

static const char *why_no_sudo(const struct command *sudo)
{
    int err = run_once(sudo);
    return err == -ENOENT ? "no sudo here" : err < 0 ? "sudo -n does not let root do it" : NULL;
}

static void measure(const void *fob_program)
{
    static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"; /* to be found by, and theirs */
    char *const plain[] = { path, NULL };
    const char *file = at("data/file");
    const struct command fob = { { fob_program, "-s", at("fob.sock"), "cat", file }, CLIENT_UID, plain },
                         cat = { { "cat", file }, CLIENT_UID, plain },
                         sudo = { { "sudo", "-n", "cat", file }, 0, plain };
    const struct act act = { run_command, &fob, 0, SLOWER };
    putenv(path);
    prepare();
    const char *why = why_no_sudo(&sudo);
    compare(&(struct row){ "fob cat FILE, whole process", "us", "cat FILE", .limit = 1 }, &act,
            &(struct act){ run_command, &cat, 0, SLOWER });
    if (why)
        report_skipped("fob cat FILE beside sudo -n cat FILE", why);
    else
        compare(&(struct row){ "fob cat FILE, whole process", "us", "sudo -n cat FILE", .limit = 0.125 },
                &act, &(struct act){ run_command, &sudo, 0, SLOWER });
}

void section_whole(void)
{
    struct server fobd;
    need_fobd(&fobd, &(struct fobd_options){ .name = "fob", .cpu = CPU_SERVER });
    as_user(0, CPU_SERVER, measure, lent("fob"));
    servers_stop();
}
