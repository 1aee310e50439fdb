/* k-means over rows that are spread over the ranks, in bounded memory.
 *
 * Lloyd's algorithm on fp32 rows with products by the back end: row x is assigned to the center of least
 * |c|^2 - 2 x.c, ties to the lowest index. Sums are kept in fixed point (64-bit integers, scaled by the
 * largest |value| and the row count so that they cannot overflow), so they are exact whatever the order: the
 * same bits for any rank and thread count, and a row that changes its cluster is moved by one subtraction and
 * one addition, so late iterations touch few rows. Blocks of rows are aligned to the global row number, and
 * bounds that spare a row its distances (nearest.c, and for many centers kmeans_filter.h) depend on its block
 * and the centers alone: the same for any rank count. They change no bit of the result: PRUNING_NONE, the
 * plain pass, gives the same.
 *
 * Seeding: k-means++ (Arthur and Vassilvitskii 2007) by exact D^2 sampling over all ranks, or k-means||
 * (Bahmani et al. 2012: rounds of oversampling, then weighted k-means++ on the candidates), or distinct
 * random rows. Draws are functions of (seed, row, round), and D^2 weights are fixed-point integers too.
 */
#ifndef COLLIMATE_SELECT_KMEANS_H
#define COLLIMATE_SELECT_KMEANS_H

#include "backend/backend.h"
#include "mpi/comm.h"

enum { KMEANS_BLOCK = 1024 }; /* rows of a block; a rank's range begins at a multiple of it */

/* This rank's rows [range.first, range.last) of n; read() gives rows [first, first + count) as floats. */
struct vectors {
    int64_t n, width;
    struct range range;
    enum status (*read)(void *context, int64_t first, int64_t count, float *out);
    void *context;
};
/* Rank's share of n rows, cut at multiples of KMEANS_BLOCK. Local. */
struct range vectors_range(int64_t n, int rank, int size);

enum kmeans_seeding { SEEDING_PARALLEL, SEEDING_PLUS_PLUS, SEEDING_RANDOM };
/* Automatic: the filter of centers only where it pays (kmeans_filter.h). */
enum kmeans_pruning { PRUNING_AUTO, PRUNING_NONE, PRUNING_ALWAYS };
struct kmeans_options {
    int64_t clusters;
    int64_t iterations; /* at most; 0: 25 */
    double tolerance;   /* stop when the objective falls by less than this share; 0: when no row moves */
    enum kmeans_seeding seeding;
    uint64_t seed;
    enum kmeans_pruning pruning;
    const float *initial; /* clusters x width: begin here instead of seeding; NULL */
    int64_t memory_bytes; /* rows are kept in memory up to this, else read again each iteration; 0: 2 GiB */
};
struct kmeans_result {
    float *centers;      /* clusters x width, equal on all ranks; mem_free */
    int32_t *assignment; /* of this rank's rows */
    float *distance;     /* squared, to the row's own center */
    int64_t *counts;     /* clusters, over all ranks */
    double *objective;   /* sum of squared distances after each assignment; never rises */
    int64_t iterations;  /* done; entries of objective */
    double
        looked; /* share of the distances of rows to centers, over all passes, that were computed in full */
    double seconds; /* of the iterations and the last assignment: no reading ahead, no seeding */
};
/* Collective. b on the host's memory (cpu); the caller frees out with kmeans_free(). Fails: ERR_DATA for a
 * value that is not finite (row named), ERR_USAGE for more clusters than rows. */
enum status kmeans_run(struct comm *c, struct backend *b, const struct vectors *rows,
                       const struct kmeans_options *o, struct kmeans_result *out);
void kmeans_free(struct kmeans_result *r);

/* Two clusters of n rows on the host: those with the least squares within. Every bipartition is tried for
 * n <= 16; beyond, searches that move one row at a time go out from starts that k-means++ draws, until 8 n of
 * them (256 at most) in a row have found nothing better. Of equal ones the first wins. */
struct kmeans_halves {
    int *side;        /* n, the caller's: 0 or 1, side[0] = 0 */
    double *distance; /* n, the caller's: squared, to the own center */
    double apart;     /* squared distance of the centers */
    double tolerance; /* distances that differ by less are equal: such are the sums' errors */
};
/* Local. n >= 2. */
enum status kmeans_halve(const float *rows, int n, int64_t width, uint64_t seed, int64_t prompt,
                         struct kmeans_halves *out);

#endif
