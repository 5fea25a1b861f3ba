/*
 * What disturbs: names that change, processes that die or stop, new policies, admins who ask.
 */
#include "soak.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../common/control.h"
#include "../../common/sock.h"
#include "../../common/util.h"

enum { WATCH_MS = 200, STOP_MS = 200, AWAIT_MS = 2000 };

/* ---- the tree ---- */

static void flip_link(bool other)
{
    const char *fresh = soak_path("pub/.flip");
    SOAK_NEED(symlink(other ? "../priv/d0/f0" : "d0/f0", fresh) == 0);
    SOAK_NEED(rename(fresh, soak_path("pub/flip")) == 0);
}

static void remove_created(void)
{
    const struct soak_entry *entry = &soak_entries[soak_random(soak_n_entries)];
    if (entry->kind == KIND_NEW)
        unlink(entry->path);
}

void soak_mover(void)
{
    char here[SOAK_PATH + 64], there[SOAK_PATH + 64];
    snprintf(here, sizeof here, "%s", soak_path("shared/mover"));
    snprintf(there, sizeof there, "%s", soak_path("priv/mover"));
    for (unsigned turn = 0; !shared->over || turn % 2; turn++) {
        SOAK_NEED(rename(turn % 2 ? there : here, turn % 2 ? here : there) == 0);
        flip_link(turn % 2 == 0);
        for (unsigned i = 0; i < 20; i++)
            remove_created();
        soak_sleep_ms(soak_random(5));
    }
    exit(0);
}

/* ---- processes ---- */

