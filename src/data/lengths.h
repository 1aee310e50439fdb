/* Lengths in tokens over all ranks: extremes, exact median, histogram. */
#ifndef COLLIMATE_DATA_LENGTHS_H
#define COLLIMATE_DATA_LENGTHS_H

#include "mpi/comm.h"
#include "util/text.h"

struct lengths {
    const char *name;
    int64_t count, sum, least, most;
    int64_t median; /* the lower one; after lengths_reduce */
    int64_t *bins;  /* one for each length; the last holds all longer ones */
};
/* Local. name is borrowed. */
enum status lengths_open(struct lengths *l, const char *name);
void lengths_close(struct lengths *l);
void lengths_add(struct lengths *l, int64_t length);
/* Collective. Makes everything global. */
enum status lengths_reduce(struct comm *c, struct lengths *l);
/* Local, after lengths_reduce. The sum of the n longest (of all, where there are fewer); above it where
 * lengths are beyond the bins. */
int64_t lengths_top(const struct lengths *l, int64_t n);
/* "prompt tokens: 1234; length min 3, median 17, mean 20.1, max 99". Empty where there are none. */
enum status lengths_print(const struct lengths *l, struct text *out);
/* A line for each half octave that holds any: its bounds, count, share and a bar. */
enum status lengths_histogram(const struct lengths *l, struct text *out);

#endif
