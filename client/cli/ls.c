/*
 * fob ls PATH
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

struct names {
    char **all;
    size_t n, cap;
};

static bool add_name(struct names *names, const char *name)
{
    if (names->n == names->cap) {
        size_t cap = names->cap ? names->cap * 2 : 64;
        char **grown = realloc(names->all, cap * sizeof *grown);
        if (!grown)
            return false;
        names->all = grown;
        names->cap = cap;
    }
    char *copy = strdup(name);
    if (!copy)
        return false;
    names->all[names->n++] = copy;
    return true;
}

static int compare_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(DIR *dir, struct names *names)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry)
            return errno;
        bool dots = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        if (!dots && !add_name(names, entry->d_name))
            return ENOMEM;
    }
}

/* As they are for a program, escaped for a terminal. */
static void print_names(const struct names *names)
{
    bool terminal = isatty(STDOUT_FILENO);
    for (size_t i = 0; i < names->n; i++) {
        char *shown = terminal ? cli_escape(names->all[i]) : NULL;
        puts(shown ? shown : names->all[i]);
        free(shown);
    }
}

static int list_directory(int fd)
{
    struct names names = { 0 };
    DIR *dir = fdopendir(fd);
    int error = dir ? read_names(dir, &names) : errno;
    if (error == 0 && names.n) {
        qsort(names.all, names.n, sizeof *names.all, compare_bytes);
        print_names(&names);
    }
    for (size_t i = 0; i < names.n; i++)
        free(names.all[i]);
    free(names.all);
    if (dir)
        closedir(dir);
    else
        close(fd);
    return error;
}

int command_ls(struct cli *cli, int argc, char **argv)
{
    if (getopt(argc, argv, "+") != -1 || optind + 1 != argc)
        return cli_usage_error(argv[0], "ls: needs one path");
    char *path = cli_path(argv[optind]);
    int fd = path ? fob_open(cli->fob, path, O_RDONLY | O_DIRECTORY, 0) : -1;
    int error = fd < 0 ? errno : list_directory(fd);
    if (error)
        cli_say(path ? path : argv[optind], error);
    free(path);
    return error ? STATUS_FAILED : STATUS_DONE;
}
