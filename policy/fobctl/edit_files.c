#include "edit_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "../../common/util.h"

enum { TEXT_BYTES_MAX = 64 << 20, PERMISSIONS = 0777 };

static const char suffix[] = ".policy";

static bool has_policy_name(const char *base)
{
    size_t len = strlen(base), suffix_len = sizeof suffix - 1;
    return len > suffix_len && strcmp(base + len - suffix_len, suffix) == 0;
}

/* ---- text ---- */

bool text_is(const struct text *a, const struct text *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

static int read_all(struct text *out, int fd, size_t expected)
{
    size_t cap = expected + 1; /* the last byte: to see the end without growing */
    out->bytes = mem_zalloc(cap, 1);
    if (!out->bytes)
        return -ENOMEM;
    while (out->len <= TEXT_BYTES_MAX) {
        if (mem_grow(&out->bytes, out->len, &cap, 1) < 0)
            return -ENOMEM;
        ssize_t n = read(fd, out->bytes + out->len, cap - out->len);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        out->len += n > 0 ? (size_t)n : 0;
    }
    return -EFBIG;
}

/* O_NONBLOCK: a FIFO must not hang us. */
int text_read(struct text *out, int dir, const char *name, struct stat *st)
{
    *out = (struct text){ 0 };
    CLEANUP(fd_cleanup)
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, st) < 0)
        return errno == ENXIO ? -ENOTSUP : -errno; /* a socket */
    if (!S_ISREG(st->st_mode))
        return -ENOTSUP;
    if (st->st_size > TEXT_BYTES_MAX)
        return -EFBIG;
    int err = read_all(out, fd, (size_t)st->st_size);
    if (err < 0) {
        free(out->bytes);
        *out = (struct text){ 0 };
    }
    return err;
}

const char *text_read_error(int err)
{
    switch (err) {
    case -ELOOP:
        return "is a symlink (edit the file that it leads to)";
    case -ENOTSUP:
        return "is not a regular file";
    default:
        return strerror(-err);
    }
}

/* A new file with the owner and mode of another. Nothing is left of it after an error. */
static int write_as(int dir, const char *name, const struct text *text, const struct stat *like, bool sync)
{
    CLEANUP(fd_cleanup)
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0)
        return -errno;
    int err = fd_write_all(fd, text->bytes, text->len);
    if (err == 0 && fstat(fd, &st) < 0)
        err = -errno;
    bool same_owner = err == 0 && st.st_uid == like->st_uid && st.st_gid == like->st_gid;
    if (err == 0 && !same_owner && fchown(fd, like->st_uid, like->st_gid) < 0)
        err = -errno;
    if (err == 0 && (fchmod(fd, like->st_mode & PERMISSIONS) < 0 || (sync && fsync(fd) < 0)))
        err = -errno;
    if (err < 0)
        unlinkat(dir, name, 0);
    return err;
}

/* ---- the file ---- */

/* A name alone is one in the system's policy. */
static int split_path(struct policy_file *file, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash)
        file->heap = strdup(path);
    else if (asprintf(&file->heap, "%s/%s", DEFAULT_POLICY, path) < 0)
        file->heap = NULL;
    file->path = file->heap ? strdup(file->heap) : NULL;
    if (!file->path)
        return -ENOMEM;
    char *split = strrchr(file->heap, '/');
    *split = '\0';
    file->base = split + 1;
    file->directory = split == file->heap ? "/" : file->heap;
    return 0;
}

