#include "fuse_server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../common/util.h"

enum {
    NODES = 512,
    HELD = 256, /* requests that may hang at a time */
    REQUEST_MAX = 1 << 16,
    KEPT_MAX = 1024, /* bytes of a request that hangs */
    NAME_MAX_LEN = 63,
    DATA_MAX = 4096,
    WRITE_MAX = 4096, /* the least that the kernel takes */
    CACHED_S = 1000,
    TICK_MS = 5,
    OPCODES = 64,
    PATIENCE_MS = 4000,
};

enum mode { HOLDING, RELEASED, FROZEN };

struct fuse_board {
    _Atomic int mode;
    _Atomic bool ready;
    _Atomic int error; /* why it did not start */
    _Atomic unsigned seen[OPCODES], hung;
};

/* ---- what names say ---- */

struct behaviour {
    const char *prefix;
    mode_t mode;             /* 0: does not exist by itself */
    uint32_t slow;           /* the opcode that it is slow in */
    int ms;                  /* 0: until released */
    unsigned name_s, attr_s; /* how long the kernel may keep them */
};

static const struct behaviour behaviours[] = {
    { "fast", S_IFREG | 0644, 0, 0, 0, 0 },
    { "later", S_IFREG | 0644, FUSE_OPEN, FUSE_SERVER_LATER_MS, CACHED_S, CACHED_S },
    { "slow-lookup", S_IFREG | 0644, FUSE_LOOKUP, 0, 0, CACHED_S },
    { "slow-open", S_IFREG | 0644, FUSE_OPEN, 0, CACHED_S, CACHED_S },
    { "slow-flush", S_IFREG | 0644, FUSE_FLUSH, 0, CACHED_S, CACHED_S },
    { "slow-stat", S_IFREG | 0644, FUSE_GETATTR, 0, CACHED_S, 0 },
    { "slow-list", S_IFDIR | 0755, FUSE_OPENDIR, 0, CACHED_S, CACHED_S },
    { "slow-create", 0, FUSE_CREATE, 0, 0, 0 },
    { "dir", S_IFDIR | 0755, 0, 0, 0, 0 },
    { "", 0, 0, 0, 0, 0 }, /* all others */
};

static const struct behaviour *behaviour_of(const char *name)
{
    const struct behaviour *b = behaviours;
    while (strncmp(name, b->prefix, strlen(b->prefix)) != 0)
        b++;
    return b;
}

/* ---- nodes; they are never forgotten ---- */

struct node {
    uint64_t parent;
    char name[NAME_MAX_LEN + 1];
    mode_t mode;
    uid_t uid;
    gid_t gid;
    size_t size;
    char data[DATA_MAX];
};

struct held {
    int64_t due; /* 0: the place is free */
    _Alignas(struct fuse_in_header) char request[KEPT_MAX];
};

struct server {
    int fd;
    struct fuse_board *board;
    size_t n_nodes;
    struct node nodes[NODES]; /* node id - 1; the first is the root */
    struct held held[HELD];
};

static struct node *node_get(struct server *s, uint64_t id)
{
    return id && id <= s->n_nodes ? &s->nodes[id - 1] : NULL;
}

static struct node *node_add(struct server *s, uint64_t parent, const char *name, mode_t mode)
{
    if (s->n_nodes == NODES || strlen(name) > NAME_MAX_LEN)
        return NULL;
    struct node *node = &s->nodes[s->n_nodes++];
    *node = (struct node){ .parent = parent, .mode = mode };
    memcpy(node->name, name, strlen(name));
    return node;
}

static struct node *node_find(struct server *s, uint64_t parent, const char *name)
{
    for (size_t i = 1; i < s->n_nodes; i++)
        if (s->nodes[i].parent == parent && strcmp(s->nodes[i].name, name) == 0)
            return &s->nodes[i];
    mode_t mode = behaviour_of(name)->mode;
    struct node *node = mode ? node_add(s, parent, name, mode) : NULL;
    if (node && S_ISREG(mode))
        node->size = (size_t)snprintf(node->data, sizeof node->data, "%s\n", name);
    return node;
}

