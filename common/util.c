#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int fd_close(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        /* Never again after EINTR: Linux has released the number by then, another may have it (close(2)). */
        (void)close(fd);
        errno = saved;
    }
    return -1;
}

void fd_close_many(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fds[i] = fd_close(fds[i]);
}

void fd_cleanup(int *fd)
{
    *fd = fd_close(*fd);
}

int fd_take(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

int fd_count(void)
{
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return -errno;
    int count = 0;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count - 1; /* without the folder's own */
}

void free_cleanup(void *pointer)
{
    void *heap; /* `pointer` is a T ** of any T: to read it as a void ** would break the aliasing rules */
    memcpy(&heap, pointer, sizeof heap);
    free(heap);
}

void *mem_zalloc(size_t n, size_t size)
{
    return calloc(n, size);
}

int mem_grow(void *array, size_t n, size_t *cap, size_t size)
{
    enum { FIRST_CAP = 8 };
    if (n < *cap)
        return 0;
    if (*cap > SIZE_MAX / 2)
        return -ENOMEM;
    size_t new_cap = *cap ? *cap * 2 : FIRST_CAP;
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = reallocarray(old, new_cap, size);
    if (grown == NULL)
        return -ENOMEM;
    memcpy(array, &grown, sizeof grown);
    *cap = new_cap;
    return 0; /* cppcheck-suppress memleak ; the array owns it */
}

int fd_write_all(int fd, const void *buf, size_t len)
{
    const char *at = buf;
    while (len > 0) {
        ssize_t written = write(fd, at, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        if (written == 0)
            return -EIO; /* no progress and no reason: POSIX leaves it open for what is no regular file */
        at += written;
        len -= (size_t)written;
    }
    return 0;
}

int parse_u64(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    bool fits = true;
    if (*text == '\0')
        return -EINVAL;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        fits = fits && !__builtin_mul_overflow(value, 10, &value) &&
               !__builtin_add_overflow(value, (uint64_t)(*text - '0'), &value);
    }
    if (!fits || value > max)
        return -ERANGE;
    *out = value;
    return 0;
}

/* Shell's, with the gaps of Tokuda: (9/4)^k. What is sorted already, as the kernel gives it, is passed
 * through once for each gap. */
void sort_ids(uint32_t *ids, size_t n)
{
    static const size_t gaps[] = { 68178, 30301, 13467, 5985, 2660, 1182, 525, 233, 103, 46, 20, 9, 4, 1 };
    for (size_t g = 0; g < ARRAY_SIZE(gaps); g++)
        for (size_t i = gaps[g]; i < n; i++) {
            uint32_t id = ids[i];
            size_t j = i;
            for (; j >= gaps[g] && ids[j - gaps[g]] > id; j -= gaps[g])
                ids[j] = ids[j - gaps[g]];
            ids[j] = id;
        }
}

int64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_ms(void)
{
    return clock_us() / 1000;
}
