/* Sums that do not depend on the order of their terms, so that any number of ranks gives the same bits.
 *
 * Terms are turned into whole multiples of 2^-64 and added as 128-bit integers, and integer addition is
 * associative. A term of at least 2^-12 in magnitude is taken exactly, a smaller one to 2^-64; a sum may
 * reach 2^63. For values that are shown (losses, log-probabilities, counts), not for gradients.
 */
#ifndef COLLIMATE_MPI_EXACT_H
#define COLLIMATE_MPI_EXACT_H

#include "mpi/comm.h"

__extension__ typedef __int128 exact_units;

struct exact_sums {
    int64_t n;
    exact_units *v;
    bool lost; /* a term or a sum went out of range, or was no number */
};
/* Local. n sums, all 0. Closed after failures too. */
enum status exact_open(int64_t n, struct exact_sums *out);
void exact_close(struct exact_sums *s);
/* Local. value in units, for exact_add; notes in s where it is out of range. */
exact_units exact_of(struct exact_sums *s, double value);
/* Local. Adds a term that counts `times` times (a few at most) to sum i. */
void exact_add(struct exact_sums *s, int64_t i, exact_units term, int times);
/* Collective. out (n): the sums over all ranks, rounded to nearest. s holds them too. Fails: ERR_DATA when
 * something was out of range on any rank. */
enum status exact_reduce(struct comm *c, struct exact_sums *s, double *out);

#endif
