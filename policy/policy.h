/*
 * The policy library: *.policy files in, decisions out. The language is fob.policy(5). This is the only
 * header of policy/ that others include.
 *
 * A loaded policy is immutable: any number of threads and (forked) processes may decide with it, each with a
 * scratch of its own. Decisions do no I/O, allocate nothing and take time that depends on the path, not on
 * the number of rules.
 */
#ifndef FOB_POLICY_POLICY_H
#define FOB_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

enum policy_right {
    RIGHT_READ = 0x01,
    RIGHT_WRITE = 0x02,
    RIGHT_APPEND = 0x04,
    RIGHT_CREATE = 0x08,
    RIGHT_LIST = 0x10,
    RIGHT_STAT = 0x20,
    RIGHT_ALL = 0x3f,
};
/* "read,write" ("all" is never used) into out; returns out. One right by its name: its bit, or 0. */
enum { POLICY_RIGHTS_TEXT = 48 };
const char *policy_rights_text(char out[POLICY_RIGHTS_TEXT], unsigned rights);
unsigned policy_right_by_name(const char *name, size_t len);

enum policy_as { POLICY_AS_BROKER, POLICY_AS_CALLER, POLICY_AS_USER };
enum policy_log { POLICY_LOG_ALL, POLICY_LOG_REFUSED, POLICY_LOG_NONE };
enum policy_type {
    POLICY_TYPE_FILE = 0x01,
    POLICY_TYPE_DIR = 0x02,
    POLICY_TYPE_FIFO = 0x04,
    POLICY_TYPE_SOCKET = 0x08,
    POLICY_TYPE_CHR = 0x10,
    POLICY_TYPE_BLK = 0x20,
};

/* A user of the user database, as it was when the policy was loaded. */
struct policy_user {
    uid_t uid;
    gid_t gid; /* primary */
    const char *name;
    const char *home;
    const gid_t *groups; /* getgrouplist(3): primary and supplementary, sorted ascending */
    size_t n_groups;
};

/* A rule as it was written. Lives as long as its policy. Small fields are bytes: a policy may have 100,000 of
 * them. */
struct policy_rule {
    uint32_t number;  /* 1.. in the order of files and lines */
    uint32_t line;    /* 1.. where the statement begins */
    const char *file; /* the file's name without its directory: "10-logs.policy" */
    const char *id;   /* id=NAME or NULL */
    const char *text; /* the statement's own text, comments and continuation included; NOT terminated */
    const struct policy_user *as_user; /* with POLICY_AS_USER */
    time_t until;                      /* the first second in which it no longer holds; 0 = never */
    uint32_t text_len;
    uint16_t mode;  /* mode=, default 0666 */
    uint8_t rights; /* RIGHT_*, as written: `write` has not been widened by append here */
    uint8_t types;  /* POLICY_TYPE_*: the default is worked in (file; dir too when rights have list) */
    uint8_t as;     /* enum policy_as */
    uint8_t log;    /* enum policy_log */
    bool deny;
    bool links_any;
    bool sealed; /* false with seal=no */
};

/* What the policy depends on beside its text. Zeroed = nothing of it. */
struct policy_env {
    uid_t trusted_uid; /* may own policy files beside root: the uid that runs fobd */
    const char *const
        *pseudo; /* mount points of procfs, sysfs, cgroupfs, ...: wildcards do not reach into them */
    size_t n_pseudo;
    time_t now; /* for `until` in assert statements; 0: time(NULL) */
};

/* Messages about a policy, errors and warnings, in the order of files and lines. */
struct policy_messages {
    char *text; /* "FILE:LINE:COLUMN: what: why\n<the line>\n<caret>\n"...; untrusted bytes escaped; NULL if
                   none */
    size_t len, cap;
    unsigned n_errors, n_warnings;
    bool out_of_memory;
};
void policy_messages_deinit(struct policy_messages *messages);

struct policy;
struct policy_scratch;

