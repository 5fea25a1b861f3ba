#include "soak.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../common/util.h"

enum { COMPLAINTS_MAX = 100 };

char soak_dir[64] = "/tmp/fob-soak.XXXXXX";
struct soak_shared *shared;
static uint64_t state;

int64_t soak_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void soak_sleep_ms(unsigned ms)
{
    usleep(ms * 1000);
}

/* splitmix64: https://prng.di.unimi.it/splitmix64.c */
static uint64_t next(void)
{
    uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void soak_seed(uint64_t seed, unsigned role)
{
    state = seed;
    next();
    state ^= (uint64_t)role << 32;
    next();
}

unsigned soak_random(unsigned below)
{
    return (unsigned)(next() >> 33) % below;
}

bool soak_chance(unsigned percent)
{
    return soak_random(100) < percent;
}

/* Eight buckets for each doubling. */
void soak_wait_note(int64_t us)
{
    uint64_t value = us > 8 ? (uint64_t)us : 8;
    unsigned shift = 60u - (unsigned)__builtin_clzll(value);
    unsigned bucket = shift * 8 + (unsigned)(value >> shift) - 8;
    shared->waits[bucket < WAITS ? bucket : WAITS - 1]++;
    int64_t longest = shared->longest;
    while (us > longest && !atomic_compare_exchange_weak(&shared->longest, &longest, us))
        ;
}

uint64_t soak_wait_quantile(unsigned permille)
{
    uint64_t all = 0, so_far = 0;
    for (unsigned i = 0; i < WAITS; i++)
        all += shared->waits[i];
    for (unsigned i = 0; i < WAITS; i++) {
        so_far += shared->waits[i];
        if (so_far * 1000 >= all * permille)
            return (i % 8 + 9ull) << (i / 8);
    }
    return 0;
}

bool soak_was_down(uint32_t life)
{
    return life % 2 || shared->life != life;
}

void soak_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: not true: %s (errno %s)\n", file, line, what, strerror(errno));
}

const char *soak_path(const char *name)
{
    static char buffers[8][SOAK_PATH + sizeof soak_dir];
    static unsigned turn;
    char *out = buffers[turn++ % ARRAY_SIZE(buffers)];
    snprintf(out, sizeof buffers[0], "%s/%s", soak_dir, name);
    return out;
}

char *soak_read(const char *path, size_t *out_len)
{
    FILE *in = fopen(path, "re");
    char *text = NULL;
    size_t len = 0, size = 0, got;
    if (!in)
        return NULL;
    do {
        if (size - len < 4096) {
            size = 2 * size + 8192;
            char *more = realloc(text, size);
            SOAK_NEED(more);
            text = more;
        }
        got = fread(text + len, 1, size - len - 1, in);
        len += got;
    } while (got > 0);
    fclose(in);
    text[len] = '\0';
    if (out_len)
        *out_len = len;
    return text;
}

void soak_complain(const char *format, ...)
{
    static unsigned said;
    va_list arguments;
    if (said++ >= COMPLAINTS_MAX)
        return;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

/* FNV-1a. */
uint64_t soak_hash(uint64_t hash, const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * UINT64_C(1099511628211);
    return hash;
}
