#include "evaluate/bootstrap.h"

#include <math.h>
#include <stdlib.h>

#include "util/mem.h"
#include "util/rng.h"

enum status bootstrap_open(uint64_t seed, int64_t samples, int values, struct bootstrap *out) {
    *out = (struct bootstrap){.seed = seed, .samples = samples, .values = values};
    int64_t n;
    TRY(size_mul(samples, 2 * (int64_t)values, "bootstrap samples", &n));
    TRY(NEW_ARRAY(out->row, 2 * (int64_t)values));
    return exact_open(n, &out->sums);
}

void bootstrap_close(struct bootstrap *b) {
    exact_close(&b->sums);
    mem_free(b->row);
    *b = (struct bootstrap){0};
}

/* Poisson(1) by inversion: at[k] is where the chance of at most k ends, of the 2^53 values that a uniform
 * number has. Beyond the last lies less than one of them. */
enum { POISSON_MOST = 20 };
static void poisson_table(uint64_t at[POISSON_MOST]) {
    double term = exp(-1);
    double below = term;
    for (int k = 0; k < POISSON_MOST; k++) {
        at[k] = (uint64_t)ceil(below * 0x1p53);
        term /= k + 1;
        below += term;
    }
}

static int poisson(const uint64_t at[POISSON_MOST], uint64_t uniform) {
    int k = (uniform >= at[0]) + (uniform >= at[1]) + (uniform >= at[2]); /* 98 % end here: no branch */
    if (k < 3) {
        return k;
    }
    while (k < POISSON_MOST && uniform >= at[k]) {
        k++;
    }
    return k;
}

void bootstrap_add(struct bootstrap *b, int64_t row, const double *numerators, const double *denominators) {
    struct rng rng = rng_stream(b->seed, RNG_BOOTSTRAP, row, 0);
    int64_t n = 2 * (int64_t)b->values;
    uint64_t at[POISSON_MOST];
    poisson_table(at);
    for (int v = 0; v < b->values; v++) {
        b->row[2 * v] = exact_of(&b->sums, numerators[v]);
        b->row[2 * v + 1] = exact_of(&b->sums, denominators[v]);
    }
    for (int64_t s = 0; s < b->samples; s++) {
        int times = poisson(at, rng_u64(&rng) >> 11);
        for (int64_t v = 0; times > 0 && v < n; v++) {
            if (b->row[v] != 0) {
                exact_add(&b->sums, s * n + v, b->row[v], times);
            }
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
    double *ratios = NULL;
    double *sums = NULL;
    enum status st = NEW_ARRAY(ratios, b->samples);
    st = st == OK ? NEW_ARRAY(sums, b->sums.n) : st;
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, exact_reduce(c, &b->sums, sums));
    for (int v = 0; v < b->values; v++) {
        int64_t n = 0;
        for (int64_t s = 0; s < b->samples; s++) {
            const double *pair = sums + 2 * (s * b->values + v);
            if (pair[1] > 0) { /* a resample of a few rows may hold none */
                ratios[n++] = pair[0] / pair[1];
            }
        }
        qsort(ratios, (size_t)n, sizeof *ratios, ascending);
        low[v] = n > 0 ? quantile(ratios, n, (1 - confidence) / 2) : NAN;
        high[v] = n > 0 ? quantile(ratios, n, (1 + confidence) / 2) : NAN;
    }
done:
    mem_free(sums);
    mem_free(ratios);
    return st;
}
