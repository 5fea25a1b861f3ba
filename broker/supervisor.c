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
#include <time.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/util.h"
#include "audit.h"
#include "confine.h"
#include "generation.h"
#include "listener.h"
#include "quota.h"
#include "sealer.h"
#include "service.h"
#include "workers.h"

enum { STOP_SECONDS = 5 };

struct supervisor {
    struct config *config;
    bool privileged;
    struct generation generation;
    struct audit *audit;
    struct quota *quota;
    struct listener listener;
    struct confine_plan plan;
    struct workers workers;
    int signals;           /* signalfd(2) */
    int64_t stop_deadline; /* milliseconds; 0: not stopping */
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- starting ---- */

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* 0, 1 and 2 are never to be a socket or a client's file. */
static int open_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd < 0)
        return -errno;
    fd_close(fd);
    return 0;
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

static unsigned worker_count(const struct config *config)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return config->workers ? config->workers : cpus > 0 ? (unsigned)cpus : 1;
}

static int make_plan(struct supervisor *s)
{
    s->plan = (struct confine_plan){
        .privileged = s->privileged,
        .uid = s->privileged ? s->config->uid : geteuid(),
        .gid = s->privileged ? s->config->gid : getegid(),
        .needs = s->generation.needs,
        .mounts = &s->generation.mounts,
        .required = s->config->require_confinement,
    };
    int err = generation_clone_mounts(&s->generation);
    if (err < 0) {
        log_error("cannot clone the mounts that the policy names: %s", strerror(-err));
        return err;
    }
    if (s->generation.mounts.sealed || !s->plan.required)
        return 0;
    log_error("require-confinement: mounts cannot be sealed: %s", strerror(-s->generation.mounts.error));
    return -EPERM;
}

static int start_workers(struct supervisor *s)
{
    unsigned n = worker_count(s->config);
    s->quota = quota_new(n, connection_limit(s->config), s->config->max_connections_per_user);
    if (!s->quota)
        return -ENOMEM;
    struct worker_setup setup = {
        .config = s->config,
        .generation = &s->generation,
        .plan = &s->plan,
        .audit = s->audit,
        .quota = s->quota,
        .listener = s->listener.fd,
        .workers = n,
    };
    int private_fds[] = { s->signals, s->listener.name.lock_fd, service_notify_fd() };
    return workers_start(&s->workers, &setup, private_fds, ARRAY_SIZE(private_fds), now_ms());
}

static int supervisor_start(struct supervisor *s)
{
    int err = open_standard_descriptors();
    if (err < 0)
        return err;
    raise_descriptor_limit();
    service_notify_open();
    err = generation_load(&s->generation, s->config, 1);
    if (err == 0)
        err = open_audit(s);
    if (err == 0)
        err = listener_open(&s->listener, &s->config->socket, s->privileged);
    if (err == 0)
        err = open_signals(s);
    if (err == 0)
        err = make_plan(s);
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

static void report_start(const struct supervisor *s)
{
    char text[CONFINE_TEXT];
    const struct confine_state *state = &s->workers.ready.confinement;
    log_info("serving %s: policy %s: %u rules; %u workers as uid %u, confined by %s", s->listener.display,
             s->config->policy, (unsigned)policy_rule_count(s->generation.policy), s->workers.n,
             (unsigned)s->plan.uid, confine_text(text, state->done));
    report_missing(state);
    service_notify("READY=1");
}

/* ---- running ---- */

static void begin_stop(struct supervisor *s)
{
    if (s->stop_deadline)
        return;
    s->stop_deadline = now_ms() + STOP_SECONDS * 1000;
    service_notify("STOPPING=1");
    listener_close(&s->listener);
    workers_finish(&s->workers);
}

static void receive_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            begin_stop(s);
        else if (info.ssi_signo == SIGHUP)
            log_info("SIGHUP: nothing is reloaded: restart fobd to load its policy anew");
    }
    workers_reap(&s->workers, now_ms());
}

static int timeout_of(const struct supervisor *s)
{
    int64_t at = s->stop_deadline ? s->stop_deadline : workers_next_start(&s->workers);
    if (at == INT64_MAX)
        return -1;
    int64_t left = at - now_ms();
    return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

static int supervisor_loop(struct supervisor *s)
{
    bool reported = false;
    while (!s->stop_deadline || workers_alive(&s->workers)) {
        struct pollfd polled[1 + WORKERS_MAX] = { { .fd = s->signals, .events = POLLIN } };
        nfds_t n = 1 + workers_poll(&s->workers, polled + 1);
        if (poll(polled, n, timeout_of(s)) < 0 && errno != EINTR)
            return -errno;
        receive_signals(s);
        workers_receive(&s->workers, polled + 1, n - 1);
        if (s->workers.failed)
            return -ECHILD;
        if (!reported && workers_all_ready(&s->workers)) {
            reported = true;
            report_start(s);
        }
        if (!s->stop_deadline)
            workers_restart(&s->workers, now_ms());
        else if (now_ms() >= s->stop_deadline)
            workers_kill(&s->workers);
    }
    return 0;
}

static void supervisor_deinit(struct supervisor *s)
{
    listener_close(&s->listener);
    workers_deinit(&s->workers);
    s->signals = fd_close(s->signals);
    service_notify_close();
    quota_free(s->quota);
    if (s->audit)
        audit_close(s->audit);
    generation_deinit(&s->generation);
}

int supervisor_run(struct config *config, bool privileged)
{
    struct supervisor s = { .config = config, .privileged = privileged, .signals = -1 };
    s.generation.mounts.slash = -1;
    listener_init(&s.listener);
    int err = supervisor_start(&s);
    if (err == 0)
        err = supervisor_loop(&s);
    if (err < 0)
        log_error("not started, or not any more: %s", strerror(-err));
    supervisor_deinit(&s);
    return err < 0;
}
