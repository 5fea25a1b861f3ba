/*
 * fob exec: a program that knows nothing of fob gets files as its descriptors.
 *
 * Nothing is changed before everything is granted: files are opened as they are first; then those that are
 * missing are made, and only then is truncated what is to be truncated.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

enum { STATUS_NOT_EXECUTABLE = 126, STATUS_NOT_FOUND = 127, NEW_FILE_MODE = 0666 };

/* As the shell has it: N<PATH, N>PATH, N<>PATH, N>>PATH. */
static const struct rights {
    const char *letters;
    int oflags;
    bool truncate;
} all_rights[] = {
    { "r", O_RDONLY, false },
    { "w", O_WRONLY | O_CREAT, true },
    { "rw", O_RDWR | O_CREAT, false },
    { "a", O_WRONLY | O_APPEND | O_CREAT, false },
    { "ra", O_RDWR | O_APPEND | O_CREAT, false },
    { "l", O_RDONLY | O_DIRECTORY, false },
};
enum { READ, WRITE, APPEND = 3, N_RIGHTS = sizeof all_rights / sizeof *all_rights };

struct file {
    int target; /* the number that it is to have in the command */
    const struct rights *rights;
    char *path;
};

struct files {
    struct file *all;
    struct fob_request *requests; /* one for each */
    size_t n;
};

/* ---- arguments ---- */

static bool is_target(const struct files *files, int fd)
{
    for (size_t i = 0; i < files->n; i++)
        if (files->all[i].target == fd)
            return true;
    return false;
}

static int add_file(struct files *files, const char *command, int target, const char *name,
                    const struct rights *rights)
{
    if (is_target(files, target))
        return cli_usage_error(command, "exec: a descriptor is given twice");
    char *path = cli_path(name);
    if (!path) {
        cli_say(name, errno);
        return STATUS_FAILED;
    }
    files->all[files->n++] = (struct file){ target, rights, path };
    return STATUS_DONE;
}

static const struct rights *find_rights(const char *letters)
{
    for (size_t i = 0; i < N_RIGHTS; i++)
        if (strcmp(all_rights[i].letters, letters) == 0)
            return &all_rights[i];
    return NULL;
}

static int refuse_number(const char *text, rlim_t limit)
{
    fprintf(stderr, "fob: descriptor %.*s: over the limit, %ju descriptors (ulimit -n)\n",
            (int)strspn(text, "0123456789"), text, (uintmax_t)limit);
    return STATUS_FAILED;
}

/* N=PATH[:RIGHTS]. A colon with anything but rights behind it is part of the path. */
static int add_numbered(struct files *files, const char *command, char *text)
{
    struct rlimit limit;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '=')
        return cli_usage_error(command, "exec: --fd takes N=PATH or N=PATH:RIGHTS");
    unsigned long number = strtoul(text, NULL, 10); /* ULONG_MAX when it is over that */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && (number >= limit.rlim_cur || number > INT_MAX))
        return refuse_number(text, limit.rlim_cur);
    char *path = text + digits + 1, *colon = strrchr(path, ':');
    const struct rights *rights = colon ? find_rights(colon + 1) : NULL;
    if (rights)
        *colon = '\0';
    return add_file(files, command, (int)number, path, rights ? rights : &all_rights[READ]);
}

