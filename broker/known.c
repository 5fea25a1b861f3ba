#include "known.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../common/util.h"

enum {
    PLACES = 256,
    LONGEST = 248, /* a longer path is not remembered; a place has 256 bytes with it */
};

enum state { EMPTY, SEEN, SAFE, UNSAFE };

struct place {
    uint32_t len;
    enum state state;
    char path[LONGEST];
};

struct known {
    struct place places[PLACES];
};

struct known *known_new(void)
{
    return mem_zalloc(1, sizeof(struct known));
}

void known_free(struct known *known)
{
    free(known);
}

/* Who makes names that fall on one place makes them forgotten, and gains nothing. */
static size_t place_of(const char *path, size_t len)
{
    uint64_t hash = len, eight;
    for (; len; path += sizeof eight, len -= sizeof eight) {
        size_t n = len < sizeof eight ? len : sizeof eight;
        eight = 0;
        memcpy(&eight, path, n);
        hash = (hash ^ eight) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
        if (n < sizeof eight)
            break;
    }
    return hash % PLACES;
}

/* NULL: it has none. */
static struct place *find(struct known *known, const struct target *target)
{
    return target->len <= LONGEST ? &known->places[place_of(target->path, target->len)] : NULL;
}

static bool is_of(const struct place *place, const struct target *target)
{
    return place && place->state != EMPTY && place->len == target->len &&
           memcmp(place->path, target->path, target->len) == 0;
}

bool known_has(struct known *known, const struct target *target)
{
    const struct place *place = find(known, target);
    return is_of(place, target) && place->state == SAFE;
}

void known_saw_file(struct known *known, const struct target *target)
{
    struct place *place = find(known, target);
    if (!place)
        return;
    if (!is_of(place, target)) {
        *place = (struct place){ .len = (uint32_t)target->len, .state = SEEN };
        memcpy(place->path, target->path, target->len);
    } else if (place->state ==
               SEEN) { /* once for all: a look at each directory costs much more than one at a file */
        place->state = target->sealed && verify_directories(target) ? SAFE : UNSAFE;
    }
}

void known_forget(struct known *known, const struct target *target)
{
    struct place *place = find(known, target);
    if (is_of(place, target))
        place->state = EMPTY;
}
