/*
 * The files, and the catalogue of everything that clients ask for: each path with what may stand there, so
 * that every answer can be judged afterwards.
 */
#include "soak.h"

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "../../common/util.h"

struct soak_entry soak_entries[ENTRIES_MAX];
unsigned soak_n_entries;

enum { BUCKETS = 4096 };
static int buckets[BUCKETS], chain[ENTRIES_MAX];

/* ---- the catalogue ---- */

static size_t bucket_of(const char *path, size_t len)
{
    return soak_hash(SOAK_HASH_BEGIN, path, len) % BUCKETS;
}

int soak_entry_find(const char *path, size_t len)
{
    for (int i = buckets[bucket_of(path, len)] - 1; i >= 0; i = chain[i] - 1)
        if (strlen(soak_entries[i].path) == len && memcmp(soak_entries[i].path, path, len) == 0)
            return i;
    return -1;
}

static int add_path(const char *path, enum soak_kind kind)
{
    SOAK_NEED(soak_n_entries < ENTRIES_MAX && strlen(path) < SOAK_PATH);
    int i = (int)soak_n_entries++;
    struct soak_entry *entry = &soak_entries[i];
    *entry = (struct soak_entry){ .kind = kind, .real = i, .other = -1 };
    memcpy(entry->path, path, strlen(path) + 1);
    int *bucket = &buckets[bucket_of(path, strlen(path))];
    chain[i] = *bucket;
    *bucket = i + 1;
    return i;
}

static int add(const char *name, enum soak_kind kind)
{
    return add_path(soak_path(name), kind);
}

static void note_parent(struct soak_entry *entry)
{
    char dir[SOAK_PATH];
    memcpy(dir, entry->path, sizeof dir);
    *strrchr(dir, '/') = '\0';
    SOAK_NEED(stat(dir, &entry->parent) == 0);
}

static int add_made(const char *name, enum soak_kind kind, mode_t mode, uid_t uid)
{
    int i = add(name, kind);
    struct soak_entry *entry = &soak_entries[i];
    SOAK_NEED(lchown(entry->path, uid, uid) == 0 && chmod(entry->path, mode) == 0);
    SOAK_NEED(lstat(entry->path, &entry->st) == 0);
    note_parent(entry);
    return i;
}

static int add_dir(const char *name, mode_t mode, uid_t uid)
{
    SOAK_NEED(mkdir(soak_path(name), 0700) == 0);
    return add_made(name, KIND_DIR, mode, uid);
}

static int add_file(const char *name, mode_t mode, uid_t uid)
{
    int fd = open(soak_path(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    SOAK_NEED(fd >= 0 && fd_write_all(fd, name, strlen(name)) == 0);
    close(fd);
    return add_made(name, KIND_FILE, mode, uid);
}

static int add_new(const char *name)
{
    int i = add(name, KIND_NEW);
    note_parent(&soak_entries[i]);
    return i;
}

/* real: the entry that it leads to, -1: none. */
static int add_link(const char *name, const char *to, int real)
{
    SOAK_NEED(symlink(to, soak_path(name)) == 0);
    int i = add(name, KIND_LINK);
    soak_entries[i].real = real;
    soak_entries[i].last_is_link = true;
    return i;
}

static int known(const char *name)
{
    const char *path = soak_path(name);
    int i = soak_entry_find(path, strlen(path));
    SOAK_NEED(i >= 0);
    return i;
}

/* ---- parts of the tree ---- */

static void make_block(const char *top)
{
    char name[64];
    add_dir(top, 0700, 0);
    for (unsigned d = 0; d < 5; d++) {
        snprintf(name, sizeof name, "%s/d%u", top, d);
        add_dir(name, d % 2 ? 0755 : 0700, 0);
        for (unsigned f = 0; f < 10; f++) {
            static const mode_t modes[] = { 0600, 0644, 0000, 0666, 0640 };
            snprintf(name, sizeof name, "%s/d%u/f%u", top, d, f);
            add_file(name, modes[f % ARRAY_SIZE(modes)], f % 3 ? 0 : FIRST_UID + f);
        }
    }
}

static void make_homes(void)
{
    char name[64];
    add_dir("home", 0755, 0);
    for (unsigned i = 0; i < CLIENTS; i++) {
        static const struct {
            const char *name;
            mode_t mode;
            bool own;
        } files[] = { { "a", 0600, true }, { "b", 0644, true }, { "c", 0600, false }, { "r", 0400, true } };
        uid_t uid = FIRST_UID + i;
        snprintf(name, sizeof name, "home/u%u", uid);
        add_dir(name, 0700, uid);
        for (size_t f = 0; f < ARRAY_SIZE(files); f++) {
            snprintf(name, sizeof name, "home/u%u/%s", uid, files[f].name);
            add_file(name, files[f].mode, files[f].own ? uid : 0);
        }
        snprintf(name, sizeof name, "home/u%u/new", uid);
        add_new(name);
    }
}

static void make_new(const char *dir, mode_t mode, unsigned n)
{
    char name[64];
    add_dir(dir, mode, 0);
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s/n%u", dir, i);
        add_new(name);
    }
}

static void make_shared(void)
{
    char name[64];
    add_dir("shared", 0755, 0);
    for (unsigned i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "shared/f%u", i);
        add_file(name, 0600, FIRST_UID + i);
    }
    add_dir("open", 0777, 0);
    add_file("shared/hard", 0644, 0);
    SOAK_NEED(link(soak_path("shared/hard"), soak_path("open/hard")) == 0);
    add_made("open/hard", KIND_FILE, 0644, 0);
    struct soak_entry *first = &soak_entries[known("shared/hard")];
    SOAK_NEED(lstat(first->path, &first->st) == 0); /* two links now */
}

