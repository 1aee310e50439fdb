/* Two clusters of a handful of rows: exact where every split can be tried, k-means++ with restarts beyond. */
#include <float.h>
#include <string.h>

#include "select/kmeans.h"
#include "util/mem.h"
#include "util/rng.h"

enum { EXACT_UP_TO = 8, RESTARTS = 10, ITERATIONS = 50 };

struct split {
    const float *rows;
    int n;
    int64_t width;
    double *centers; /* 2 x width */
};

static double squared_distance(const struct split *s, int row, int center) {
    double sum = 0;
    for (int64_t d = 0; d < s->width; d++) {
        double difference = s->rows[row * s->width + d] - s->centers[center * s->width + d];
        sum += difference * difference;
    }
    return sum;
}

static void set_centers(struct split *s, const int *side) {
    int count[2] = {0, 0};
    memset(s->centers, 0, 2 * (size_t)s->width * sizeof *s->centers);
    for (int i = 0; i < s->n; i++) {
        count[side[i]]++;
        for (int64_t d = 0; d < s->width; d++) {
            s->centers[side[i] * s->width + d] += s->rows[i * s->width + d];
        }
    }
    for (int64_t d = 0; d < 2 * s->width; d++) {
        int n = count[d / s->width];
        s->centers[d] = n ? s->centers[d] / n : 0;
    }
}

static double within(const struct split *s, const int *side) {
    double sum = 0;
    for (int i = 0; i < s->n; i++) {
        sum += squared_distance(s, i, side[i]);
    }
    return sum;
}

/* Row 0 stays on side 0, so each bipartition is met once: 2^(n-1) - 1 of them. */
static void try_all(struct split *s, int *best) {
    double least = DBL_MAX;
    for (int mask = 1; mask < 1 << (s->n - 1); mask++) {
        int side[EXACT_UP_TO] = {0};
        for (int i = 1; i < s->n; i++) {
            side[i] = mask >> (i - 1) & 1;
        }
        set_centers(s, side);
        double sum = within(s, side);
        if (sum < least) {
            least = sum;
            memcpy(best, side, (size_t)s->n * sizeof *best);
        }
    }
}

static bool reassign(const struct split *s, int *side) {
    bool moved = false;
    for (int i = 0; i < s->n; i++) {
        int nearer = squared_distance(s, i, 1) < squared_distance(s, i, 0);
        moved = moved || nearer != side[i];
        side[i] = nearer;
    }
    return moved;
}

/* k-means++: the first center uniform, the second by squared distance from it. */
static void seed_centers(struct split *s, struct rng *draws) {
    int first = (int)rng_below(draws, s->n);
    for (int64_t d = 0; d < s->width; d++) {
        s->centers[d] = s->rows[first * s->width + d];
    }
    double total = 0;
    for (int i = 0; i < s->n; i++) {
        total += squared_distance(s, i, 0);
    }
    double target = rng_uniform(draws) * total;
    int second = first == 0 ? 1 : 0;
    double sum = 0;
    for (int i = 0; i < s->n && total > 0; i++) {
        sum += squared_distance(s, i, 0);
        if (sum > target) {
            second = i;
            break;
        }
    }
    for (int64_t d = 0; d < s->width; d++) {
        s->centers[s->width + d] = s->rows[second * s->width + d];
    }
}

static bool both_sides(const int *side, int n) {
    for (int i = 1; i < n; i++) {
        if (side[i] != side[0]) {
            return true;
        }
    }
    return false;
}

static enum status try_restarts(struct split *s, uint64_t seed, int64_t prompt, int *best) {
    int *side;
    TRY(NEW_ARRAY(side, s->n));
    double least = DBL_MAX;
    for (int i = 0; i < s->n; i++) {
        best[i] = i > 0; /* equal rows: any split is as good */
    }
    for (int restart = 0; restart < RESTARTS; restart++) {
        struct rng draws = rng_stream(seed, RNG_SELECT, prompt, restart);
        seed_centers(s, &draws);
        memset(side, 0, (size_t)s->n * sizeof *side);
        for (int i = 0; i < ITERATIONS && reassign(s, side) && both_sides(side, s->n); i++) {
            set_centers(s, side);
        }
        if (both_sides(side, s->n)) {
            set_centers(s, side);
            double sum = within(s, side);
            if (sum < least) {
                least = sum;
                memcpy(best, side, (size_t)s->n * sizeof *best);
            }
        }
    }
    mem_free(side);
    return OK;
}

enum status kmeans_bipartition(const float *rows, int n, int64_t width, uint64_t seed, int64_t prompt,
                               int *side, int nearest[2]) {
    if (n < 2) {
        return fail(ERR_INTERNAL, "a bipartition of %d rows", n);
    }
    struct split s = {.rows = rows, .n = n, .width = width};
    TRY(NEW_ARRAY(s.centers, 2 * width));
    enum status st = OK;
    if (n <= EXACT_UP_TO) {
        try_all(&s, side);
    } else {
        st = try_restarts(&s, seed, prompt, side);
    }
    if (st == OK && side[0] == 1) {
        for (int i = 0; i < n; i++) {
            side[i] = 1 - side[i];
        }
    }
    if (st == OK) {
        set_centers(&s, side);
        double least[2] = {DBL_MAX, DBL_MAX};
        for (int i = 0; i < n; i++) {
            double distance = squared_distance(&s, i, side[i]);
            if (distance < least[side[i]]) {
                least[side[i]] = distance;
                nearest[side[i]] = i;
            }
        }
    }
    mem_free(s.centers);
    return st;
}
