/*
 * A program in a sandbox, for bubblewrap.sh: it gets files by libfob, and tries to get more.
 *
 *   sandbox read PATH         prints a file
 *   sandbox copy              prints standard input
 *   sandbox directory PATH    gets a directory, then as escape
 *   sandbox escape FD NAMES   tries every way from the directory FD to what is above it, and says how many
 * led out; NAMES: what may be seen, sorted, with a blank behind each
 *
 * Some ways need /proc, or CAP_SYS_CHROOT: they are tried where they can be.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../../client/fob.h"

enum { UP = 12, NAMES_SIZE = 1024, MAX_HANDLE = 128 };

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

static int copy(int fd)
{
    char text[4096];
    ssize_t n;
    while ((n = read(fd, text, sizeof text)) > 0)
        fwrite(text, 1, (size_t)n, stdout);
    return n < 0 ? fail("read") : 0;
}

/* ---- what a directory shows ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Its names, sorted, each with a blank behind it. */
static void names_of(int fd, char out[NAMES_SIZE])
{
    char *names[64];
    size_t n = 0, used = 0;
    int again = dup(fd);
    DIR *dir = again < 0 ? NULL : fdopendir(again);
    const struct dirent *entry;
    if (dir)
        rewinddir(dir);
    while (dir && n < 64 && (entry = readdir(dir)))
        if (entry->d_name[0] != '.')
            names[n++] = strdup(entry->d_name);
    qsort(names, n, sizeof *names, compare);
    out[0] = '\0';
    for (size_t i = 0; i < n && names[i] && used < NAMES_SIZE; i++) {
        used += (size_t)snprintf(out + used, NAMES_SIZE - used, "%s ", names[i]);
        free(names[i]);
    }
    if (dir)
        closedir(dir);
}

/* ---- ways out ---- */

struct escape {
    int fd;
    struct stat st;
    const char *names;
    int tried, led_out;
};

/* A descriptor that some way led to (-1: it led nowhere) is the directory itself, or something is wrong. */
static void judge(struct escape *e, const char *way, int got)
{
    struct stat st;
    char names[NAMES_SIZE];
    e->tried++;
    if (got < 0)
        return;
    names_of(got, names);
    bool same = fstat(got, &st) == 0 && st.st_dev == e->st.st_dev && st.st_ino == e->st.st_ino;
    if (!same || strcmp(names, e->names) != 0) {
        e->led_out++;
        printf("%s led to %s\n", way, names);
    }
    close(got);
}

static int open_dir(int at, const char *path)
{
    return openat(at, path, O_RDONLY | O_DIRECTORY);
}

static int open_with(int at, const char *path, __u64 resolve)
{
    struct open_how how = { .flags = O_RDONLY | O_DIRECTORY, .resolve = resolve };
    return (int)syscall(SYS_openat2, at, path, &how, sizeof how);
}

/* One step at a time: a path of many could be refused as a whole. */
static int climb(int fd)
{
    int at = dup(fd);
    for (int i = 0; i < UP && at >= 0; i++) {
        int above = open_dir(at, "..");
        close(at);
        at = above;
    }
    return at;
}

static void try_paths(struct escape *e)
{
    judge(e, "..", open_dir(e->fd, ".."));
    judge(e, "../.. at once", open_dir(e->fd, "../../../../../../../.."));
    judge(e, "climbing", climb(e->fd));
    judge(e, "a subdirectory's ../..", open_dir(e->fd, "sub/../.."));
    judge(e, "openat2", open_with(e->fd, "..", 0));
    judge(e, "openat2 in its root", open_with(e->fd, "../..", RESOLVE_IN_ROOT));
    if (openat(e->fd, "../../../../../../../../etc/passwd", O_RDONLY) >= 0) {
        e->led_out++;
        puts("a file led out");
    }
}

