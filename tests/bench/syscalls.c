/*
 * The system calls that a worker makes for a request, counted by strace(1).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/util.h"
#include "clients.h"
#include "measure.h"
#include "sections.h"
#include "servers.h"

enum { DESCRIPTORS = 640, BATCH = 64, PATIENCE_MS = 10000 }; /* each call is slow under strace */

static void ask(const void *batch)
{
    const unsigned n = *(const unsigned *)batch;
    struct question question = ask_fob(connected(at("fob.sock"), SOCK_SEQPACKET), at("data/file"), n);
    for (unsigned i = 0; i < DESCRIPTORS / n; i++)
        run_question(&question);
}

static bool is_traced(pid_t pid)
{
    char path[64], line[256];
    int tracer = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *in = fopen(path, "re");
    while (in && fgets(line, sizeof line, in))
        if (strncmp(line, "TracerPid:", 10) == 0)
            tracer = atoi(line + 10);
    if (in)
        fclose(in);
    return tracer != 0;
}

/* Its pid, when it has attached; 0: there is none, or it may not. */
static pid_t start_strace(pid_t worker, const char *output)
{
    char number[16];
    snprintf(number, sizeof number, "%d", (int)worker);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDERR_FILENO);
        execlp("strace", "strace", "-c", "-o", output, "-p", number, (char *)NULL);
        _exit(127);
    }
    for (int ms = 0; pid > 0 && ms < PATIENCE_MS; ms++) {
        if (is_traced(worker))
            return pid;
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return 0;
        usleep(1000);
    }
    return 0;
}

/* A line of the summary is `time seconds usecs/call calls [errors] syscall`: adds "name 1.00" to the text. */
static double add_call(char *line, char *text, size_t size)
{
    char *words[8] = { 0 }, *rest = NULL;
    int n = 0;
    for (char *word = strtok_r(line, " \n", &rest); word && n < 8; word = strtok_r(NULL, " \n", &rest))
        words[n++] = word;
    double calls = n >= 5 ? atof(words[3]) / DESCRIPTORS : 0;
    size_t len = strlen(text);
    if (calls < 0.005 || strcmp(words[n - 1], "total") == 0 || strcmp(words[n - 1], "syscall") == 0)
        return 0;
    snprintf(text + len, size - len, "%s%s %.2f", len ? ", " : "", words[n - 1], calls);
    return calls;
}

static void count(const char *what, const struct server *fobd, unsigned batch)
{
    char line[256], text[512] = "";
    pid_t worker;
    double sum = 0;
    pid_t strace =
        fobd_processes(fobd->pid, "fobd-worker", &worker, 1) == 1 ? start_strace(worker, at("strace")) : 0;
    if (!strace) {
        report_skipped(what, "no strace here, or it may not attach");
        return;
    }
    as_user(CLIENT_UID, CPU_SERVER, ask, &batch);
    usleep(100000); /* the worker closes its own descriptors after the answer */
    kill(strace, SIGINT);
    waitpid(strace, NULL, 0);
    FILE *in = fopen(at("strace"), "re");
    while (in && fgets(line, sizeof line, in))
        sum += add_call(line, text, sizeof text);
    if (in)
        fclose(in);
    report_value(&(struct row){ what, "calls", NULL, .detail = text }, sum);
}

void section_syscalls(void)
{
    struct server fobd;
    need_fobd(&fobd, &(struct fobd_options){ .name = "fob", .cpu = CPU_SERVER });
    count("of the worker for one open", &fobd, 1);
    count("for a descriptor of a batch of 64", &fobd, BATCH);
    servers_stop();
}
