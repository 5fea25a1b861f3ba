/*
 * For test_faults_request.c: the files, the policy and the parts of a broker, and a worker in this process,
 * for each failure a new one.
 */
#ifndef FOB_TESTS_FAULTS_WORLD_H
#define FOB_TESTS_FAULTS_WORLD_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/connection.h"
#include "../../broker/rate.h"
#include "../../broker/request.h"
#include "../../common/log.h"
#include "../../common/msg.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "faults.h"

enum { ALICE = 2001 };

static const char policy_text[] = "allow any read @/pub/** @/single\n"
                                  "deny any read @/pub/denied id=denied\n"
                                  "allow any read,write,create @/new/** mode=0640\n"
                                  "allow any read,list @/list @/list/**\n"
                                  "allow any stat @/stat/** type=file,dir\n"
                                  "allow any read @/plain/** seal=no\n"
                                  "allow any read @/open/**\n"
                                  "allow any read,write @/as/** as=caller\n"
                                  "allow any read,write,create @/slow/**\n"
                                  "allow any append,create @/sticky/**\n"
                                  "allow any read,write,create @/alice/** as=caller\n";

/* ---- files ---- */

static char dir[] = "/tmp/fob-faults.XXXXXX";

static inline const char *at(const char *path)
{
    static char buffers[4][4200];
    static unsigned next;
    char *out = buffers[next++ % 4];
    snprintf(out, sizeof buffers[0], "%s%s%s", *path == '/' ? "" : dir, *path == '/' ? "" : "/", path);
    return out;
}

static inline void make_file(const char *path, mode_t mode, uid_t uid)
{
    int fd = open(at(path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, "text\n", 5), 0);
    assert_int_equal(geteuid() == 0 ? fchown(fd, uid, uid) : 0, 0);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static inline void make_dir(const char *path, mode_t mode)
{
    assert_int_equal(mkdir(at(path), 0700), 0);
    assert_int_equal(chmod(at(path), mode), 0);
}

static inline void write_policy(void)
{
    FILE *out = fopen(at("test.policy"), "we");
    assert_non_null(out);
    for (const char *p = policy_text; *p; p++)
        if (*p == '@')
            fputs(dir, out);
        else
            fputc(*p, out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(at("test.policy"), 0644), 0);
}

static inline void make_files(void)
{
    static const char *const dirs[] = { "pub",  "pub/sub", "secret", "new", "list",
                                        "stat", "stat/d",  "plain",  "as",  "slow" };
    static const char *const files[] = { "pub/a",  "pub/b",   "pub/denied", "secret/f", "new/y",
                                         "stat/f", "plain/f", "as/f",       "slow/f" };
    uid_t own = geteuid();
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0755), 0);
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        make_dir(dirs[i], 0755);
    make_dir("open", 0777);
    make_dir("sticky", 01777);
    make_dir("alice", 0755);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        make_file(files[i], 0600, own);
    make_file("sticky/other", 0666, own == 0 ? ALICE : own);
    make_file("new/suid", 04755, own);
    make_file("alice/root", 0600, own);
    make_file("alice/own", 0600, own == 0 ? ALICE : own);
    assert_int_equal(own == 0 ? chown(at("alice"), ALICE, ALICE) : 0, 0);
    assert_int_equal(mkfifo(at("pub/fifo"), 0600), 0);
    assert_int_equal(link(at("secret/f"), at("open/hard")), 0);
    assert_int_equal(symlink("a", at("pub/good")), 0);
    assert_int_equal(symlink("../secret/f", at("pub/bad")), 0);
    assert_int_equal(symlink("../secret", at("pub/up")), 0);
    assert_int_equal(symlink(at("pub/a"), at("plain/good")), 0);
    assert_int_equal(symlink("../pub/a", at("plain/dots")), 0);
    assert_int_equal(symlink("../secret/f", at("plain/bad")), 0);
}

/* ---- the broker's parts, but for the worker ---- */

