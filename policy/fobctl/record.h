/*
 * One line of the audit, read back: fobd(8), AUDIT.
 */
#ifndef FOB_POLICY_FOBCTL_RECORD_H
#define FOB_POLICY_FOBCTL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../common/path.h"

/* Texts are terminated and have no NUL within; path and real are bytes with a length (terminated too). */
struct record {
    bool allowed;
    bool has_rule;       /* false: rule is null */
    bool has_path;       /* false: null */
    bool has_real;       /* false: null, or not there */
    char time[40];       /* as written; "" if not there */
    char errno_name[24]; /* "EACCES"; "": null */
    char reason[32];
    char rule[320];  /* "10-logs.policy:12" */
    char op[16];     /* "open", "check", "message" */
    char rights[48]; /* "read,write" */
    uint32_t generation, uid, gid, pid, latency_us;
    size_t path_len, real_len;
    char path[PATH_TEXT_MAX + 1];
    char real[PATH_TEXT_MAX + 1];
};

/*
 * Reads a line, with or without its newline; what stands before the first `{` (a syslog header) is passed
 * over. Keys that are not of struct record are skipped with their values. 0, or -EINVAL: this is no record;
 * *out is then unspecified. Any bytes are safe.
 */
int record_parse(struct record *out, const char *line, size_t len);

/* Refused for want of a rule, by a request: all else was somebody's will, or a rule would not heal it. */
bool record_wants_rule(const struct record *record);
/* RIGHT_* (policy.h), all that are named; 0: none, or one is unknown. */
unsigned record_rights(const struct record *record);

#endif
