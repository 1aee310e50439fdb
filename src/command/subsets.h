/* Which named subset each record of the input belongs to, and the sections that RewardBench makes of its
 * subsets (Lambert et al. 2024). */
#ifndef COLLIMATE_COMMAND_SUBSETS_H
#define COLLIMATE_COMMAND_SUBSETS_H

#include "mpi/comm.h"
#include "util/text.h"

struct subsets {
    int n;
    char **names; /* in order of first appearance */
    int64_t n_records;
    int16_t *of_record; /* -1: none */
};
/* Collective. Reads the key "subset" of each record of the file that the data was prepared from; source_hash
 * is what the data says of it. Fails: ERR_DATA where it is another file, or has no or too many subsets. */
enum status subsets_open(struct comm *c, const char *path, uint64_t source_hash, struct subsets *out);
void subsets_close(struct subsets *s);
/* -1: none. source: a pair's record, -1 where unknown. */
int subsets_find(const struct subsets *s, int64_t source);

/* Sections: the mean of their subsets' accuracies, weighted by the numbers of examples in RewardBench (where
 * math-prm counts 984, as much as the code subsets together). */
enum { SECTION_COUNT = 4 };
struct section_score {
    const char *name;
    double weight; /* examples of the subsets that are there */
    double accuracy;
};
/* Local. accuracies by subset. Returns how many subsets have no place in a section. */
int subsets_sections(const struct subsets *s, const double *accuracies,
                     struct section_score out[SECTION_COUNT]);

#endif
