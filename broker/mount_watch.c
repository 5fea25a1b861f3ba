#include "mount_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/mountinfo.h"
#include "../common/path.h"
#include "../common/util.h"

/* Who mounts and unmounts all day (FUSE, without privilege) makes one renewal a second, not more. */
enum { SETTLE_MS = 50, PAUSE_MS = 1000 };

void mount_watch_init(struct mount_watch *watch)
{
    *watch = (struct mount_watch){ .fd = -1, .look_at = INT64_MAX };
}

void mount_watch_open(struct mount_watch *watch)
{
    watch->fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (watch->fd < 0)
        log_warning("/proc/self/mountinfo: %s: mounts that come are not served before a reload",
                    strerror(errno));
}

void mount_watch_close(struct mount_watch *watch)
{
    watch->fd = fd_close(watch->fd);
}

void mount_watch_note(struct mount_watch *watch, int64_t now_ms)
{
    int64_t next = watch->looked ? watch->looked + PAUSE_MS : 0;
    if (watch->look_at == INT64_MAX)
        watch->look_at = next > now_ms + SETTLE_MS ? next : now_ms + SETTLE_MS;
}

struct digest {
    const struct mounts *mounts;
    uint64_t value;
};

static uint64_t mix(uint64_t value, const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < len; i++)
        value = (value ^ p[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return value;
}

/* Mounts elsewhere are nothing to us: a container that starts does not renew the world. */
static bool concerns(const struct mounts *mounts, const char *point)
{
    size_t len = strlen(point);
    for (size_t i = 0; i < mounts->n_roots; i++) {
        const struct mounts_root *root = &mounts->roots[i];
        if (path_is_beneath(point, len, root->path, root->path_len) ||
            path_is_beneath(root->path, root->path_len, point, len))
            return true;
    }
    return false;
}

static int add(const struct mountinfo *mount, void *data)
{
    struct digest *digest = data;
    if (!concerns(digest->mounts, mount->point))
        return 0;
    digest->value = mix(digest->value, &mount->dev, sizeof mount->dev);
    digest->value = mix(digest->value, mount->point, strlen(mount->point) + 1);
    digest->value = mix(digest->value, mount->type, strlen(mount->type) + 1);
    return 0;
}

static uint64_t digest_of(const struct mounts *mounts, uint64_t otherwise)
{
    struct digest digest = { mounts, UINT64_C(0xcbf29ce484222325) };
    return mountinfo_each(add, &digest) < 0 ? otherwise : digest.value;
}

void mount_watch_remember(struct mount_watch *watch, const struct mounts *mounts)
{
    watch->seen = digest_of(mounts, 0);
}

bool mount_watch_changed(struct mount_watch *watch, const struct mounts *mounts, int64_t now_ms)
{
    if (now_ms < watch->look_at)
        return false;
    watch->look_at = INT64_MAX;
    watch->looked = now_ms;
    return digest_of(mounts, watch->seen) != watch->seen;
}
