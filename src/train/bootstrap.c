#include "train/bootstrap.h"

#include <math.h>
#include <stdlib.h>

#include "util/mem.h"
#include "util/rng.h"

enum status bootstrap_open(uint64_t seed, int64_t samples, int values, struct bootstrap *out) {
    *out = (struct bootstrap){.seed = seed, .samples = samples, .values = values};
    int64_t n;
    TRY(size_mul(samples, values, "bootstrap samples", &n));
    TRY(NEW_ARRAY(out->numerators, n));
    return NEW_ARRAY(out->denominators, n);
}

void bootstrap_close(struct bootstrap *b) {
    mem_free(b->numerators);
    mem_free(b->denominators);
    *b = (struct bootstrap){0};
}

/* Poisson(1) by inversion. */
static int poisson(double uniform) {
    enum { MOST = 20 }; /* beyond it lies less than a double resolves */
    double term = exp(-1);
    double below = term;
    for (int k = 0; k < MOST; k++) {
        if (uniform < below) {
            return k;
        }
        term /= k + 1;
        below += term;
    }
    return MOST;
}

void bootstrap_add(struct bootstrap *b, int64_t row, const double *numerators, const double *denominators) {
    struct rng rng = rng_stream(b->seed, RNG_BOOTSTRAP, row, 0);
    for (int64_t s = 0; s < b->samples; s++) {
        int times = poisson(rng_uniform(&rng));
        for (int v = 0; times > 0 && v < b->values; v++) {
            b->numerators[s * b->values + v] += times * numerators[v];
            b->denominators[s * b->values + v] += times * denominators[v];
        }
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Linear interpolation between order statistics, as numpy.quantile does. */
static double quantile(const double *sorted, int64_t n, double q) {
    double place = q * (double)(n - 1);
    int64_t i = (int64_t)place;
    double next = i + 1 < n ? sorted[i + 1] : sorted[i];
    return sorted[i] + (place - (double)i) * (next - sorted[i]);
}

enum status bootstrap_intervals(struct comm *c, struct bootstrap *b, double confidence, double *low,
                                double *high) {
    TRY(comm_sum_f64(c, b->numerators, b->samples * b->values));
    TRY(comm_sum_f64(c, b->denominators, b->samples * b->values));
    double *ratios;
    TRY(comm_agree(c, NEW_ARRAY(ratios, b->samples)));
    for (int v = 0; v < b->values; v++) {
        int64_t n = 0;
        for (int64_t s = 0; s < b->samples; s++) {
            double denominator = b->denominators[s * b->values + v];
            if (denominator > 0) { /* a resample of a few rows may hold none */
                ratios[n++] = b->numerators[s * b->values + v] / denominator;
            }
        }
        qsort(ratios, (size_t)n, sizeof *ratios, ascending);
        low[v] = n > 0 ? quantile(ratios, n, (1 - confidence) / 2) : NAN;
        high[v] = n > 0 ? quantile(ratios, n, (1 + confidence) / 2) : NAN;
    }
    mem_free(ratios);
    return OK;
}
