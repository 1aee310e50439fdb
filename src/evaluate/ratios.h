/* Ratios of sums over rows, each with a confidence interval: what evaluations count and print. The same bits
 * for any rank count. */
#ifndef COLLIMATE_EVALUATE_RATIOS_H
#define COLLIMATE_EVALUATE_RATIOS_H

#include "evaluate/bootstrap.h"
#include "util/text.h"

struct interval_options {
    int64_t samples; /* 0: no intervals */
    double confidence;
    uint64_t seed;
};

struct ratios {
    int n;
    double *numerators, *denominators; /* of the row at hand */
    bool *shares;                      /* ratios that are shares of their denominator */
    struct exact_sums exact;           /* numerator and denominator of each ratio */
    struct bootstrap bootstrap;
    double confidence;
    /* After ratios_reduce: the sums over all rows of all ranks, numerator and denominator by turns; ends of
     * the intervals. */
    double *totals, *low, *high;
};
/* Local. n ratios. Closed after failures too. */
enum status ratios_open(const struct interval_options *o, int n, struct ratios *out);
void ratios_close(struct ratios *r);
/* Local. Ratios first, first + 1, … count how many of their denominator have something: their intervals are
 * those of shares, within [0, 1]. The same on all ranks. */
void ratios_are_shares(struct ratios *r, int first, int n);
/* Local. Adds to ratio v of the row at hand. */
void ratios_count(struct ratios *r, int v, double numerator, double denominator);
/* Local. Ends the row: what was counted since the last one belongs to this unit, which is resampled as a
 * whole. Rows of one prompt have one unit (evaluation_unit), on whatever rank. */
void ratios_end_row(struct ratios *r, int64_t unit);
/* Collective. */
enum status ratios_reduce(struct comm *c, struct ratios *r);

/* Local, after ratios_reduce. A ratio's denominator, and its value: NaN where that is 0. */
double ratios_rows(const struct ratios *r, int v);
double ratios_value(const struct ratios *r, int v);
/* , "confidence": c, "intervals": {"name": [low, high], …}: of the first n ratios, without those whose name
 * is NULL; nothing where there are no samples. */
enum status ratios_print(const struct ratios *r, const char *const *names, int n, struct text *out);
/* "name": {"value": x, "count": n, "interval": [low, high]}; keys: what the first two are called here. */
enum status ratios_put_member(const struct ratios *r, const char *name, int v, const char *const keys[2],
                              struct text *out);
/* , "name": {…}: ratios first, first + 1, … as members named names; those without a row or
 * a name are left out. */
struct ratios_group {
    const char *name;
    int first, n;
    const char *const *names;
    const char *const *keys;
};
enum status ratios_put_group(const struct ratios *r, const struct ratios_group *g, struct text *out);

#endif
