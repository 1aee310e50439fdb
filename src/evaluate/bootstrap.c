#include "evaluate/bootstrap.h"

#include <math.h>

#include "util/mem.h"
#include "util/student.h"

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

void poisson_open(struct poisson *out) {
    double term = exp(-1);
    double below = term;
    for (int k = 0; k < POISSON_MOST; k++) {
        out->at[k] = (uint64_t)ceil(below * 0x1p53);
        term /= k + 1;
        below += term;
    }
}

int poisson_draw(const struct poisson *p, struct rng *rng) {
    uint64_t uniform = rng_u64(rng) >> 11;
    int k = (uniform >= p->at[0]) + (uniform >= p->at[1]) + (uniform >= p->at[2]); /* 98 % end: no branch */
    if (k < 3) {
        return k;
    }
    while (k < POISSON_MOST && uniform >= p->at[k]) {
        k++;
    }
    return k;
}

void bootstrap_add(struct bootstrap *b, int64_t unit, const double *numerators, const double *denominators) {
    struct rng rng = rng_stream(b->seed, RNG_BOOTSTRAP, unit, 0);
    int64_t n = 2 * (int64_t)b->values;
    struct poisson times_of;
    poisson_open(&times_of);
    for (int v = 0; v < b->values; v++) {
        b->row[2 * v] = exact_of(&b->sums, numerators[v]);
        b->row[2 * v + 1] = exact_of(&b->sums, denominators[v]);
    }
    for (int64_t s = 0; s < b->samples; s++) {
        int times = poisson_draw(&times_of, &rng);
        for (int64_t v = 0; times > 0 && v < n; v++) {
            if (b->row[v] != 0) {
                exact_add(&b->sums, s * n + v, b->row[v], times);
            }
        }
    }
}

/* What the resamples say of a ratio. */
struct spread {
    double ratio, weight; /* weight: D */
    double variance;      /* of the ratio, before any correction */
    double skewness;      /* likewise */
    double units;         /* m */
};

static struct spread spread_of(const struct bootstrap *b, const double *sums, int v, const double *total) {
    struct spread s = {.ratio = total[0] / total[1], .weight = total[1]};
    double squares = 0;
    double cubes = 0;
    double weights = 0;
    for (int64_t i = 0; i < b->samples; i++) {
        const double *pair = sums + 2 * (i * b->values + v);
        double off = pair[0] - s.ratio * pair[1];
        squares += off * off;
        cubes += off * off * off;
        weights += (pair[1] - s.weight) * (pair[1] - s.weight);
    }
    squares /= (double)b->samples;
    s.skewness = squares > 0 ? cubes / (double)b->samples / (squares * sqrt(squares)) : 0;
    s.variance = squares / (s.weight * s.weight);
    s.units = s.weight * s.weight / (weights / (double)b->samples);
    return s;
}

/* The normal distribution's quantile is Student's with this many degrees of freedom. */
static const double normal = 1e6;

static void wilson(const struct spread *s, double p, double t, double *low, double *high) {
    double odds = s->ratio * (1 - s->ratio);
    double trials = odds > 0 && s->variance > 0 ? fmin(odds / s->variance, s->weight) : s->units;
    double z = student_quantile(p, normal);
    double correction = s->weight > 1 ? student_quantile(p, s->weight - 1) / t : 1;
    trials *= fmin(correction * correction, 1);
    double center = (s->ratio + z * z / (2 * trials)) / (1 + z * z / trials);
    double half = z * sqrt(odds / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials);
    *low = s->ratio > 0 ? fmax(center - half, 0) : 0;
    *high = s->ratio < 1 ? fmin(center + half, 1) : 1;
}

/* The inverse of Hall's transformation. */
static double straightened(double q, double skewness) {
    const double none = 1e-6; /* below it the formula is q to rounding, and loses that many digits */
    return fabs(skewness) < none ? q : 3 / skewness * (cbrt(1 + skewness * (q - skewness / 6)) - 1);
}

static void interval(const struct spread *s, double confidence, bool is_share, double *low, double *high) {
    *low = *high = NAN;
    if (!(s->units >= 1.5)) { /* one unit; m is known to a few percent */
        return;
    }
    double p = (1 + confidence) / 2;
    double t = student_quantile(p, s->units - 1);
    if (is_share) {
        wilson(s, p, t, low, high);
        return;
    }
    double deviation = sqrt(s->variance * s->units / (s->units - 1));
    *low = s->ratio - deviation * straightened(t, s->skewness);
    *high = s->ratio - deviation * straightened(-t, s->skewness);
}

enum status bootstrap_intervals(struct comm *c, struct bootstrap *b, double confidence, const double *totals,
                                const bool *shares, double *low, double *high) {
    double *sums = NULL;
    enum status st = NEW_ARRAY(sums, b->sums.n);
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, exact_reduce(c, &b->sums, sums));
    for (int v = 0; v < b->values; v++) {
        low[v] = high[v] = NAN;
        if (b->samples > 0 && totals[2 * v + 1] > 0) {
            const struct spread s = spread_of(b, sums, v, totals + 2 * v);
            interval(&s, confidence, shares[v], &low[v], &high[v]);
        }
    }
done:
    mem_free(sums);
    return st;
}
