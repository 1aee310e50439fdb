/* A bound of every distance from an eighth of the width: which centers cannot be a row's nearest.
 *
 * With m the mean of the centers and Q directions that are orthonormal, |x - c|^2 is at least
 *     |Q'(x - m) - Q'(c - m)|^2 + (t(x) - t(c))^2,     t(v)^2 = |v - m|^2 - |Q'(v - m)|^2
 * (Pythagoras, and Cauchy and Schwarz for what lies outside Q). With t as one more coordinate this is a
 * distance of short vectors, "shadows": one product of width / 8 gives the bounds of all pairs. The
 * directions are those in which the centers differ most, by subspace iteration from the ones before; they are
 * renewed after the passes 1, 2, 4, 8, …. Rows with a spectrum that falls, as embeddings have it, keep one
 * center in a hundred; rows of noise that is alike in all directions keep nearly all, and a block of such
 * rows is left alone (nearest.c). (A partial product before the others as SuperKMeans has it, Kuffo et al.
 * 2026, arXiv 2603.20009, which prunes by chance bounds on random directions; here a bound is a bound.)
 *
 * Nothing is changed by it, not in a bit: centers that are dropped are further away than the row's own by
 * more than the plain pass's products can be wrong. Of those that are left the distances are summed row by
 * row; where the two least lie so close that the plain pass's rounding might see them the other way round,
 * the row is left to that pass. The errors are worst cases for sums in any order, e(d) = 1.1 (d + 8) 2^-24:
 *     plain |c|^2 - 2 x.c, and the same summed here                e(d) (|x|^2 + |c|^2)
 *     shadow of a row against the exact one, s = |x - m|           (sqrt(n) e(d) + |V'V - I| + 1e-6) s for
 * its n directions V, and by what that does to t, at most min(D / t, sqrt(D)), D the error of t^2 product of
 * shadows                                           e(n + 1) (of their squared norms)
 *
 * Used from FILTER_CLUSTERS clusters and FILTER_WIDTH columns on. Memory: the rows' shadows where they and
 * the rows fit in kmeans_options.memory_bytes (an eighth of the rows), else they are made again in each pass;
 * the centers once more; FILTER_ROWS x (width + clusters) values.
 */
#ifndef COLLIMATE_SELECT_KMEANS_FILTER_H
#define COLLIMATE_SELECT_KMEANS_FILTER_H

#include "select/kmeans_internal.h"

enum { FILTER_CLUSTERS = 1024, FILTER_WIDTH = 128, FILTER_ROWS = 256, MOST_DIRECTIONS = 127 };

struct filter {
    int64_t directions, depth, stride; /* depth: directions and t; a shadow: those and its squared norm */
    void *basis_memory, *shifted_memory, *product_memory, *center_memory, *row_memory, *cache_memory;
    float *basis;          /* directions x width; rows of zeros where the centers do not span so many */
    float *shifted;        /* max(clusters, FILTER_ROWS) x width: vectors less the mean */
    float *products;       /* directions x clusters, for the subspace iteration */
    float *center_shadows; /* clusters x stride */
    float *shadows;        /* FILTER_ROWS x stride */
    float *cache;          /* of all local rows, or NULL */
    int32_t *version;      /* of each block's cached shadows */
    float *mean;           /* width */
    float *norms;          /* of centers' shadows, squared; padded */
    uint8_t *keep;         /* FILTER_ROWS x a row's bytes */
    int32_t *kept;         /* FILTER_ROWS x most */
    int64_t most;          /* centers that a row may keep */
    int32_t renewed;       /* version of the basis */
    int64_t pass;
    float error;        /* of a shadow, by its norm */
    float center_error; /* the largest of the centers' shadows */
    float largest_norm; /* of the centers' shadows, squared */
};

/* Local. NULL in l->filter where it does not pay; cached: whether there is memory for the rows' shadows. */
enum status filter_open(struct lloyd *l, bool cached);
void filter_close(struct lloyd *l);
/* Local. Once a pass, after the centers moved. */
enum status filter_renew(struct lloyd *l);

/* What is known of a row: its bounds as lloyd.upper and lower have them. */
struct filtered {
    bool is_decided;
    int32_t index, looked; /* looked: distances that were computed */
    float upper, lower;
};
/* Local. At most FILTER_ROWS rows of a block: row place[k] of x, whose first is local row `first`; assignment
 * by place. */
enum status filter_rows(struct lloyd *l, int64_t first, const float *x, const int32_t *place, int64_t n,
                        const int32_t *assignment, struct filtered *out);

/* Of kmeans_basis.c. */
enum status basis_renew(struct lloyd *l);
/* Local. Shadows of n vectors, the k-th at x + (place ? place[k] : k) * width, at out; FILTER_ROWS at most
 * but for centers. device: out's memory. */
enum status basis_project(struct lloyd *l, const float *x, const int32_t *place, int64_t n, void *device,
                          float *out);
/* How far a shadow may be from the exact one. */
float shadow_error(const struct filter *f, const float *shadow);

#endif
