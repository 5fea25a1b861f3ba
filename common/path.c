#include "path.h"

#include <string.h>

static bool component_is_clean(const char *name, size_t len)
{
    if (len == 0 || (len == 1 && name[0] == '.'))
        return false;
    return !(len == 2 && name[0] == '.' && name[1] == '.');
}

bool path_is_clean(const char *path, size_t len)
{
    if (len == 0 || len > PATH_TEXT_MAX || path[0] != '/' || memchr(path, '\0', len) != NULL)
        return false;
    if (len == 1)
        return true;
    const char *end = path + len;
    for (const char *name = path + 1;;) {
        const char *slash = memchr(name, '/', (size_t)(end - name));
        if (!component_is_clean(name, (size_t)((slash != NULL ? slash : end) - name)))
            return false;
        if (slash == NULL)
            return true;
        name = slash + 1;
    }
}

bool path_is_beneath(const char *path, size_t path_len, const char *dir, size_t dir_len)
{
    if (dir_len == 1)
        return true; /* the root: the only clean path of one byte */
    if (path_len < dir_len || (path_len > dir_len && path[dir_len] != '/'))
        return false;
    return memcmp(path, dir, dir_len) == 0;
}
