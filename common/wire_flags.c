/*
 * The protocol's flags: which stand together, and what they are for open(2).
 */
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/*
 * Where off_t has 64 bits glibc says O_LARGEFILE is 0, but the kernel sets its own bit on every file, and
 * F_GETFL shows it: a caller may hand such flags on. Its value differs between architectures; where it is not
 * known here it is refused.
 */
#if O_LARGEFILE != 0
#define KERNEL_LARGEFILE O_LARGEFILE
#elif defined(__x86_64__) || defined(__riscv)
#define KERNEL_LARGEFILE 0100000
#elif defined(__aarch64__)
#define KERNEL_LARGEFILE 0400000
#else
#define KERNEL_LARGEFILE 0
#endif

static const struct {
    uint32_t flag;
    int open;
    const char *name;
} FLAGS[] = {
    /* READ, WRITE and APPEND make the access mode together: access_mode(). */
    { WIRE_READ, 0, "READ" },
    { WIRE_WRITE, 0, "WRITE" },
    { WIRE_APPEND, O_APPEND, "APPEND" },
    { WIRE_CREATE, O_CREAT, "CREATE" },
    { WIRE_EXCLUSIVE, O_EXCL, "EXCLUSIVE" },
    { WIRE_TRUNCATE, O_TRUNC, "TRUNCATE" },
    { WIRE_DIRECTORY, O_DIRECTORY, "DIRECTORY" },
    { WIRE_NOFOLLOW, O_NOFOLLOW, "NOFOLLOW" },
    { WIRE_PATH, O_PATH, "PATH" },
    { WIRE_NONBLOCK, O_NONBLOCK, "NONBLOCK" },
    { WIRE_SYNC, O_SYNC, "SYNC" },
};
enum { N_FLAGS = sizeof FLAGS / sizeof FLAGS[0] };

/* ---- what stands together ---- */

int wire_check_flags(uint32_t flags, uint32_t mode)
{
    const uint32_t purpose = WIRE_READ | WIRE_WRITE | WIRE_APPEND | WIRE_PATH | WIRE_DIRECTORY;
    const uint32_t with_path = WIRE_PATH | WIRE_DIRECTORY | WIRE_NOFOLLOW;
    const uint32_t with_directory = WIRE_DIRECTORY | WIRE_READ | WIRE_PATH | WIRE_NOFOLLOW | WIRE_NONBLOCK;
    if (flags & ~(uint32_t)WIRE_FLAGS || !(flags & purpose))
        return EINVAL;
    if (flags & WIRE_PATH && flags & ~with_path)
        return EINVAL;
    if (flags & WIRE_DIRECTORY && flags & ~with_directory)
        return EINVAL;
    if (flags & WIRE_TRUNCATE && !(flags & (WIRE_WRITE | WIRE_APPEND)))
        return EINVAL;
    if (!(flags & WIRE_CREATE) && (flags & WIRE_EXCLUSIVE || mode != 0))
        return EINVAL;
    return mode & ~07777u ? EINVAL : 0;
}

/* ---- to and from open(2) ---- */

static int access_mode(uint32_t flags)
{
    if (!(flags & (WIRE_WRITE | WIRE_APPEND)))
        return O_RDONLY;
    return flags & WIRE_READ ? O_RDWR : O_WRONLY;
}

int wire_flags_to_open(uint32_t flags)
{
    int oflags = access_mode(flags);
    for (size_t i = 0; i < N_FLAGS; i++) {
        if (flags & FLAGS[i].flag)
            oflags |= FLAGS[i].open;
    }
    return oflags;
}

/* READ, WRITE, APPEND of an access mode that is one. APPEND alone where it can: WRITE would need a right
 * more. */
static int64_t access_flags(int oflags)
{
    uint32_t reads = (oflags & O_ACCMODE) == O_WRONLY ? 0 : WIRE_READ;
    if ((oflags & O_ACCMODE) == O_RDONLY)
        return oflags & O_APPEND ? -EINVAL : (int64_t)reads;
    return reads | (oflags & O_APPEND ? WIRE_APPEND : WIRE_WRITE);
}

int64_t wire_flags_from_open(int oflags)
{
    const uint32_t with_path = WIRE_PATH | WIRE_DIRECTORY | WIRE_NOFOLLOW;
    int left = oflags & ~(O_ACCMODE | O_CLOEXEC | O_NOCTTY | KERNEL_LARGEFILE);
    uint32_t flags = 0;
    for (size_t i = 0; i < N_FLAGS; i++) {
        /* All bits of it: O_SYNC is two, one of which is O_DSYNC, a weaker promise than the protocol has. */
        if (FLAGS[i].open != 0 && (oflags & FLAGS[i].open) == FLAGS[i].open) {
            flags |= FLAGS[i].flag;
            left &= ~FLAGS[i].open;
        }
    }
    if (left != 0 || (oflags & O_ACCMODE) == O_ACCMODE)
        return -EINVAL;
    if (flags & WIRE_PATH)
        return flags & with_path; /* open(2): with O_PATH all others are ignored */
    int64_t access = access_flags(oflags);
    return access < 0 ? access : (int64_t)(flags | (uint32_t)access);
}

/* ---- as text ---- */

const char *wire_flags_text(char out[WIRE_FLAGS_TEXT], uint32_t flags)
{
    char *at = out;
    for (size_t i = 0; i < N_FLAGS; i++)
        if (flags & FLAGS[i].flag)
            at = stpcpy(stpcpy(at, at > out ? "|" : ""), FLAGS[i].name);
    uint32_t unknown = flags & ~(uint32_t)WIRE_FLAGS;
    if (unknown != 0)
        snprintf(at, WIRE_FLAGS_TEXT - (size_t)(at - out), "%s0x%x", at > out ? "|" : "", (unsigned)unknown);
    else if (at == out)
        stpcpy(at, "0");
    return out;
}
