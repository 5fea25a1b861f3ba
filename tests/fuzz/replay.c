/*
 * A main() for a fuzzer without libFuzzer: runs it over files, and over all files of folders. `make check`
 * replays every corpus with it, so that what a fuzzer once found stays fixed. An input that cannot be read is
 * an error, and so is having none.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* libFuzzer's optional hook: absent here unless the fuzzer has one. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static unsigned replayed;

static int fail(const char *path)
{
    fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
    return -1;
}

static int replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return fail(path);
    /* Exactly as long as the input: a read past its end is one past the allocation, where ASan sees it. */
    uint8_t *data = malloc(size > 0 ? size : 1);
    size_t got = data != NULL ? fread(data, 1, size, file) : 0;
    fclose(file);
    int status = 0;
    if (data == NULL || got != size) {
        status = fail(path);
    } else {
        LLVMFuzzerTestOneInput(data, size);
        replayed++;
    }
    free(data);
    return status;
}

static int replay_path(const char *path);

static int replay_folder(const char *path)
{
    DIR *folder = opendir(path);
    if (folder == NULL)
        return fail(path);
    int status = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char name[PATH_MAX];
        if (entry->d_name[0] == '.')
            continue;
        int len = snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (len < 0 || (size_t)len >= sizeof(name) || replay_path(name) < 0)
            status = -1;
    }
    closedir(folder);
    return status;
}

static int replay_path(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return fail(path);
    return S_ISDIR(st.st_mode) ? replay_folder(path) : replay_file(path, (size_t)st.st_size);
}

int main(int argc, char **argv)
{
    int status = 0;
    if (LLVMFuzzerInitialize != NULL)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        if (replay_path(argv[i]) < 0)
            status = 1;
    }
    if (replayed == 0) {
        fprintf(stderr, "replay: no input: a corpus is missing\n");
        return 1;
    }
    printf("replayed %u inputs\n", replayed);
    return status;
}