static struct fuse_attr attr_of(const struct server *s, const struct node *node)
{
    return (struct fuse_attr){
        .ino = (uint64_t)(node - s->nodes) + 1,
        .size = node->size,
        .mode = node->mode,
        .nlink = S_ISDIR(node->mode) ? 2 : 1,
        .uid = node->uid,
        .gid = node->gid,
        .blksize = 4096,
    };
}

static struct fuse_entry_out entry_of(const struct server *s, const struct node *node)
{
    const struct behaviour *b = behaviour_of(node->name);
    return (struct fuse_entry_out){
        .nodeid = (uint64_t)(node - s->nodes) + 1,
        .entry_valid = b->name_s,
        .attr_valid = b->attr_s,
        .attr = attr_of(s, node),
    };
}

/* ---- answers ---- */

/* Fails when nobody waits any more: that is as well. */
static int reply(struct server *s, const struct fuse_in_header *in, int error, const void *body, size_t len)
{
    struct fuse_out_header out = { (uint32_t)(sizeof out + len), error, in->unique };
    struct iovec parts[] = { { &out, sizeof out }, { (void *)body, len } };
    return writev(s->fd, parts, len ? 2 : 1) < 0 ? -errno : 0;
}

static int serve_init(struct server *s, const struct fuse_in_header *in, const struct fuse_init_in *asked)
{
    /* Without PARALLEL_DIROPS one look-up that hangs would keep all others of its directory waiting. */
    struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = asked->minor < FUSE_KERNEL_MINOR_VERSION ? asked->minor : FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = asked->max_readahead,
        .flags = asked->flags & (FUSE_PARALLEL_DIROPS | FUSE_ASYNC_READ),
        .max_background = HELD,
        .congestion_threshold = HELD,
        .max_write = WRITE_MAX,
    };
    s->board->ready = true;
    return reply(s, in, 0, &out, sizeof out);
}

static int serve_lookup(struct server *s, const struct fuse_in_header *in, const char *name)
{
    const struct node *node = node_find(s, in->nodeid, name);
    struct fuse_entry_out out = node ? entry_of(s, node) : (struct fuse_entry_out){ 0 };
    return reply(s, in, node ? 0 : -ENOENT, &out, node ? sizeof out : 0);
}

static int serve_attr(struct server *s, const struct fuse_in_header *in, const struct node *node)
{
    struct fuse_attr_out out = { .attr_valid = behaviour_of(node->name)->attr_s, .attr = attr_of(s, node) };
    return reply(s, in, 0, &out, sizeof out);
}

/* The size alone: ftruncate(2). */
static int serve_setattr(struct server *s, const struct fuse_in_header *in, struct node *node,
                         const struct fuse_setattr_in *set)
{
    if (set->valid & FATTR_SIZE) {
        size_t size = set->size < DATA_MAX ? set->size : DATA_MAX;
        memset(node->data + size, 0, DATA_MAX - size);
        node->size = size;
    }
    return serve_attr(s, in, node);
}

/* DIRECT_IO: what the server has is what is read, not what the kernel kept. */
static struct fuse_open_out opened(const struct server *s, const struct node *node)
{
    return (struct fuse_open_out){
        .fh = (uint64_t)(node - s->nodes) + 1,
        .open_flags = S_ISDIR(node->mode) ? 0 : FOPEN_DIRECT_IO,
    };
}

static int serve_create(struct server *s, const struct fuse_in_header *in,
                        const struct fuse_create_in *create)
{
    const char *name = (const char *)(create + 1);
    struct node *node = node_add(s, in->nodeid, name, S_IFREG | (create->mode & 07777 & ~create->umask));
    if (!node)
        return reply(s, in, -ENOSPC, NULL, 0);
    node->uid = in->uid;
    node->gid = in->gid;
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out = { entry_of(s, node), opened(s, node) };
    return reply(s, in, 0, &out, sizeof out);
}

static int serve_read(struct server *s, const struct fuse_in_header *in, const struct node *node,
                      const struct fuse_read_in *rd)
{
    size_t left = rd->offset < node->size ? node->size - rd->offset : 0;
    return reply(s, in, 0, node->data + (left ? rd->offset : 0), left < rd->size ? left : rd->size);
}

