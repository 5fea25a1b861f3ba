/*
 * The table, and build/bench.json.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include "../../common/escape.h"
#include "measure.h"
#include "place.h"

enum { ROWS = 96, CURVES = 12, TEXT = 256 };

struct told {
    char what[TEXT], against[TEXT], unit[16], goal[TEXT], detail[TEXT], skipped[TEXT];
    bool has_ratio, has_goal, met;
    double ratio, min, max, fob, other;
};

struct told_curve {
    char name[32], x_name[64], y_name[64], unit[16], other_name[64];
    int n;
    double x[POINTS_MAX], y[POINTS_MAX], other[POINTS_MAX];
};

static struct shared {
    int n_rows, n_curves;
    struct told rows[ROWS];
    struct told_curve curves[CURVES];
} * shared;

void measure_begin(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap: %s", strerror(errno));
}

/* ---- the table ---- */

static void copy(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text ? text : "");
}

static struct told *add_row(const char *what)
{
    if (shared->n_rows == ROWS)
        die("more rows than there is room for");
    struct told *row = &shared->rows[shared->n_rows++];
    copy(row->what, sizeof row->what, what);
    return row;
}

void heading(const char *text)
{
    printf("\n%-43s %7s  %-13s %9s %9s\n", text, "ratio", "range", "fob", "other");
}

/* As many digits as say something. */
static const char *number(double value)
{
    static char texts[4][32];
    static unsigned next;
    char *out = texts[next++ % 4];
    int digits = value >= 1000 || value == floor(value) ? 0 : value >= 100 ? 1 : value >= 1 ? 2 : 3;
    snprintf(out, sizeof texts[0], "%.*f", digits, value);
    return out;
}

static void set_goal(struct told *told, const struct row *row, double value)
{
    char limit[64] = "", against[128] = "";
    told->has_goal = row->limit != 0;
    told->met = row->at_least ? value >= row->limit : value <= row->limit;
    if (told->has_goal)
        snprintf(limit, sizeof limit, "%s %.4g%s", row->at_least ? ">=" : "<=", row->limit,
                 row->against ? "x of " : " ");
    if (row->against)
        snprintf(against, sizeof against, "%s%s", told->has_goal ? "" : "beside ", row->against);
    snprintf(told->goal, sizeof told->goal, "%s%s", limit, row->against ? against : row->unit);
    if (row->goal || (!told->has_goal && !row->against))
        copy(told->goal, sizeof told->goal, row->goal);
}

static void print_row(const struct told *t)
{
    char ratio[32] = "", range[32] = "";
    if (t->has_ratio) {
        snprintf(ratio, sizeof ratio, "%.2fx", t->ratio);
        snprintf(range, sizeof range, "%.2f..%.2f", t->min, t->max);
    }
    printf("%-43s %7s  %-13s %9s %9s %-4s %s%s\n", t->what, ratio, range, number(t->fob),
           t->has_ratio ? number(t->other) : "", t->unit, t->goal,
           !t->has_goal ? ""
           : t->met     ? ": met"
                        : ": missed");
    if (*t->detail)
        printf("    %s\n", t->detail);
    fflush(stdout);
}

static struct told *tell(const struct row *row, double judged, double fob)
{
    struct told *t = add_row(row->what);
    copy(t->unit, sizeof t->unit, row->unit);
    copy(t->against, sizeof t->against, row->against);
    copy(t->detail, sizeof t->detail, row->detail);
    set_goal(t, row, judged);
    t->fob = fob;
    return t;
}

void report(const struct row *row, const double *fob, const double *other, int n)
{
    double ratios[ROUNDS_MAX] = { 0 }, ours[ROUNDS_MAX], theirs[ROUNDS_MAX];
    for (int i = 0; i < n; i++)
        ratios[i] = other[i] > 0 ? fob[i] / other[i] : 0;
    memcpy(ours, fob, (size_t)n * sizeof *fob);
    memcpy(theirs, other, (size_t)n * sizeof *other);
    double ratio = median(ratios, n);
    struct told *t = tell(row, ratio, median(ours, n));
    t->has_ratio = true;
    t->ratio = ratio;
    t->min = ratios[0];
    t->max = ratios[n - 1];
    t->other = median(theirs, n);
    print_row(t);
}

void report_value(const struct row *row, double value)
{
    print_row(tell(row, value, value));
}

void report_skipped(const char *what, const char *why)
{
    struct told *t = add_row(what);
    copy(t->skipped, sizeof t->skipped, why);
    printf("%-43s skipped: %s\n", what, why);
    fflush(stdout);
}

/* ---- curves ---- */

static void print_line(const char *what, const double *values, int n)
{
    printf("    %-22s", what);
    for (int i = 0; i < n; i++)
        printf(" %9s", number(values[i]));
    putchar('\n');
}

