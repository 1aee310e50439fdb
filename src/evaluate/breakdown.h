/* Accuracy over pairs broken down: by the pair's length, by the difference of its responses' lengths, by the
 * gap of their scores, and by the data's named subsets with RewardBench's sections. Of a reward model's
 * values or of a policy's implicit rewards alike. */
#ifndef COLLIMATE_EVALUATE_BREAKDOWN_H
#define COLLIMATE_EVALUATE_BREAKDOWN_H

#include "data/view.h"
#include "evaluate/ratios.h"

/* Ratios that it takes. */
int breakdown_size(const struct dataset_facts *facts);
/* Local. Counts a pair of s, whose groups are the ratios from `first` on. */
struct breakdown_pair {
    const struct sample_response *chosen, *rejected;
    bool is_accurate;
};
void breakdown_count(struct ratios *r, int first, const struct sample *s, const struct breakdown_pair *p);
/* Local, after ratios_reduce. , "by_length": {…}, … , "subsets": {…}, "sections": {…}, "sections_mean": x */
enum status breakdown_print(const struct ratios *r, int first, const struct dataset_facts *facts,
                            struct text *out);

#endif
