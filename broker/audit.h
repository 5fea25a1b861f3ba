/*
 * The audit: one JSON object a line for every decision (fobd(8), AUDIT). A record of its own write(2) costs a
 * tenth of a request, so records are collected for some milliseconds. They wait in memory that is the
 * supervisor's too: what a worker had not written when it died, the supervisor writes.
 */
#ifndef FOB_BROKER_AUDIT_H
#define FOB_BROKER_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "config.h"

struct audit_record {
    bool allowed;
    int error;             /* positive errno, 0 = null */
    const char *reason;    /* "rule", "default", "credentials", "type", "links", "kernel", "malformed", ... */
    const char *rule_file; /* NULL: rule is null */
    unsigned rule_line;
    const char *rule_id; /* NULL: id is null */
    uint32_t generation;
    uid_t uid;
    gid_t gid;
    pid_t pid;
    const char *op;  /* "open", "check" */
    unsigned rights; /* RIGHT_* */
    uint32_t flags;  /* WIRE_* */
    const char *path;
    size_t path_len; /* as asked; NULL: null */
    const char *real;
    size_t real_len; /* NULL: null */
    bool has_file;
    dev_t dev;
    ino_t ino;      /* of the object that was opened */
    const char *as; /* "broker", "caller", "user:NAME"; NULL: null */
    bool sealed;
    uint32_t latency_us;
};

struct audit;

/*
 * Opens the sink (supervisor, before confinement): a file is created 0600, appended to, never followed
 * through a symlink; syslog is a datagram socket connected to /dev/log. 0 or a negative errno. *out is
 * inherited by forked workers, which each write whole lines only.
 */
int audit_open(struct audit **out, enum config_audit kind, const char *file);
void audit_close(struct audit *audit);
/* The sink of `fresh`, which is taken, in place of its own: who holds the audit holds it still. */
void audit_replace(struct audit *audit, struct audit *fresh);
struct board;
/* In the supervisor, before it forks: room for the records of that many processes, which outlives them. 0 or
 * -ENOMEM. */
int audit_share(struct audit *audit, unsigned slots);
/* Around the fork of the process of that slot: no other child has that memory. 0 or a negative errno. */
int audit_lend(struct audit *audit, unsigned slot, bool lends);
/* In a worker: it is the process of that slot, and records wait there. What is written is told on the board
 * too while somebody watches: also with no sink. */
void audit_tell(struct audit *audit, struct board *board, unsigned slot);
/* The sink's descriptor (for close_range(2) and the fd budget), or -1. */
int audit_fd(const struct audit *audit);

/* Adds a record to the batch; writes the batch first when it is full. Keeps errno. */
void audit_add(struct audit *audit, const struct audit_record *record);
/* Writes the batch. Never blocks. What cannot be written is counted as lost. */
void audit_flush(struct audit *audit);
/* Is there anything to write; is there so much that waiting for more does not pay? */
bool audit_is_pending(const struct audit *audit);
bool audit_is_full(const struct audit *audit);
/*
 * In the supervisor: the process of that slot has ended. Writes what it did not, each record once; only of a
 * batch that it was writing when it was killed some may stand there twice, where the sink is no file or the
 * write was cut. How many were lost.
 */
uint64_t audit_salvage(struct audit *audit, struct board *board, unsigned slot);
/* Can a record be written now, as far as is known? false after a loss, until a write succeeded again (it
 * tries). */
bool audit_works(struct audit *audit);
uint64_t audit_lost(const struct audit *audit);

/* One record as a line of JSON with its newline, into out; the bytes, or 0 when size is too small
 * (AUDIT_LINE_MAX always suffices). time in microseconds of CLOCK_REALTIME. */
enum { AUDIT_LINE_MAX = 2 * (6 * 4096) + 2048 };
size_t audit_format(char *out, size_t size, const struct audit_record *record, int64_t time_us);

#endif
