#include "measure.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../common/util.h"

struct effort effort;

double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, by_size);
    return values[n / 2];
}

/* The first tenth is to warm up: what ran before has left the caches to others. */
double act_quantile(const struct act *act, double quantile)
{
    static double samples[SAMPLES_MAX];
    int n = effort.samples / (act->slower ? act->slower : 1);
    n = n < 3 ? 3 : n;
    for (int i = 0; i < n / 10; i++)
        act->run(act->what);
    for (int i = 0; i < n; i++) {
        double begin = now_us();
        act->run(act->what);
        samples[i] = now_us() - begin;
    }
    qsort(samples, (size_t)n, sizeof *samples, by_size);
    return samples[(int)((n - 1) * quantile)] / (act->parts ? act->parts : 1);
}

double act_time(const struct act *act)
{
    return act_quantile(act, 0.5);
}

void compare(const struct row *row, const struct act *fob, const struct act *other)
{
    double ours[ROUNDS_MAX] = { 0 }, theirs[ROUNDS_MAX] = { 0 };
    for (int r = 0; r < effort.rounds; r++) {
        theirs[r] = act_time(other);
        ours[r] = act_time(fob);
    }
    report(row, ours, theirs, effort.rounds);
}

void curve_measure(struct curve *curve, const struct act *fob, const struct act *others)
{
    for (int r = 0; r < effort.rounds; r++)
        for (int i = 0; i < curve->n; i++) {
            curve->y[i][r] = act_time(&fob[i]);
            if (others)
                curve->other[i][r] = act_time(&others[i]);
        }
}

void curve_row(const struct row *row, const struct curve *curve, int i)
{
    report(row, curve->y[i], curve->y[0], effort.rounds);
}
