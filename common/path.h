/*
 * Paths as text. Nothing here touches a file system.
 */
#ifndef FOB_COMMON_PATH_H
#define FOB_COMMON_PATH_H

#include <stdbool.h>
#include <stddef.h>

enum { PATH_TEXT_MAX = 4095 }; /* bytes, without a NUL (PATH_MAX - 1) */

/*
 * Is it a path that fob serves? Absolute, 1..4095 bytes, no NUL, no empty component (so no "//" and no
 * slash at the end, but for "/" itself), no "." and no "..". Bytes are not interpreted otherwise.
 */
bool path_is_clean(const char *path, size_t len);

/* Is `path` the directory `dir` itself or beneath it, by component? Both clean. "/" covers everything. */
bool path_is_beneath(const char *path, size_t path_len, const char *dir, size_t dir_len);

#endif
