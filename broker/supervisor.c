#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/util.h"
#include "audit.h"
#include "board.h"
#include "confine.h"
#include "quota.h"
#include "service.h"

enum { STOP_SECONDS = 5 };

/* ---- starting ---- */

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int open_audit(struct supervisor *s)
{
    int err = audit_open(&s->audit, s->config->audit, s->config->audit_file);
    if (err == 0)
        return 0;
    const char *sink = s->config->audit == CONFIG_AUDIT_FILE ? s->config->audit_file : "/dev/log";
    if (s->config->audit_required || s->config->audit == CONFIG_AUDIT_FILE) {
        log_error("audit %s: %s (decisions could not be recorded)", sink, strerror(-err));
        return err;
    }
    log_warning(
        "audit %s: %s: decisions are NOT recorded (audit file PATH, or audit stderr, in fobd.conf(5))", sink,
        strerror(-err));
    return audit_open(&s->audit, CONFIG_AUDIT_NONE, NULL);
}

static int open_signals(struct supervisor *s)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
        return -errno;
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signals < 0 ? -errno : 0;
}

static unsigned connection_limit(const struct config *config)
{
    struct rlimit limit = { 1024, 1024 };
    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t half = limit.rlim_cur / 2;
    if (config->max_connections && config->max_connections < half)
        return config->max_connections;
    return half > 1000000 ? 1000000 : (unsigned)half;
}

static unsigned workers_wanted(const struct config *config)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = config->workers ? config->workers : cpus > 0 ? (unsigned)cpus : 1;
    return n < WORKERS_MAX ? n : WORKERS_MAX;
}

unsigned supervisor_workers(const struct supervisor *s)
{
    return s->workers;
}

/* In a child: what is its own reign's, and what all share, stays open. */
static void close_private(void *supervisor, const struct generation *own)
{
    struct supervisor *s = supervisor;
    struct reign *reigns[] = { s->reign, s->reload.next, s->reload.old };
    for (size_t i = 0; i < ARRAY_SIZE(reigns); i++)
        if (reigns[i] && &reigns[i]->generation != own)
            reign_close_fds(reigns[i]);
    if (s->reload.successors)
        fd_close_many(s->reload.successors, supervisor_workers(s));
    fd_close(s->signals);
    fd_close(s->start.ready);
    log_end_copy();
    fd_close(s->mount_watch.fd);
    for (int i = 0; i < LISTENERS; i++)
        fd_close(s->listeners[i].name.lock_fd);
    fd_close(service_notify_fd());
    control_close_fds(&s->control);
    fd_close(s->courier.queue[1]);
}

struct worker_setup supervisor_worker_setup(struct supervisor *s, unsigned slot)
{
    return (struct worker_setup){
        .config = s->config,
        .audit = s->audit,
        .quota = s->quota,
        .board = s->board,
        .jobs = s->jobs,
        .rate = s->rate,
        .openers = s->config->slow_openers,
        .slot = slot,
        .workers = supervisor_workers(s),
        .close_private = close_private,
        .supervisor = s,
        .courier = s->courier.queue[0],
        .listeners = { s->listeners[0].fd, s->listeners[1].fd, s->listeners[2].fd },
        .single = s->single,
        .client = s->start.client,
        .predecessor = -1,
    };
}

/* Two reigns may be alive at once. */
static int share_memory(struct supervisor *s)
{
    unsigned slots = 2 * supervisor_workers(s), openers = s->config->slow_openers;
    s->board = board_new(slots + 2 * openers + 1); /* the last one is the courier's */
    s->jobs = jobs_new(openers, openers < 4 ? 1 : openers / 4);
    s->quota = quota_new(slots, connection_limit(s->config), s->config->max_connections_per_user);
    s->rate = rate_new(s->config->max_rate);
    return s->board && s->jobs && s->quota && s->rate ? audit_share(s->audit, slots) : -ENOMEM;
}

/* Half of the limit is for the workers (set_flight_limits()), a quarter for what goes out in datagrams. */
static void start_courier(struct supervisor *s)
{
    struct rlimit limit = { 1024, 1024 };
    getrlimit(RLIMIT_NOFILE, &limit);
    unsigned max_fds = limit.rlim_cur / 4 < INT32_MAX ? (unsigned)(limit.rlim_cur / 4) : INT32_MAX;
    if (s->courier.queue[1] >= 0)
        courier_start(&s->courier, &s->reign->plan, s->board, board_slots(s->board) - 1,
                      s->listeners[LISTENER_DATAGRAM].fd, max_fds, clock_ms());
}

/* Nothing of who started it is left in the processes that serve everybody. */
static void leave_starter(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDOUT_FILENO; fd++)
        dup2(null, fd);
    fd_close(null);
    log_to_syslog();
}