static int serve_write(struct server *s, const struct fuse_in_header *in, struct node *node,
                       const struct fuse_write_in *wr)
{
    if (wr->offset > node->size || wr->size > DATA_MAX - wr->offset)
        return reply(s, in, -ENOSPC, NULL, 0);
    memcpy(node->data + wr->offset, wr + 1, wr->size);
    if (wr->offset + wr->size > node->size)
        node->size = wr->offset + wr->size;
    struct fuse_write_out out = { .size = wr->size };
    return reply(s, in, 0, &out, sizeof out);
}

/* All at once, or its end. */
static int serve_list(struct server *s, const struct fuse_in_header *in, const struct fuse_read_in *rd)
{
    static const char *const names[] = { ".", "..", "fast", "later", "dir" };
    _Alignas(struct fuse_dirent) char out[512] = { 0 };
    size_t len = 0;
    for (size_t i = rd->offset; i < ARRAY_SIZE(names); i++) {
        size_t name_len = strlen(names[i]);
        struct fuse_dirent entry = { .ino = i + 1, .off = i + 1, .namelen = (uint32_t)name_len };
        memcpy(out + len, &entry, FUSE_NAME_OFFSET);
        memcpy(out + len + FUSE_NAME_OFFSET, names[i], name_len);
        len += FUSE_DIRENT_SIZE(&entry);
    }
    return reply(s, in, 0, out, len <= rd->size ? len : 0);
}

static int serve_node(struct server *s, const struct fuse_in_header *in, struct node *node, const void *body)
{
    struct fuse_open_out open = opened(s, node);
    switch (in->opcode) {
    case FUSE_LOOKUP:
        return serve_lookup(s, in, body);
    case FUSE_GETATTR:
        return serve_attr(s, in, node);
    case FUSE_SETATTR:
        return serve_setattr(s, in, node, body);
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        return reply(s, in, 0, &open, sizeof open);
    case FUSE_CREATE:
        return serve_create(s, in, body);
    case FUSE_READ:
        return serve_read(s, in, node, body);
    case FUSE_WRITE:
        return serve_write(s, in, node, body);
    case FUSE_READDIR:
        return serve_list(s, in, body);
    default:
        return reply(s, in, -ENOSYS, NULL, 0);
    }
}

static int serve(struct server *s, const struct fuse_in_header *in)
{
    struct fuse_statfs_out statfs = { .st = { .bsize = 4096, .namelen = NAME_MAX_LEN } };
    struct node *node = node_get(s, in->nodeid);
    switch (in->opcode) {
    case FUSE_INIT:
        return serve_init(s, in, (const void *)(in + 1));
    case FUSE_STATFS:
        return reply(s, in, 0, &statfs, sizeof statfs);
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_FSYNC:
        return reply(s, in, 0, NULL, 0);
    default:
        return node ? serve_node(s, in, node, in + 1) : reply(s, in, -ENOENT, NULL, 0);
    }
}

/* ---- what hangs ---- */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const char *name_of(struct server *s, const struct fuse_in_header *in)
{
    const char *body = (const char *)(in + 1);
    if (in->opcode == FUSE_LOOKUP)
        return body;
    if (in->opcode == FUSE_CREATE)
        return body + sizeof(struct fuse_create_in);
    const struct node *node = node_get(s, in->nodeid);
    return node ? node->name : "";
}

/* When it is to be answered; 0: at once. */
static int64_t due_of(struct server *s, const struct fuse_in_header *in)
{
    int mode = s->board->mode;
    if (mode == FROZEN && in->opcode != FUSE_INIT)
        return INT64_MAX;
    const struct behaviour *b = behaviour_of(name_of(s, in));
    if (mode == RELEASED || b->slow != in->opcode)
        return 0;
    return b->ms ? now_ms() + b->ms + 1 : INT64_MAX; /* never before */
}

static void hold(struct server *s, const struct fuse_in_header *in, int64_t due)
{
    for (size_t i = 0; i < HELD; i++) {
        struct held *held = &s->held[i];
        if (held->due || in->len > sizeof held->request)
            continue;
        memcpy(held->request, in, in->len);
        held->due = due;
        s->board->hung++;
        return;
    }
    reply(s, in, -ENOMEM, NULL, 0);
}

