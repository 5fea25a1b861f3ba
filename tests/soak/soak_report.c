/*
 * The end: the figures, and what must be true of them.
 */
#include "soak.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    STOP_MS = 15000,
    RSS_GROWTH = 8192,   /* KiB */
    BATCH_RECORDS = 400, /* a worker that dies loses what it has not written yet, 128 KiB at most */
};

static unsigned passed, failed;

#define EXPECT __attribute__((format(printf, 2, 3)))
EXPECT static void expect(bool held, const char *format, ...)
{
    va_list arguments;
    fputs(held ? "ok - " : "FAILED - ", stdout);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    passed += held;
    failed += !held;
}

#define N(value) ((unsigned long long)(value))

/* ---- figures ---- */

static uint64_t mismatches(const struct soak_tally *t)
{
    return t->wrong_gift + t->wrong_refusal + t->wrong_rule + t->wrong_list + t->unexplained +
           t->strange_records + t->surplus + shared->bad;
}

static void print_faults(const struct soak_health *health)
{
    unsigned killed[VICTIMS] = { 0 };
    for (uint32_t i = 0; i < shared->n_kills; i++)
        killed[shared->kills[i].victim]++;
    printf("reloads        %llu, %llu failed under fire, %llu hangups\n", N(shared->reloads),
           N(shared->reloads_failed), N(shared->hangups));
    printf("killed         %u workers, %u sealers, %u slow openers, %u identity helpers, %u clients\n",
           killed[VICTIM_WORKER], killed[VICTIM_SEALER], killed[VICTIM_OPENER], killed[VICTIM_IDENTITY],
           health->clients_killed);
    printf("fobd           started anew %u times (too early at %llu attempts); it or a worker stopped %llu "
           "times\n",
           health->restarts, N(shared->too_early), N(shared->stops));
}

static void print_figures(const struct soak_tally *t, const struct soak_health *health)
{
    printf("---- %u rounds of %d uids (in %u the machine stood still)\n", health->rounds, CLIENTS,
           health->stalled);
    printf("requests       %llu, in %llu messages, on %llu connections\n", N(shared->entries),
           N(shared->messages), N(shared->connections));
    printf("answered       %llu: %llu granted (%llu descriptors), %llu refused (%llu EAGAIN)\n",
           N(t->replies), N(t->descriptors + t->granted_checks), N(t->descriptors), N(t->refused),
           N(t->again));
    print_faults(health);
    printf("lost replies   %llu messages, on %llu connections that ended with their worker\n",
           N(shared->lost), N(t->cut_off));
    printf("records        %llu, %llu lost with workers, %llu lines cut\n", N(t->records), N(t->missing),
           N(t->torn));
    printf("mismatches     %llu\n", N(mismatches(t)));
    printf("a client waits %llu us (p50), %llu us (p99), %llu us (p99.9)\n", N(soak_wait_quantile(500)),
           N(soak_wait_quantile(990)), N(soak_wait_quantile(999)));
    printf("supervisor     %ld KiB, then %ld (at most %ld); %d descriptors, then %d (at most %d)\n",
           health->first.rss, health->last.rss, health->most.rss, health->first.fds, health->last.fds,
           health->most.fds);
    printf("its children   %ld KiB, then %ld (at most %ld); %d descriptors, then %d (at most %d)\n",
           health->first.children_rss, health->last.children_rss, health->most.children_rss,
           health->first.children_fds, health->last.children_fds, health->most.children_fds);
    printf("zombies        %u\n----\n", health->zombies);
}

/* ---- what must hold ---- */

static void expect_replies(const struct soak_tally *t)
{
    expect(t->replies && t->descriptors && t->refused && shared->garbage, "there was something to look at");
    expect(t->wrong_gift == 0, "none was got that no policy in force allows: %llu", N(t->wrong_gift));
    expect(t->wrong_refusal == 0, "no refusal that policy and tree do not explain: %llu",
           N(t->wrong_refusal));
    expect(t->wrong_rule == 0 && t->wrong_list == 0, "rules and lists as by the slow way: not %llu and %llu",
           N(t->wrong_rule), N(t->wrong_list));
    expect(shared->bad == 0, "no malformed reply, none with descriptor and error: %llu", N(shared->bad));
    expect(shared->unanswered == 0 && shared->not_connected == 0,
           "every request was answered and connection made: not %llu and %llu (%llu while fobd was down)",
           N(shared->unanswered), N(shared->not_connected), N(shared->refused_while_down));
    expect(t->unexplained_cut == 0, "no connection ended but for a kill: %llu", N(t->unexplained_cut));
}