static int start_workers(struct supervisor *s)
{
    if (s->start.ready >= 0)
        leave_starter();
    struct worker_setup setup = supervisor_worker_setup(s, 0);
    int err = generation_share(&s->reign->generation, supervisor_workers(s) + s->config->slow_openers);
    board_announce(s->board, s->reign->generation.number);
    if (err == 0 && s->listeners[LISTENER_DATAGRAM].fd >= 0)
        err = courier_open(&s->courier);
    start_courier(s);
    setup.courier = s->courier.queue[0];
    if (err == 0)
        err = reign_start(s->reign, &setup, NULL, clock_ms());
    s->start.client = fd_close(s->start.client); /* the worker has it */
    s->reign->workers.setup.client = -1;
    return err;
}

static int supervisor_start(struct supervisor *s)
{
    raise_descriptor_limit();
    if (!s->single)
        service_notify_open();
    mount_watch_open(&s->mount_watch);
    int err = reign_new(&s->reign, s->config, s->privileged, 1, stderr);
    if (err == 0)
        mount_watch_remember(&s->mount_watch, &s->reign->generation.mounts);
    if (err == 0)
        err = open_audit(s);
    if (err == 0)
        err = share_memory(s);
    if (err == 0 && !s->single)
        err = listeners_open(s->listeners, s->config, s->privileged);
    if (err == 0 && !s->single)
        err = control_open(&s->control, s);
    if (err == 0)
        err = open_signals(s);
    if (err == 0)
        err = confine_prepare();
    if (err == 0 && s->privileged)
        err = confine_supervisor();
    return err == 0 ? start_workers(s) : err;
}

/* ---- what is in force ---- */

static void report_missing(const struct confine_state *state)
{
    for (unsigned bit = 0; bit < ARRAY_SIZE(state->errors); bit++) {
        char text[CONFINE_TEXT];
        if (state->errors[bit])
            log_warning("not in force: %s: %s", confine_text(text, 1u << bit), strerror(-state->errors[bit]));
    }
}

/* Who started it waits for no more than this. */
static void tell_starter(struct supervisor *s)
{
    const char byte = 0;
    log_end_copy();
    if (write(s->start.ready, &byte, 1) != 1)
        log_debug("who started it is gone");
    s->start.ready = fd_close(s->start.ready);
}

static void report_start(struct supervisor *s)
{
    char text[CONFINE_TEXT];
    const struct confine_state *state = &s->reign->workers.ready.confinement;
    char sockets[3 * 128 + 8];
    if (s->single)
        return;
    log_info("serving %s: policy %s: %u rules; %u workers as uid %u, confined by %s",
             listeners_text(sockets, sizeof sockets, s->listeners), s->config->policy,
             (unsigned)policy_rule_count(s->reign->generation.policy), s->reign->workers.n,
             (unsigned)s->reign->plan.uid, confine_text(text, state->done));
    report_missing(state);
    service_notify("READY=1");
    if (s->start.ready >= 0)
        tell_starter(s);
}

/* ---- running ---- */

static void close_listeners(struct supervisor *s)
{
    for (int i = 0; i < LISTENERS; i++)
        listener_close(&s->listeners[i]);
}

/* A reload whose generation is announced goes to its end first: requests are on their way to the new workers.
 */
static void begin_stop(struct supervisor *s)
{
    reload_abort(s);
    if (s->stop_deadline || s->reload.step != RELOAD_IDLE)
        return;
    s->stop_deadline = clock_ms() + STOP_SECONDS * 1000;
    service_notify("STOPPING=1");
    close_listeners(s);
    workers_finish(&s->reign->workers);
}

static void receive_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGTERM || (info.ssi_signo == SIGINT && !s->single && !s->detached))
            s->stopping = true;
        else if (info.ssi_signo == SIGHUP && !s->stopping && !s->single)
            reload_request(s);
    }
}

static void reap(struct supervisor *s)
{
    struct reign *reigns[] = { s->reign, s->reload.next, s->reload.old };
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        bool known = false;
        for (size_t i = 0; i < ARRAY_SIZE(reigns) && !known; i++)
            known = reigns[i] && workers_reaped(&reigns[i]->workers, pid, status, clock_ms());
        known = known || courier_reaped(&s->courier, pid, status, clock_ms());
        if (!known) /* an opener that hung longer than its reign */
            jobs_opener_died(s->jobs, pid);
    }
}

/* ---- who hangs ---- */

enum { LOOK_MS = 250, GRACE_MS = 500 };

/* Killed once it cannot be answered any more; it is gone when the file system lets it. */
static void kill_hung(struct supervisor *s)
{
    int64_t now = clock_ms();
    unsigned at = 0;
    pid_t opener;
    if (now < s->hung_at)
        return;
    struct reign *reigns[] = { s->reign, s->reload.next, s->reload.old };
    for (size_t i = 0; i < ARRAY_SIZE(reigns); i++)
        if (reigns[i] && reigns[i]->workers.started)
            workers_sweep(&reigns[i]->workers);
    s->hung_at = INT64_MAX;
    while (jobs_next_hung(s->jobs, INT64_MAX, &at, &opener))
        s->hung_at = now + LOOK_MS;
    at = 0;
    while (jobs_next_hung(s->jobs, now - s->config->open_timeout_ms - GRACE_MS, &at, &opener))
        kill(opener, SIGKILL);
}

