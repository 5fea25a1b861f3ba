#include "soak.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/control.h"
#include "../../common/sock.h"
#include "../../common/util.h"

enum { START_MS = 10000, CONTROL_MS = 20000 };
#define TOO_EARLY "somebody serves it already"

/* ---- starting ---- */

void soak_fobd_configure(void)
{
    FILE *out = fopen(soak_path("fobd.conf"), "we");
    SOAK_NEED(out);
    fprintf(out, "socket %s/sock\npolicy %s/soak.policy\naudit file %s/audit\nuser %d\nworkers %d\n",
            soak_dir, soak_dir, soak_dir, WORKER_UID, WORKERS);
    SOAK_NEED(fclose(out) == 0 && chmod(soak_path("fobd.conf"), 0644) == 0);
}

static _Noreturn void run(const char *program)
{
    int fd = open(soak_path("fobd.log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    execl(program, "fobd", "-f", soak_path("fobd.conf"), (char *)NULL);
    _exit(127);
}

/* Does the log say so, from a place on? */
static bool log_has(const char *text, size_t from)
{
    size_t len = 0;
    char *log = soak_read(soak_path("fobd.log"), &len);
    bool has = log && from <= len && strstr(log + from, text);
    free(log);
    return has;
}

static pid_t start_once(const char *program)
{
    fflush(NULL);
    pid_t pid = fork();
    SOAK_NEED(pid >= 0);
    if (pid == 0)
        run(program);
    return pid;
}

/* Does it serve? False: it ended, as somebody still serves its socket. */
static bool await_service(pid_t pid, size_t from)
{
    for (int ms = 0; ms < START_MS; ms += 10) {
        bool ended = waitpid(pid, NULL, WNOHANG) == pid;
        if (log_has("serving ", from))
            return true;
        if (ended && log_has(TOO_EARLY, from))
            return false;
        soak_sleep_ms(10);
    }
    char *log = soak_read(soak_path("fobd.log"), NULL);
    fprintf(stderr, "fobd (pid %d) did not start: %s\n", (int)pid, log ? log : "no log");
    exit(1);
}

pid_t soak_fobd_start(void)
{
    char program[512];
    const char *build = getenv("BUILD");
    snprintf(program, sizeof program, "%s/fobd", build && *build ? build : "build");
    for (int ms = 0; ms < START_MS; ms += 20) {
        size_t from = 0;
        free(soak_read(soak_path("fobd.log"), &from));
        pid_t pid = start_once(program);
        if (await_service(pid, from))
            return pid;
        shared->too_early++;
        soak_sleep_ms(20);
    }
    fputs("fobd cannot start: what a killed one left behind still serves its socket\n", stderr);
    exit(1);
}

/* ---- the control socket ---- */

static size_t words_len(const char *words)
{
    const char *end = words;
    while (*end)
        end += strlen(end) + 1;
    return (size_t)(end - words);
}

int soak_control(const char *words)
{
    static char packet[CONTROL_PACKET_MAX + 1];
    CLEANUP(fd_cleanup) int sock = sock_connect(soak_path("sock.control"), SOCK_SEQPACKET);
    size_t len = words_len(words);
    if (sock < 0 || send(sock, words, len, MSG_NOSIGNAL) != (ssize_t)len)
        return -1;
    for (;;) {
        struct pollfd polled = { .fd = sock, .events = POLLIN };
        ssize_t got = poll(&polled, 1, CONTROL_MS) == 1 ? recv(sock, packet, CONTROL_PACKET_MAX, 0) : -1;
        if (got <= 0)
            return -1;
        packet[got] = '\0';
        if (*packet == CONTROL_EXIT)
            return atoi(packet + 1);
    }
}

/* ---- what the kernel says ---- */

/* Name and state from /proc/PID/stat. */
static bool process_is(pid_t pid, const char *name, bool zombie)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    char *text = soak_read(path, NULL);
    char *open = text ? strchr(text, '(') : NULL, *close = text ? strrchr(text, ')') : NULL;
    bool is = false;
    if (open && close && close[1] == ' ') {
        *close = '\0';
        is = (close[2] == 'Z') == zombie && (!name || strcmp(open + 1, name) == 0);
    }
    free(text);
    return is;
}

static int children_that(pid_t fobd, const char *name, bool zombie, pid_t *pids, int max)
{
    char path[64], *rest = NULL;
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)fobd, (int)fobd);
    char *text = soak_read(path, NULL);
    for (char *word = text ? strtok_r(text, " ", &rest) : NULL; word && n < max;
         word = strtok_r(NULL, " ", &rest)) {
        pid_t pid = (pid_t)atoi(word);
        if (process_is(pid, name, zombie))
            pids[n++] = pid;
    }
    free(text);
    return n;
}

int soak_children(pid_t fobd, const char *name, pid_t *pids, int max)
{
    return children_that(fobd, name, false, pids, max);
}

int soak_zombies(pid_t fobd)
{
    pid_t pids[64];
    return children_that(fobd, NULL, true, pids, 64);
}

static int fds_of(pid_t pid)
{
    char path[64];
    int n = -2; /* "." and ".." */
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n > 0 ? n : 0;
}

/* A number of KiB from a file of /proc/PID. */
static long memory_of(pid_t pid, const char *file, const char *key)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    char *text = soak_read(path, NULL), *line = text ? strstr(text, key) : NULL;
    long kib = line ? atol(line + strlen(key)) : 0;
    free(text);
    return kib;
}

struct soak_size soak_size_of(pid_t fobd)
{
    pid_t pids[64];
    int n = soak_children(fobd, NULL, pids, 64);
    struct soak_size size = { .fds = fds_of(fobd), .rss = memory_of(fobd, "status", "VmRSS:") };
    for (int i = 0; i < n; i++) {
        size.children_fds += fds_of(pids[i]);
        size.children_rss += memory_of(pids[i], "smaps_rollup", "Pss:");
    }
    return size;
}

/* ---- its log ---- */

static bool was_killed(pid_t pid)
{
    for (uint32_t i = 0; i < shared->n_kills; i++)
        if (shared->kills[i].pid == pid)
            return true;
    return false;
}

/* What it may say when its processes are killed and clients do what these do. */
static bool is_usual(const char *line)
{
    static const char *const usual[] = {
        "serving ",
        "is in force",
        "a connection was closed: its new worker is gone",
        "a request was lost: its new worker is gone",
        "not reloaded: a new worker could not start",
        "did not get its new sealer",
        "cannot start: Broken pipe", /* its supervisor is gone */
        TOO_EARLY,
        "not started, or not any more: Address already in use",
        "not reloaded: the broker is being stopped",
        "a killed process hangs in a file system: left behind", /* or dies slowly */
        "rules beneath it serve nothing until",                 /* `**` at the root: the homes of all users */
    };
    for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
        if (strstr(line, usual[i]))
            return true;
    return false;
}

void soak_log_check(unsigned *deaths, unsigned *killed, unsigned *strange)
{
    char *text = soak_read(soak_path("fobd.log"), NULL), *rest = NULL;
    *deaths = *killed = *strange = 0;
    for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        const char *pid = strstr(line, " (pid ");
        if (!pid) {
            if (is_usual(line))
                continue;
            ++*strange;
            soak_complain("fobd said: %s", line);
        } else if (was_killed((pid_t)atoi(pid + 6))) {
            ++*killed;
        } else {
            ++*deaths;
            soak_complain("fobd said: %s", line);
        }
    }
    free(text);
}
