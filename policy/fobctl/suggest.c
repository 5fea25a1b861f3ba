/*
 * fobctl suggest: the rules that would have allowed what no rule decided. Exact paths only: whoever was
 * refused chose them, so nothing is widened, and what looks like a secret is not even offered.
 */
#include <errno.h>
#include <fnmatch.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../common/path.h"
#include "../../common/peer.h"
#include "../../common/util.h"
#include "fobctl.h"
#include "record.h"

enum { LINE_SIZE = 64 * 1024, PATHS_A_LINE = 8, NAME_SIZE = 256 };

enum verdict { SUGGESTED, SECRET, TOO_LONG, NAMELESS, ABOVE };
static const char *const verdict_comments[] = {
    [SECRET] = "not suggested, as it looks like a secret",
    [TOO_LONG] = "not suggested, as its pattern would be longer than a path can be",
    [NAMELESS] = "not suggested, as the number is the name of another user",
    [ABOVE] = "above the ceiling",
};

/* Who was refused, as the user database knows it. */
struct asker {
    struct asker *next;
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* sorted */
    int n_groups;
    bool nameless; /* neither a name nor the number means this uid in a policy */
    char subject[NAME_SIZE + 8];
};

/* What was refused, once for all times that it was. */
struct refusal {
    uid_t uid;
    unsigned rights;
    unsigned long times;
    bool secret;
    enum verdict verdict;
    const struct asker *asker;
    size_t dir_len, path_len;
    char path[];
};

struct suggest {
    void *tree; /* of refusals, which it owns: tsearch(3) */
    struct refusal **refusals;
    size_t n, cap;
    struct asker *askers;
    const struct policy *ceiling;
    struct record record;
    char line[LINE_SIZE + 2];
};

static void suggest_free(struct suggest **suggest)
{
    if (!*suggest)
        return;
    tdestroy((*suggest)->tree, free);
    free((*suggest)->refusals);
    for (struct asker *asker = (*suggest)->askers, *next; asker; asker = next) {
        next = asker->next;
        free(asker->groups);
        free(asker);
    }
    free(*suggest);
}

/* ---- secrets ---- */

/*
 * fnmatch(3) over a path with a slash after it; `*` passes slashes. Most stand anywhere in it, so that the
 * tree of a container and a backup are no way around. What is merely close to a secret counts as one: a
 * suggestion too few does no harm.
 */
// clang-format off
static const char *const secrets[] = {
    "/root/*", "/dev/mem/", "/dev/kmem/", "/dev/port/", "/proc/kcore/", "/run/secrets/*",
    "/run/credentials/*",
    "*/etc/shadow*", "*/etc/gshadow*", "*/etc/master.passwd*", "*/etc/security/opasswd*", "*/etc/sudoers*",
    "*/etc/ssl/private/*", "*/etc/pki/tls/private/*", "*/etc/krb5.keytab*", "*/etc/credstore*", "*/krb5kdc/*",
    "*/etc/wireguard/*", "*/etc/ipsec.secrets*", "*/etc/ppp/*-secrets*",
    "*/NetworkManager/system-connections/*",
    "*/var/backups/*shadow*", "*/sss/secrets/*", "*/systemd/credential.secret*", "*/.vault-token/*",
    "*/.ssh/*", "*/.gnupg/*", "*/.aws/*", "*/.azure/*", "*/.kube/*", "*/.docker/*", "*/.password-store/*",
    "*/.netrc/*", "*/.pgpass/*", "*/.my.cnf/*", "*/.git-credentials/*", "*/.htpasswd/*", "*/.env/*",
    "*/id_rsa*", "*/id_dsa*", "*/id_ecdsa*", "*/id_ed25519*", "*/privkey*", "*/private/*.pem/", "*_key/",
    "*.key/", "*.keytab/", "*.p12/", "*.pfx/", "*.jks/", "*.kdbx/", "*.ppk/",
};
// clang-format on

static bool looks_secret(const char *path)
{
    char text[PATH_TEXT_MAX + 2];
    snprintf(text, sizeof text, "%s/", path);
    for (size_t i = 0; i < ARRAY_SIZE(secrets); i++)
        if (fnmatch(secrets[i], text, FNM_CASEFOLD) != FNM_NOMATCH)
            return true;
    return false;
}

/* ---- collecting ---- */

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