static void make_moved(void)
{
    int here = add_file("shared/mover", 0600, 0), there = add("priv/mover", KIND_MOVER);
    struct soak_entry *a = &soak_entries[here], *b = &soak_entries[there];
    a->kind = KIND_MOVER;
    b->st = a->st;
    note_parent(b);
    a->other = there;
    b->other = here;
    int link = add_link("pub/lmover", "../shared/mover", here);
    soak_entries[link].other = there;
    link = add_link("pub/flip", "d0/f0", known("pub/d0/f0"));
    soak_entries[link].other = known("priv/d0/f0");
}

static void make_links(void)
{
    add_link("pub/l0", "d0/f0", known("pub/d0/f0"));
    add_link("pub/l1", "../priv/d0/f1", known("priv/d0/f1"));
    add_link("pub/l2", "../secret/f", known("secret/f"));
    add_link("pub/l3", "nowhere", -1);
    add_link("pub/l4", soak_path("shared/f3"), known("shared/f3"));
    add_link("pub/l5", "d1", known("pub/d1"));
    add_link("pub/l6", "l1", known("priv/d0/f1"));
    add_link("pub/l7", "../fifo/p0", known("fifo/p0"));
    add_link("pub/l8", "l8", -1);
    add_link("priv/back", "../pub/d2/f2", known("pub/d2/f2"));
    add_link("pub/ldir", "../priv/d1", known("priv/d1"));
    for (unsigned f = 0; f < 10; f++) {
        char name[64], real[64];
        snprintf(name, sizeof name, "pub/ldir/f%u", f);
        snprintf(real, sizeof real, "priv/d1/f%u", f);
        soak_entries[add(name, KIND_LINK)].real = known(real);
    }
}

/* What must be told apart and escaped, and what is refused before anybody looks. */
static void make_odd(void)
{
    add_file("pub/we ird\n\"\\\t", 0644, 0);
    add_file("pub/\xff\xfe\x80", 0644, 0);
    add_file("pub/\xc3\xbc\xe2\x80\xae", 0644, 0);
    add_file("pub/.hidden", 0600, 0);
    add_file("pub/-{a,b}*?[x]", 0600, 0);
    add("pub/none", KIND_NONE);
    add("priv/d0/none", KIND_NONE);
    add("pub/d0/f0/below", KIND_NONE);
    add("pub/d9/none", KIND_NONE);
    add_path("/etc/shadow", KIND_NONE);
    add_path("/", KIND_NONE);
    add("pub/../secret/f", KIND_UNCLEAN);
    add("pub//d0/f0", KIND_UNCLEAN);
    add("pub/d0/f0/", KIND_UNCLEAN);
    add_path("pub/d0/f0", KIND_UNCLEAN);
}

void soak_tree_make(void)
{
    make_block("pub");
    make_block("priv");
    add_dir("priv/sec", 0700, 0);
    add_file("priv/sec/f0", 0600, 0);
    add_file("priv/sec/f1", 0666, 0);
    add_dir("secret", 0700, 0);
    add_file("secret/f", 0666, 0);
    make_homes();
    make_shared();
    make_new("drop", 0700, 40);
    make_new("made", 0755, 40);
    make_new("sticky", 01777, 10);
    add_file("sticky/s0", 0666, 0);
    add_file("sticky/s1", 0666, FIRST_UID + 1);
    add_dir("fifo", 0755, 0);
    for (unsigned i = 0; i < 2; i++) {
        char name[] = "fifo/p0";
        name[6] = (char)('0' + i);
        SOAK_NEED(mkfifo(soak_path(name), 0600) == 0);
        add_made(name, KIND_FIFO, 0666, 0);
    }
    make_moved();
    make_links();
    make_odd();
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void soak_tree_remove(void)
{
    nftw(soak_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* ---- accounts ---- */

static FILE *copy_of(const char *file, const char *name)
{
    size_t len;
    char *text = soak_read(file, &len);
    FILE *out = fopen(soak_path(name), "we");
    SOAK_NEED(out);
    if (text)
        fwrite(text, 1, len, out);
    free(text);
    return out;
}

/* Nobody else sees them: the mounts are of our own namespace. */
static bool show(const char *name, const char *file)
{
    SOAK_NEED(chmod(soak_path(name), 0644) == 0);
    return mount(soak_path(name), file, NULL, MS_BIND, NULL) == 0;
}

bool soak_accounts_make(void)
{
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return false;
    FILE *users = copy_of("/etc/passwd", "passwd"), *groups = copy_of("/etc/group", "group");
    fputs("soakdb:x:4020:", groups);
    for (unsigned uid = FIRST_UID; uid < FIRST_UID + CLIENTS; uid++) {
        fprintf(users, "u%u:x:%u:%u::%s/home/u%u:/bin/false\n", uid, uid, uid, soak_dir, uid);
        if (uid % 10 == 4)
            fprintf(groups, "%su%u", uid > FIRST_UID + 4 ? "," : "", uid);
    }
    fputc('\n', groups);
    SOAK_NEED(fclose(users) == 0 && fclose(groups) == 0);
    return show("passwd", "/etc/passwd") && show("group", "/etc/group");
}

/* Sorted, as the policy wants them. */
size_t soak_groups(unsigned client, gid_t groups[4])
{
    size_t n = 0;
    if (client % 7 != 0)
        groups[n++] = 4000 + client % 5;
    if (client % 3 == 0)
        groups[n++] = 4010;
    if (client % 25 == 9)
        groups[n++] = 4020;
    return n;
}
