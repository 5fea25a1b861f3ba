/*
 * What asks the broker: status, watch, reload.
 */
#include <getopt.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/escape.h"
#include "../../common/util.h"
#include "control.h"
#include "fobctl.h"
#include "record.h"

int command_status(struct fobctl *ctl, int argc, char **argv)
{
    static const struct option options[] = { { "json", no_argument, NULL, 'j' },
                                             { "openmetrics", no_argument, NULL, 'o' },
                                             { NULL, 0, NULL, 0 } };
    const char *words[] = { "status", "text", NULL };
    int option;
    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        if (option == '?')
            return usage_error(argv[0], "status: unknown option");
        words[1] = option == 'j' ? "json" : "openmetrics";
    }
    if (optind < argc)
        return usage_error(argv[0], "status: takes no argument");
    return control_ask(ctl, words);
}

int command_reload(struct fobctl *ctl, int argc, char **argv)
{
    const char *words[] = { "reload", NULL };
    if (argc > 1)
        return usage_error(argv[0], "reload: takes no argument");
    return control_ask(ctl, words);
}

/* ---- watch ---- */

struct watch {
    bool refused_only, json, any_user;
    uid_t uid;
    struct record record;
};

static const char *user_text(char out[static 64], uid_t uid)
{
    char shown[40];
    const struct passwd *pw = getpwuid(uid);
    if (!pw || !escape_text(shown, sizeof shown, pw->pw_name, strlen(pw->pw_name)))
        snprintf(out, 64, "%u", (unsigned)uid);
    else
        snprintf(out, 64, "%u(%s)", (unsigned)uid, shown);
    return out;
}

static void print_record(const struct record *r)
{
    char user[64], rule[4 * sizeof r->rule], path[4 * sizeof r->path], real[4 * sizeof r->real];
    const char *by = r->has_rule ? r->rule : r->reason;
    escape_text(rule, sizeof rule, by, strlen(by));
    escape_text(path, sizeof path, r->path, r->path_len);
    printf("%s %-7s uid=%s pid=%ld %s %s %s", r->time, r->allowed ? "allowed" : "refused",
           user_text(user, r->uid), (long)r->pid, r->op, *r->rights ? r->rights : "-", path);
    if (r->has_real) {
        escape_text(real, sizeof real, r->real, r->real_len);
        printf(" -> %s", real);
    }
    printf(" by %s%s%s %uus\n", rule, *r->errno_name ? " " : "", r->errno_name, (unsigned)r->latency_us);
}

static bool take_line(const char *line, size_t len, void *data)
{
    struct watch *watch = data;
    if (len && line[len - 1] == '}' && memmem(line, len, "\"not_shown\"", 11)) {
        if (watch->json)
            printf("%.*s\n", (int)len, line);
        else
            fputs("# decisions came faster than they can be shown: some are missing here\n", stdout);
    } else if (record_parse(&watch->record, line, len) == 0) {
        if ((watch->refused_only && watch->record.allowed) ||
            (!watch->any_user && watch->record.uid != watch->uid))
            return true;
        if (watch->json)
            printf("%.*s\n", (int)len, line);
        else
            print_record(&watch->record);
    }
    return fflush(stdout) == 0;
}

static bool find_user(const char *name, uid_t *uid)
{
    uint64_t number;
    const struct passwd *pw = getpwnam(name);
    if (pw)
        *uid = pw->pw_uid;
    else if (parse_u64(name, UINT32_MAX - 1, &number) == 0)
        *uid = (uid_t)number;
    else
        return false;
    return true;
}

int command_watch(struct fobctl *ctl, int argc, char **argv)
{
    static const struct option options[] = { { "refused", no_argument, NULL, 'r' },
                                             { "user", required_argument, NULL, 'u' },
                                             { "json", no_argument, NULL, 'j' },
                                             { NULL, 0, NULL, 0 } };
    static struct watch watch;
    const char *words[] = { "watch", NULL };
    int option;
    watch = (struct watch){ .any_user = true };
    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        if (option == '?')
            return usage_error(argv[0], "watch: unknown option");
        if (option == 'u' && !find_user(optarg, &watch.uid))
            return usage_error(argv[0], "watch: unknown user `%s` (a number needs no account)", optarg);
        watch.refused_only |= option == 'r';
        watch.json |= option == 'j';
        watch.any_user &= option != 'u';
    }
    if (optind < argc)
        return usage_error(argv[0], "watch: takes no argument");
    return control_stream(ctl, words, take_line, &watch);
}