static int parse(struct files *files, int argc, char **argv)
{
    static const struct option options[] = {
        { "stdin", required_argument, NULL, 'i' },
        { "stdout", required_argument, NULL, 'o' },
        { "append", required_argument, NULL, 'a' },
        { "fd", required_argument, NULL, 'f' },
        { NULL, 0, NULL, 0 },
    };
    int option, status = STATUS_DONE;
    while (status == STATUS_DONE && (option = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
        if (option == 'i')
            status = add_file(files, argv[0], STDIN_FILENO, optarg, &all_rights[READ]);
        else if (option == 'o')
            status = add_file(files, argv[0], STDOUT_FILENO, optarg, &all_rights[WRITE]);
        else if (option == 'a')
            status = add_file(files, argv[0], STDOUT_FILENO, optarg, &all_rights[APPEND]);
        else if (option == 'f')
            status = add_numbered(files, argv[0], optarg);
        else
            return cli_usage_error(argv[0], option == ':' ? "exec: an option lacks its value"
                                                          : "exec: unknown option");
    }
    if (status == STATUS_DONE && optind == argc)
        return cli_usage_error(argv[0], "exec: needs a command");
    return status;
}

/* ---- asking ---- */

static bool is_missing(const struct files *files, size_t i)
{
    return files->requests[i].error == ENOENT && files->all[i].rights->oflags & O_CREAT;
}

/* False, and the reasons said, when one is refused for another reason than being missing. */
static bool open_existing(struct cli *cli, struct files *files)
{
    bool good = true;
    for (size_t i = 0; i < files->n; i++)
        files->requests[i] = (struct fob_request){ .path = files->all[i].path,
                                                   .oflags = files->all[i].rights->oflags & ~O_CREAT };
    if (files->n)
        fob_open_many(cli->fob, files->requests, files->n);
    for (size_t i = 0; i < files->n; i++)
        if (files->requests[i].fd < 0 && !is_missing(files, i)) {
            cli_say(files->all[i].path, files->requests[i].error);
            good = false;
        }
    return good;
}

static bool take_created(struct files *files, size_t i, const struct fob_request *made)
{
    files->requests[i].fd = made->fd;
    if (made->fd >= 0)
        return true;
    if (made->error == EACCES) /* may be written, and is not there */
        cli_say_why(made->path, "No such file or directory (and to create it is refused by policy)");
    else
        cli_say(made->path, made->error);
    return false;
}

/* The right to create is asked for only where something is to be created. Not exclusively: as the shell's
 * `>`. */
static bool create_missing(struct cli *cli, struct files *files)
{
    struct fob_request *made = calloc(files->n + 1, sizeof *made);
    size_t n = 0;
    bool good = made;
    for (size_t i = 0; made && i < files->n; i++)
        if (is_missing(files, i))
            made[n++] = (struct fob_request){ .path = files->all[i].path,
                                              .oflags = files->all[i].rights->oflags,
                                              .mode = NEW_FILE_MODE };
    if (n)
        fob_open_many(cli->fob, made, n);
    n = 0;
    for (size_t i = 0; made && i < files->n; i++)
        if (is_missing(files, i))
            good = take_created(files, i, &made[n++]) && good;
    free(made);
    return good;
}

static bool truncate_all(const struct files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        struct stat st;
        int fd = files->requests[i].fd;
        if (!files->all[i].rights->truncate)
            continue;
        if (fstat(fd, &st) < 0 || (S_ISREG(st.st_mode) && st.st_size && ftruncate(fd, 0) < 0)) {
            cli_say(files->all[i].path, errno);
            return false;
        }
    }
    return true;
}

/* ---- descriptors ---- */

/* The file that is still to be placed and has this number now. */
static struct fob_request *find_occupant(const struct files *files, size_t from, int fd)
{
    for (size_t i = from; i < files->n; i++)
        if (files->requests[i].fd == fd)
            return &files->requests[i];
    return NULL;
}

/* One to its place. Whoever stands there steps aside: one number to spare is enough, and the connection left
 * one. */
static bool place(struct files *files, size_t i)
{
    int fd = files->requests[i].fd, target = files->all[i].target;
    if (fd == target)
        return fcntl(fd, F_SETFD, 0) == 0;
    struct fob_request *occupant = find_occupant(files, i + 1, target);
    if (occupant) {
        occupant->fd = fcntl(target, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (occupant->fd < 0)
            return false;
    }
    if (dup2(fd, target) < 0)
        return false;
    close(fd);
    return true;
}

static bool place_all(struct files *files)
{
    for (size_t i = 0; i < files->n; i++)
        if (!place(files, i))
            return false;
    return true;
}

/* A duplicate with a number that no file is to have. */
static int duplicate_aside(const struct files *files, int fd)
{
    for (int from = STDERR_FILENO + 1;;) {
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, from);
        if (copy < 0 || !is_target(files, copy))
            return copy;
        close(copy);
        from = copy + 1;
    }
}

/* Returns only when it fails; what is said then goes where our standard error was, not into a file. */
static int run_command(struct files *files, char **command)
{
    int own_stderr = is_target(files, STDERR_FILENO) ? duplicate_aside(files, STDERR_FILENO) : -1;
    bool placed = place_all(files);
    if (placed)
        execvp(*command, command);
    int error = errno;
    if (own_stderr >= 0)
        dup2(own_stderr, STDERR_FILENO);
    cli_say_why(placed ? *command : "exec", "%s", strerror(error));
    if (!placed)
        return STATUS_FAILED;
    return error == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
}

/* ---- the command ---- */

static int exec_with(struct cli *cli, struct files *files, char **command)
{
    if (!open_existing(cli, files) || !create_missing(cli, files) || !truncate_all(files))
        return STATUS_FAILED;
    fob_close(cli->fob); /* its number may be wanted */
    cli->fob = NULL;
    return run_command(files, command);
}

int command_exec(struct cli *cli, int argc, char **argv)
{
    struct files files = { calloc((size_t)argc, sizeof *files.all),
                           calloc((size_t)argc, sizeof *files.requests), 0 };
    int status = STATUS_FAILED;
    if (files.all && files.requests)
        status = parse(&files, argc, argv);
    else
        cli_say("exec", ENOMEM);
    if (files.all && files.requests && status == STATUS_DONE)
        status = exec_with(cli, &files, argv + optind);
    for (size_t i = 0; files.all && i < files.n; i++)
        free(files.all[i].path);
    free(files.all);
    free(files.requests);
    return status;
}