/*
 * Loads a file, or all *.policy files of a directory in byte order of their names, as one policy, and holds
 * its assertions. 0 and *out, to be policy_free()d; or a negative errno: -EINVAL: the policy has errors, all
 * of them in *messages; -ENOENT, -EACCES, ...: path could not be read; -EPERM: a file or directory that
 * others can write (both said in *messages too); -ENOMEM. A directory without *.policy files is an empty
 * policy: it refuses everything.
 */
int policy_load(struct policy **out, const char *path, const struct policy_env *env,
                struct policy_messages *messages);
/* The same from memory, as a single file called name (tests, fuzzers, candidate policies). */
int policy_load_text(struct policy **out, const char *name, const char *text, size_t len,
                     const struct policy_env *env, struct policy_messages *messages);
/* One more owner, each of whom frees it. Not for threads. */
struct policy *policy_ref(struct policy *policy);
void policy_free(struct policy *policy);

uint32_t policy_rule_count(const struct policy *policy);
/* By number, 1..count; NULL otherwise. */
const struct policy_rule *policy_rule_get(const struct policy *policy, uint32_t number);
/* Bytes of memory that the loaded policy holds. */
size_t policy_memory(const struct policy *policy);

/* Who asks. All of it from the kernel; `user` from policy_find_user() (NULL: the user database does not know
 * the uid). */
struct policy_subject {
    uid_t uid;
    gid_t gid;
    const gid_t *groups; /* supplementary, sorted ascending */
    size_t n_groups;
    bool groups_unknown; /* there may be more: an allow does not count them, and a deny by group holds */
    const struct policy_user *user;
    /* What narrows, or NULL where it is not known: then an allow does not match and a deny does. */
    const char *exe;    /* real path of the executable */
    const char *unit;   /* systemd unit */
    const char *cgroup; /* path in the cgroup v2 hierarchy */
    const char *label;  /* security label */
};
/* NULL when unknown, or when this policy never needs to know (no %u, %h, deny by group). O(log users). */
const struct policy_user *policy_find_user(const struct policy *policy, uid_t uid);

/* Could a rule with exe:, unit: or cgroup: match the subject, whatever these are for it? O(rules). */
bool policy_narrows(const struct policy *policy, const struct policy_subject *subject);

/* Working memory of one thread for one policy: policy_scratch_new() NULL = no memory. */
struct policy_scratch *policy_scratch_new(const struct policy *policy);
void policy_scratch_free(struct policy_scratch *scratch);

struct policy_decision {
    bool allowed;
    const struct policy_rule *rule; /* the deciding one; NULL: the default, which refuses */
};

/*
 * Decides. rights: all that are asked (append is satisfied by write). path must be clean (path_is_clean()).
 * `now` is compared with until=. The first allow rule (file, then line) that matches subject, path and ALL
 * rights gives the options; the first deny rule that matches subject, path and ANY right asked refuses,
 * whatever allows.
 */
void policy_decide(const struct policy *policy, struct policy_scratch *scratch,
                   const struct policy_subject *subject, unsigned rights, const char *path, size_t path_len,
                   time_t now, struct policy_decision *decision);

/* The same decision by the slow and obvious way, from the rules as parsed: the oracle of tests. Some patterns
 * take it exponential time. */
void policy_decide_slow(const struct policy *policy, const struct policy_subject *subject, unsigned rights,
                        const char *path, size_t path_len, time_t now, struct policy_decision *decision);

/* What one rule makes of a request. */
struct policy_trial {
    bool subject, path;
    bool ended;       /* by its until= */
    unsigned lacking; /* rights asked that it does not have (of a deny: all that are asked, or none) */
};
/* Tries rule `number` (1..policy_rule_count()), alone. */
void policy_try(const struct policy *policy, uint32_t number, const struct policy_subject *subject,
                unsigned rights, const char *path, size_t path_len, time_t now, struct policy_trial *trial);

/*
 * A subject that might ask, written as in an assert: one conjunction ("user:alice+group:adm"). `user:` gives
 * the ids and groups that the user database has, each `group:` adds one, `any` is somebody whom no rule
 * names. 0 and *out, to policy_who_free(); -EINVAL: messages say what is wrong; -ENOMEM.
 */
struct policy_who;
int policy_who_parse(struct policy_who **out, const struct policy *policy, const char *text,
                     struct policy_messages *messages);