static void print_curve(const struct told_curve *t)
{
    double ratios[POINTS_MAX];
    char what[96];
    for (int i = 0; i < t->n; i++)
        ratios[i] = t->y[0] > 0 ? t->y[i] / t->y[0] : 0;
    printf("%s, as the %s grows\n", t->y_name, t->x_name);
    print_line(t->name, t->x, t->n);
    snprintf(what, sizeof what, "fob, %s", t->unit);
    print_line(what, t->y, t->n);
    print_line("  of its first", ratios, t->n);
    snprintf(what, sizeof what, "%s, %s", t->other_name, t->unit);
    if (*t->other_name)
        print_line(what, t->other, t->n);
    fflush(stdout);
}

static double middle(const double *rounds)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, rounds, (size_t)effort.rounds * sizeof *rounds);
    return median(sorted, effort.rounds);
}

void curve_report(const struct curve *curve)
{
    if (shared->n_curves == CURVES)
        die("more curves than there is room for");
    struct told_curve *t = &shared->curves[shared->n_curves++];
    copy(t->name, sizeof t->name, curve->name);
    copy(t->x_name, sizeof t->x_name, curve->x_name);
    copy(t->y_name, sizeof t->y_name, curve->y_name);
    copy(t->unit, sizeof t->unit, curve->unit);
    copy(t->other_name, sizeof t->other_name, curve->other_name);
    t->n = curve->n;
    for (int i = 0; i < t->n; i++) {
        t->x[i] = curve->x[i];
        t->y[i] = middle(curve->y[i]);
        t->other[i] = curve->other_name ? middle(curve->other[i]) : 0;
    }
    print_curve(t);
}

/* ---- JSON ---- */

static void put_text(FILE *out, const char *before, const char *key, const char *text)
{
    char shown[6 * TEXT + 3];
    bool raw = false;
    if (escape_json(shown, sizeof shown, text, strlen(text), &raw))
        fprintf(out, "%s\"%s\":%s", before, key, shown);
}

static void put_row(FILE *out, const struct told *t)
{
    put_text(out, "{", "measure", t->what);
    if (*t->skipped) {
        put_text(out, ",", "skipped", t->skipped);
        fputc('}', out);
        return;
    }
    if (t->has_ratio)
        fprintf(out, ",\"ratio\":%.4f,\"min\":%.4f,\"max\":%.4f,\"fob\":%.3f,\"other\":%.3f", t->ratio,
                t->min, t->max, t->fob, t->other);
    else
        fprintf(out, ",\"ratio\":null,\"min\":null,\"max\":null,\"fob\":%.3f,\"other\":null", t->fob);
    put_text(out, ",", "unit", t->unit);
    if (*t->against)
        put_text(out, ",", "against", t->against);
    put_text(out, ",", "goal", t->has_goal ? t->goal : "");
    fprintf(out, ",\"met\":%s", !t->has_goal ? "null" : t->met ? "true" : "false");
    if (*t->detail)
        put_text(out, ",", "detail", t->detail);
    fputc('}', out);
}

static void put_array(FILE *out, const char *key, const double *values, int n)
{
    fprintf(out, ",\"%s\":[", key);
    for (int i = 0; i < n; i++)
        fprintf(out, "%s%.7g", i ? "," : "", values[i]);
    fputc(']', out);
}

/* One line each: plot.sh reads it line by line. */
static void put_curve(FILE *out, const struct told_curve *t)
{
    put_text(out, "{", "curve", t->name);
    put_text(out, ",", "x_name", t->x_name);
    put_text(out, ",", "y_name", t->y_name);
    put_text(out, ",", "unit", t->unit);
    put_array(out, "x", t->x, t->n);
    put_array(out, "y", t->y, t->n);
    if (*t->other_name) {
        put_text(out, ",", "other_name", t->other_name);
        put_array(out, "other", t->other, t->n);
    }
    fputc('}', out);
}

int measure_write_json(const char *path)
{
    struct utsname system;
    FILE *out = fopen(path, "we");
    if (!out)
        return -errno;
    uname(&system);
    put_text(out, "{\n", "run", effort.name);
    put_text(out, ",", "kernel", system.release);
    fprintf(out, ",\"cpus\":%d", cpus());
    fputs(",\n\"rows\":[", out);
    for (int i = 0; i < shared->n_rows; i++) {
        fputs(i ? ",\n" : "\n", out);
        put_row(out, &shared->rows[i]);
    }
    fputs("\n],\n\"curves\":[", out);
    for (int i = 0; i < shared->n_curves; i++) {
        fputs(i ? ",\n" : "\n", out);
        put_curve(out, &shared->curves[i]);
    }
    fputs("\n]\n}\n", out);
    return fclose(out) ? -errno : 0;
}
