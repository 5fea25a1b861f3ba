/*
 * One client and its server, each with a core of its own: whoever waits lets his core halt, and waking it
 * costs more than the work. Busy-poll on both sides is what helps.
 */
#include <stdio.h>
#include <stdlib.h>

#include "clients.h"
#include "measure.h"
#include "sections.h"
#include "servers.h"

enum { SPIN_US = 50 };
#define SPIN_TEXT "50"

struct peers {
    struct server floor, spinning_floor, fobd, spinning_fobd;
    bool busy_poll; /* this fobd has it */
};

static void measure_busy_poll(const struct peers *peers, const char *path, const struct library *library,
                              const struct act *floor)
{
    static const char raw[] = "busy-poll 50 us on both sides: p50", library_too[] = "the same by libfob";
    if (!peers->busy_poll) {
        report_skipped(raw, "this fobd has no busy-poll");
        report_skipped(library_too, "this fobd has no busy-poll");
        return;
    }
    struct question fob = ask_fob(connected(peers->spinning_fobd.socket, SOCK_SEQPACKET), path, 1);
    fob.spin_us = SPIN_US;
    compare(&(struct row){ raw, "us", "the floor that blocks", .limit = 0.5 },
            &(struct act){ run_question, &fob, 0, 0 }, floor);
    compare(&(struct row){ library_too, "us", "the floor that blocks", .limit = 0.5 },
            &(struct act){ run_library, library, 0, 0 }, floor);
}

/* Pinned when it is connected: who may run on one processor only does not spin. */
static struct library connected_library(const struct peers *peers, const char *path)
{
    setenv("FOB_BUSY_POLL", SPIN_TEXT, 1);
    struct library library = { .fob = NULL };
    if (peers->busy_poll)
        library = library_ask(peers->spinning_fobd.socket, path);
    pin(CPU_OTHER);
    return library;
}

/* For the same reason fobd is pinned when it serves. */
static void pin_fobd(const struct server *fobd)
{
    pid_t pids[64];
    int n = fobd_processes(fobd->pid, NULL, pids, 64);
    for (int i = 0; i < n; i++)
        pin_process(pids[i], CPU_SERVER);
    pin_process(fobd->pid, CPU_SERVER);
}

static void measure(const void *data)
{
    const struct peers *peers = data;
    char path[PLACE_NAME];
    snprintf(path, sizeof path, "%s", at("data/file"));
    struct library library = connected_library(peers, path);
    struct question fob = ask_fob(connected(peers->fobd.socket, SOCK_SEQPACKET), path, 1);
    struct question floor = ask_floor(connected(peers->floor.socket, SOCK_SEQPACKET), path);
    struct question spinning = ask_floor(connected(peers->spinning_floor.socket, SOCK_SEQPACKET), path);
    const struct act act_floor = { run_question, &floor, 0, 0 };
    spinning.spin_us = SPIN_US;
    measure_busy_poll(peers, path, &library, &act_floor);
    compare(&(struct row){ "without busy-poll", "us", "the floor that blocks", .limit = 0 },
            &(struct act){ run_question, &fob, 0, 0 }, &act_floor);
    compare(&(struct row){ "a floor that spins as well (no fob)", "us", "the floor that blocks", .limit = 0 },
            &(struct act){ run_question, &spinning, 0, 0 }, &act_floor);
    fob_close(library.fob);
}

void section_cores(void)
{
    struct peers peers = { 0 };
    if (cpus() < 2) {
        report_skipped("one client, two cores", "there is one processor");
        return;
    }
    start_floor(&peers.floor, "floor", CPU_SERVER, 0, 0, "");
    start_floor(&peers.spinning_floor, "spinning", CPU_SERVER, 0, SPIN_US, "");
    need_fobd(&peers.fobd, &(struct fobd_options){ .name = "fob", .cpu = CPU_SERVER });
    peers.busy_poll = start_fobd(
        &peers.spinning_fobd,
        &(struct fobd_options){ .name = "busy", .cpu = CPU_ANY, .config = "busy-poll " SPIN_TEXT "\n" });
    if (peers.busy_poll)
        pin_fobd(&peers.spinning_fobd);
    as_user(CLIENT_UID, CPU_ANY, measure, &peers);
    servers_stop();
}
