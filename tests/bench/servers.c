#include "servers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/sock.h"
#include "../../common/util.h"
#include "rules.h"

enum { STARTED_MAX = 32, WORDS_MAX = 24, PATIENCE_MS = 60000, RULES_OF_A_FILE = 100000 };

static pid_t started[STARTED_MAX];
static int n_started;

/* ---- processes ---- */

/* NAME.SUFFIX in the section's folder. */
static const char *file_of(const char *name, const char *suffix)
{
    char file[64];
    snprintf(file, sizeof file, "%s.%s", name, suffix);
    return at(file);
}

static _Noreturn void execute(const char *log, int cpu, const char *program, const char *const *words)
{
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    pin(cpu);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    execv(program, (char *const *)words);
    _exit(127);
}

static pid_t start(const char *name, int cpu, const char *program, const char *const *words)
{
    const char *log = file_of(name, "log");
    if (n_started == STARTED_MAX)
        die("more servers than there is room for");
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid == 0)
        execute(log, cpu, program, words);
    return started[n_started++] = pid;
}

static bool can_connect(const struct server *server)
{
    int sock = sock_connect(server->socket, server->type);
    fd_close(sock);
    return sock >= 0;
}

/* Of the last one that was started: does it serve? False: it has ended. */
static bool await_service(const struct server *server, bool serves(const struct server *server))
{
    for (int ms = 0; ms < PATIENCE_MS; ms += 5) {
        if (serves(server))
            return true;
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid) {
            n_started--;
            return false;
        }
        usleep(5000);
    }
    return false;
}

void servers_stop(void)
{
    for (int i = 0; i < n_started; i++)
        kill(started[i], SIGTERM);
    for (int i = 0; i < n_started; i++)
        waitpid(started[i], NULL, 0);
    n_started = 0;
}

static const char *log_of(const char *name)
{
    static char text[4096];
    int fd = open(file_of(name, "log"), O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    fd_close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static _Noreturn void die_with_log(const struct server *server)
{
    die("%s did not start: %s", server->name, log_of(server->name));
}

/* ---- fobd ---- */

/* `text` with the folder for every `@`. */
static void write_template(FILE *out, const char *text)
{
    for (; text && *text; text++)
        if (*text == '@')
            fputs(at(""), out);
        else
            fputc(*text, out);
}

static FILE *create(const char *path)
{
    FILE *out = fopen(path, "we");
    if (!out)
        die("%s: %s", path, strerror(errno));
    return out;
}

static void complete(FILE *out, const char *path)
{
    if (fclose(out) != 0)
        die("%s: %s", path, strerror(errno));
}

/* NAME.policies/N.policy. */
static FILE *create_policy(const char *name, unsigned n)
{
    char file[PLACE_NAME];
    snprintf(file, sizeof file, "%s/%u.policy", file_of(name, "policies"), n);
    return create(file);
}

/* In files that are not too large, whatever the number of rules is. */
static void write_policy(const struct fobd_options *o)
{
    const unsigned n = o->rules ? o->rules : RULES;
    if (mkdir(file_of(o->name, "policies"), 0755) < 0)
        die("%s: %s", file_of(o->name, "policies"), strerror(errno));
    for (unsigned from = 0; from < n; from += RULES_OF_A_FILE) {
        FILE *out = create_policy(o->name, from / RULES_OF_A_FILE);
        rules_write(out, from, from + RULES_OF_A_FILE < n ? from + RULES_OF_A_FILE : n, at(""));
        if (from <= n / 2 && n / 2 < from + RULES_OF_A_FILE) {
            rules_write_own(out, at(""));
            write_template(out, o->policy);
        }
        complete(out, "the policy");
    }
}

static void write_config(const struct fobd_options *o)
{
    FILE *out = create(file_of(o->name, "conf"));
    fprintf(out, "socket %s\n", file_of(o->name, "sock"));
    fprintf(out, "stream-socket %s\n", file_of(o->name, "stream"));
    fprintf(out, "policy %s\n", file_of(o->name, "policies"));
    fprintf(out, "audit file %s\n", file_of(o->name, "audit"));
    fprintf(out, "user %d\nworkers %d\n", WORKER_UID, o->workers ? o->workers : 1);
    write_template(out, o->config);
    complete(out, file_of(o->name, "conf"));
}

static void server_init(struct server *server, const char *name, int type)
{
    snprintf(server->name, sizeof server->name, "%s", name);
    snprintf(server->socket, sizeof server->socket, "%s", file_of(name, "sock"));
    server->type = type;
}

/* The socket is there before all workers are. */
static bool says_it_serves(const struct server *server)
{
    return strstr(log_of(server->name), "serving ") != NULL;
}

bool start_fobd(struct server *server, const struct fobd_options *options)
{
    server_init(server, options->name, SOCK_SEQPACKET);
    write_policy(options);
    write_config(options);
    const char *words[] = { "fobd", "-f", file_of(options->name, "conf"), NULL };
    server->pid = start(options->name, options->cpu, built("fobd"), words);
    return await_service(server, says_it_serves);
}

void need_fobd(struct server *server, const struct fobd_options *options)
{
    if (!start_fobd(server, options))
        die_with_log(server);
}

/* ---- peers ---- */

static void need_peer(const struct server *server)
{
    if (!await_service(server, can_connect) || chmod(server->socket, 0666) < 0)
        die_with_log(server);
}

void start_floor(struct server *server, const char *name, int cpu, int loops, unsigned spin_us,
                 const char *features)
{
    char numbers[2][16], text[256], *rest = NULL;
    const char *words[WORDS_MAX] = { "floor", server->socket, numbers[0], numbers[1], at("data") };
    size_t n = 5;
    server_init(server, name, SOCK_SEQPACKET);
    snprintf(numbers[0], sizeof numbers[0], "%d", loops);
    snprintf(numbers[1], sizeof numbers[1], "%u", spin_us);
    snprintf(text, sizeof text, "%s", features);
    for (char *word = strtok_r(text, " ", &rest); word && n < WORDS_MAX - 1;
         word = strtok_r(NULL, " ", &rest))
        words[n++] = word;
    server->pid = start(name, cpu, built("tests/bench/floor"), words);
    need_peer(server);
}

void start_opend(struct server *server, const char *name, int cpu)
{
    const char *words[] = { "opend", server->socket, NULL };
    server_init(server, name, SOCK_STREAM);
    server->pid = start(name, cpu, built("tests/bench/opend"), words);
    need_peer(server);
}

/* ---- what fobd is made of ---- */

static bool is_named(pid_t pid, const char *name)
{
    char path[64], comm[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *in = fopen(path, "re");
    bool got = in && fgets(comm, sizeof comm, in);
    if (in)
        fclose(in);
    comm[strcspn(comm, "\n")] = '\0';
    return got && strcmp(comm, name) == 0;
}

int fobd_processes(pid_t fobd, const char *name, pid_t *pids, int max)
{
    char path[64];
    int pid, n = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)fobd, (int)fobd);
    FILE *in = fopen(path, "re");
    while (in && n < max && fscanf(in, "%d", &pid) == 1)
        if (!name || is_named((pid_t)pid, name))
            pids[n++] = (pid_t)pid;
    if (in)
        fclose(in);
    return n;
}
