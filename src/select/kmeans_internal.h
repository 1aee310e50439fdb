/* Shared by kmeans.c (Lloyd) and seeding.c. */
#ifndef COLLIMATE_SELECT_KMEANS_INTERNAL_H
#define COLLIMATE_SELECT_KMEANS_INTERNAL_H

#include "select/kmeans.h"

struct lloyd {
    struct comm *comm;
    struct backend *backend;
    const struct vectors *rows;
    const struct kmeans_options *options;
    int64_t local; /* rows of this rank */
    int64_t clusters, width;
    /* Back-end memory that the host shares. */
    void *block_memory, *center_memory, *product_memory, *cache_memory;
    float *block, *centers, *products; /* KMEANS_BLOCK x width, centers, KMEANS_BLOCK x centers */
    float *cache;                      /* all local rows, or NULL: read again each pass */
    bool cached;
    int64_t center_capacity;
    float *center_norms;
    float *row_norms;      /* |x|^2 */
    double value_scale;    /* fixed point of values: a power of two */
    double distance_scale; /* of squared distances */
};

/* Local. Nearest of count centers (lloyd.centers) for each local row; calls visit for every block with its
 * squared distances and indices. x: the block's rows. */
typedef void lloyd_visit(void *context, int64_t first, int64_t count, const float *x, const float *distance,
                         const int32_t *index);
enum status lloyd_nearest(struct lloyd *l, int64_t count, lloyd_visit *visit, void *context);

/* Collective. The vector of a global row, on every rank. */
enum status lloyd_fetch(struct lloyd *l, int64_t row, float *out);
/* Fixed-point squared distance. */
int64_t lloyd_weight(const struct lloyd *l, float distance);

/* Collective. Fills the first `clusters` rows of lloyd.centers. */
enum status lloyd_seed(struct lloyd *l);

#endif