static struct config config;
static struct generation generation;
static struct worker_setup setup = { .workers = 1, .control = -1, .predecessor = -1 };
static struct sealer_channel channel = { .sock = -1 };
static struct confine_plan plan;
static struct sock_name name;
static int queue[2], wake = -1; /* to slow openers, and back */
static pid_t sealer;
static bool seals; /* directories can be sealed here */

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline void start_sealer(void)
{
    plan = (struct confine_plan){ geteuid() == 0, 64999, 64999, generation.needs, &generation.mounts, false };
    sealer = sealer_start(&channel, 1, &plan);
    int twin = open(at("list"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = sealer_seal(&channel, twin, 0);
    seals = fd >= 0;
    fd_close(fd);
    fd_close(twin);
}

/* As if a FUSE file system were mounted there. */
static inline void make_slow(const char *path)
{
    struct mounts *m = &generation.mounts;
    m->blocking = realloc(m->blocking, (m->n_blocking + 1) * sizeof *m->blocking);
    assert_non_null(m->blocking);
    m->blocking[m->n_blocking++] = strdup(path);
}

static inline void load(void)
{
    config.policy = strdup(at("test.policy"));
    assert_int_equal(generation_load(&generation, &config, 1, stderr), 0);
    assert_int_equal(generation_clone_mounts(&generation), 0);
    assert_int_equal(generation_share(&generation, 1), 0);
    make_slow(at("slow"));
}

static inline int group_setup(void **state)
{
    (void)state;
    static const struct sock_listen_options options = { SOCK_SEQPACKET, 0666, (gid_t)-1, 16 };
    log_set_level(LOG_LEVEL_ERROR);
    umask(0);
    signal(SIGPIPE, SIG_IGN);
    make_files();
    write_policy();
    load();
    start_sealer();
    setup.config = &config;
    setup.generation = &generation;
    setup.sealer = &channel;
    setup.quota = quota_new(1, 100, 100);
    setup.rate = rate_new(0);
    setup.board = board_new(1);
    setup.jobs = jobs_new(4, 4);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, queue), 0);
    wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    setup.slow_queue = queue[0];
    setup.wakes = &wake;
    board_announce(setup.board, 1);
    assert_int_equal(audit_open(&setup.audit, CONFIG_AUDIT_FILE, at("audit.log")), 0);
    setup.listeners[LISTENER_STREAM] = setup.listeners[LISTENER_DATAGRAM] = -1;
    setup.listeners[0] = sock_listen(at("sock"), &options, &name);
    assert_true(setup.listeners[0] >= 0);
    return fcntl(setup.listeners[0], F_SETFL, O_NONBLOCK);
}

static inline int group_teardown(void **state)
{
    (void)state;
    fd_close(channel.sock);
    if (sealer > 0)
        waitpid(sealer, NULL, 0);
    fd_close_many(queue, 2);
    fd_close(wake);
    fd_close(setup.listeners[0]);
    sock_unlisten(&name);
    audit_close(setup.audit);
    board_free(setup.board);
    jobs_free(setup.jobs);
    rate_free(setup.rate);
    quota_free(setup.quota);
    generation_deinit(&generation);
    free(config.policy);
    return nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- a worker, for each failure a new one, and a slow opener that works for it ---- */

static struct worker *worker, *helper;
static bool helper_hangs;

static inline struct worker *worker_of(bool can_switch)
{
    struct worker *made = mem_zalloc(1, sizeof *made);
    assert_non_null(made);
    made->setup = &setup;
    made->job = made->epoll = made->reserve = made->successor = made->predecessor = -1;
    made->counters = board_counters(setup.board, 0);
    made->clients.policy = generation.policy;
    made->in_flight_max = 100;
    made->in_flight_user_max = 3;
    made->opener = (struct opener){
        .generation = &generation,
        .scratch = policy_scratch_new(generation.policy),
        .assume = worker ? worker->opener.assume : assume_new(can_switch), /* one process, one identity */
        .sealer = &channel,
        .may_wait = worker != NULL,
        .proc_self_fd = open("/proc/self/fd", O_PATH | O_CLOEXEC),
    };
    assert_true(made->opener.scratch && made->opener.assume && made->opener.proc_self_fd >= 0);
    return made;
}

static inline void worker_begin(bool can_switch)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = (void *)&setup.listeners[0] };
    quota_forget_worker(setup.quota, 0); /* one that ended by itself */
    board_leave(setup.board, 0);
    worker = NULL;
    worker = worker_of(can_switch);
    helper = worker_of(can_switch);
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    worker->reserve = fcntl(worker->epoll, F_DUPFD_CLOEXEC, 0);
    assert_int_equal(epoll_ctl(worker->epoll, EPOLL_CTL_ADD, setup.listeners[0], &event), 0);
}

