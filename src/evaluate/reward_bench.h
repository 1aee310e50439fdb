/* RewardBench 2 (Malik et al. 2025): prompts with right and wrong answers under a reward model, the
 * arithmetic of allenai/reward-bench (rewardbench/utils.py).
 *
 * A prompt's score is 1 where a right answer alone has the highest reward; where k share it, the right ones'
 * part of them. A section is a subset, its score the mean over its prompts. The subset Ties has prompts with
 * one right answer ("Ties ref:7") and, of the same number, with several ("Ties tied:7"):
 *
 *   .3 mean(gap of tied > 0) + .3 mean(gap of ref > 0) + .2 mean(gap of tied > spread)
 *   + .2 mean(min(both gaps) > spread) + .01 mean tanh(min(both gaps) / spread - 1)
 *
 * gap: the worst right answer's reward over the best wrong one's; spread: the best right one's over the worst
 * right one's, of tied. The last three are means over the numbers that have both; 0/0 counts 0 in the last.
 */
#ifndef COLLIMATE_EVALUATE_REWARD_BENCH_H
#define COLLIMATE_EVALUATE_REWARD_BENCH_H

#include "data/sample.h"
#include "data/view.h"
#include "evaluate/ratios.h"

struct reward_bench_tie {
    int64_t number;
    bool is_tied; /* else the reference */
    double gap, spread;
};
struct reward_bench {
    const struct dataset_facts *facts;
    int first;                     /* ratio of the first subset */
    struct reward_bench_tie *ties; /* of this rank's prompts */
    int64_t n, capacity;
};
/* Whether facts are of such prompts. */
bool reward_bench_applies(const struct dataset_facts *facts);
/* Whether a subset's name is one of Ties; *tie: which. */
bool reward_bench_is_tie(const char *subset, struct reward_bench_tie *tie);
/* Local. A prompt's part; values: rewards of its responses. Ratios first to first + n_subsets are its own. */
enum status reward_bench_count(struct reward_bench *b, struct ratios *r, const struct sample *s,
                               const double *values);
/* Local. The score of Ties; NaN where there are none. */
double reward_bench_ties(const struct reward_bench_tie *ties, int64_t n);
/* Collective, after ratios_reduce. Appends , "reward_bench_2": {"Math": {"score", "prompts", "interval"}, …,
 * "Ties": {"score", "prompts"}, "mean": x}. */
enum status reward_bench_print(struct comm *c, const struct reward_bench *b, const struct ratios *r,
                               struct text *out);
void reward_bench_free(struct reward_bench *b);

#endif