static void signal_through(int pidfd, int signal)
{
    syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

/* One of fobd's children by that name: its pid, and *pidfd, which is surely of it. 0: none. */
static pid_t pick_child(const char *name, int *pidfd)
{
    pid_t pids[64];
    int n = soak_children(shared->fobd, name, pids, 64);
    pid_t pid = n ? pids[soak_random((unsigned)n)] : 0;
    *pidfd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    n = *pidfd >= 0 ? soak_children(shared->fobd, name, pids, 64) : 0;
    for (int i = 0; i < n; i++)
        if (pids[i] == pid)
            return pid;
    *pidfd = fd_close(*pidfd);
    return 0;
}

/* Noted before it is done: what dies of it has died after that. */
static bool note_kill(pid_t pid, enum soak_victim victim)
{
    if (shared->n_kills == KILLS_MAX)
        return false;
    shared->kills[shared->n_kills] = (struct soak_kill){ soak_now(), pid, victim };
    shared->n_kills++;
    return true;
}

static void kill_one(enum soak_victim victim)
{
    static const char *const names[] = { "fobd-worker", "fobd-sealer", "fobd-opener", "fobd-identity" };
    CLEANUP(fd_cleanup) int pidfd = -1;
    pid_t pid = pick_child(names[victim], &pidfd);
    if (pid && note_kill(pid, victim))
        signal_through(pidfd, SIGKILL);
}

/* Until there are workers of two generations: that moment is short, and many things can go wrong in it. */
static void await_reload(void)
{
    pid_t pids[64];
    for (int64_t end = soak_now() + AWAIT_MS * 1000; soak_now() < end && !shared->over;)
        if (soak_children(shared->fobd, "fobd-worker", pids, 64) > WORKERS)
            return;
        else
            usleep(500);
}

/* With another killed meanwhile, perhaps. */
static void stop_one(void)
{
    CLEANUP(fd_cleanup) int pidfd = -1;
    if (!pick_child("fobd-worker", &pidfd))
        return;
    shared->stops++;
    signal_through(pidfd, SIGSTOP);
    unsigned before = soak_random(STOP_MS);
    soak_sleep_ms(before);
    if (soak_chance(30))
        kill_one(VICTIM_WORKER);
    soak_sleep_ms(STOP_MS - before);
    signal_through(pidfd, SIGCONT);
}

/* The workers go on serving; one that is killed meanwhile is missing until it goes on. */
static void stop_supervisor(void)
{
    shared->stops++;
    kill(shared->fobd, SIGSTOP);
    soak_sleep_ms(soak_random(STOP_MS));
    if (soak_chance(50))
        kill_one(VICTIM_WORKER);
    soak_sleep_ms(soak_random(STOP_MS));
    kill(shared->fobd, SIGCONT);
}

/* The supervisor itself, with or without time to say farewell; who waits for it starts another. */
static void crash(void)
{
    if (!note_kill(shared->fobd, VICTIM_SUPERVISOR))
        return;
    shared->crash = false;
    shared->life++;
    kill(shared->fobd, soak_chance(60) ? SIGKILL : SIGTERM);
    while (shared->life % 2)
        soak_sleep_ms(10);
}

static void disturb(unsigned r)
{
    if (shared->crash)
        crash();
    else if (r < 40)
        kill_one(VICTIM_WORKER);
    else if (r < 50)
        kill_one(VICTIM_SEALER);
    else if (r < 60)
        kill_one(VICTIM_OPENER);
    else if (r < 68)
        kill_one(VICTIM_IDENTITY);
    else if (r < 80)
        stop_one();
    else if (r < 88)
        stop_supervisor();
    else {
        shared->hangups++;
        kill(shared->fobd, SIGHUP);
    }
}

void soak_killer(void)
{
    while (!shared->over) {
        unsigned r = soak_random(100);
        if (soak_chance(40))
            await_reload();
        if (!shared->over)
            disturb(r);
        unsigned pause = shared->hurry ? 200 + soak_random(600) : 1000 + soak_random(2000);
        for (unsigned ms = pause; ms >= 100 && !shared->over && !shared->crash; ms -= 100)
            soak_sleep_ms(100);
    }
    exit(0);
}

/* ---- policies ---- */

/* Until it is in force: a reload fails when a new worker was killed. Meanwhile it may be either. */
static void change_to(unsigned variant)
{
    uint32_t epoch = shared->epoch;
    if (epoch + 2 >= EPOCHS_MAX)
        return;
    shared->masks[epoch + 1] = (uint8_t)(shared->masks[epoch] | 1u << variant);
    shared->epoch = epoch + 1;
    soak_policy_install(variant);
    while (soak_control("reload\0") != 0) {
        shared->reloads_failed++;
        if (shared->over)
            return;
        soak_sleep_ms(20);
    }
    shared->reloads++;
    shared->masks[epoch + 2] = (uint8_t)(1u << variant);
    shared->epoch = epoch + 2;
}

void soak_reloader(void)
{
    while (!shared->over) {
        soak_sleep_ms(200 + (soak_chance(70) ? soak_random(400) : soak_random(1800)));
        change_to(soak_random(VARIANTS));
    }
    exit(0);
}

/* ---- admins ---- */

void soak_asker(void)
{
    while (!shared->over) {
        bool json = soak_chance(80);
        uint32_t life = shared->life;
        int status = json ? soak_control("status\0json\0") : soak_control("status\0openmetrics\0");
        shared->statuses++;
        if (status != 0 && !soak_was_down(life)) {
            shared->control_failed++;
            soak_complain("control socket: status was answered by %d", status);
        }
        soak_sleep_ms(50 + soak_random(200));
    }
    exit(0);
}

static void watch_for_a_while(int sock, uint32_t life)
{
    static char packet[CONTROL_PACKET_MAX];
    struct pollfd polled = { .fd = sock, .events = POLLIN };
    bool reads = soak_chance(80);
    for (unsigned turn = 1 + soak_random(10); turn && !shared->over; turn--) {
        if (!reads || poll(&polled, 1, WATCH_MS) != 1) {
            soak_sleep_ms(WATCH_MS);
            continue;
        }
        for (int64_t end = soak_now() + WATCH_MS * 1000; soak_now() < end;) {
            ssize_t got = recv(sock, packet, sizeof packet, MSG_DONTWAIT);
            if (got > 0 && *packet == CONTROL_OUT)
                shared->watched++;
            else if (got >= 0 || errno != EAGAIN) {
                if (!soak_was_down(life)) {
                    shared->control_failed++;
                    soak_complain("control socket: a watcher was cut off: %zd", got);
                }
                return;
            } else {
                soak_sleep_ms(5);
            }
        }
    }
}

void soak_watcher(void)
{
    while (!shared->over) {
        uint32_t life = shared->life;
        int sock = sock_connect(soak_path("sock.control"), SOCK_SEQPACKET);
        if (sock >= 0 && send(sock, "watch", 6, MSG_NOSIGNAL) == 6)
            watch_for_a_while(sock, life);
        else
            shared->control_failed += !soak_was_down(life);
        fd_close(sock);
        soak_sleep_ms(soak_random(300));
    }
    exit(0);
}