static bool same_line(const struct refusal *a, const struct refusal *b)
{
    return a->uid == b->uid && a->rights == b->rights &&
           compare_bytes(a->path, a->dir_len, b->path, b->dir_len) == 0;
}

/* In the order in which they are printed. */
static int compare_refusals(const void *left, const void *right)
{
    const struct refusal *a = left, *b = right;
    if (a->uid != b->uid)
        return a->uid < b->uid ? -1 : 1;
    int order = compare_bytes(a->path, a->dir_len, b->path, b->dir_len);
    if (order == 0 && a->rights != b->rights)
        order = a->rights < b->rights ? -1 : 1;
    return order ? order : compare_bytes(a->path, a->path_len, b->path, b->path_len);
}

static int compare_pointers(const void *left, const void *right)
{
    return compare_refusals(*(const struct refusal *const *)left, *(const struct refusal *const *)right);
}

static struct refusal *refusal_new(const struct record *record)
{
    const char *path = record->has_real ? record->real : record->path;
    size_t len = record->has_real ? record->real_len : record->path_len;
    struct refusal *refusal = mem_zalloc(1, sizeof *refusal + len);
    if (!refusal)
        return NULL;
    const char *slash = memrchr(path, '/', len);
    refusal->uid = record->uid;
    refusal->rights = record_rights(record);
    refusal->secret = looks_secret(record->path) || looks_secret(record->real);
    refusal->dir_len = slash ? (size_t)(slash - path) : 0;
    refusal->path_len = len;
    memcpy(refusal->path, path, len);
    return refusal;
}

static int keep(struct suggest *suggest, const struct record *record)
{
    struct refusal *refusal = refusal_new(record);
    if (!refusal)
        return -ENOMEM;
    struct refusal **found = tsearch(refusal, &suggest->tree, compare_refusals);
    if (!found || *found != refusal) {
        if (found) {
            (*found)->times++;
            (*found)->secret = (*found)->secret || refusal->secret; /* by another name for it */
        }
        free(refusal);
        return found ? 0 : -ENOMEM;
    }
    refusal->times = 1;
    if (mem_grow(&suggest->refusals, suggest->n, &suggest->cap, sizeof(struct refusal *)) < 0)
        return -ENOMEM;
    suggest->refusals[suggest->n++] = refusal;
    return 0;
}

static bool is_usable(const struct record *record)
{
    bool clean = record->has_real ? path_is_clean(record->real, record->real_len)
                                  : record->has_path && path_is_clean(record->path, record->path_len);
    return clean && record->uid != PEER_OVERFLOW_ID && record->uid != UINT32_MAX &&
           record_rights(record) != 0;
}

/* A line without its newline; of one that is too long the beginning, *len then LINE_SIZE + 1. False at the
 * end. */
static bool read_line(struct suggest *suggest, FILE *file, size_t *len)
{
    int c;
    for (*len = 0; (c = getc_unlocked(file)) != EOF && c != '\n'; *len += *len <= LINE_SIZE)
        suggest->line[*len] = (char)c;
    return c != EOF || *len > 0;
}

static int read_records(struct suggest *suggest, FILE *file, const char *name)
{
    unsigned long bad = 0;
    size_t len;
    errno = 0;
    while (read_line(suggest, file, &len)) {
        if (len > LINE_SIZE || record_parse(&suggest->record, suggest->line, len) < 0)
            bad++;
        else if (record_wants_rule(&suggest->record) && is_usable(&suggest->record) &&
                 keep(suggest, &suggest->record) < 0)
            return -ENOMEM;
    }
    if (ferror(file))
        return errno ? -errno : -EIO;
    if (bad)
        say("%s: %lu %s (skipped)", name, bad,
            bad == 1 ? "line is no audit record" : "lines are no audit records");
    return 0;
}

static int read_audit(struct suggest *suggest, const char *name)
{
    if (strcmp(name, "-") == 0)
        return read_records(suggest, stdin, "standard input");
    FILE *file = fopen(name, "re");
    if (!file)
        return -errno;
    int err = read_records(suggest, file, name);
    fclose(file);
    return err;
}

/* ---- subjects ---- */

/* Can the name stand in a policy as it is, and not be taken for a number? */
static bool is_plain_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789.-$@";
    size_t len = strspn(name, letters);
    return len > 0 && len < NAME_SIZE && name[len] == '\0' && !strchr("0123456789-@.", name[0]);
}

