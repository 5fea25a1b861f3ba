#include "reload.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/util.h"
#include "audit.h"
#include "board.h"
#include "confine.h"
#include "service.h"
#include "supervisor.h"

enum {
    START_MS = 10000, /* for all new workers to be confined and ready */
    QUIET_MS = 1000,  /* for an answer under way */
    RETIRE_MS = 5000, /* for handing over */
    LOOK_MS = 1,      /* how often it is looked whether an answer under way is out */
};

/* ---- before anything is in force ---- */

static int *make_successors(unsigned n, int *predecessors)
{
    int *successors = mem_zalloc(n, sizeof *successors);
    for (unsigned i = 0; successors && i < n; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
            fd_close_many(successors, i);
            fd_close_many(predecessors, i);
            free(successors);
            return NULL;
        }
        successors[i] = pair[0];
        predecessors[i] = pair[1];
    }
    return successors;
}

static void drop_successors(struct supervisor *s)
{
    if (s->reload.successors)
        fd_close_many(s->reload.successors, supervisor_workers(s));
    free(s->reload.successors);
    s->reload.successors = NULL;
}

/* The lines go to whoever asked, and to the log. */
static void report(struct supervisor *s, const char *text, size_t len)
{
    fwrite(text, 1, len, stderr);
    control_reload_say(&s->control, text, len);
}