static void start_openers(struct supervisor *s)
{
    if (s->reign->workers.wants_opener &&
        /* NOLINT: there is one while the loop runs */ s->hung_at == INT64_MAX)
        s->hung_at = clock_ms() + LOOK_MS;
    if (s->reign->workers.started && !s->stop_deadline)
        workers_start_openers(&s->reign->workers);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int timeout_of(const struct supervisor *s)
{
    int64_t at = s->stop_deadline ? s->stop_deadline : workers_next_start(&s->reign->workers);
    at = earlier(at, earlier(reload_deadline(&s->reload), control_deadline(&s->control)));
    at = earlier(at, earlier(s->courier.restart.at, earlier(s->hung_at, s->mount_watch.look_at)));
    if (at == INT64_MAX)
        return -1;
    int64_t left = at - clock_ms();
    return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

enum { POLLED_MAX = 2 + 3 * WORKERS_MAX + CONTROL_POLL_MAX };

/* Waits, and lets everybody see what happened. */
static int supervisor_turn(struct supervisor *s)
{
    struct pollfd polled[POLLED_MAX] = { { .fd = s->signals, .events = POLLIN },
                                         { .fd = s->mount_watch.fd, .events = POLLPRI } };
    struct reign *reigns[] = { s->reign, s->reload.next, s->reload.old };
    nfds_t counts[ARRAY_SIZE(reigns)], n = 2;
    for (size_t i = 0; i < ARRAY_SIZE(reigns); i++) {
        counts[i] = reigns[i] ? workers_poll(&reigns[i]->workers, polled + n) : 0;
        n += counts[i];
    }
    nfds_t n_control = control_poll(&s->control, polled + n);
    if (poll(polled, n + n_control, timeout_of(s)) < 0) {
        if (errno != EINTR)
            return -errno;
        n_control = 0;
    }
    n = 2;
    if (polled[1].revents)
        mount_watch_note(&s->mount_watch, clock_ms());
    for (size_t i = 0; i < ARRAY_SIZE(reigns); i++) {
        if (reigns[i])
            workers_receive(&reigns[i]->workers, polled + n, counts[i]);
        n += counts[i];
    }
    receive_signals(s);
    reap(s);
    kill_hung(s);
    start_openers(s);
    if (s->courier.restart.at <= clock_ms() && !s->stopping)
        start_courier(s);
    if (mount_watch_changed(&s->mount_watch, &s->reign->generation.mounts, clock_ms()) && !s->stopping)
        reload_renew(s);
    control_serve(s, polled + n, n_control);
    reload_step(s);
    return 0;
}

static int supervisor_loop(struct supervisor *s)
{
    bool reported = false;
    while (!s->stop_deadline || workers_alive(&s->reign->workers)) {
        int err = supervisor_turn(s);
        if (err < 0)
            return err;
        if (s->reign->workers.failed)
            return -ECHILD;
        if (s->reign->workers.ended)
            s->stopping = true;
        if (!reported && workers_all_ready(&s->reign->workers)) {
            reported = true;
            report_start(s);
        }
        if (s->stopping)
            begin_stop(s);
        if (!s->stop_deadline)
            workers_restart(&s->reign->workers, clock_ms());
        else if (clock_ms() >= s->stop_deadline)
            workers_kill(&s->reign->workers);
    }
    return 0;
}

static void supervisor_deinit(struct supervisor *s)
{
    close_listeners(s);
    control_close(&s->control);
    reign_free(s->reload.next);
    reign_free(s->reload.old);
    reign_free(s->reign);
    courier_deinit(&s->courier); /* after all whose replies it has */
    s->signals = fd_close(s->signals);
    s->start.client = fd_close(s->start.client);
    s->start.ready = fd_close(s->start.ready);
    service_notify_close();
    quota_free(s->quota);
    board_free(s->board);
    jobs_free(s->jobs);
    rate_free(s->rate);
    mount_watch_close(&s->mount_watch);
    if (s->audit)
        audit_close(s->audit);
}

int supervisor_run(struct config *config, const struct supervisor_start *start)
{
    struct supervisor s = {
        .config = config,
        .privileged = start->privileged,
        .single = start->client >= 0,
        .detached = start->ready >= 0,
        .start = *start,
        .workers = workers_wanted(config),
        .signals = -1,
        .hung_at = INT64_MAX,
        .started = clock_ms(),
    };
    for (int i = 0; i < LISTENERS; i++)
        listener_init(&s.listeners[i]);
    courier_init(&s.courier);
    control_init(&s.control);
    mount_watch_init(&s.mount_watch);
    int err = supervisor_start(&s);
    if (err == 0)
        err = supervisor_loop(&s);
    if (err < 0)
        log_error("not started, or not any more: %s", strerror(-err));
    bool died = s.reign && s.reign->workers.died;
    supervisor_deinit(&s);
    return err < 0 || died;
}