static int find_groups(struct asker *asker, const char *name)
{
    int cap = 64;
    while (cap <= 65536) { /* NGROUPS_MAX */
        int n = cap;
        free(asker->groups);
        asker->groups = mem_zalloc((size_t)cap, sizeof *asker->groups);
        if (!asker->groups)
            return -ENOMEM;
        if (getgrouplist(name, asker->gid, asker->groups, &n) >= 0) {
            asker->n_groups = n;
            sort_ids(asker->groups, (size_t)n);
            return 0;
        }
        cap = n > cap ? n : cap * 2;
    }
    return -E2BIG;
}

/* The names of policies and of this come from the same database: what is written here must mean uid there. */
static int describe(struct asker *asker)
{
    char name[NAME_SIZE];
    const struct passwd *user = getpwuid(asker->uid);
    asker->gid = user ? user->pw_gid : (gid_t)-2; /* nobody's */
    bool plain = user && is_plain_name(user->pw_name);
    if (user) {
        snprintf(name, sizeof name, "%s", user->pw_name);
        int err = find_groups(asker, user->pw_name);
        if (err < 0)
            return err;
        user = plain ? getpwnam(name) : NULL;
    }
    if (user && user->pw_uid == asker->uid) {
        snprintf(asker->subject, sizeof asker->subject, "user:%s", name);
        return 0;
    }
    snprintf(asker->subject, sizeof asker->subject, "user:%u", (unsigned)asker->uid);
    user = getpwnam(asker->subject + strlen("user:"));
    asker->nameless = user && user->pw_uid != asker->uid;
    return 0;
}

static int add_asker(struct suggest *suggest, uid_t uid)
{
    struct asker *asker = mem_zalloc(1, sizeof *asker);
    if (!asker)
        return -ENOMEM;
    asker->uid = uid;
    asker->next = suggest->askers;
    suggest->askers = asker;
    return describe(asker);
}

/* ---- patterns ---- */

enum { PATTERN_SIZE = 2 * PATH_TEXT_MAX + 1 };

/* The pattern that matches this path alone; its length. */
static size_t make_pattern(char out[PATTERN_SIZE], const struct refusal *refusal)
{
    char *at = out;
    for (size_t i = 0; i < refusal->path_len; i++) {
        char c = refusal->path[i];
        if (memchr("*?[]{}\\%", c, 8))
            *at++ = (char)(c == '%' ? '%' : '\\');
        *at++ = c;
    }
    *at = '\0';
    return (size_t)(at - out);
}

static void print_byte(unsigned char c, bool quoted)
{
    if (quoted && c == '\n')
        printf("\\n");
    else if (quoted && (c < ' ' || c >= 127))
        printf("\\x%02x", c);
    else
        printf(quoted && (c == '"' || c == '\\') ? "\\%c" : "%c", c);
}

/* As a word of the language: so it is safe on a terminal and in a comment as well. */
static void print_path(const struct refusal *refusal)
{
    char pattern[PATTERN_SIZE];
    size_t len = make_pattern(pattern, refusal);
    bool quoted = strpbrk(pattern, "\"#");
    for (size_t i = 0; i < len; i++)
        quoted = quoted || (unsigned char)pattern[i] <= ' ' || (unsigned char)pattern[i] >= 127;
    printf(quoted ? " \"" : " ");
    for (size_t i = 0; i < len; i++)
        print_byte((unsigned char)pattern[i], quoted);
    printf(quoted ? "\"" : "");
}

/* ---- verdicts and output ---- */

static bool ceiling_allows(const struct policy *ceiling, const struct refusal *refusal, time_t now)
{
    const struct asker *asker = refusal->asker;
    struct policy_subject subject = {
        .uid = asker->uid,
        .gid = asker->gid,
        .groups = asker->groups,
        .n_groups = (size_t)asker->n_groups,
        .user = policy_find_user(ceiling, asker->uid),
    };
    struct policy_decision decision;
    policy_decide_slow(ceiling, &subject, refusal->rights, refusal->path, refusal->path_len, now, &decision);
    return decision.allowed;
}

static enum verdict judge(const struct suggest *suggest, const struct refusal *refusal, time_t now)
{
    char pattern[PATTERN_SIZE];
    if (refusal->secret)
        return SECRET;
    if (refusal->asker->nameless)
        return NAMELESS;
    if (make_pattern(pattern, refusal) > PATH_TEXT_MAX)
        return TOO_LONG;
    return suggest->ceiling && !ceiling_allows(suggest->ceiling, refusal, now) ? ABOVE : SUGGESTED;
}

