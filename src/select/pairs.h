/* Which pairs to train on or to label: by the similarity of their two responses (REAL, SPEC of the methods:
 * section 3).
 *
 *   random  rows drawn without replacement
 *   easy    the least similar responses (over pairs: the lowest cosines; within a prompt: the arg min)
 *   hard    the most similar
 *   centroid  within a prompt: the members nearest to the centers of two clusters (select/kmeans.h)
 * Within prompts each gives one pair; where not all of them are wanted, those are taken first whose pair
 * tells most by the strategy's own measure (struct pair_choice). A mix takes shares in order
 * ("easy:0.5,random:0.5"): each part from the rows that the parts before it have left.
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

/* A prompt's n responses (rows: n x width; random alone reads none), one pair of which is to be chosen. */
struct pair_choices {
    enum pair_strategy strategy;
    const float *rows;
    int n; /* >= 2 */
    int64_t width;
    uint64_t seed;
    int64_t prompt;
    const bool *skip; /* n x n, i < j: pairs that are not to be chosen; NULL: none */
};
/* measure: how informative the pair is, the least first: easy, its cosine; hard, its cosine's negative;
 * centroid, minus the squared distance of the two centers (of rows scaled to length 1); random, nothing: 0.
 */
struct pair_choice {
    int a, b; /* a < b; -1: all pairs are to be skipped */
    double measure;
};
/* Local. easy: first least cosine in i < j order; hard: first greatest; centroid: of the pairs across the two
 * clusters, the one nearest to both centers; random: uniform over the pairs, by (seed, prompt). */
enum status pairs_within(const struct pair_choices *from, struct pair_choice *out);
/* Local. The part of a mix that a prompt falls to, by (seed, prompt). */
int pairs_part(const struct pair_mix *mix, uint64_t seed, int64_t prompt);

#endif
