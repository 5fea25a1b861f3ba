#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../common/util.h"

static const struct names_source libc_source = {
    getpwnam, getpwuid, getgrnam, getgrgid, setpwent, getpwent, setgrent, getgrent, endpwent, endgrent,
};
static const struct names_source *source = &libc_source;

void names_set_source(const struct names_source *other)
{
    source = other ? other : &libc_source;
}

/* ---- one name ---- */

enum { NAME_MAX_BYTES = 255 };

struct name_entry {
    struct name_entry *next;
    bool is_group, known;
    uint32_t id;
    char name[];
};

enum { BUCKETS = 1024 };
struct names {
    struct name_entry *buckets[BUCKETS];
};

struct names *names_new(void)
{
    return mem_zalloc(1, sizeof(struct names));
}

void names_free(struct names *names)
{
    if (!names)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct name_entry *entry = names->buckets[i], *next; entry; entry = next) {
            next = entry->next;
            free(entry);
        }
    free(names);
}

static struct name_entry **bucket_of(struct names *names, const char *name, bool is_group)
{
    uint32_t hash = 2166136261u + is_group;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return &names->buckets[hash % BUCKETS];
}

static void look_up(struct name_entry *entry)
{
    const struct group *group = entry->is_group ? source->group_by_name(entry->name) : NULL;
    const struct passwd *user = entry->is_group ? NULL : source->user_by_name(entry->name);
    uint64_t number;
    entry->known = true;
    if (group)
        entry->id = group->gr_gid;
    else if (user)
        entry->id = user->pw_uid;
    else if (parse_u64(entry->name, UINT32_MAX - 1, &number) == 0)
        entry->id = (uint32_t)number;
    else
        entry->known = false;
}

static struct name_entry *entry_of(struct names *names, const char *name, bool is_group)
{
    struct name_entry **bucket = bucket_of(names, name, is_group);
    for (struct name_entry *entry = *bucket; entry; entry = entry->next)
        if (entry->is_group == is_group && strcmp(entry->name, name) == 0)
            return entry;
    struct name_entry *entry = mem_zalloc(1, sizeof *entry + strlen(name) + 1);
    if (!entry)
        return NULL;
    memcpy(entry->name, name, strlen(name) + 1);
    entry->is_group = is_group;
    look_up(entry);
    entry->next = *bucket;
    return *bucket = entry;
}

static int find(struct names *names, const char *name, size_t len, bool is_group, uint32_t *id)
{
    char terminated[NAME_MAX_BYTES + 1];
    if (len == 0 || len > NAME_MAX_BYTES || memchr(name, '\0', len))
        return -ENOENT;
    memcpy(terminated, name, len);
    terminated[len] = '\0';
    const struct name_entry *entry = entry_of(names, terminated, is_group);
    if (!entry)
        return -ENOMEM;
    *id = entry->id;
    return entry->known ? 0 : -ENOENT;
}

int names_user(struct names *names, const char *name, size_t len, uid_t *uid)
{
    return find(names, name, len, false, uid);
}

int names_group(struct names *names, const char *name, size_t len, gid_t *gid)
{
    return find(names, name, len, true, gid);
}

/* ---- all users ---- */

struct growing_user {
    struct policy_user user;
    gid_t *groups; /* growing */
    size_t n, cap;
    size_t order; /* as the database listed them */
};

struct snapshot {
    struct arena *arena;
    struct growing_user *users;
    size_t n, cap;
    size_t *by_name; /* indices, sorted by name */
};

static const struct snapshot *sorting; /* qsort(3) has no argument for its comparison */

static int compare_names(const void *a, const void *b)
{
    return strcmp(sorting->users[*(const size_t *)a].user.name, sorting->users[*(const size_t *)b].user.name);
}

/* The first account of a uid counts: it is what getpwuid(3) gives. */
static int compare_uids(const void *a, const void *b)
{
    const struct growing_user *x = a, *y = b;
    if (x->user.uid != y->user.uid)
        return x->user.uid < y->user.uid ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static int compare_gids(const void *a, const void *b)
{
    gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;
    return x < y ? -1 : x > y;
}

static int add_group(struct growing_user *user, gid_t gid)
{
    int err = mem_grow(&user->groups, user->n, &user->cap, sizeof *user->groups);
    if (err < 0)
        return err;
    user->groups[user->n++] = gid;
    return 0;
}

static int add_user(struct snapshot *s, const struct passwd *pw)
{
    int err = mem_grow(&s->users, s->n, &s->cap, sizeof *s->users);
    if (err < 0)
        return err;
    struct growing_user *user = &s->users[s->n];
    *user = (struct growing_user){ .user = {
                                       .uid = pw->pw_uid,
                                       .gid = pw->pw_gid,
                                       .name = arena_text(s->arena, pw->pw_name, strlen(pw->pw_name)),
                                       .home = arena_text(s->arena, pw->pw_dir ? pw->pw_dir : "",
                                                          pw->pw_dir ? strlen(pw->pw_dir) : 0),
                                   } };
    user->order = s->n++;
    return user->user.name && user->user.home ? add_group(user, pw->pw_gid) : -ENOMEM;
}

static bool has_uid(const struct snapshot *s, uid_t uid)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->users[i].user.uid == uid)
            return true;
    return false;
}

