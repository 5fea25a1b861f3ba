/*
 * How the bench measures, and how it tells: what is compared runs in turn, round by round, in one run; of
 * each round a ratio; of the ratios the median and the range. A time alone says nothing about another
 * machine.
 *
 * Sections of the bench are processes of their own; what they report is in memory that they share, printed at
 * once as a line of the table and written as JSON at the end.
 */
#ifndef FOB_TESTS_BENCH_MEASURE_H
#define FOB_TESTS_BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>

enum { ROUNDS_MAX = 31, POINTS_MAX = 12, SAMPLES_MAX = 20000 };

/* How much of everything; set once, before anything is measured. */
struct effort {
    const char *name; /* "quick", "full", "tiny" */
    int rounds;
    int samples;       /* of a round */
    unsigned slice_ms; /* of a round that counts, where many ask at once */
};
extern struct effort effort;

/* What is timed: run(what). */
struct act {
    void (*run)(const void *what);
    const void *what;
    int parts;  /* the time is that of one of so many (descriptors of a batch); 0: 1 */
    int slower; /* by about how much than an open: so many fewer samples; 0: 1 */
};

/* A line of the table. A goal is there if limit is not 0. */
struct row {
    const char *what;
    const char *unit;
    const char *against; /* "the floor"; NULL for what has nothing beside it */
    double limit;        /* of the ratio, or of what has nothing beside it */
    bool at_least;       /* the limit is from below */
    const char *goal;    /* what the limit means, where its number does not say it; or NULL */
    const char *detail;  /* more to say, on a line of its own, or NULL */
};

/* How fob grows with something; ys has the rounds of each x. */
struct curve {
    const char *name;   /* "rules" */
    const char *x_name; /* "number of rules" */
    const char *y_name; /* "one open, p50", for each ... */
    const char *unit;
    const char *other_name; /* of the second line, or NULL */
    int n;
    double x[POINTS_MAX], y[POINTS_MAX][ROUNDS_MAX], other[POINTS_MAX][ROUNDS_MAX];
};

/* Before the first section: makes the shared memory. */
void measure_begin(void);

double now_us(void);
/* Sorts them. */
double median(double *values, int n);
/* The quantile (0.5: the median) of the times of one round, in microseconds. */
double act_quantile(const struct act *act, double quantile);
double act_time(const struct act *act); /* of 0.5 */

void heading(const char *text);
/* Both in turn, effort.rounds times, by their act_time(); then report(). */
void compare(const struct row *row, const struct act *fob, const struct act *other);
/* One line: what n rounds gave. */
void report(const struct row *row, const double *fob, const double *other, int n);
void report_value(const struct row *row, double value);
void report_skipped(const char *what, const char *why);
/* All points in turn, by their act_time(), as rounds of the curve; others is NULL or as many. */
void curve_measure(struct curve *curve, const struct act *fob, const struct act *others);
void curve_report(const struct curve *curve);
/* The curve's point i against its first, as a line of the table. */
void curve_row(const struct row *row, const struct curve *curve, int i);

/* All that was reported: 0, or a negative errno. */
int measure_write_json(const char *path);

#endif
