#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

char *cli_escape(const char *text)
{
    char *out = malloc(strlen(text) * 4 + 1), *at = out;
    for (; out && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '\n' || c == '\t' || c == '\\')
            at += sprintf(at, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : '\\');
        else if (c < ' ' || c >= 127)
            at += sprintf(at, "\\x%02x", c);
        else
            *at++ = (char)c;
    }
    if (out)
        *at = '\0';
    return out;
}

static const char *reason(int error)
{
    switch (error) {
    case EACCES:
        return "Permission denied (refused by policy)";
    case EPERM:
        return "Operation not permitted (refused by a check of the file, or of who asks)";
    case EAGAIN:
        return "Resource temporarily unavailable (over a quota, or the file is leased: try later)";
    default:
        return strerror(error);
    }
}

void cli_say(const char *path, int error)
{
    char *shown = cli_escape(path);
    fprintf(stderr, "fob: %s: %s\n", shown ? shown : "", reason(error));
    free(shown);
}

/* Appends the components of path to out, which is clean. False for a `..`. */
static bool append_clean(char *out, const char *path)
{
    while (*path) {
        size_t len = strcspn(path, "/");
        if (len == 2 && memcmp(path, "..", 2) == 0)
            return false;
        if (len && !(len == 1 && *path == '.')) {
            size_t at = strlen(out);
            out[at] = '/';
            memcpy(out + at + 1, path, len);
            out[at + 1 + len] = '\0';
        }
        path += len + (path[len] == '/');
    }
    return true;
}

char *cli_path(const char *path)
{
    char *cwd = *path == '/' ? strdup("") : getcwd(NULL, 0);
    char *out = cwd && *path ? malloc(strlen(cwd) + strlen(path) + 3) : NULL;
    bool clean = false;
    if (out) {
        *out = '\0';
        clean = append_clean(out, cwd) && append_clean(out, path);
        if (clean && !*out)
            memcpy(out, "/", 2);
    }
    free(cwd);
    if (clean)
        return out;
    free(out);
    errno = *path ? EINVAL : ENOENT;
    return NULL;
}
