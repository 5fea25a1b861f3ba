#include "harness.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <grp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"

enum { STATUS_FAILED = 1, STATUS_SKIPPED = 77 };

/* ---- files ---- */

const char *at(const struct broker *broker, const char *path)
{
    static char buffers[8][DIR_MAX + 256];
    static unsigned next;
    char *out = buffers[next++ % ARRAY_SIZE(buffers)];
    snprintf(out, sizeof buffers[0], "%s/%s", broker->dir, path);
    return out;
}

void file_write(const char *path, const char *text, mode_t mode, uid_t uid)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    assert_int_equal(fchown(fd, uid, uid), 0);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

ssize_t file_read(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t len = 0;
    ssize_t n;
    while (len < size - 1 && (n = read(fd, out + len, size - 1 - len)) > 0)
        len += (size_t)n;
    close(fd);
    out[len] = '\0';
    return (ssize_t)len;
}

static void make_dir(const char *path, mode_t mode, uid_t uid)
{
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chown(path, uid, uid), 0);
    assert_int_equal(chmod(path, mode), 0);
}

void broker_prepare(struct broker *broker)
{
    memset(broker, 0, sizeof *broker);
    strcpy(broker->dir, "/tmp/fob-test.XXXXXX");
    assert_non_null(mkdtemp(broker->dir));
    assert_int_equal(chmod(broker->dir, 0755), 0);
    snprintf(broker->socket, sizeof broker->socket, "%s/sock", broker->dir);
    snprintf(broker->audit, sizeof broker->audit, "%s/audit.log", broker->dir);
    make_dir(at(broker, "pub"), 0755, 0);
    make_dir(at(broker, "pub/sub"), 0755, 0);
    make_dir(at(broker, "priv"), 0700, 0);
    make_dir(at(broker, "secret"), 0700, 0);
    make_dir(at(broker, "al"), 0755, ALICE);
    make_dir(at(broker, "sticky"), 01777, 0);
    file_write(at(broker, "pub/a"), "pub a\n", 0600, 0);
    file_write(at(broker, "pub/b"), "pub b\n", 0644, 0);
    file_write(at(broker, "pub/sub/c"), "pub sub c\n", 0600, 0);
    file_write(at(broker, "priv/f"), "priv f\n", 0600, 0);
    file_write(at(broker, "priv/shared"), "priv shared\n", 0666, 0);
    file_write(at(broker, "secret/f"), "SECRET\n", 0600, 0);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

/* ---- fobd ---- */

static const char *program(const char *name)
{
    static char path[512];
    const char *build = getenv("BUILD");
    snprintf(path, sizeof path, "%s/%s", build && *build ? build : "build", name);
    return path;
}

pid_t fobd_run(uid_t uid, const char *log, const char *const *arguments)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    dup2(fd, 1);
    dup2(fd, 2);
    char *copy[32] = { (char *)"fobd" };
    for (int i = 0; arguments[i] && i < 30; i++)
        copy[i + 1] = (char *)arguments[i];
    if (uid && (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
        _exit(126);
    execv(program("fobd"), copy);
    _exit(127);
}

int child_wait(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* text with the directory for every `@`. */
static void write_template(const struct broker *broker, const char *name, const char *text)
{
    FILE *out = fopen(at(broker, name), "we");
    assert_non_null(out);
    for (; *text; text++)
        if (*text == '@')
            fputs(broker->dir, out);
        else
            fputc(*text, out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(at(broker, name), 0644), 0);
}

static bool is_named(pid_t pid, const char *name)
{
    char path[64], comm[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    file_read(path, comm, sizeof comm);
    return strncmp(comm, name, strlen(name)) == 0 && comm[strlen(name)] == '\n';
}

static int children(pid_t parent, pid_t *pids, int max)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    if (file_read(path, text, sizeof text) < 0)
        return 0;
    int n = 0;
    for (char *word = strtok(text, " "); word && n < max; word = strtok(NULL, " "))
        pids[n++] = (pid_t)atoi(word);
    return n;
}

int broker_workers(const struct broker *broker, pid_t *pids, int max)
{
    pid_t all[300];
    int found = 0, n = children(broker->pid, all, 300);
    for (int i = 0; i < n && found < max; i++)
        if (is_named(all[i], "fobd-worker"))
            pids[found++] = all[i];
    return found;
}

static int count_fds(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    int n = 0;
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n - 2;
}

static int count_worker_fds(const struct broker *broker)
{
    pid_t pids[300];
    int sum = 0, n = broker_workers(broker, pids, 300);
    for (int i = 0; i < n; i++)
        sum += count_fds(pids[i]);
    return sum;
}

const char *status_of(pid_t pid, const char *field)
{
    static char status[8192], value[8][128];
    static unsigned next;
    char path[64], *out = value[next++ % 8];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    assert_true(file_read(path, status, sizeof status) > 0);
    char *line = strstr(status, field);
    assert_non_null(line);
    line += strlen(field);
    while (isspace((unsigned char)*line) && *line != '\n')
        line++;
    size_t len = strcspn(line, "\n");
    snprintf(out, 128, "%.*s", (int)len, line);
    for (len = strlen(out); len && isspace((unsigned char)out[len - 1]);)
        out[--len] = '\0';
    return out;
}

/* Shared with the clients: entries that were asked for since the broker began. */
static unsigned *requests;

void count_requests(unsigned n)
{
    __atomic_add_fetch(requests, n, __ATOMIC_RELAXED);
}

static void print_log(const struct broker *broker)
{
    static char text[8192];
    if (file_read(at(broker, "fobd.log"), text, sizeof text) > 0)
        print_error("fobd said:\n%s", text);
}

static bool serves(const struct broker *broker)
{
    static char text[8192];
    return file_read(at(broker, "fobd.log"), text, sizeof text) > 0 && strstr(text, "serving ");
}

void broker_start(struct broker *broker, const char *policy, const char *config)
{
    if (!requests)
        requests = mmap(NULL, sizeof *requests, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *requests = 0;
    char text[2048];
    snprintf(text, sizeof text, "socket @/sock\npolicy @/test.policy\naudit file @/audit.log\nuser %d\n%s\n",
             WORKER_UID, config);
    write_template(broker, "fobd.conf", text);
    write_template(broker, "test.policy", policy);
    const char *arguments[] = { "-f", at(broker, "fobd.conf"), NULL };
    broker->pid = fobd_run(0, at(broker, "fobd.log"), arguments);
    for (int i = 0; i < 500 && !serves(broker) && waitpid(broker->pid, NULL, WNOHANG) == 0; i++)
        usleep(10000);
    if (!serves(broker)) {
        print_log(broker);
        fail_msg("fobd did not start");
    }
    broker->worker_fds = count_worker_fds(broker);
}

/* Renamed into place: it is never read half. */
void broker_write_policy(const struct broker *broker, const char *policy)
{
    write_template(broker, "new", policy);
    assert_int_equal(rename(at(broker, "new"), at(broker, "test.policy")), 0);
}

void broker_begin(struct broker *broker, const char *policy)
{
    broker_prepare(broker);
    broker_start(broker, policy, "workers 2");
}

static void hello_client(struct client_env *env)
{
    int sock = raw_connect(env->broker);
    struct wire_header header = { WIRE_HEADER_SIZE, WIRE_HELLO, 0, 7 };
    uint8_t out[WIRE_HEADER_SIZE], in[64];
    wire_encode_header(out, sizeof out, &header);
    CHECK_EQ(msg_send(sock, out, sizeof out, NULL, 0, NULL, 0), 0);
    CHECK_EQ(recv(sock, in, sizeof in, 0), WIRE_HEADER_SIZE + WIRE_HELLO_SIZE);
    close(sock);
}

static int count_zombies(const struct broker *broker)
{
    pid_t pids[300];
    int zombies = 0, n = children(broker->pid, pids, 300);
    for (int i = 0; i < n; i++) {
        char path[64], text[512];
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pids[i]);
        if (file_read(path, text, sizeof text) > 0 && strstr(text, ") Z "))
            zombies++;
    }
    return zombies;
}

void broker_finish(struct broker *broker)
{
    as_user(broker, BOB, hello_client, NULL);
    WAIT_FOR(count_worker_fds(broker) == broker->worker_fds);
    if (count_worker_fds(broker) != broker->worker_fds)
        print_log(broker);
    assert_int_equal(count_worker_fds(broker), broker->worker_fds);
    WAIT_FOR(count_zombies(broker) == 0);
    assert_int_equal(count_zombies(broker), 0);
    if (!broker->uncounted) {
        WAIT_FOR(audit_count(broker, "\"op\":\"open\"", NULL) +
                     audit_count(broker, "\"op\":\"check\"", NULL) >=
                 (int)*requests);
        assert_int_equal(audit_count(broker, "\"op\":\"open\"", NULL) +
                             audit_count(broker, "\"op\":\"check\"", NULL),
                         *requests);
    }
    broker_end(broker);
}

void broker_end(struct broker *broker)
{
    if (broker->pid > 0) {
        assert_int_equal(kill(broker->pid, SIGTERM), 0);
        int status = child_wait(broker->pid);
        if (status)
            print_log(broker);
        assert_int_equal(status, 0);
        assert_int_equal(access(broker->socket, F_OK), -1);
    }
    assert_int_equal(nftw(broker->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT), 0);
}

/* ---- clients ---- */

void check_in_client(bool held, const char *what, const char *file, int line)
{
    if (held)
        return;
    fprintf(stderr, "%s:%d: client: not true: %s (errno %s)\n", file, line, what, strerror(errno));
    _exit(STATUS_FAILED);
}

void check_equal_in_client(long long got, long long want, const char *what, const char *file, int line)
{
    if (got == want)
        return;
    fprintf(stderr, "%s:%d: client: %s is %lld, not %lld\n", file, line, what, got, want);
    _exit(STATUS_FAILED);
}

void skip_in_client(const char *reason)
{
    fprintf(stderr, "skipped: %s\n", reason);
    _exit(STATUS_SKIPPED);
}

int as_user_groups(const struct broker *broker, uid_t uid, gid_t gid, const gid_t *groups, size_t n,
                   client_fn *fn, void *data)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return child_wait(pid);
    if (setgroups(n, groups) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
        _exit(126);
    struct client_env env = { broker, data };
    fn(&env);
    _exit(0);
}

void as_user(const struct broker *broker, uid_t uid, client_fn *fn, void *data)
{
    int status = as_user_groups(broker, uid, uid, NULL, 0, fn, data);
    if (status == STATUS_SKIPPED)
        skip();
    if (status && broker->pid > 0)
        print_log(broker);
    assert_int_equal(status, 0);
}

int raw_connect(const struct broker *broker)
{
    int sock = sock_connect(broker->socket, SOCK_SEQPACKET);
    CHECK(sock >= 0);
    return sock;
}

/* By hand: wire_encode_entry() would not make the wrong ones. */
static size_t put_entry(uint8_t *out, const char *path, size_t len, uint32_t flags, uint32_t mode)
{
    memcpy(out, &flags, 4);
    memcpy(out + 4, &mode, 4);
    memcpy(out + 8, &(uint16_t){ (uint16_t)len }, 2);
    memset(out + 10, 0, 2);
    memcpy(out + WIRE_ENTRY_SIZE, path, len);
    size_t padded = (len + 3) / 4 * 4;
    memset(out + WIRE_ENTRY_SIZE + len, 0, padded - len);
    return WIRE_ENTRY_SIZE + padded;
}

int raw_ask(int sock, int op, const char *path, size_t len, uint32_t flags, uint32_t mode, int *fd)
{
    static uint8_t out[WIRE_MAX_MESSAGE + 8], in[4096];
    static struct msg_in message;
    size_t size = WIRE_HEADER_SIZE + put_entry(out + WIRE_HEADER_SIZE, path, len, flags, mode);
    struct wire_header header = { (uint32_t)size, (uint16_t)op, 1, 42 };
    wire_encode_header(out, sizeof out, &header);
    *fd = -1;
    if (msg_send(sock, out, size, NULL, 0, NULL, 0) < 0)
        return -1;
    count_requests(1);
    if (msg_recv(sock, in, sizeof in, 0, &message) != 1)
        return -1;
    struct wire_result result;
    CHECK_EQ(message.len, WIRE_HEADER_SIZE + WIRE_RESULT_SIZE);
    CHECK_EQ(wire_decode_result(in + WIRE_HEADER_SIZE, WIRE_RESULT_SIZE, &result), 0);
    CHECK_EQ(message.n_fds, result.fd_index == WIRE_NO_FD ? 0 : 1);
    if (message.n_fds)
        *fd = message.fds[0];
    return result.error;
}

int raw_open(int sock, const char *path, uint32_t flags, mode_t mode, int *fd)
{
    return raw_ask(sock, WIRE_OPEN, path, strlen(path), flags, mode, fd);
}

int open_once(const struct broker *broker, const char *path, uint32_t flags, int *fd)
{
    int got, sock = raw_connect(broker);
    int error = raw_open(sock, path, flags, 0, &got);
    close(sock);
    if (fd)
        *fd = got;
    else if (got >= 0)
        close(got);
    return error;
}

bool fd_reads(int fd, const char *text)
{
    char got[256];
    ssize_t n = pread(fd, got, sizeof got, 0);
    return n == (ssize_t)strlen(text) && memcmp(got, text, (size_t)n) == 0;
}

/* ---- audit ---- */

static int count_records(const struct broker *broker, const char *a, const char *b)
{
    FILE *in = fopen(broker->audit, "re");
    if (!in)
        return 0;
    char *line = NULL;
    size_t size = 0;
    int n = 0;
    while (getline(&line, &size, in) > 0)
        n += (!a || strstr(line, a)) && (!b || strstr(line, b));
    free(line);
    fclose(in);
    return n;
}

/* Records come some milliseconds after the answers, on a busy machine later: until no more come. */
int audit_count(const struct broker *broker, const char *a, const char *b)
{
    struct stat st = { .st_size = 0 };
    off_t before = -1;
    for (int same = 0; same < 2; same = st.st_size == before ? same + 1 : 0) {
        before = st.st_size;
        usleep(20000);
        stat(broker->audit, &st);
    }
    return count_records(broker, a, b);
}

int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
