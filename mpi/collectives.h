/* The collectives that the program uses, each with its closed form and timed: for `bench` and `preflight`.
 *
 * Rank r's element i is (i mod 7)(r + 1), small whole numbers, so that sums are exact in any order and every
 * element of every result is known.
 */
#ifndef COLLIMATE_MPI_COLLECTIVES_H
#define COLLIMATE_MPI_COLLECTIVES_H

#include "mpi/sum.h"

/* Seconds over the repetitions, each the slowest rank's. */
struct times {
    double median, p10, p90, p99;
};
/* Collective. seconds (n): this rank's, replaced by the slowest rank's, sorted. */
enum status times_reduce(struct comm *c, double *seconds, int64_t n, struct times *out);

/* What a measurement needs; zero-initialised, opened, closed. */
struct collectives {
    struct comm *comm;
    int64_t repeats, warm_up; /* times that count, after those that do not */
    int64_t largest;          /* bytes of the largest message */
    int64_t bucket_bytes;     /* of the gradients' buckets */
    void *values, *result, *scratch;
    struct bucket_sum *buckets;
    int64_t *send_counts, *receive_counts; /* bytes by rank */
    double *seconds;
};
/* Collective. comm, repeats, warm_up, largest and bucket_bytes are set. */
enum status collectives_open(struct collectives *b);
void collectives_close(struct collectives *b);

/* The table: kinds 0 to count - 1. */
int collectives_count(void);
const char *collective_name(int kind);
const char *collective_type(int kind);
int collective_element_bytes(int kind);
int64_t collective_smallest(int kind); /* bytes from which it is worth timing */
/* Does it work on so many ranks? */
bool collective_works(int kind, int ranks);

struct collective_result {
    struct times times;
    int64_t wrong;         /* elements, over all ranks and repetitions */
    double bandwidth, bus; /* bytes/s: of the message; what each link of an ideal ring carries */
};
/* Collective. */
enum status collective_measure(struct collectives *b, int kind, int64_t bytes, struct collective_result *out);

#endif
