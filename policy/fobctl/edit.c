/*
 * fobctl edit: a private copy in the editor, checked, put in place, reloaded. From the editor's start until
 * the text is in place or given up, whatever happens leaves it in the copy and says where that is.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <paths.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../common/escape.h"
#include "../../common/util.h"
#include "control.h"
#include "edit_files.h"
#include "fobctl.h"

struct edit {
    const struct fobctl *ctl;
    struct policy_file file;
    struct text text; /* what the editor made of it */
    char *directory;  /* of the copy, ours alone */
    char *copy;
    char *kept; /* the line that says where the text is */
    bool keep;
};

/* ---- the copy ---- */

static int make_directory(struct edit *edit)
{
    const char *parent = getenv("TMPDIR");
    char *path;
    if (asprintf(&path, "%s/fobctl.XXXXXX", parent && *parent ? parent : "/tmp") < 0)
        return -ENOMEM;
    if (!mkdtemp(path)) {
        int err = -errno;
        free(path);
        return err;
    }
    edit->directory = realpath(path, NULL); /* absolute: no editor takes it for an option */
    int err = edit->directory ? 0 : -errno;
    if (err < 0)
        rmdir(path);
    free(path);
    return err;
}

static int write_copy(const struct edit *edit)
{
    CLEANUP(fd_cleanup) int fd = open(edit->copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd_write_all(fd, edit->file.text.bytes, edit->file.text.len);
}

static int make_kept_line(struct edit *edit)
{
    CLEANUP(free_cleanup) char *plain = NULL;
    if (asprintf(&plain, "%s: not changed; your text is kept in %s", edit->file.path, edit->copy) < 0) {
        plain = NULL;
        return -ENOMEM;
    }
    size_t size = 4 * strlen(plain) + 1;
    CLEANUP(free_cleanup) char *shown = mem_zalloc(size, 1);
    if (!shown)
        return -ENOMEM;
    escape_text(shown, size, plain, strlen(plain));
    return asprintf(&edit->kept, "fobctl: %s\n", shown) < 0 ? -ENOMEM : 0;
}

static int make_copy(struct edit *edit)
{
    int err = make_directory(edit);
    if (err == 0 && asprintf(&edit->copy, "%s/%s", edit->directory, edit->file.base) < 0) {
        edit->copy = NULL;
        err = -ENOMEM;
    }
    if (err == 0)
        err = write_copy(edit);
    if (err == 0)
        err = make_kept_line(edit);
    if (err == 0)
        return STATUS_YES;
    say("%s: a copy cannot be made: %s (TMPDIR says where)", edit->file.path, strerror(-err));
    return STATUS_NO;
}

static int keep(const struct edit *edit, int status)
{
    fflush(stdout);
    fputs(edit->kept, stderr);
    return status;
}

/* ---- signals ---- */

/* What would end us says first where the text is; what was ignored stays so. */
static const int guarded[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGABRT, SIGBUS, SIGSEGV };
static struct sigaction before[ARRAY_SIZE(guarded)];
static const char *kept_line;
static size_t kept_line_len;

static void say_and_end(int sig)
{
    ssize_t written = write(STDERR_FILENO, kept_line, kept_line_len);
    (void)written;
    raise(sig); /* SA_RESETHAND: ends us */
}

static void guard_signals(const struct edit *edit)
{
    const struct sigaction action = { .sa_handler = say_and_end, .sa_flags = (int)SA_RESETHAND };
    kept_line = edit->kept;
    kept_line_len = strlen(edit->kept);
    for (size_t i = 0; i < ARRAY_SIZE(guarded); i++)
        if (sigaction(guarded[i], NULL, &before[i]) == 0 && before[i].sa_handler != SIG_IGN)
            sigaction(guarded[i], &action, NULL);
}

static void release_signals(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(guarded); i++)
        sigaction(guarded[i], &before[i], NULL);
}

static void block_signals(sigset_t *old)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(guarded); i++)
        sigaddset(&set, guarded[i]);
    sigprocmask(SIG_BLOCK, &set, old);
}

/* ---- the editor ---- */

static const char *editor_command(void)
{
    const char *visual = getenv("VISUAL"), *editor = getenv("EDITOR");
    return visual && *visual ? visual : editor && *editor ? editor : "vi";
}

/* Through the shell, as it may have arguments. Does not return. */
static void become_editor(const char *command, const char *copy)
{
    char *script;
    release_signals();
    if (asprintf(&script, "%s \"$@\"", command) >= 0)
        execl(_PATH_BSHELL, "sh", "-c", script, command, copy, (char *)NULL);
    _exit(127);
}

