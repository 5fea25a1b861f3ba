/*
 * fob edit: its parts. edit_copy.c: the private copy; edit_editor.c: the editor, and signals meanwhile.
 */
#ifndef FOB_CLI_EDIT_H
#define FOB_CLI_EDIT_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* ---- the copy ---- */

/* A directory that is ours alone, with two files in it: the copy, for the editor, and what the file held. */
struct copy {
    char *directory;  /* absolute: no editor takes it for an option */
    char *path;       /* of the copy; its name is that of the file, so that the editor knows the type */
    const char *base; /* its last component */
    const char *original_name; /* beside it */
    int dir, original;         /* descriptors */
};

/* All of `from` into both; -1: a new file, both are empty. 0, or an errno. */
int copy_make(struct copy *copy, const char *path, int from);
/*
 * The copy as the editor left it: -1 and *why when that is not a regular file of ours (a symlink would have
 * us write another file's text into this one); *why is NULL when it is not there.
 */
int copy_reopen(const struct copy *copy, const char **why);
/* Nothing of it is left. */
void copy_remove(struct copy *copy);
/* What the editor left is left. False when that is nothing: then nothing is. */
bool copy_keep(struct copy *copy);
void copy_deinit(struct copy *copy);

/* From the beginning of one file to that of the other. 0, or an errno; *len (may be NULL): how much. */
int contents_copy(int from, int to, off_t *len);
/* 1 the same, 0 not, or a negative errno. */
int contents_compare(int a, int b);

/* ---- the editor ---- */

/* Runs $VISUAL, $EDITOR or a usual one on the path. True when it ended well; else why not has been said. */
bool editor_run(const char *path);

/* From now on what would end us says first this line, where the text is. */
void signals_guard(const char *line);
void signals_release(void);
/* Nor are we ended, or stopped, amid the writing. */
void signals_block(sigset_t *old);

#endif
