/* Two clusters of a handful of rows: every split is tried where they are few, else local searches from drawn
 * starts until none of them has found a better one for long.
 *
 * With the rows' mean taken off, all that a split is asked for comes from their products G: for a side S of
 * n1 rows and sum s, q = |s|^2, and the squares between the clusters, which are to be as large as can be, are
 * q n / (n0 n1). So a split costs a few additions whatever the rows' width.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "select/kmeans.h"
#include "util/mem.h"
#include "util/rng.h"

/* Starts without a better end, for each row and at most, after which the search ends. */
enum { EXACT_UP_TO = 16, PATIENCE = 8, MOST_PATIENCE = 256 };

/* Splits whose squares differ by less than this share of all squares are equal: the first one wins. */
static const double tolerance = 1e-12;

struct split {
    int n;
    double *products; /* n x n */
    double total;     /* of the squares */
};

/* A side 1 of a split, and what is known of it. */
struct half {
    int *side;
    double *along; /* of each row: its products with side 1's rows, summed */
    double squares;
    int count;
};

static double product(const struct split *s, int i, int j) {
    return s->products[(int64_t)i * s->n + j];
}

static double between(const struct split *s, double squares, int count) {
    return count == 0 || count == s->n ? -1 : squares * s->n / ((double)count * (s->n - count));
}

static enum status set_products(struct split *s, const float *rows, int64_t width) {
    double *mean;
    TRY(NEW_ARRAY(mean, width));
    for (int i = 0; i < s->n; i++) {
        for (int64_t d = 0; d < width; d++) {
            mean[d] += rows[i * width + d];
        }
    }
    for (int64_t d = 0; d < width; d++) {
        mean[d] /= s->n;
    }
    for (int i = 0; i < s->n; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = 0;
            for (int64_t d = 0; d < width; d++) {
                sum += (rows[i * width + d] - mean[d]) * (rows[j * width + d] - mean[d]);
            }
            s->products[(int64_t)i * s->n + j] = s->products[(int64_t)j * s->n + i] = sum;
        }
        s->total += product(s, i, i);
    }
    mem_free(mean);
    return OK;
}

/* Row 0 stays on side 0, so each bipartition is met once: 2^(n-1) - 1 of them. Each has one row more than
 * one that was met before. */
static enum status try_all(const struct split *s, int *best) {
    double most = -DBL_MAX;
    int chosen = 1;
    double *squares;
    TRY(NEW_ARRAY(squares, (int64_t)1 << (s->n - 1)));
    for (int mask = 1; mask < 1 << (s->n - 1); mask++) {
        int last = 0;
        int count = 1;
        while (mask >> (last + 1)) {
            last++;
        }
        double along = 0;
        for (int i = 0; i < last; i++) {
            if (mask >> i & 1) {
                along += product(s, i + 1, last + 1);
                count++;
            }
        }
        squares[mask] = squares[mask ^ (1 << last)] + 2 * along + product(s, last + 1, last + 1);
        double value = between(s, squares[mask], count);
        if (value > most + tolerance * s->total) {
            most = value;
            chosen = mask;
        }
    }
    for (int i = 0; i < s->n; i++) {
        best[i] = i > 0 && (chosen >> (i - 1) & 1);
    }
    mem_free(squares);
    return OK;
}

/* Side 1's squares with row i on the other side than it is. */
static double flipped(const struct split *s, const struct half *h, int i) {
    return h->squares + (h->side[i] ? -2 : 2) * h->along[i] + product(s, i, i);
}

static void flip(const struct split *s, struct half *h, int i) {
    int sign = h->side[i] ? -1 : 1;
    h->squares = flipped(s, h, i);
    h->count += sign;
    h->side[i] = !h->side[i];
    for (int j = 0; j < s->n; j++) {
        h->along[j] += sign * product(s, i, j);
    }
}

