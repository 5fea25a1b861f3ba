#include "leak.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../common/util.h"

static int count_before = -1;

static void leak_print_open(void)
{
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char target[256];
        ssize_t len = readlinkat(dirfd(folder), entry->d_name, target, sizeof(target) - 1);
        if (len < 0 || atoi(entry->d_name) == dirfd(folder))
            continue;
        target[len] = '\0';
        fprintf(stderr, "  %s -> %s\n", entry->d_name, target);
    }
    closedir(folder);
}

int leak_setup(void **state)
{
    (void)state;
    count_before = fd_count();
    return count_before < 0 ? -1 : 0;
}

int leak_teardown(void **state)
{
    (void)state;
    int count = fd_count();
    if (count == count_before)
        return 0;
    fprintf(stderr, "descriptors: %d before the test, %d after it:\n", count_before, count);
    leak_print_open();
    return -1;
}
