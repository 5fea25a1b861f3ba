/*
 * One client and its server on one core: nothing but the work is measured, no core is woken.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/msg.h"
#include "clients.h"
#include "measure.h"
#include "sections.h"
#include "servers.h"

enum { BATCH = 64 };

struct peers {
    struct server fobd, floor, visited, opend;
    char apue[PLACE_NAME], opener[PLACE_NAME];
};

/* An opener for this one file. */
static void run_opener(const void *program)
{
    static struct msg_in in;
    char byte;
    int pair[2], status;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        die("socketpair: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pair[1], STDIN_FILENO);
        execl(program, "opener", at("data/file"), (char *)NULL);
        _exit(127);
    }
    close(pair[1]);
    if (pid < 0 || msg_recv(pair[0], &byte, 1, 0, &in) != 1 || in.n_fds != 1 ||
        waitpid(pid, &status, 0) != pid || status != 0)
        die("the opener does not answer");
    close(in.fds[0]);
    close(pair[0]);
}

static void measure_one(const struct peers *peers, const char *path)
{
    struct question fob = ask_fob(connected(peers->fobd.socket, SOCK_SEQPACKET), path, 1);
    struct question floor = ask_floor(connected(peers->floor.socket, SOCK_SEQPACKET), path);
    struct question opend = ask_apue(connected(peers->opend.socket, SOCK_STREAM), path);
    struct question apue = ask_apue(connected(peers->apue, SOCK_STREAM), path);
    struct library library = library_ask(peers->fobd.socket, path);
    const struct act act = { run_question, &fob, 0, 0 }, act_opend = { run_question, &opend, 0, 0 };
    compare(&(struct row){ "one open: p50", "us", "the floor", .limit = 1.25 }, &act,
            &(struct act){ run_question, &floor, 0, 0 });
    compare(&(struct row){ "one fob_open() of libfob", "us", "the floor", .limit = 0 },
            &(struct act){ run_library, &library, 0, 0 }, &(struct act){ run_question, &floor, 0, 0 });
    compare(&(struct row){ "one open, all checks on", "us", "opend, which has none", .limit = 1 }, &act,
            &act_opend);
    compare(&(struct row){ "one open by the protocol of APUE", "us", "opend", .limit = 0 },
            &(struct act){ run_question, &apue, 0, 0 }, &act_opend);
    compare(&(struct row){ "one open", "us", "an opener by fork+exec", .limit = 0 }, &act,
            &(struct act){ run_opener, peers->opener, 0, 40 });
    fob_close(library.fob);
}

static void measure_batch(const struct peers *peers, const char *path)
{
    struct question one = ask_fob(connected(peers->fobd.socket, SOCK_SEQPACKET), path, 1);
    struct question batch = ask_fob(one.sock, path, BATCH);
    const struct act direct = { run_open, path, 0, 0 };
    compare(&(struct row){ "batch of 64: a descriptor", "us", "a direct open", .limit = 2 },
            &(struct act){ run_question, &batch, BATCH, BATCH / 4 }, &direct);
    compare(&(struct row){ "one open", "us", "a direct open", .limit = 0 },
            &(struct act){ run_question, &one, 0, 0 }, &direct);
}

static void measure_visits(const struct peers *peers, const char *path)
{
    struct visit fob = { peers->fobd.socket, ask_fob(-1, path, 1) };
    struct visit floor = { peers->visited.socket, ask_floor(-1, path) };
    compare(&(struct row){ "connect, open, close", "us", "the floor's", .limit = 1.3 },
            &(struct act){ run_visit, &fob, 0, 4 }, &(struct act){ run_visit, &floor, 0, 4 });
}

static void measure(const void *data)
{
    char path[PLACE_NAME];
    snprintf(path, sizeof path, "%s", at("data/file"));
    measure_one(data, path);
    measure_batch(data, path);
    measure_visits(data, path);
}

void section_single(void)
{
    struct peers peers = { 0 };
    need_fobd(&peers.fobd, &(struct fobd_options){ .name = "fob", .cpu = CPU_SERVER });
    start_floor(&peers.floor, "floor", CPU_SERVER, 0, 0, "");
    start_floor(&peers.visited, "visited", CPU_SERVER, 0, 0, "");
    start_opend(&peers.opend, "opend", CPU_SERVER);
    snprintf(peers.apue, sizeof peers.apue, "%s", at("fob.stream"));
    snprintf(peers.opener, sizeof peers.opener, "%s", lent("tests/bench/opener"));
    as_user(CLIENT_UID, CPU_SERVER, measure, &peers);
    servers_stop();
}
