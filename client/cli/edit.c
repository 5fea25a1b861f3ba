/*
 * fob edit PATH: a private copy in the editor, written back into the file. From the editor's start until the
 * text is in the file or given up, whatever happens leaves it in the copy and says where that is.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "edit.h"

enum { NEW_FILE_MODE = 0666 };

struct edit {
    struct cli *cli;
    char *path;
    bool existed;
    struct stat st; /* when it was read; nothing known if it did not exist */
    struct copy copy;
    char *kept; /* the line that says where the text is */
};

/* ---- the file, before ---- */

/* Whether it may be made is known before somebody edits for an hour; that it could be made, only then. */
static int expect_new(const struct edit *edit)
{
    if (fob_check(edit->cli->fob, edit->path, O_WRONLY | O_CREAT) == 0)
        return STATUS_DONE;
    if (errno == EACCES)
        cli_say_why(edit->path, "No such file or directory (and to create it is refused by policy)");
    else
        cli_say(edit->path, errno);
    return STATUS_FAILED;
}

/* For reading and writing, though only read now: who may not write should know it now. */
static int open_file(struct edit *edit, int *fd)
{
    *fd = fob_open(edit->cli->fob, edit->path, O_RDWR, 0);
    if (*fd < 0 && errno == ENOENT)
        return expect_new(edit);
    edit->existed = true;
    if (*fd < 0 || fstat(*fd, &edit->st) < 0) {
        cli_say(edit->path, errno);
        return STATUS_FAILED;
    }
    if (S_ISREG(edit->st.st_mode))
        return STATUS_DONE;
    cli_say_why(edit->path, "is not a regular file");
    return STATUS_FAILED;
}

static char *kept_line(const struct edit *edit)
{
    char *line = NULL, *path = cli_escape(edit->path), *copy = cli_escape(edit->copy.path);
    if (path && copy && asprintf(&line, "fob: %s: not changed; your text is kept in %s\n", path, copy) < 0)
        line = NULL;
    free(path);
    free(copy);
    return line;
}

static int make_copy(struct edit *edit, int fd)
{
    int error = copy_make(&edit->copy, edit->path, fd);
    if (error == 0) {
        edit->kept = kept_line(edit);
        if (edit->kept)
            return STATUS_DONE;
        copy_remove(&edit->copy);
        error = ENOMEM;
    }
    cli_say_why(edit->path, "a copy cannot be made: %s (TMPDIR says where)", strerror(error));
    return STATUS_FAILED;
}

/* ---- what becomes of the text ---- */

static int keep(struct edit *edit)
{
    copy_keep(&edit->copy);
    fputs(edit->kept, stderr);
    return STATUS_FAILED;
}

static int keep_because(struct edit *edit, int error)
{
    cli_say(edit->path, error);
    return keep(edit);
}

/* ---- the file, after ---- */

static bool is_same(const struct stat *then, const struct stat *now)
{
    return now->st_dev == then->st_dev && now->st_ino == then->st_ino && now->st_size == then->st_size &&
           now->st_mtim.tv_sec == then->st_mtim.tv_sec && now->st_mtim.tv_nsec == then->st_mtim.tv_nsec;
}

/* 1 when nobody changed it since, 0, or a negative errno. The second look: not while we compared either. */
static int is_as_it_was(const struct edit *edit, int file)
{
    struct stat now;
    if (!edit->existed)
        return 1; /* it has just been made */
    if (fstat(file, &now) < 0)
        return -errno;
    if (!is_same(&edit->st, &now))
        return 0;
    int same = contents_compare(edit->copy.original, file);
    if (same == 1 && fstat(file, &now) < 0)
        return -errno;
    return same == 1 ? is_same(&edit->st, &now) : same;
}

/* What the kernel was asked to keep ready is given back. */
static bool has_room(const struct edit *edit, int file, off_t len)
{
    off_t before = edit->existed ? edit->st.st_size : 0;
    if (len == 0 || fallocate(file, FALLOC_FL_KEEP_SIZE, 0, len) == 0)
        return true;
    int error = errno;
    if (error != ENOSPC && error != EDQUOT && error != EFBIG)
        return true; /* not every file system can tell */
    if (len > before && ftruncate(file, before) < 0)
        cli_say(edit->path, errno);
    errno = error;
    return false;
}

static int overwrite(int file, int from)
{
    off_t written = 0;
    int error = contents_copy(from, file, &written);
    if (error == 0 && ftruncate(file, written) < 0)
        error = errno;
    if (error == 0 && fsync(file) < 0 && errno != EINVAL) /* EINVAL: a file system that knows no such thing */
        error = errno;
    return error;
}

