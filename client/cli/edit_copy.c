#include "edit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

enum { CHUNK = 1 << 17, DEPTH_MAX = 16 };

/* ---- contents ---- */

static ssize_t read_full(int fd, char *buffer, off_t at)
{
    size_t len = 0;
    while (len < CHUNK) {
        ssize_t n = pread(fd, buffer + len, CHUNK - len, at + (off_t)len);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            return -errno;
        len += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)len;
}

static int write_full(int fd, const char *buffer, size_t len, off_t at)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, buffer + done, len - done, at + (off_t)done);
        if (n < 0 && errno != EINTR)
            return errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int contents_copy(int from, int to, off_t *len)
{
    static char buffer[CHUNK];
    for (off_t at = 0;;) {
        ssize_t n = read_full(from, buffer, at);
        int error = n < 0 ? (int)-n : write_full(to, buffer, (size_t)n, at);
        if (error)
            return error;
        at += n;
        if (n < CHUNK) {
            if (len)
                *len = at;
            return 0;
        }
    }
}

int contents_compare(int a, int b)
{
    static char buffers[2][CHUNK];
    for (off_t at = 0;; at += CHUNK) {
        ssize_t n = read_full(a, buffers[0], at);
        ssize_t m = n < 0 ? 0 : read_full(b, buffers[1], at);
        if (n < 0 || m < 0)
            return (int)(n < 0 ? n : m);
        if (n != m || memcmp(buffers[0], buffers[1], (size_t)n) != 0)
            return 0;
        if (n < CHUNK)
            return 1;
    }
}

/* ---- making ---- */

static bool is_ours(int fd, mode_t type)
{
    struct stat st;
    return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type && st.st_uid == geteuid();
}

/* The directory may stand where others can rename it: from here on it is known by its descriptor. */
static int make_directory_in(struct copy *copy, const char *parent)
{
    char *path;
    if (asprintf(&path, "%s/fob.XXXXXX", parent) < 0)
        return ENOMEM;
    if (!mkdtemp(path)) {
        int error = errno;
        free(path);
        return error;
    }
    copy->directory = path;
    copy->dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (copy->dir < 0)
        return errno;
    return is_ours(copy->dir, S_IFDIR) ? 0 : EPERM;
}

static int make_directory(struct copy *copy)
{
    const char *own = getenv("TMPDIR");
    const char *const parents[] = { own && *own == '/' ? own : "/tmp", "/tmp", "/var/tmp" };
    int error = 0;
    for (size_t i = 0; i < sizeof parents / sizeof *parents; i++) {
        error = make_directory_in(copy, parents[i]);
        if (error == 0 || copy->directory)
            break;
    }
    return error;
}

static int make_file(const struct copy *copy, const char *name)
{
    return openat(copy->dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static int fill(struct copy *copy, int from)
{
    copy->original = make_file(copy, copy->original_name);
    int fd = copy->original < 0 ? -1 : make_file(copy, copy->base);
    if (fd < 0)
        return errno;
    int error = from < 0 ? 0 : contents_copy(from, copy->original, NULL);
    if (from >= 0 && error == 0)
        error = contents_copy(copy->original, fd, NULL);
    if (close(fd) < 0 && !error)
        error = errno;
    return error;
}

static int make_both(struct copy *copy, const char *base, int from)
{
    int error = make_directory(copy);
    if (error == 0 && asprintf(&copy->path, "%s/%s", copy->directory, base) < 0) {
        copy->path = NULL;
        error = ENOMEM;
    }
    if (error)
        return error;
    copy->base = strrchr(copy->path, '/') + 1;
    return fill(copy, from);
}

int copy_make(struct copy *copy, const char *path, int from)
{
    const char *base = strrchr(path, '/') + 1;
    *copy = (struct copy){ .original_name = ".original", .dir = -1, .original = -1 };
    if (strcmp(base, copy->original_name) == 0)
        copy->original_name = ".original.1";
    mode_t mask = umask(0077); /* not less than 0700 and 0600 either, or the editor could not work */
    int error = make_both(copy, base, from);
    umask(mask);
    if (error && copy->directory)
        copy_remove(copy);
    return error;
}

/* ---- what the editor left ---- */

/* O_NONBLOCK: a FIFO must not hang us. */
int copy_reopen(const struct copy *copy, const char **why)
{
    int fd = openat(copy->dir, copy->base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        *why = errno == ENOENT  ? NULL
               : errno == ELOOP ? "is a symlink"
               : errno == ENXIO ? "is not a regular file of yours"
                                : strerror(errno);
    else if (!is_ours(fd, S_IFREG))
        *why = "is not a regular file of yours";
    else
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* ---- removing ---- */

static void empty_directory(int fd, int depth);

static void remove_entry(int dir, const char *name, int depth)
{
    if (unlinkat(dir, name, 0) == 0 || depth == 0)
        return;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        empty_directory(fd, depth - 1);
    unlinkat(dir, name, AT_REMOVEDIR);
}

/* Takes fd. What cannot be removed is told of by the rmdir(2) of the whole. */
static void empty_directory(int fd, int depth)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_entry(fd, entry->d_name, depth);
    closedir(dir);
}

void copy_remove(struct copy *copy)
{
    if (copy->dir >= 0)
        empty_directory(copy->dir, DEPTH_MAX);
    copy->dir = -1;
    if (rmdir(copy->directory) < 0 && errno != ENOENT)
        cli_say_why(copy->directory, "is left over: %s", strerror(errno));
}

bool copy_keep(struct copy *copy)
{
    unlinkat(copy->dir, copy->original_name, 0);
    return rmdir(copy->directory) < 0 && errno != ENOENT;
}

void copy_deinit(struct copy *copy)
{
    if (copy->original >= 0)
        close(copy->original);
    if (copy->dir >= 0)
        close(copy->dir);
    free(copy->directory);
    free(copy->path);
}