static inline bool count_connections(uid_t uid, unsigned connections, void *sum)
{
    (void)uid;
    *(unsigned *)sum += connections;
    return true;
}

/* Nothing is kept for clients that are gone. */
static inline void check_empty(const struct worker *empty)
{
    assert_null(empty->connections);
    assert_null(empty->parked.first);
    assert_int_equal(empty->in_flight, 0);
    for (size_t i = 0; i < CLIENT_BUCKETS; i++)
        assert_true(!empty->clients.by_identity[i] && !empty->clients.by_uid[i]);
}

static inline void worker_end(void)
{
    unsigned connections = 0, jobs, stuck;
    uint64_t timeouts;
    quota_each(setup.quota, count_connections, &connections);
    jobs_count(setup.jobs, &jobs, &stuck, &timeouts);
    assert_int_equal(connections + jobs, 0);
    assert_false(board_is_busy(setup.board, 0));
    check_empty(worker);
    check_empty(helper);
    assume_free(worker->opener.assume);
    for (int i = 0; i < 2; i++) {
        struct worker *ended = i ? helper : worker;
        policy_scratch_free(ended->opener.scratch);
        fd_close(ended->opener.proc_self_fd);
        fd_close(ended->reserve);
        fd_close(ended->epoll);
        free(ended);
    }
}

/* As slow.c does it. */
static inline void help_client(const struct park_job *head, int fd)
{
    struct peer peer;
    if (peer_init(&peer, fd) < 0)
        return;
    struct connection connection = { .fd = fd,
                                     .pid = peer.pid,
                                     .client = client_ref(&helper->clients, &peer) };
    if (connection.client) {
        request_serve(helper, &connection, head->len, &head->sender);
        helper->in_flight = 0;
        client_unref(&helper->clients, connection.client);
    }
    peer_deinit(&peer);
}

static inline void help(void)
{
    static uint8_t bytes[sizeof(struct park_job) + WIRE_MAX_MESSAGE];
    static struct msg_in in;
    struct park_job head;
    faults_pause();
    int got = helper_hangs ? -EAGAIN : msg_recv(queue[1], bytes, sizeof bytes, MSG_DONTWAIT, &in);
    faults_resume();
    if (got != 1)
        return;
    memcpy(&head, bytes, sizeof head);
    helper->job = (int)head.job;
    helper->identity = head.identity;
    jobs_begin(setup.jobs, helper->job, getpid(), 0);
    if (jobs_state(setup.jobs, helper->job) == JOB_PENDING) {
        memcpy(helper->in, bytes + sizeof head, head.len);
        help_client(&head, in.fds[0]);
        jobs_move(setup.jobs, helper->job, JOB_PENDING, JOB_DIED);
    }
    audit_flush(setup.audit);
    fd_close(in.fds[0]);
    jobs_leave_opener(setup.jobs, helper->job);
}

/* As worker.c does it: what is ready, each once, and the audit. */
static inline void turn(void)
{
    struct epoll_event events[8];
    int n = epoll_wait(worker->epoll, events, ARRAY_SIZE(events), helper_hangs ? park_timeout(worker) : 0);
    faults_resume();
    worker->swept = false;
    for (int i = 0; i < n; i++)
        if (events[i].data.ptr == (void *)&setup.listeners[0])
            connection_accept(worker, setup.listeners[0]);
        else
            connection_serve(worker, events[i].data.ptr, events[i].events);
    help();
    if (worker->parked.first)
        park_serve(worker);
    audit_flush(setup.audit);
    faults_pause();
}

/* ---- what else happens ---- */

static inline unsigned count_lines(const char *text, const char *with)
{
    unsigned n = 0;
    for (const char *end; (end = strchr(text, '\n')); text = end + 1)
        n += !with || memmem(text, (size_t)(end - text), with, strlen(with));
    return n;
}

static inline off_t audit_size(void)
{
    struct stat st;
    assert_int_equal(fstat(audit_fd(setup.audit), &st), 0);
    return st.st_size;
}

/* Renames anything, for ever. */
static inline pid_t start_renaming(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        for (;;)
            if (rename(at("new/y"), at("new/z")) || rename(at("new/z"), at("new/y")))
                _exit(1);
    return pid;
}

#endif
