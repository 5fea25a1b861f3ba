/*
 * fobctl edit: the policy's files. What fails says so (say()).
 */
#ifndef FOB_POLICY_FOBCTL_EDIT_FILES_H
#define FOB_POLICY_FOBCTL_EDIT_FILES_H

#include <sys/stat.h>

#include "fobctl.h"

struct text {
    char *bytes;
    size_t len;
};
bool text_is(const struct text *a, const struct text *b);
/* A regular file, and no symlink to one. 0 or a negative errno: this one says nothing. */
int text_read(struct text *out, int dir, const char *name, struct stat *st);
/* What an error of text_read() means to whom it is told. */
const char *text_read_error(int err);

/* The file to be edited, as it is before that. */
struct policy_file {
    const char *directory, *base;
    char *path; /* the two, as messages have it */
    char *heap; /* what directory and base are in */
    int dir;
    bool existed;
    struct stat st; /* of a new file: what it will have */
    struct text text;
};
/* STATUS_YES, or what fobctl ends with. To be deinit()ed either way. */
int policy_file_init(struct policy_file *file, const char *path);
void policy_file_deinit(struct policy_file *file);

/*
 * The policy as it would be with this text in the file: a new directory in `parent`, its path in *out (heap).
 * 0 or a negative errno.
 */
int candidate_make(char **out, const struct policy_file *file, const struct text *text, const char *parent);

/*
 * Puts the text in the file's place, all of it or nothing, if the file is still what it was. REPLACE_DOUBT:
 * it is in place, but a crash might undo that.
 */
enum replace { REPLACE_FAILED, REPLACE_DOUBT, REPLACE_DONE };
enum replace policy_file_replace(const struct policy_file *file, const struct text *text);

/* With whatever is in it. */
void directory_remove(const char *path);

#endif