/* NULL is the end of the database, or it could not be read: a list that lacks members is worse than none. */
static int database_error(void)
{
    static const int real[] = { EINTR, EIO, EMFILE, ENFILE, ENOMEM, ERANGE };
    for (size_t i = 0; i < ARRAY_SIZE(real); i++)
        if (errno == real[i])
            return -errno;
    return 0;
}

static int list_all(struct snapshot *s)
{
    const struct passwd *pw;
    int err = 0;
    source->rewind_users();
    while (err == 0 && (errno = 0, pw = source->next_user()))
        err = add_user(s, pw);
    if (err == 0)
        err = database_error();
    source->end_users();
    return err;
}

static int list_users(struct snapshot *s, bool all, const uid_t *extra, size_t n_extra)
{
    const struct passwd *pw;
    int err = all ? list_all(s) : 0;
    for (size_t i = 0; err == 0 && i < n_extra; i++) {
        if (has_uid(s, extra[i]))
            continue;
        errno = 0;
        pw = source->user_by_id(extra[i]);
        err = pw ? add_user(s, pw) : database_error();
    }
    return err;
}

static int index_names(struct snapshot *s)
{
    s->by_name = mem_zalloc(s->n + 1, sizeof *s->by_name);
    if (!s->by_name)
        return -ENOMEM;
    for (size_t i = 0; i < s->n; i++)
        s->by_name[i] = i;
    sorting = s;
    if (s->n)
        qsort(s->by_name, s->n, sizeof *s->by_name, compare_names);
    return 0;
}

static int join(struct snapshot *s, const char *member, gid_t gid)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(s->users[s->by_name[middle]].user.name, member) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    int err = 0;
    for (; err == 0 && low < s->n && strcmp(s->users[s->by_name[low]].user.name, member) == 0; low++)
        err = add_group(&s->users[s->by_name[low]], gid);
    return err;
}

static int list_groups(struct snapshot *s)
{
    const struct group *group;
    int err = index_names(s);
    source->rewind_groups();
    while (err == 0 && (errno = 0, group = source->next_group()))
        for (char **member = group->gr_mem; err == 0 && member && *member; member++)
            err = join(s, *member, group->gr_gid);
    if (err == 0)
        err = database_error();
    source->end_groups();
    return err;
}

static void drop_duplicates(struct snapshot *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (kept && s->users[kept - 1].user.uid == s->users[i].user.uid)
            free(s->users[i].groups);
        else
            s->users[kept++] = s->users[i];
    }
    s->n = kept;
}

static int store(struct snapshot *s, struct policy_user **users)
{
    *users = arena_alloc(s->arena, s->n, sizeof **users);
    if (!*users)
        return -ENOMEM;
    for (size_t i = 0; i < s->n; i++) {
        struct growing_user *user = &s->users[i];
        qsort(user->groups, user->n, sizeof *user->groups, compare_gids);
        user->user.groups = arena_copy(s->arena, user->groups, user->n, sizeof *user->groups);
        user->user.n_groups = user->n;
        if (!user->user.groups)
            return -ENOMEM;
        (*users)[i] = user->user;
    }
    return 0;
}

int names_snapshot(struct arena *arena, bool all, const uid_t *extra, size_t n_extra,
                   struct policy_user **users, size_t *n_users)
{
    struct snapshot s = { .arena = arena };
    int err = list_users(&s, all, extra, n_extra);
    if (err == 0)
        err = list_groups(&s);
    if (err == 0) {
        if (s.n)
            qsort(s.users, s.n, sizeof *s.users, compare_uids);
        drop_duplicates(&s);
        err = store(&s, users);
    }
    *n_users = err == 0 ? s.n : 0;
    for (size_t i = 0; i < s.n; i++)
        free(s.users[i].groups);
    free(s.users);
    free(s.by_name);
    return err;
}

/* ---- ids to names ---- */

static char found_name[NAME_MAX_BYTES + 1];

static const char *keep_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len >= sizeof found_name)
        return NULL;
    memcpy(found_name, name, len + 1);
    return found_name;
}

/* Two accounts may share a uid: only a name that leads back is told. */
const char *names_of_user(uid_t uid)
{
    const struct passwd *pw = source->user_by_id(uid);
    const char *name = pw ? keep_name(pw->pw_name) : NULL;
    pw = name ? source->user_by_name(name) : NULL;
    return pw && pw->pw_uid == uid ? name : NULL;
}

const char *names_of_group(gid_t gid)
{
    const struct group *group = source->group_by_id(gid);
    const char *name = group ? keep_name(group->gr_name) : NULL;
    group = name ? source->group_by_name(name) : NULL;
    return group && group->gr_gid == gid ? name : NULL;
}