static int wait_for(pid_t child, int *status)
{
    while (waitpid(child, status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* ^C and ^\ are for the editor while it runs. */
static int run_editor(const char *command, const char *copy, int *status)
{
    const struct sigaction ignore = { .sa_handler = SIG_IGN }, usual = { .sa_handler = SIG_DFL };
    struct sigaction interrupt, quit;
    fflush(NULL); /* or the child has what is in the buffers too */
    if (sigaction(SIGCHLD, &usual, NULL) < 0 || sigaction(SIGINT, &ignore, &interrupt) < 0 ||
        sigaction(SIGQUIT, &ignore, &quit) < 0)
        return -errno;
    pid_t child = fork();
    int err = child < 0 ? -errno : 0;
    if (child == 0)
        become_editor(command, copy);
    if (err == 0)
        err = wait_for(child, status);
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGQUIT, &quit, NULL);
    return err;
}

static bool editor_succeeds(const struct edit *edit)
{
    const char *command = editor_command();
    int status = 0, err = run_editor(command, edit->copy, &status);
    if (err < 0)
        say("%s: %s", command, strerror(-err));
    else if (WIFSIGNALED(status))
        say("%s: killed by signal %d (%s)", command, WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == 127)
        say("%s: exit status 127: not found? (VISUAL or EDITOR names the editor)", command);
    else if (WEXITSTATUS(status) != 0)
        say("%s: exit status %d", command, WEXITSTATUS(status));
    return err == 0 && status == 0;
}

/* The editor took the copy away: there is nothing to keep, or it is under another name. */
static void copy_is_gone(struct edit *edit)
{
    say("%s: not changed: the copy is gone", edit->file.path);
    if (rmdir(edit->directory) < 0)
        say("%s: the editor left something there", edit->directory);
}

static int read_back(struct edit *edit)
{
    struct stat st;
    free(edit->text.bytes);
    int err = text_read(&edit->text, AT_FDCWD, edit->copy, &st);
    if (err == 0)
        return 0;
    if (err == -ENOENT) {
        copy_is_gone(edit);
        return err;
    }
    say("%s: %s", edit->copy, text_read_error(err));
    keep(edit, STATUS_NO);
    return err;
}

/* ---- the check ---- */

/* The admin knows nothing of the copy that was checked: the file's own path stands in front. */
static void show_messages(const struct edit *edit, const struct policy_messages *messages,
                          const char *checked, FILE *out)
{
    char from[4 * PATH_MAX + 1], to[sizeof from];
    size_t len = escape_text(from, sizeof from, checked, strlen(checked));
    escape_text(to, sizeof to, edit->file.directory, strlen(edit->file.directory));
    for (const char *line = messages->text, *end; line && *line; line = end) {
        end = strchrnul(line, '\n');
        end += *end == '\n';
        if (strncmp(line, from, len) == 0) {
            fputs(to, out);
            line += len;
        }
        fwrite(line, 1, (size_t)(end - line), out);
    }
}

static void show_warnings(const struct edit *edit, const struct policy *policy, const char *checked)
{
    struct policy_messages messages = { 0 };
    int err = policy_lint(policy, edit->file.directory, &messages);
    show_messages(edit, &messages, checked, stdout);
    policy_messages_deinit(&messages);
    if (err < 0)
        say("%s: warnings: %s", edit->file.directory, strerror(-err));
}

static void show_changes(const struct edit *edit, const struct policy *new)
{
    struct policy *old;
    struct policy_messages messages = { 0 };
    int err = read_policy(&old, edit->file.directory, &messages);
    policy_messages_deinit(&messages);
    if (err < 0) {
        say("%s: has errors as it is: who gains and who loses cannot be said", edit->file.directory);
        return;
    }
    int changes = policy_diff(old, new, time(NULL), stdout);
    policy_free(old);
    if (changes < 0)
        say("%s: who gains and who loses: %s", edit->file.path, strerror(-changes));
    else if (changes == 0)
        say("%s: nobody gains or loses anything", edit->file.path);
}

/* STATUS_NO: it could not even be tried. */
static int check(const struct edit *edit)
{
    char *checked;
    struct policy *policy;
    struct policy_messages messages = { 0 };
    int err = candidate_make(&checked, &edit->file, &edit->text, edit->directory);
    if (err < 0) {
        say("%s: cannot be checked: %s", edit->file.path, strerror(-err));
        return STATUS_NO;
    }
    err = read_policy(&policy, checked, &messages);
    show_messages(edit, &messages, checked, stderr);
    if (err < 0 && !messages.text)
        say("%s: %s", edit->file.directory, strerror(-err));
    policy_messages_deinit(&messages);
    if (err == 0) {
        show_warnings(edit, policy, checked);
        show_changes(edit, policy);
        policy_free(policy);
    }
    directory_remove(checked);
    free(checked);
    return err < 0 ? STATUS_ERRORS : STATUS_YES;
}

/* ---- questions ---- */

enum answer { ANSWER_YES = 'y', ANSWER_EDIT = 'e', ANSWER_DISCARD = 'd', ANSWER_KEEP = 'k' };

/* The first letter of a line. Who goes away without an answer has not thrown anything away. */
static enum answer ask(const char *question, const char *letters)
{
    CLEANUP(free_cleanup) char *line = NULL;
    size_t size = 0;
    fflush(stdout);
    for (;;) {
        fputs(question, stderr);
        if (getline(&line, &size, stdin) < 0) {
            fputc('\n', stderr);
            return ANSWER_KEEP;
        }
        int letter = tolower((unsigned char)line[0]);
        if (letter && strchr(letters, letter))
            return (enum answer)letter;
    }
}

static enum answer what_next(int verdict)
{
    bool terminal = isatty(STDIN_FILENO);
    if (verdict == STATUS_YES)
        return terminal ? ask("Put it in force? (y)es, (e)dit again, (d)iscard: ", "yed") : ANSWER_YES;
    return terminal ? ask("What now? (e)dit again, (d)iscard, (k)eep the copy: ", "edk") : ANSWER_KEEP;
}

/* ---- in force ---- */

static int reload(const struct edit *edit)
{
    const char *const words[] = { "reload", NULL };
    int status = control_ask(edit->ctl, words);
    fflush(stdout);
    if (status == STATUS_NO_BROKER)
        say("%s: in place; the next start of fobd loads it", edit->file.path);
    else if (status == STATUS_ERRORS)
        say("%s: in place, but the broker refused the policy: the one before stays in force",
            edit->file.path);
    else if (status != STATUS_YES)
        say("%s: in place, but not in force (fobctl reload)", edit->file.path);
    return status;
}

/* Uninterrupted: whoever is told that nothing changed can believe it. */
static int put_in_force(struct edit *edit)
{
    sigset_t old;
    block_signals(&old);
    enum replace replaced = policy_file_replace(&edit->file, &edit->text);
    if (replaced != REPLACE_FAILED)
        release_signals();
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (replaced == REPLACE_FAILED)
        return keep(edit, STATUS_NO);
    if (replaced == REPLACE_DOUBT) {
        say("%s: the text is kept in %s too", edit->file.path, edit->copy);
        return STATUS_NO;
    }
    edit->keep = false;
    return reload(edit);
}

/* ---- the command ---- */

/* What became of the text, when the editor ended: kept, if there is any that is not in the file. */
static int after_failure(struct edit *edit)
{
    if (read_back(edit) < 0)
        return STATUS_NO;
    if (!text_is(&edit->text, &edit->file.text))
        return keep(edit, STATUS_NO);
    edit->keep = false;
    say("%s: not changed", edit->file.path);
    return STATUS_NO;
}

static int discard(struct edit *edit)
{
    edit->keep = false;
    say("%s: not changed", edit->file.path);
    return STATUS_NO;
}

static int edit_once(struct edit *edit, enum answer *answer)
{
    *answer = ANSWER_KEEP;
    if (!editor_succeeds(edit))
        return after_failure(edit);
    if (read_back(edit) < 0)
        return STATUS_NO;
    if (text_is(&edit->text, &edit->file.text)) {
        edit->keep = false;
        say("%s: unchanged", edit->file.path);
        return STATUS_YES;
    }
    int verdict = check(edit);
    *answer = verdict == STATUS_NO ? ANSWER_KEEP : what_next(verdict);
    switch (*answer) {
    case ANSWER_YES:
        return put_in_force(edit);
    case ANSWER_DISCARD:
        return discard(edit);
    case ANSWER_EDIT:
        return verdict;
    default:
        return keep(edit, verdict == STATUS_YES ? STATUS_NO : verdict);
    }
}

static void edit_deinit(struct edit *edit)
{
    if (edit->directory && !edit->keep)
        directory_remove(edit->directory);
    policy_file_deinit(&edit->file);
    free(edit->text.bytes);
    free(edit->directory);
    free(edit->copy);
    free(edit->kept);
}

static int run(struct edit *edit)
{
    enum answer answer = ANSWER_EDIT;
    int status = make_copy(edit);
    if (status != STATUS_YES)
        return status;
    edit->keep = true;
    guard_signals(edit);
    while (answer == ANSWER_EDIT)
        status = edit_once(edit, &answer);
    release_signals();
    return status;
}

int command_edit(struct fobctl *ctl, int argc, char **argv)
{
    struct edit edit = { .ctl = ctl };
    if (getopt(argc, argv, "+") != -1)
        return usage_error(argv[0], "%s: unknown option", argv[0]);
    if (argc - optind != 1)
        return usage_error(argv[0], "edit: needs one file");
    int status = policy_file_init(&edit.file, argv[optind]);
    if (status == STATUS_YES)
        status = run(&edit);
    edit_deinit(&edit);
    return status;
}