static void serve_due(struct server *s)
{
    int64_t now = s->board->mode == RELEASED ? INT64_MAX : now_ms();
    for (size_t i = 0; i < HELD; i++) {
        struct held *held = &s->held[i];
        if (!held->due || held->due > now)
            continue;
        held->due = 0;
        serve(s, (const struct fuse_in_header *)(const void *)held->request);
        s->board->hung--;
    }
}

/* ---- the server's process ---- */

static int open_and_mount(struct server *s, const char *point)
{
    char options[128];
    s->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (s->fd < 0)
        return -errno;
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", s->fd);
    return mount("fob-test", point, "fuse", MS_NOSUID | MS_NODEV, options) < 0 ? -errno : 0;
}

/* False: it is unmounted. */
static bool serve_next(struct server *s)
{
    static _Alignas(struct fuse_in_header) char request[REQUEST_MAX];
    const struct fuse_in_header *in = (const void *)request;
    struct pollfd polled = { .fd = s->fd, .events = POLLIN };
    poll(&polled, 1, TICK_MS);
    serve_due(s);
    ssize_t len = read(s->fd, request, sizeof request);
    if (len < 0)
        return errno == EAGAIN || errno == EINTR || errno == ENOENT;
    if ((size_t)len < sizeof *in)
        return true;
    /* Nobody waits for an answer to these. An interrupted request goes on hanging. */
    if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT)
        return true;
    if (in->opcode < OPCODES)
        s->board->seen[in->opcode]++;
    s->board->seen[0]++;
    int64_t due = due_of(s, in);
    if (due)
        hold(s, in, due);
    else
        serve(s, in);
    return true;
}

static void server_run(struct fuse_board *board, const char *point, pid_t parent)
{
    static struct server s;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        return;
    prctl(PR_SET_NAME, "fob-test-fuse");
    close_range(3, ~0U, 0);
    s.board = board;
    node_add(&s, 0, "", S_IFDIR | 0755);
    int err = open_and_mount(&s, point);
    board->error = -err;
    while (err == 0 && serve_next(&s))
        ;
}

/* ---- the test's side ---- */

int fuse_server_start(struct fuse_server *fs, const char *point)
{
    *fs = (struct fuse_server){ 0 };
    snprintf(fs->point, sizeof fs->point, "%s", point);
    struct fuse_board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return -errno;
    fs->board = board;
    pid_t parent = getpid();
    fflush(NULL);
    fs->pid = fork();
    if (fs->pid == 0) {
        server_run(board, fs->point, parent);
        _exit(0);
    }
    for (int ms = 0; fs->pid > 0 && ms < PATIENCE_MS && !board->ready && !board->error; ms++)
        usleep(1000);
    if (board->ready)
        return 0;
    int err = fs->pid < 0 ? -EAGAIN : board->error ? -board->error : -ETIMEDOUT;
    fuse_server_stop(fs);
    return err;
}

int fuse_server_release(struct fuse_server *fs)
{
    fs->board->mode = RELEASED;
    for (int ms = 0; fs->pid > 0 && ms < PATIENCE_MS && fs->board->hung; ms++)
        usleep(1000);
    return fs->pid > 0 && fs->board->hung ? -ETIMEDOUT : 0;
}

void fuse_server_hold(struct fuse_server *fs)
{
    fs->board->mode = HOLDING;
}

void fuse_server_freeze(struct fuse_server *fs)
{
    fs->board->mode = FROZEN;
}

unsigned fuse_server_hung(const struct fuse_server *fs)
{
    return fs->board->hung;
}

unsigned fuse_server_seen(const struct fuse_server *fs, uint32_t opcode)
{
    return opcode < OPCODES ? fs->board->seen[opcode] : 0;
}

void fuse_server_abort(struct fuse_server *fs)
{
    if (fs->pid <= 0)
        return;
    kill(fs->pid, SIGKILL);
    while (waitpid(fs->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    fs->pid = 0;
    fs->board->hung = 0;
}

void fuse_server_stop(struct fuse_server *fs)
{
    if (!fs->board)
        return;
    umount2(fs->point, MNT_DETACH);
    fuse_server_abort(fs);
    umount2(fs->point, MNT_DETACH); /* if it had been about to mount */
    munmap(fs->board, sizeof *fs->board);
    *fs = (struct fuse_server){ 0 };
}