/* Flips the row that gains most for as long as one gains; the squares between the clusters then. */
static double climb(const struct split *s, struct half *h) {
    for (;;) {
        double value = between(s, h->squares, h->count);
        double most = value + tolerance * s->total;
        int chosen = -1;
        for (int i = 0; i < s->n; i++) {
            double then = between(s, flipped(s, h, i), h->count + (h->side[i] ? -1 : 1));
            if (then > most) {
                most = then;
                chosen = i;
            }
        }
        if (chosen < 0) {
            return value;
        }
        flip(s, h, chosen);
    }
}

static double apart(const struct split *s, int i, int j) {
    return product(s, i, i) + product(s, j, j) - 2 * product(s, i, j);
}

/* k-means++: the first center uniform, the second by squared distance from it; each row to the nearer. */
static void start(const struct split *s, struct rng *draws, struct half *h) {
    int first = (int)rng_below(draws, s->n);
    int second = first == 0 ? 1 : 0;
    double all = 0;
    for (int i = 0; i < s->n; i++) {
        all += apart(s, i, first);
    }
    double target = rng_uniform(draws) * all;
    double sum = 0;
    for (int i = 0; i < s->n && all > 0; i++) {
        sum += apart(s, i, first);
        if (sum > target) {
            second = i;
            break;
        }
    }
    memset(h->side, 0, (size_t)s->n * sizeof *h->side);
    memset(h->along, 0, (size_t)s->n * sizeof *h->along);
    h->squares = h->count = 0;
    for (int i = 0; i < s->n; i++) {
        if (i == second || (i != first && apart(s, i, second) < apart(s, i, first))) {
            flip(s, h, i);
        }
    }
}

static enum status try_starts(const struct split *s, uint64_t seed, int64_t prompt, int *best) {
    struct half h = {0};
    double most = -DBL_MAX;
    int since = 0;
    int patience = s->n < MOST_PATIENCE / PATIENCE ? PATIENCE * s->n : MOST_PATIENCE;
    enum status st;
    TRY_TO(done, NEW_ARRAY(h.side, s->n));
    TRY_TO(done, NEW_ARRAY(h.along, s->n));
    for (int restart = 0; since < patience; restart++) {
        struct rng draws = rng_stream(seed, RNG_SELECT, prompt, restart);
        start(s, &draws, &h);
        double value = climb(s, &h);
        since++;
        if (value > most + tolerance * s->total) {
            most = value;
            since = 0;
            memcpy(best, h.side, (size_t)s->n * sizeof *best);
        }
    }
done:
    mem_free(h.side);
    mem_free(h.along);
    return st;
}

/* Squared distances to the own centers, and of the centers. */
static void measure(const struct split *s, struct kmeans_halves *out) {
    double squares = 0;
    int count = 0;
    for (int i = 0; i < s->n; i++) {
        double along = 0;
        count += out->side[i];
        for (int j = 0; j < s->n; j++) {
            along += out->side[j] ? product(s, i, j) : 0;
        }
        squares += out->side[i] ? along : 0;
        out->distance[i] = along;
    }
    for (int i = 0; i < s->n; i++) {
        double members = out->side[i] ? count : count - s->n; /* side 0's sum is side 1's, turned */
        out->distance[i] = product(s, i, i) - 2 * out->distance[i] / members + squares / (members * members);
        out->distance[i] = fmax(out->distance[i], 0);
    }
    double share = (double)s->n / ((double)count * (s->n - count));
    out->apart = squares * share * share;
    out->tolerance = tolerance * s->total;
}

enum status kmeans_halve(const float *rows, int n, int64_t width, uint64_t seed, int64_t prompt,
                         struct kmeans_halves *out) {
    struct split s = {.n = n};
    enum status st;
    if (n < 2) {
        return fail(ERR_INTERNAL, "a bipartition of %d rows", n);
    }
    TRY_TO(done, NEW_ARRAY(s.products, (int64_t)n * n));
    TRY_TO(done, set_products(&s, rows, width));
    st = n <= EXACT_UP_TO ? try_all(&s, out->side) : try_starts(&s, seed, prompt, out->side);
    for (int i = n - 1; i >= 0 && st == OK; i--) {
        out->side[i] ^= out->side[0];
    }
    if (st == OK) {
        measure(&s, out);
    }
done:
    mem_free(s.products);
    return st;
}