static int put_back(struct edit *edit, int file, int error)
{
    int again = overwrite(file, edit->copy.original);
    if (again == 0) {
        cli_say_why(edit->path, "%s (%s)", strerror(error),
                    edit->existed ? "the former contents were put back" : "it was made, and is empty");
        return keep(edit);
    }
    cli_say_why(edit->path, "%s", strerror(error));
    cli_say_why(edit->path, "IS DAMAGED: the former contents cannot be put back: %s", strerror(again));
    cli_say_why(edit->copy.path, "is your text; in the same directory %s is what the file held",
                edit->copy.original_name);
    return STATUS_FAILED;
}

/* Writing in place is not atomic: first there has to be room, and a failure is made good. Takes `file`. */
static int write_back(struct edit *edit, int file, int from)
{
    struct stat st;
    int status = STATUS_DONE, error = fstat(from, &st) < 0 || !has_room(edit, file, st.st_size) ? errno : 0;
    if (error && edit->existed)
        status = keep_because(edit, error);
    else if (error || (error = overwrite(file, from)) != 0)
        status = put_back(edit, file, error);
    if (close(file) < 0 && status == STATUS_DONE)
        status = keep_because(edit, errno);
    if (status == STATUS_DONE)
        copy_remove(&edit->copy);
    return status;
}

/* Asked for anew: it may be another file by now, and the policy another one. */
static int put_in_place(struct edit *edit, int from)
{
    sigset_t old;
    int oflags = edit->existed ? O_RDWR : O_WRONLY | O_CREAT | O_EXCL;
    int file = fob_open(edit->cli->fob, edit->path, oflags, NEW_FILE_MODE);
    int same = file >= 0 ? is_as_it_was(edit, file) : errno == EEXIST ? 0 : -errno;
    if (same <= 0) {
        if (file >= 0)
            close(file);
        if (same < 0)
            return keep_because(edit, -same);
        cli_say_why(edit->path, "was changed by somebody else meanwhile");
        return keep(edit);
    }
    signal(SIGXFSZ, SIG_IGN); /* EFBIG can be handled */
    signals_block(&old);
    int status = write_back(edit, file, from);
    signals_release();
    sigprocmask(SIG_SETMASK, &old, NULL);
    return status;
}

/* ---- the copy, after ---- */

static int copy_is_gone(struct edit *edit)
{
    cli_say_why(edit->path, "not changed: the copy is gone");
    if (copy_keep(&edit->copy))
        cli_say_why(edit->copy.directory, "the editor left something there");
    return STATUS_FAILED;
}

static int take_copy(struct edit *edit, bool good)
{
    const char *why;
    int from = copy_reopen(&edit->copy, &why), status;
    if (from < 0 && !why)
        return copy_is_gone(edit);
    if (from < 0) {
        cli_say_why(edit->copy.path, "%s", why);
        return keep(edit);
    }
    int same = contents_compare(edit->copy.original, from);
    if (same == 1) {
        copy_remove(&edit->copy);
        cli_say_why(edit->path, good ? "unchanged" : "not changed");
        status = good ? STATUS_DONE : STATUS_FAILED;
    } else if (same < 0) {
        status = keep_because(edit, -same);
    } else {
        status = good ? put_in_place(edit, from) : keep(edit);
    }
    close(from);
    return status;
}

/* ---- the command ---- */

static int edit_file(struct edit *edit)
{
    int fd, status = open_file(edit, &fd);
    if (status == STATUS_DONE)
        status = make_copy(edit, fd);
    if (fd >= 0)
        close(fd);
    if (status != STATUS_DONE)
        return status;
    signals_guard(edit->kept);
    status = take_copy(edit, editor_run(edit->copy.path));
    signals_release();
    return status;
}

int command_edit(struct cli *cli, int argc, char **argv)
{
    struct edit edit = { .cli = cli, .copy = { .dir = -1, .original = -1 } };
    if (getopt(argc, argv, "+") != -1 || optind + 1 != argc)
        return cli_usage_error(argv[0], "edit: needs one path");
    edit.path = cli_path(argv[optind]);
    if (!edit.path) {
        cli_say(argv[optind], errno);
        return STATUS_FAILED;
    }
    int status = edit_file(&edit);
    copy_deinit(&edit.copy);
    free(edit.kept);
    free(edit.path);
    return status;
}
