#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../common/util.h"

static char top[96], section[128];

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* ---- the folder ---- */

const char *at(const char *name)
{
    static char paths[8][PLACE_NAME];
    static unsigned next;
    char *out = paths[next++ % ARRAY_SIZE(paths)];
    if (snprintf(out, sizeof paths[0], "%s%s%s", section, *name ? "/" : "", name) >= PLACE_NAME)
        die("%s: the name is too long", name);
    return out;
}

const char *built(const char *program)
{
    static char path[512];
    const char *build = getenv("BUILD");
    snprintf(path, sizeof path, "%s/%s", build && *build ? build : "build", program);
    return path;
}

const char *lent(const char *program)
{
    const char *slash = strrchr(program, '/'), *copy = at(slash ? slash + 1 : program);
    struct stat st;
    CLEANUP(fd_cleanup) int in = open(built(program), O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_cleanup) int out = open(copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (in < 0 || out < 0 || fstat(in, &st) < 0 || sendfile(out, in, NULL, (size_t)st.st_size) != st.st_size)
        die("%s cannot be copied: %s", built(program), strerror(errno));
    return copy;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int remove_tree(const char *path)
{
    return nftw(path, remove_entry, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0 ? -errno : 0;
}

int place_make(void)
{
    const char *tmp = getenv("TMPDIR");
    if (snprintf(top, sizeof top, "%s/fob-bench.XXXXXX", tmp && *tmp ? tmp : "/tmp") >= (int)sizeof top)
        return -ENAMETOOLONG;
    return mkdtemp(top) && chmod(top, 0755) == 0 ? 0 : -errno;
}

int place_remove(void)
{
    return remove_tree(top);
}

static void make_file(const char *folder, const char *file)
{
    static const char text[] = "one line of text\n";
    if (mkdir(at(folder), 0755) < 0)
        die("%s: %s", at(folder), strerror(errno));
    CLEANUP(fd_cleanup) int fd = open(at(file), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || fd_write_all(fd, text, sizeof text - 1) < 0)
        die("%s: %s", at(file), strerror(errno));
}

void place_enter(const char *name)
{
    umask(022);
    snprintf(section, sizeof section, "%s/%s", top, name);
    if (mkdir(section, 0755) < 0)
        die("%s: %s", section, strerror(errno));
    make_file("data", "data/file");
    make_file("own", "own/file");
    make_file("open", "open/file");
}

void place_leave(const char *name)
{
    char path[sizeof section];
    snprintf(path, sizeof path, "%s/%s", top, name);
    int err = remove_tree(path);
    if (err < 0 && err != -ENOENT)
        fprintf(stderr, "bench: %s is left: %s\n", path, strerror(-err));
}

/* ---- processors ---- */

int cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) < 0 ? 1 : CPU_COUNT(&set);
}

/* By the set that was there at the start: a pinned process may pin itself elsewhere. */
void pin_process(pid_t pid, int cpu)
{
    static cpu_set_t all;
    cpu_set_t one;
    if (cpu == CPU_ANY)
        return;
    if (CPU_COUNT(&all) == 0 && sched_getaffinity(0, sizeof all, &all) < 0)
        die("sched_getaffinity: %s", strerror(errno));
    CPU_ZERO(&one);
    for (int i = 0, found = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all) && found++ == cpu)
            CPU_SET(i, &one);
    if (sched_setaffinity(pid, sizeof one, &one) < 0)
        die("sched_setaffinity: %s", strerror(errno));
}

void pin(int cpu)
{
    pin_process(0, cpu);
}