const struct policy_subject *policy_who_subject(const struct policy_who *who);
void policy_who_free(struct policy_who *who);

/*
 * Holds the assertions of a file (in which there may be sets, but no rules) against a policy. What is false,
 * and what is wrong with the file, goes to messages. 0 and *result, or a negative errno as of policy_load().
 */
struct policy_test_result {
    unsigned passed, failed;
};
int policy_test(const struct policy *policy, const char *file, const struct policy_env *env,
                struct policy_messages *messages, struct policy_test_result *result);

/*
 * Why is this decided as it is? Writes the decision, the deciding rule with its text and options, every other
 * rule that matched and, when no rule allows, the nearest one and what keeps it from matching. The three
 * texts are a user's: what is wrong with them goes to `errors`.
 */
enum policy_answer { POLICY_ALLOWED, POLICY_REFUSED, POLICY_BAD_QUESTION };
enum policy_answer policy_explain(const struct policy *policy, const char *subject, const char *rights,
                                  const char *path, time_t now, FILE *out, FILE *errors);
/* "read,write" or "all" to RIGHT_*; 0: it is no list of rights. */
unsigned policy_rights_by_text(const char *text);

/*
 * Writes the policy as it was understood: sets expanded, one statement a line, options in one order and only
 * where they differ from the default. Loaded again it is the same policy. with_places: each rule ends in a
 * comment that says where it stood. 0; -E2BIG: the sets of a rule, joined by `+`, are too many subjects to
 * write down (said in `out` as a comment); -EIO.
 */
int policy_print(const struct policy *policy, bool with_places, FILE *out);

/*
 * Who gains and who loses what from old to new, one line a change, as an admin would put it. The number of
 * changes, or a negative errno.
 */
int policy_diff(const struct policy *old, const struct policy *new, time_t now, FILE *out);

/*
 * Warnings about a policy that loads: rules that another makes unreachable, patterns through symlinks, and
 * what else is likely a mistake. `path` is where it was loaded from (writing to it is one of them). Messages
 * are those of policy_load(), n_warnings counts them. 0 or a negative errno.
 */
int policy_lint(const struct policy *policy, const char *path, struct policy_messages *messages);

/*
 * The rules that apply to the subject, as text: "RIGHTS PATTERN\n" for each pattern of an allow rule, "deny
 * RIGHTS PATTERN\n" of a deny, in the order of the rules; patterns quoted as the language would have them.
 * Writes at most size bytes, whole lines only; what did not fit is said by a last line "# N more\n". Returns
 * the bytes written.
 */
size_t policy_list(const struct policy *policy, const struct policy_subject *subject, time_t now, char *out,
                   size_t size);

/* What a process needs that serves this policy. */
struct policy_needs {
    bool read;     /* some rule reads, lists or stats with the broker's rights: CAP_DAC_READ_SEARCH */
    bool write;    /* some rule writes, appends or creates with the broker's rights: CAP_DAC_OVERRIDE */
    bool identity; /* some rule creates, or has as=caller or as=user: CAP_SETUID, CAP_SETGID */
    bool list;     /* some rule has list: directories are handed out */
    bool unsealed; /* some rule has seal=no */
    bool narrow;   /* some rule has exe:, unit: or cgroup:: the identity helper is needed */
    bool label;    /* some rule has label: */
};
void policy_get_needs(const struct policy *policy, struct policy_needs *needs);

/*
 * The directories that all paths that the policy can allow lie beneath: the literal beginnings of the allow
 * rules' patterns (without the last component; %h: the home directories known), none beneath another, at most
 * max (the deepest are shortened until they fit; max >= 1). sorted by path.
 */
struct policy_root {
    char *path;
    unsigned rights; /* union of what the rules beneath it give, `write` widened by append */
    bool sealed;     /* some rule beneath it is sealed */
    bool unsealed;   /* some rule beneath it has seal=no */
};
/* 0 or -ENOMEM; *roots (n of them) to be policy_roots_free()d. */
int policy_get_roots(const struct policy *policy, size_t max, struct policy_root **roots, size_t *n);
void policy_roots_free(struct policy_root *roots, size_t n);

#endif
