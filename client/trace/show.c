#include "show.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../common/escape.h"
#include "../../common/util.h"

/* ---- bytes ---- */

void show_text(FILE *out, const void *bytes, size_t len)
{
    enum { PART = 1024 };
    char text[4 * PART + 1];
    const char *at = bytes;
    while (len > 0) {
        size_t n = len < PART ? len : PART;
        size_t shown = escape_text(text, sizeof text, at, n);
        fwrite(text, 1, shown, out);
        at += n;
        len -= n;
    }
}

static void show_hex_line(FILE *out, size_t offset, const uint8_t *at, size_t n)
{
    enum { LINE = 16, MIDDLE = 8 };
    fprintf(out, "    %04zx ", offset);
    for (size_t i = 0; i < LINE; i++) {
        const char *gap = i == MIDDLE ? "  " : " ";
        if (i < n)
            fprintf(out, "%s%02x", gap, at[i]);
        else
            fprintf(out, "%s  ", gap);
    }
    fputs("  |", out);
    for (size_t i = 0; i < n; i++)
        fputc(at[i] >= 0x20 && at[i] < 0x7f ? at[i] : '.', out);
    fputs("|\n", out);
}

void show_hex(FILE *out, const void *bytes, size_t len)
{
    enum { LINE = 16 };
    const uint8_t *at = bytes;
    for (size_t done = 0; done < len; done += LINE)
        show_hex_line(out, done, at + done, len - done < LINE ? len - done : LINE);
}

void show_malformed(FILE *out, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("    malformed: ", out);
    vfprintf(out, format, arguments);
    fputc('\n', out);
    va_end(arguments);
}

/* ---- names ---- */

void show_error(FILE *out, int error)
{
    const char *name = strerrorname_np(error);
    if (name != NULL)
        fprintf(out, "%s (%s)", name, strerror(error));
    else
        fprintf(out, "error %d", error);
}

/* The kernel sets it on every file of a 64-bit process, where glibc says that it is 0. */
#if O_LARGEFILE != 0
#define LARGEFILE O_LARGEFILE
#elif defined(__aarch64__)
#define LARGEFILE 0400000
#else
#define LARGEFILE 0100000
#endif

/* Those of several bits before those that they are made with. */
static const struct {
    int flag;
    const char *name;
} OPEN_FLAGS[] = {
    { O_CREAT, "O_CREAT" },         { O_EXCL, "O_EXCL" },         { O_NOCTTY, "O_NOCTTY" },
    { O_TRUNC, "O_TRUNC" },         { O_APPEND, "O_APPEND" },     { O_NONBLOCK, "O_NONBLOCK" },
    { O_SYNC, "O_SYNC" },           { O_DSYNC, "O_DSYNC" },       { O_ASYNC, "O_ASYNC" },
    { O_DIRECT, "O_DIRECT" },       { LARGEFILE, "O_LARGEFILE" }, { O_TMPFILE, "O_TMPFILE" },
    { O_DIRECTORY, "O_DIRECTORY" }, { O_NOFOLLOW, "O_NOFOLLOW" }, { O_NOATIME, "O_NOATIME" },
    { O_CLOEXEC, "O_CLOEXEC" },     { O_PATH, "O_PATH" },
};

void show_open_flags(FILE *out, int oflags)
{
    static const char *const access[] = { "O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE" };
    int left = oflags & ~O_ACCMODE;
    fputs(access[oflags & O_ACCMODE], out);
    for (size_t i = 0; i < ARRAY_SIZE(OPEN_FLAGS); i++) {
        if ((left & OPEN_FLAGS[i].flag) != OPEN_FLAGS[i].flag)
            continue;
        fprintf(out, "|%s", OPEN_FLAGS[i].name);
        left &= ~OPEN_FLAGS[i].flag;
    }
    if (left != 0)
        fprintf(out, "|0x%x", (unsigned)left);
}

/* ---- descriptors ---- */

static const char *type_name(unsigned mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "regular file";
    case S_IFDIR:
        return "directory";
    case S_IFLNK:
        return "symbolic link";
    case S_IFIFO:
        return "FIFO";
    case S_IFSOCK:
        return "socket";
    case S_IFCHR:
        return "character device";
    case S_IFBLK:
        return "block device";
    default:
        return "anonymous inode";
    }
}

static void show_inode(FILE *out, int fd)
{
    struct statx st;
    /* What is known already, for the server of a FUSE or network file system may never answer. */
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st) < 0) {
        fputs("statx: ", out);
        show_error(out, errno);
        return;
    }
    fputs(type_name(st.stx_mode), out);
    if (S_ISCHR(st.stx_mode) || S_ISBLK(st.stx_mode))
        fprintf(out, " %u:%u", st.stx_rdev_major, st.stx_rdev_minor);
    fprintf(out, ", dev %02x:%02x inode %llu", st.stx_dev_major, st.stx_dev_minor,
            (unsigned long long)st.stx_ino);
    fprintf(out, ", size %llu, mode %04o, uid %u, gid %u", (unsigned long long)st.stx_size,
            st.stx_mode & 07777u, st.stx_uid, st.stx_gid);
}

static void show_link(FILE *out, int fd)
{
    char name[32], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(name, path, sizeof path);
    if (len < 0)
        return; /* no /proc, or a path that is too long */
    fputs(", path ", out);
    show_text(out, path, (size_t)len);
}

void show_descriptor(FILE *out, size_t index, int fd)
{
    fprintf(out, "    descriptor %zu: here %d, ", index, fd);
    show_inode(out, fd);
    int oflags = fcntl(fd, F_GETFL);
    fputs("\n        ", out);
    if (oflags >= 0)
        show_open_flags(out, oflags);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    if (offset >= 0)
        fprintf(out, ", offset %lld", (long long)offset);
    show_link(out, fd);
    fputc('\n', out);
}
