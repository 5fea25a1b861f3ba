/*
 * A file system that hangs: one client's open waits for it, and the others must not notice.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/util.h"
#include "../integration/fuse_server.h"
#include "clients.h"
#include "measure.h"
#include "sections.h"
#include "servers.h"

enum { OTHER_UID = CLIENT_UID + 1, PATIENCE_MS = 5000 };

static const char what[] = "an open hangs in FUSE: the others' p99";

/* It is answered, whatever the answer is, or killed. */
static _Noreturn void be_stuck(const char *socket, const char *file)
{
    become(OTHER_UID);
    struct question question = ask_fob(connected(socket, SOCK_SEQPACKET), at(file), 1);
    if (send(question.sock, question.bytes, question.len, MSG_NOSIGNAL) > 0)
        for (;;)
            pause();
    _exit(1);
}

static pid_t start_stuck(const struct fuse_server *fuse, const struct server *fobd, int round)
{
    char file[64];
    snprintf(file, sizeof file, "fuse/slow-open-%d", round);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        be_stuck(fobd->socket, file);
    for (int ms = 0; fuse_server_hung(fuse) == 0; ms++) {
        if (pid < 0 || ms == PATIENCE_MS)
            die("no open hangs in FUSE");
        usleep(1000);
    }
    return pid;
}

static void end_stuck(struct fuse_server *fuse, pid_t pid)
{
    fuse_server_release(fuse);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    fuse_server_hold(fuse);
}

/* This process asks, as root: rules for everybody hold for it too. */
static double others_p99(const struct question *question)
{
    return act_quantile(&(struct act){ run_question, question, 0, 0 }, 0.99);
}

static void measure(struct fuse_server *fuse, const struct server *fobd)
{
    double without[ROUNDS_MAX] = { 0 }, with[ROUNDS_MAX] = { 0 };
    pin(CPU_SERVER);
    struct question question = ask_fob(connected(fobd->socket, SOCK_SEQPACKET), at("open/file"), 1);
    for (int r = 0; r < effort.rounds; r++) {
        without[r] = others_p99(&question);
        pid_t stuck = start_stuck(fuse, fobd, r);
        with[r] = others_p99(&question);
        end_stuck(fuse, stuck);
    }
    report(&(struct row){ what, "us", "p99 without", .limit = 1.2 }, with, without, effort.rounds);
}

/* The mount is seen by this section alone, and gone with it. */
static int mount_fuse(struct fuse_server *fuse)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mkdir(at("fuse"), 0755) < 0)
        return -errno;
    return fuse_server_start(fuse, at("fuse"));
}

void section_slow(void)
{
    struct fuse_server fuse = { 0 };
    struct server fobd;
    char why[128];
    int err = mount_fuse(&fuse);
    if (err < 0) {
        snprintf(why, sizeof why, "no FUSE file system can be mounted here: %s", strerror(-err));
        report_skipped(what, why);
        return;
    }
    need_fobd(&fobd, &(struct fobd_options){ .name = "fob",
                                             .cpu = CPU_SERVER,
                                             .config = "slow-openers 16\n",
                                             .policy = "allow user:2002 read @/fuse/**\n" });
    measure(&fuse, &fobd);
    fuse_server_release(&fuse);
    servers_stop();
    fuse_server_stop(&fuse);
}