static void try_working_directory(struct escape *e)
{
    char path[PATH_MAX];
    if (fchdir(e->fd) < 0)
        return;
    judge(e, "fchdir, then ..", open_dir(AT_FDCWD, ".."));
    if (access("/proc/self/cwd", F_OK) == 0)
        judge(e, "/proc/self/cwd/..", open_dir(AT_FDCWD, "/proc/self/cwd/.."));
    judge(e, "fchdir, climbing", open_dir(AT_FDCWD, "../../../../../../../.."));
    for (int i = 0; i < UP; i++)
        if (chdir("..") < 0)
            break;
    judge(e, "chdir ..", open_dir(AT_FDCWD, "."));
    if (syscall(SYS_getcwd, path, sizeof path) > 0 && path[0] == '/') {
        e->led_out++;
        printf("getcwd: %s\n", path);
    }
}

static void try_proc(struct escape *e)
{
    char path[64];
    if (access("/proc/self/fd", F_OK) < 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d/..", e->fd);
    judge(e, "/proc/self/fd/N/..", open_dir(AT_FDCWD, path));
    snprintf(path, sizeof path, "/proc/self/fd/%d/sub/../..", e->fd);
    judge(e, "/proc/self/fd/N/sub/../..", open_dir(AT_FDCWD, path));
    int again = -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", e->fd);
    again = open_dir(AT_FDCWD, path);
    judge(e, "/proc/self/fd/N, then ..", again < 0 ? -1 : open_dir(again, ".."));
    close(again);
}

/* Around the directory tree, by a handle: the file system's root has a small one. */
static void try_handle(struct escape *e)
{
    union {
        struct file_handle handle;
        char bytes[sizeof(struct file_handle) + MAX_HANDLE];
    } u;
    int mount;
    memset(&u, 0, sizeof u);
    u.handle.handle_bytes = MAX_HANDLE;
    if (name_to_handle_at(e->fd, "", &u.handle, &mount, AT_EMPTY_PATH) < 0)
        return;
    judge(e, "a handle", open_by_handle_at(e->fd, &u.handle, O_RDONLY | O_DIRECTORY));
}

/* The old way out of a chroot(2): a directory that is not beneath the new root. Last: there is no way back.
 */
static void try_chroot(struct escape *e)
{
    if (mkdir("/tmp/fob-root", 0700) < 0 && errno != EEXIST)
        return;
    if (chroot("/tmp/fob-root") < 0)
        return;
    puts("in a chroot");
    try_paths(e);
    try_working_directory(e);
    if (fchdir(e->fd) == 0 && chroot(".") == 0)
        judge(e, "a chroot into it", open_dir(AT_FDCWD, "/.."));
}

static _Noreturn void escape(int fd, const char *names)
{
    struct escape e = { .fd = fd, .names = names };
    char seen[NAMES_SIZE];
    if (fstat(fd, &e.st) < 0)
        _exit(fail("descriptor"));
    names_of(fd, seen);
    if (strcmp(seen, names) != 0)
        printf("it shows: %s\n", seen);
    try_paths(&e);
    try_proc(&e);
    try_handle(&e);
    try_working_directory(&e);
    try_chroot(&e);
    printf("%d ways, %d led out\n", e.tried, e.led_out);
    _exit(e.led_out != 0); /* in a chroot(2) the sanitizers' last look would fail */
}

/* ---- all ---- */

static int get(const char *path, int flags)
{
    struct fob *fob = fob_connect(NULL);
    int fd = fob ? fob_open(fob, path, flags, 0) : -1;
    if (fd < 0)
        fail(fob ? path : "fob_connect");
    fob_close(fob);
    return fd;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "", *path = argc > 2 ? argv[2] : "";
    const char *names = argc > 3 ? argv[3] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
    if (strcmp(what, "copy") == 0)
        return copy(STDIN_FILENO);
    if (strcmp(what, "escape") == 0)
        escape(atoi(path), names);
    bool directory = strcmp(what, "directory") == 0;
    int fd = get(path, directory ? O_RDONLY | O_DIRECTORY : O_RDONLY);
    if (fd < 0)
        return 1;
    if (directory)
        escape(fd, names);
    return copy(fd);
}
