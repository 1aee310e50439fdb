/* Named subsets of a benchmark: collected while its records are prepared, and the sections that RewardBench
 * makes of its own (Lambert et al. 2024). */
#ifndef COLLIMATE_DATA_SUBSETS_H
#define COLLIMATE_DATA_SUBSETS_H

#include "mpi/comm.h"
#include "util/text.h"

/* Names in order of first appearance. Zero-initialized; subsets_free at the end. */
struct subsets {
    int n;
    int64_t capacity;
    char **names;
};
void subsets_free(struct subsets *s);
/* Local. The place of a name, added where it is new; -1 for "". Fails: ERR_DATA for a line break in it and
 * for too many names. */
enum status subsets_place(struct subsets *s, const char *name, int32_t *out);
/* Local. Adds the names of `from`; of_row[n]: places in from, which become places in s. */
enum status subsets_merge(struct subsets *s, const struct subsets *from, int32_t *of_row, int64_t n);
/* Collective. The same list on every rank, in the ranks' order; of_row[n] as above. */
enum status subsets_join(struct comm *c, struct subsets *s, int32_t *of_row, int64_t n);

/* Sections: the mean of their subsets' accuracies, weighted by the numbers of examples in RewardBench (where
 * math-prm counts 984, as much as the code subsets together). */
enum { SECTION_COUNT = 4 };
struct section_score {
    const char *name;
    double weight; /* examples of the subsets that are there */
    double accuracy;
};
/* Local. accuracies of n subsets, NaN: one without rows here, which has no weight. Returns how many subsets
 * the sections are made of. */
int subsets_sections(int n, char *const *names, const double *accuracies,
                     struct section_score out[SECTION_COUNT]);

#endif