static int judge_all(struct suggest *suggest)
{
    time_t now = time(NULL);
    if (suggest->n)
        qsort(suggest->refusals, suggest->n, sizeof(struct refusal *), compare_pointers);
    for (size_t i = 0; i < suggest->n; i++) {
        struct refusal *refusal = suggest->refusals[i];
        int err = i && suggest->askers->uid == refusal->uid ? 0 : add_asker(suggest, refusal->uid);
        if (err < 0)
            return err;
        refusal->asker = suggest->askers;
        refusal->verdict = judge(suggest, refusal, now);
    }
    return 0;
}

static void print_beginning(const char *word, const struct refusal *refusal)
{
    char rights[POLICY_RIGHTS_TEXT];
    printf("%s %s %s", word, refusal->asker->subject, policy_rights_text(rights, refusal->rights));
}

static void print_rules(const struct suggest *suggest)
{
    const struct refusal *last = NULL;
    unsigned paths = 0;
    for (size_t i = 0; i < suggest->n; i++) {
        const struct refusal *refusal = suggest->refusals[i];
        if (refusal->verdict != SUGGESTED)
            continue;
        if (!last || paths == PATHS_A_LINE || !same_line(last, refusal)) {
            printf("%s", last ? "\n" : "");
            print_beginning("allow", refusal);
            paths = 0;
        }
        print_path(refusal);
        paths++;
        last = refusal;
    }
    printf("%s", last ? "\n" : "");
}

static void print_rest(const struct suggest *suggest)
{
    for (size_t i = 0; i < suggest->n; i++) {
        const struct refusal *refusal = suggest->refusals[i];
        if (refusal->verdict == SUGGESTED)
            continue;
        printf("# %s:", verdict_comments[refusal->verdict]);
        print_beginning("", refusal);
        print_path(refusal);
        putchar('\n');
    }
}

static void print_all(const struct suggest *suggest)
{
    unsigned long times = 0;
    for (size_t i = 0; i < suggest->n; i++)
        times += suggest->refusals[i]->verdict == SUGGESTED ? suggest->refusals[i]->times : 0;
    if (times)
        printf("# Stands for %lu refusal%s by default. Read before use: who was refused chose the paths.\n",
               times, times == 1 ? "" : "s");
    else
        printf("# Nothing to suggest.\n");
    print_rules(suggest);
    print_rest(suggest);
}

/* ---- the command ---- */

static int suggest_from(struct suggest *suggest, char **files)
{
    for (; *files; files++) {
        int err = read_audit(suggest, *files);
        if (err < 0) {
            say("%s: %s", strcmp(*files, "-") == 0 ? "standard input" : *files, strerror(-err));
            return STATUS_NO;
        }
    }
    int err = judge_all(suggest);
    if (err < 0) {
        say("the user database: %s", strerror(-err));
        return STATUS_NO;
    }
    print_all(suggest);
    return STATUS_YES; /* main looks whether it could be written */
}

/* STATUS_USAGE and what is wrong was said, or STATUS_YES. */
static int parse_options(int argc, char **argv, const char **ceiling)
{
    static const struct option options[] = { { "ceiling", required_argument, NULL, 'c' }, { 0 } };
    int option;
    optind = 0; /* begins anew: main had a look before */
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == ':')
            return usage_error("suggest", "%s: a policy is missing", argv[optind - 1]);
        if (option != 'c')
            return usage_error("suggest", "unknown option: %s", argv[optind - 1]);
        *ceiling = optarg;
    }
    return optind < argc ? STATUS_YES : usage_error("suggest", "no audit file (- is standard input)");
}

int command_suggest(struct fobctl *ctl, int argc, char **argv)
{
    (void)ctl;
    const char *ceiling = NULL;
    struct policy *policy = NULL;
    int status = parse_options(argc, argv, &ceiling);
    if (status == STATUS_YES && ceiling)
        status = load_policy(&policy, ceiling);
    if (status != STATUS_YES)
        return status;
    CLEANUP(suggest_free) struct suggest *suggest = mem_zalloc(1, sizeof *suggest);
    if (suggest) {
        suggest->ceiling = policy;
        status = suggest_from(suggest, argv + optind);
    } else {
        say("memory: %s", strerror(ENOMEM));
        status = STATUS_NO;
    }
    policy_free(policy);
    return status;
}
