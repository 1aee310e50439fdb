#include "evaluate/ratings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/bootstrap.h"
#include "util/mem.h"

enum { MOST_TURNS = 100000 };

/* Of n systems: points[i n + j] that i took from j. */
struct games {
    int64_t n;
    double *points, *strength, *next, *rounds;
    int64_t *seen; /* scratch */
};

static void games_free(struct games *g) {
    mem_free(g->points);
    mem_free(g->strength);
    mem_free(g->next);
    mem_free(g->rounds);
    mem_free(g->seen);
}

static enum status games_open(int64_t n, struct games *out) {
    *out = (struct games){.n = n};
    int64_t pairs;
    TRY(size_mul(n, n, "pairs of systems", &pairs));
    TRY(NEW_ARRAY(out->points, pairs));
    TRY(NEW_ARRAY(out->strength, n));
    TRY(NEW_ARRAY(out->next, n));
    TRY(NEW_ARRAY(out->rounds, n));
    return NEW_ARRAY(out->seen, n);
}

/* Whether all others are reached from system 0, over pairs where one took points from the other (forward), or
 * lost some. */
static bool reaches_all(struct games *g, bool forward) {
    int64_t n = g->n;
    int64_t found = 1;
    double *reached = g->rounds;
    memset(reached, 0, (size_t)n * sizeof *reached);
    reached[0] = 1;
    g->seen[0] = 0;
    for (int64_t at = 0; at < found; at++) {
        for (int64_t j = 0; j < n; j++) {
            int64_t i = g->seen[at];
            if (reached[j] == 0 && g->points[forward ? i * n + j : j * n + i] > 0) {
                reached[j] = 1;
                g->seen[found++] = j;
            }
        }
    }
    return found == n;
}

/* One turn: the largest change of a log-strength. */
static double improve(struct games *g) {
    int64_t n = g->n;
    double mean = 0;
    double moved = 0;
    for (int64_t i = 0; i < n; i++) {
        double won = 0;
        double expected = 0;
        for (int64_t j = 0; j < n; j++) {
            double played = g->points[i * n + j] + g->points[j * n + i];
            won += g->points[i * n + j];
            expected += played > 0 ? played / (g->strength[i] + g->strength[j]) : 0;
        }
        g->next[i] = won / expected;
        mean += log(g->next[i]) / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        double next = g->next[i] / exp(mean);
        moved = fmax(moved, fabs(log(next / g->strength[i])));
        g->strength[i] = next;
    }
    return moved;
}

/* out (n): ratings, false where they are not finite. The likelihood has a maximum exactly where every system
 * is reached from every other (Ford 1957). */
static bool fit(struct games *g, double *out) {
    if (!reaches_all(g, true) || !reaches_all(g, false)) {
        return false;
    }
    for (int64_t i = 0; i < g->n; i++) {
        g->strength[i] = 1;
    }
    for (int turn = 0; turn < MOST_TURNS && improve(g) > 1e-12; turn++) {
    }
    for (int64_t i = 0; i < g->n; i++) {
        out[i] = 1000 + 400 * log10(g->strength[i]);
    }
    return true;
}

/* sample -1: every verdict once. */
static void count(const struct verdicts *v, uint64_t seed, int64_t sample, struct games *g) {
    struct poisson times_of;
    poisson_open(&times_of);
    memset(g->points, 0, (size_t)(g->n * g->n) * sizeof *g->points);
    for (int64_t i = 0; i < v->n; i++) {
        const struct verdict *x = &v->list[i];
        struct rng rng = rng_stream(seed, RNG_BOOTSTRAP, x->prompt, sample + 1);
        int times = sample < 0 ? 1 : poisson_draw(&times_of, &rng);
        g->points[x->second * g->n + x->first] += times * x->preference;
        g->points[x->first * g->n + x->second] += times * (1 - x->preference);
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

/* all (systems x samples): ratings of the resamples, system by system. */
static void take_intervals(double *all, int64_t samples, int64_t n, double confidence, int64_t systems,
                           struct rating *out) {
    for (int64_t i = 0; i < systems && n > 1; i++) {
        double *own = all + i * samples;
        qsort(own, (size_t)n, sizeof *own, ascending);
        out[i].low = quantile(own, n, (1 - confidence) / 2);
        out[i].high = quantile(own, n, (1 + confidence) / 2);
    }
}

enum status ratings_fit(const struct verdicts *v, const struct interval_options *options,
                        struct rating *out) {
    struct games games;
    int64_t systems = v->n_systems;
    int64_t n = 0;
    int64_t size;
    double *all = NULL;
    double *ratings = NULL;
    enum status st = games_open(systems, &games);
    st = st == OK ? size_mul(systems, options->samples + 1, "ratings of resamples", &size) : st;
    st = st == OK ? NEW_ARRAY(all, size) : st;
    TRY_TO(done, st == OK ? NEW_ARRAY(ratings, systems) : st);
    count(v, options->seed, -1, &games);
    bool is_finite = systems > 0 && fit(&games, ratings);
    for (int64_t i = 0; i < systems; i++) {
        out[i] = (struct rating){is_finite ? ratings[i] : NAN, NAN, NAN};
    }
    for (int64_t s = 0; s < options->samples && is_finite; s++) {
        count(v, options->seed, s, &games);
        if (!fit(&games, ratings)) {
            continue;
        }
        for (int64_t i = 0; i < systems; i++) {
            all[i * options->samples + n] = ratings[i];
        }
        n++;
    }
    take_intervals(all, options->samples, n, options->confidence, systems, out);
done:
    mem_free(all);
    mem_free(ratings);
    games_free(&games);
    return st;
}