static void expect_audit(const struct soak_tally *t)
{
    expect(t->unexplained_descriptors == 0,
           "every descriptor has its record, but for %llu lost with killed workers: not %llu",
           N(t->missing_descriptors - t->unexplained_descriptors), N(t->unexplained_descriptors));
    expect(t->unexplained == t->unexplained_descriptors, "every other reply too, but for %llu: not %llu",
           N(t->missing - t->missing_descriptors - t->unexplained + t->unexplained_descriptors),
           N(t->unexplained - t->unexplained_descriptors));
    expect(t->missing <= (uint64_t)shared->n_kills * BATCH_RECORDS,
           "no more records lost (of %llu in flight) than kills can lose: %llu", N(t->in_flight),
           N(t->missing));
    expect(t->surplus == 0 && t->strange_records == 0,
           "every record has its request (%llu were not answered): not %llu; of strangers: %llu",
           N(t->unanswered), N(t->surplus), N(t->strange_records));
    expect(t->torn <= shared->n_kills, "no more lines cut than kills: %llu", N(t->torn));
}

static void expect_fobd(const struct soak_health *health)
{
    unsigned deaths, killed, strange;
    const struct soak_size *first = &health->first, *last = &health->last, *most = &health->most;
    soak_log_check(&deaths, &killed, &strange);
    expect(deaths == 0, "%u of its processes died that were killed, and no other: %u", killed, deaths);
    expect(strange == 0, "it said nothing unexpected: %u lines", strange);
    expect(first->fds == most->fds && first->fds == last->fds && first->children_fds == most->children_fds,
           "as many descriptors as at the beginning");
#ifndef FOB_SANITIZE
    expect(most->rss <= first->rss + RSS_GROWTH && last->children_rss <= first->children_rss + RSS_GROWTH,
           "no more memory than %d KiB above the beginning", RSS_GROWTH);
#endif
    expect(health->zombies == 0 && health->workers_missing == 0 && health->left_behind == 0,
           "no zombie, no process missing or left behind: %u, %u, %u", health->zombies,
           health->workers_missing, health->left_behind);
    expect(shared->control_failed == 0, "admins were answered (%llu times, %llu packets watched): not %llu",
           N(shared->statuses), N(shared->watched), N(shared->control_failed));
    expect(shared->reloads && health->reload_refused == 0, "no reload was refused in peace: %u",
           health->reload_refused);
    expect(health->unended == 0, "every process of the test ended well: but %u", health->unended);
}

static void expect_end(bool alive, int status)
{
    pid_t fobd = shared->fobd;
    expect(alive, "fobd lived to the end (wait status %#x)", alive ? 0u : (unsigned)status);
    if (alive) {
        status = -1;
        kill(fobd, SIGTERM);
        for (int ms = 0; ms < STOP_MS && waitpid(fobd, &status, WNOHANG) == 0; ms += 10)
            soak_sleep_ms(10);
        if (status == -1)
            kill(fobd, SIGKILL);
    }
    expect(status == 0, "it ended with status 0: %d", status);
    expect(access(soak_path("sock"), F_OK) && access(soak_path("sock.control"), F_OK) &&
               access(soak_path("sock.lock"), F_OK) && access(soak_path("sock.control.lock"), F_OK),
           "it left no socket and no lock");
}

unsigned soak_report(const struct soak_tally *tally, const struct soak_health *health, bool alive, int status)
{
    print_figures(tally, health);
    expect_replies(tally);
    expect_audit(tally);
    expect_fobd(health);
    expect_end(alive, status);
    printf("%u passed, %u failed\n", passed, failed);
    return failed;
}
