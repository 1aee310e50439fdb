/* Shared by kmeans.c (Lloyd), nearest.c (distances), kmeans_filter.c (bounds of them) and seeding.c. */
#ifndef COLLIMATE_SELECT_KMEANS_INTERNAL_H
#define COLLIMATE_SELECT_KMEANS_INTERNAL_H

#include <float.h>

#include "select/kmeans.h"

/* Products' rows are LLOYD_STRIDE apart: a power of two would put a column into few sets of the caches. */
enum { LLOYD_STRIDE = KMEANS_BLOCK + 16 };

struct lloyd {
    struct comm *comm;
    struct backend *backend;
    const struct vectors *rows;
    const struct kmeans_options *options;
    int64_t local; /* rows of this rank */
    int64_t clusters, width;
    /* Back-end memory that the host shares. */
    void *block_memory, *center_memory, *product_memory, *cache_memory, *open_memory;
    float *block, *centers, *products; /* KMEANS_BLOCK x width, centers, centers x LLOYD_STRIDE */
    float *open;                       /* KMEANS_BLOCK x width: a block's rows that pruning leaves */
    float *cache;                      /* all local rows, or NULL: read again each pass */
    bool cached;
    int64_t center_capacity;
    float *center_norms;
    float largest_norm;    /* of them */
    float *row_norms;      /* |x|^2 */
    double *block_norms;   /* their sum over each block */
    float *drift;          /* how far each center has moved since the last assignment */
    int64_t looked;        /* distances that were computed in full, over all passes */
    float error;           /* lloyd_error(width) */
    struct filter *filter; /* or NULL */
    int8_t *left_alone;    /* of each block: passes for which pruning does not try it */
    int8_t *unfiltered;    /* and the filter does not */
    float *upper, *lower;  /* bounds of each row's distance to its own center and to any other */
    double value_scale;    /* fixed point of values: a power of two */
    double distance_scale; /* of squared distances */
};

/* Of a sum of `width` products in fp32, in any order: the worst case as a share of |x| |c| (the sum's own
 * rounding and that of a few operations before and after it with it). Higham 2002, section 3.1; below a width
 * of 2^20. */
static inline float lloyd_error(int64_t width) {
    return 1.1F * (float)(width + 8) * 0x1p-24F;
}

/* By how much |c|^2 - 2 x.c by products can be wrong for a local row and any center, underflow with it:
 * 2 |x| |c| <= |x|^2 + |c|^2. */
static inline float lloyd_doubt(const struct lloyd *l, int64_t row) {
    return l->error * (l->row_norms[row] + l->largest_norm) + 8 * (float)l->width * FLT_MIN;
}

/* Called for every block of rows x with its squared distances and indices. */
typedef void lloyd_visit(void *context, int64_t first, int64_t count, const float *x, const float *distance,
                         const int32_t *index);
/* Local. Nearest of count centers (lloyd.centers) for each local row. */
enum status lloyd_nearest(struct lloyd *l, int64_t count, lloyd_visit *visit, void *context);
/* Local. The same with lloyd.clusters centers, where the rows' assignment before the centers drifted is known
 * (-1: not assigned yet) and bounds make most distances needless. Visits get no distances. */
enum status lloyd_assign(struct lloyd *l, const int32_t *assignment, lloyd_visit *visit, void *context);

/* Local. Squared, from the difference. */
float lloyd_distance(const struct lloyd *l, const float *x, int64_t center);

/* Collective. The vector of a global row, on every rank. */
enum status lloyd_fetch(struct lloyd *l, int64_t row, float *out);
/* Fixed-point squared distance. */
int64_t lloyd_weight(const struct lloyd *l, float distance);

/* Collective. Fills the first `clusters` rows of lloyd.centers. */
enum status lloyd_seed(struct lloyd *l);

#endif