/* Before the editor starts, not after an hour of editing. */
static int open_directory(struct policy_file *file)
{
    file->dir = open(file->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file->dir < 0)
        return -errno;
    return faccessat(file->dir, ".", W_OK | X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

static void expect_new(struct policy_file *file)
{
    file->existed = false;
    file->st = (struct stat){ .st_mode = 0644, .st_uid = geteuid(), .st_gid = getegid() };
}

int policy_file_init(struct policy_file *file, const char *path)
{
    *file = (struct policy_file){ .dir = -1, .existed = true };
    int err = split_path(file, path);
    if (err < 0) {
        say("%s: %s", path, strerror(-err));
        return STATUS_NO;
    }
    if (!has_policy_name(file->base))
        return usage_error("edit", "%s: is no policy file: its name does not end in %s", path, suffix);
    err = open_directory(file);
    if (err < 0) {
        say("%s: %s", file->directory, strerror(-err));
        return STATUS_NO;
    }
    err = text_read(&file->text, file->dir, file->base, &file->st);
    if (err < 0 && err != -ENOENT) {
        say("%s: %s", file->path, text_read_error(err));
        return STATUS_NO;
    }
    if (err == -ENOENT)
        expect_new(file);
    return STATUS_YES;
}

void policy_file_deinit(struct policy_file *file)
{
    fd_close(file->dir);
    free(file->text.bytes);
    free(file->path);
    free(file->heap);
}

/* ---- the candidate ---- */

/* What is no regular file stands for itself: loading refuses it here as the broker would there. */
static int copy_strange(int to, const char *name, mode_t mode)
{
    if (S_ISLNK(mode))
        return symlinkat(name, to, name) < 0 ? -errno : 0;
    return mkfifoat(to, name, 0600) < 0 ? -errno : 0;
}

/* The owner as far as we may: else it is ours, which is trusted, and the broker has the last word. */
static int write_candidate(int to, const char *name, const struct text *text, const struct stat *like)
{
    int err = write_as(to, name, text, like, false);
    if (err != -EPERM && err != -EINVAL)
        return err;
    struct stat ours = *like;
    ours.st_uid = geteuid();
    ours.st_gid = getegid();
    return write_as(to, name, text, &ours, false);
}

static int copy_file(const struct policy_file *file, int to, const char *name)
{
    struct stat st;
    struct text text = { 0 };
    if (fstatat(file->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno; /* removed just now */
    if (!S_ISREG(st.st_mode))
        return copy_strange(to, name, st.st_mode);
    int err = text_read(&text, file->dir, name, &st);
    if (err < 0)
        say("%s/%s: %s", file->directory, name, text_read_error(err));
    else
        err = write_candidate(to, name, &text, &st);
    free(text.bytes);
    return err;
}

static int is_policy_entry(const struct dirent *entry)
{
    return has_policy_name(entry->d_name);
}

static int copy_others(const struct policy_file *file, int to)
{
    struct dirent **entries;
    int n = scandirat(file->dir, ".", &entries, is_policy_entry, alphasort);
    int err = n < 0 ? -errno : 0;
    for (int i = 0; i < n; i++) {
        if (err == 0 && strcmp(entries[i]->d_name, file->base) != 0)
            err = copy_file(file, to, entries[i]->d_name);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return err;
}

/* The directory's own owner and mode are part of what is checked; `parent` keeps others out. */
static int copy_directory(const struct policy_file *file, int to)
{
    struct stat st;
    if (fstat(file->dir, &st) < 0)
        return -errno;
    if (fchown(to, st.st_uid, st.st_gid) < 0 && errno != EPERM && errno != EINVAL)
        return -errno;
    return fchmod(to, (st.st_mode & PERMISSIONS) | S_IRWXU) < 0 ? -errno : 0;
}

int candidate_make(char **out, const struct policy_file *file, const struct text *text, const char *parent)
{
    char *path;
    if (asprintf(&path, "%s/policy.XXXXXX", parent) < 0)
        return -ENOMEM;
    if (!mkdtemp(path)) {
        int err = -errno;
        free(path);
        return err;
    }
    CLEANUP(fd_cleanup) int to = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int err = to < 0 ? -errno : copy_others(file, to);
    if (err == 0)
        err = write_candidate(to, file->base, text, &file->st);
    if (err == 0)
        err = copy_directory(file, to);
    if (err == 0) {
        *out = path;
        return 0;
    }
    directory_remove(path);
    free(path);
    return err;
}

/* ---- replacing ---- */

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Mode and owner too: what was changed meanwhile would be undone. */
static bool is_as_it_was(const struct policy_file *file)
{
    struct stat now;
    const struct stat *then = &file->st;
    if (fstatat(file->dir, file->base, &now, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT && !file->existed;
    return file->existed && now.st_dev == then->st_dev && now.st_ino == then->st_ino &&
           now.st_size == then->st_size && same_time(&now.st_mtim, &then->st_mtim) &&
           now.st_mode == then->st_mode && now.st_uid == then->st_uid && now.st_gid == then->st_gid;
}

/* Beside the file, by a name that is no policy's. */
static int write_temporary(const struct policy_file *file, const struct text *text, char name[NAME_MAX + 1])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
    int err = -EEXIST;
    for (int attempt = 0; err == -EEXIST && attempt < 16; attempt++) {
        unsigned char random[6];
        if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
            return -EIO;
        for (size_t i = 0; i < sizeof random; i++)
            random[i] = (unsigned char)letters[random[i] % (sizeof letters - 1)];
        snprintf(name, NAME_MAX + 1, ".%.*s.%.6s", NAME_MAX - 8, file->base, (const char *)random);
        err = write_as(file->dir, name, text, &file->st, true);
    }
    return err;
}

/* A file that was not there must not be one that appeared since we looked; not all file systems can say so.
 */
static int rename_over(const struct policy_file *file, const char *name)
{
    if (!file->existed) {
        if (renameat2(file->dir, name, file->dir, file->base, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno != EINVAL && errno != ENOSYS)
            return -errno;
    }
    return renameat(file->dir, name, file->dir, file->base) < 0 ? -errno : 0;
}

enum replace policy_file_replace(const struct policy_file *file, const struct text *text)
{
    char name[NAME_MAX + 1];
    int err = write_temporary(file, text, name);
    if (err < 0) {
        say("%s: a new file cannot be written beside it: %s", file->path, strerror(-err));
        return REPLACE_FAILED;
    }
    bool changed = !is_as_it_was(file);
    err = changed ? -EEXIST : rename_over(file, name);
    if (err < 0) {
        say("%s: %s", file->path, err == -EEXIST ? "was changed by somebody else meanwhile" : strerror(-err));
        if (unlinkat(file->dir, name, 0) < 0)
            say("%s/%s: is left over: %s", file->directory, name, strerror(errno));
        return REPLACE_FAILED;
    }
    /* EINVAL: a file system that knows no such thing */
    if (fsync(file->dir) == 0 || errno == EINVAL)
        return REPLACE_DONE;
    say("%s: in place, but not for sure on disk: %s", file->path, strerror(errno));
    return REPLACE_DOUBT;
}

/* ---- removing ---- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    if (remove(path) < 0)
        say("%s: is left over: %s", path, strerror(errno));
    return 0;
}

void directory_remove(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
