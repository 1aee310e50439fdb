/* Which pairs to train on or to label: by the similarity of their two responses (REAL, SPEC of the methods:
 * section 3).
 *
 *   random  rows drawn without replacement
 *   easy    the least similar responses (over pairs: the lowest cosines; within a prompt: the arg min)
 *   hard    the most similar
 *   centroid  within a prompt: the members nearest to the centers of two clusters (select/kmeans.h)
 * A mix takes shares in order ("easy:0.5,random:0.5"): each part from the rows that the parts before it have
 * left.
 *
 * Everything is a function of the values, the seed and the global row number, so it is the same for any rank
 * count. No rank holds all rows (select/order.h).
 */
#ifndef COLLIMATE_SELECT_PAIRS_H
#define COLLIMATE_SELECT_PAIRS_H

#include "mpi/comm.h"

enum pair_strategy { PAIRS_RANDOM, PAIRS_EASY, PAIRS_HARD, PAIRS_CENTROID, PAIRS_BALANCED };
enum { PAIR_MIX_PARTS = 8 };
struct pair_mix {
    int n;
    struct {
        enum pair_strategy strategy;
        double share; /* of what is selected; they sum to 1 */
    } parts[PAIR_MIX_PARTS];
};
/* Local. "easy", "easy:0.5,random:0.5". Fails: ERR_USAGE naming the unknown strategy and the known ones, or
 * shares that do not sum to 1. */
enum status pair_mix_parse(const char *text, struct pair_mix *out);

/* Cosine of two rows in double, torch's definition: eps 1e-8 on each norm. */
double similarity_cosine(const float *a, const float *b, int64_t width);

/* Collective. This rank's n rows are global rows first, first + 1, …; similarity[n]. taken[n] becomes true
 * for the rows selected: `count` in all, or where count is 0 floor(fraction * rows) (random: rounded half to
 * even, as pandas). Ties by row: the order is that of a stable ascending sort. Fails: ERR_DATA for a
 * similarity that is NaN (row named), ERR_USAGE for centroid or balanced (not over pairs), or a count above
 * the rows. */
struct pair_selection {
    struct pair_mix mix;
    double fraction;
    int64_t count;
    uint64_t seed;
};
enum status pairs_select(struct comm *c, const struct pair_selection *s, const double *similarity, int64_t n,
                         int64_t first, bool *taken);

/* Collective. Marks the `count` lowest keys among rows with !skip[i] (ties: lowest rows first) in taken. */
enum status pairs_lowest(struct comm *c, const uint64_t *keys, const bool *skip, int64_t n, int64_t count,
                         bool *taken);

/* Local. One pair of a prompt's n responses (rows: n x width): responses *a < *b. easy: first least cosine in
 * i < j order; hard: first greatest; centroid; random: uniform over the pairs, by (seed, prompt). n >= 2. */
enum status pairs_within(enum pair_strategy strategy, const float *rows, int n, int64_t width, uint64_t seed,
                         int64_t prompt, int *a, int *b);
/* Local. The part of a mix that a prompt falls to, by (seed, prompt). */
enum pair_strategy pairs_part(const struct pair_mix *mix, uint64_t seed, int64_t prompt);

#endif
