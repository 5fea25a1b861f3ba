#include "edit.h"

#include <ctype.h>
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"

/* ---- signals ---- */

/* What was ignored stays so. */
static const int guarded[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
enum { N_GUARDED = sizeof guarded / sizeof *guarded };
static struct sigaction before[N_GUARDED];
static const char *last_line;
static size_t last_line_len;

static void say_and_end(int sig)
{
    ssize_t written = write(STDERR_FILENO, last_line, last_line_len);
    (void)written;
    raise(sig); /* SA_RESETHAND: ends us */
}

void signals_guard(const char *line)
{
    const struct sigaction action = { .sa_handler = say_and_end, .sa_flags = (int)SA_RESETHAND };
    last_line = line;
    last_line_len = strlen(line);
    for (int i = 0; i < N_GUARDED; i++)
        if (sigaction(guarded[i], NULL, &before[i]) == 0 && before[i].sa_handler != SIG_IGN)
            sigaction(guarded[i], &action, NULL);
}

void signals_release(void)
{
    for (int i = 0; i < N_GUARDED; i++)
        sigaction(guarded[i], &before[i], NULL);
}

void signals_block(sigset_t *old)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    for (int i = 0; i < N_GUARDED; i++)
        sigaddset(&set, guarded[i]);
    sigprocmask(SIG_BLOCK, &set, old);
}

/* ---- its words ---- */

/*
 * One word: blanks end it; '...' and "..." hold it together; a backslash, but not in '...', takes the next
 * character as it is. Nothing else is special: no shell sees it. NULL: a quote is not closed.
 */
static const char *take_word(const char *at, char **out)
{
    char quote = '\0';
    for (; *at && (quote || !isspace((unsigned char)*at)); at++) {
        if (*at == quote)
            quote = '\0';
        else if (!quote && (*at == '\'' || *at == '"'))
            quote = *at;
        else if (*at == '\\' && quote != '\'' && at[1])
            *(*out)++ = *++at;
        else
            *(*out)++ = *at;
    }
    *(*out)++ = '\0';
    return quote ? NULL : at;
}

/* Into words, which has room for one more than half of the text's length, and bytes, as long as the text. */
static const char *split(const char *text, char *bytes, char **words, size_t *n)
{
    *n = 0;
    for (;;) {
        while (isspace((unsigned char)*text))
            text++;
        if (!*text)
            return NULL;
        words[(*n)++] = bytes;
        text = take_word(text, &bytes);
        if (!text)
            return "a quote is not closed";
        /* What stands behind it is files for an editor: none may come with the variable (CVE-2023-22809). */
        if (strcmp(words[*n - 1], "--") == 0)
            return "has a `--` (an editor's options are enough: the file is added at the end)";
    }
}

/* ---- running it ---- */

/* ^C and ^\ are for the editor while it runs; what was ignored before is ignored in it too. */
static int spawn_and_wait(char **words, int *status)
{
    const struct sigaction ignore = { .sa_handler = SIG_IGN }, usual = { .sa_handler = SIG_DFL };
    struct sigaction interrupt, quit;
    posix_spawnattr_t attributes;
    sigset_t set;
    pid_t child;
    sigaction(SIGCHLD, &usual, NULL);
    sigaction(SIGINT, &ignore, &interrupt);
    sigaction(SIGQUIT, &ignore, &quit);
    sigemptyset(&set);
    if (interrupt.sa_handler != SIG_IGN)
        sigaddset(&set, SIGINT);
    if (quit.sa_handler != SIG_IGN)
        sigaddset(&set, SIGQUIT);
    int error = posix_spawnattr_init(&attributes);
    if (error == 0) {
        posix_spawnattr_setsigdefault(&attributes, &set);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
        error = posix_spawnp(&child, *words, NULL, &attributes, words, environ);
        posix_spawnattr_destroy(&attributes);
    }
    while (error == 0 && waitpid(child, status, 0) < 0)
        error = errno == EINTR ? 0 : errno;
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGQUIT, &quit, NULL);
    return error;
}

static bool say_end(const char *editor, int error, int status)
{
    if (error)
        cli_say_why(editor, "%s (VISUAL or EDITOR names the editor)", strerror(error));
    else if (WIFSIGNALED(status))
        cli_say_why(editor, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (status)
        cli_say_why(editor, "exit status %d", WEXITSTATUS(status));
    return error == 0 && status == 0;
}

/* True when it ended well. That there is none is not said when the caller wants to know it. */
static bool run_one(char **words, bool *missing)
{
    int status = 0, error = spawn_and_wait(words, &status);
    if (missing)
        *missing = error == ENOENT;
    return missing && *missing ? false : say_end(words[0], error, status);
}

static bool is_blank(const char *text)
{
    return !text || text[strspn(text, " \t\n\v\f\r")] == '\0';
}

static bool run_words(const char *command, const char *path)
{
    size_t len = strlen(command), n = 0;
    char *bytes = malloc(len + 1), **words = calloc(len / 2 + 3, sizeof *words);
    bool good = false;
    if (bytes && words) {
        const char *why = split(command, bytes, words, &n);
        if (why) {
            cli_say_why(command, "%s", why);
        } else {
            words[n] = (char *)path;
            good = run_one(words, NULL);
        }
    } else {
        cli_say("editor", ENOMEM);
    }
    free(bytes);
    free(words);
    return good;
}

static bool run_usual(const char *path)
{
    char *first[] = { (char *)"editor", (char *)path, NULL },
         *second[] = { (char *)"vi", (char *)path, NULL };
    bool missing, good = run_one(first, &missing);
    return missing ? run_one(second, NULL) : good;
}

bool editor_run(const char *path)
{
    const char *visual = getenv("VISUAL"), *editor = getenv("EDITOR");
    const char *command = is_blank(visual) ? editor : visual;
    return is_blank(command) ? run_usual(path) : run_words(command, path);
}