__attribute__((format(printf, 2, 3))) static void reload_fail(struct supervisor *s, const char *format, ...)
{
    char why[256], line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    int n = snprintf(line, sizeof line, "not reloaded: %s: generation %u goes on\n", why,
                     (unsigned)s->reign->generation.number);
    if (n > 0)
        report(s, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    drop_successors(s);
    reign_free(s->reload.next);
    s->reload.next = NULL;
    s->reload.step = RELOAD_IDLE;
    s->reload.failed++;
    service_notify("READY=1");
    control_reload_end(s, false);
}

/* Policy files and directories may be readable for root alone, and the supervisor uses no capability but
 * here. */
static int load_next(struct supervisor *s, FILE *messages)
{
    uint32_t number = s->reign->generation.number + 1;
    if (s->privileged)
        confine_supervisor_may_read(true);
    int err = s->reload.again ? reign_new(&s->reload.next, s->config, s->privileged, number, messages)
                              : reign_renew(&s->reload.next, s->reign, s->config, messages);
    if (err == 0)
        mount_watch_remember(&s->mount_watch, &s->reload.next->generation.mounts);
    if (s->privileged)
        confine_supervisor_may_read(false);
    return err;
}

/* Who rotates the audit file reloads: the new workers write to what stands there now. The sink in use is kept
 * when there is no other. */
static int reopen_audit(struct supervisor *s)
{
    struct audit *fresh;
    int err = audit_open(&fresh, s->config->audit, s->config->audit_file);
    if (err < 0)
        return s->config->audit_required ? err : 0;
    audit_replace(s->audit, fresh);
    return 0;
}

static int start_next(struct supervisor *s)
{
    int predecessors[WORKERS_MAX];
    unsigned n = supervisor_workers(s);
    s->reload.successors = make_successors(n, predecessors);
    if (!s->reload.successors)
        return -EMFILE;
    struct worker_setup setup = supervisor_worker_setup(s, s->reload.slot ? 0 : n);
    int err = generation_share(&s->reload.next->generation, n + s->config->slow_openers);
    if (err < 0)
        fd_close_many(predecessors, n);
    return err < 0 ? err : reign_start(s->reload.next, &setup, predecessors, clock_ms());
}

static void notify_reloading(void)
{
    struct timespec now;
    char text[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    service_notify(text);
}

static void reload_begin(struct supervisor *s)
{
    char *text = NULL;
    size_t len = 0;
    FILE *messages = open_memstream(&text, &len);
    control_reload_begin(&s->control);
    if (!messages) {
        s->reload.again = s->reload.renew = false;
        reload_fail(s, "out of memory");
        return;
    }
    notify_reloading();
    int err = load_next(s, messages);
    s->reload.again = s->reload.renew = false;
    fclose(messages);
    if (len)
        report(s, text, len);
    free(text);
    if (err < 0) {
        reload_fail(s, "the policy is not fit: %s", err == -EINVAL ? "see above" : strerror(-err));
        return;
    }
    err = reopen_audit(s);
    if (err < 0) {
        reload_fail(s, "the audit cannot be opened anew: %s", strerror(-err));
        return;
    }
    err = start_next(s);
    if (err < 0) {
        reload_fail(s, "new workers cannot be started: %s", strerror(-err));
        return;
    }
    s->reload.step = RELOAD_STARTING;
    s->reload.deadline = clock_ms() + START_MS;
}

void reload_request(struct supervisor *s)
{
    if (s->stopping) {
        static const char text[] = "not reloaded: the broker is being stopped\n";
        control_reload_begin(&s->control);
        report(s, text, sizeof text - 1);
        control_reload_end(s, false);
        return;
    }
    s->reload.again = true;
    if (s->reload.step == RELOAD_IDLE)
        reload_begin(s);
}

void reload_renew(struct supervisor *s)
{
    s->reload.renew = true;
    log_info("mounts have changed: files are opened through new clones of them");
    if (s->reload.step == RELOAD_IDLE)
        reload_begin(s);
}

static void step_starting(struct supervisor *s)
{
    struct reload *r = &s->reload;
    if (r->next->workers.failed) {
        reload_fail(s, "a new worker could not start");
    } else if (workers_all_ready(&r->next->workers)) {
        board_announce(s->board, r->next->generation.number);
        workers_stay_dead(&s->reign->workers);
        for (unsigned i = 0; i < s->reign->workers.n; i++)
            workers_hand_over(&s->reign->workers, i, fd_take(&r->successors[i]));
        drop_successors(s);
        r->step = RELOAD_QUIETING;
        r->deadline = clock_ms() + QUIET_MS;
    } else if (clock_ms() >= r->deadline) {
        reload_fail(s, "new workers were not ready within %d s", START_MS / 1000);
    }
}

/* ---- the turn ---- */

/* Who hangs in an answer is killed: it could be given after the new generation is in force. */
static bool is_quiet(struct supervisor *s, bool kill_late)
{
    const struct workers *old = &s->reign->workers;
    bool quiet = true;
    for (unsigned i = 0; i < old->n; i++) {
        if (!old->slots[i].pid || !board_is_busy(s->board, s->reload.slot + i))
            continue;
        quiet = false;
        if (kill_late)
            kill(old->slots[i].pid, SIGKILL);
    }
    /* Slow openers send without waiting: never for long. */
    quiet = quiet && !jobs_is_answering(s->jobs, s->reign->generation.number);
    return quiet || kill_late;
}

static void step_quieting(struct supervisor *s)
{
    struct reload *r = &s->reload;
    if (!is_quiet(s, clock_ms() >= r->deadline))
        return;
    r->old = s->reign;
    s->reign = r->next;
    r->next = NULL;
    r->slot = r->slot ? 0 : supervisor_workers(s);
    s->reign->workers.failed = false; /* who died meanwhile is started again: there is no way back */
    workers_go(&s->reign->workers);
    r->step = RELOAD_RETIRING;
    r->deadline = clock_ms() + RETIRE_MS;
}

static void reload_finish(struct supervisor *s)
{
    struct reload *r = &s->reload;
    uint32_t old = r->old->generation.number;
    reign_free(r->old);
    jobs_forget_generation(s->jobs, old);
    r->old = NULL;
    r->step = RELOAD_IDLE;
    r->done++;
    log_info("generation %u is in force: policy %s: %u rules", (unsigned)s->reign->generation.number,
             s->config->policy, (unsigned)policy_rule_count(s->reign->generation.policy));
    service_notify("READY=1");
    control_reload_end(s, true);
}

static void step_retiring(struct supervisor *s)
{
    if (!workers_alive(&s->reload.old->workers)) {
        reload_finish(s);
    } else if (clock_ms() >= s->reload.deadline) {
        log_warning("an old worker did not hand its connections over: killed, and they are closed");
        reload_finish(s);
    }
}

void reload_step(struct supervisor *s)
{
    if (s->reload.step == RELOAD_STARTING)
        step_starting(s);
    if (s->reload.step == RELOAD_QUIETING)
        step_quieting(s);
    if (s->reload.step == RELOAD_RETIRING)
        step_retiring(s);
    if (s->reload.step == RELOAD_IDLE && (s->reload.again || s->reload.renew) && !s->stopping)
        reload_begin(s);
}

int64_t reload_deadline(const struct reload *reload)
{
    if (reload->step == RELOAD_IDLE)
        return INT64_MAX;
    return reload->step == RELOAD_QUIETING ? clock_ms() + LOOK_MS : reload->deadline;
}

void reload_abort(struct supervisor *s)
{
    s->reload.again = s->reload.renew = false;
    if (s->reload.step == RELOAD_STARTING)
        reload_fail(s, "the broker is being stopped");
}
