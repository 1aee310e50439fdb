/* Selections by rewards instead of embeddings, among the file's labeled pairs.
 *
 * - filtered: without pairs whose chosen response has a lower reward than a fresh sample of the policy for
 * the same prompt, or than one of several (filtered DPO: Morimura et al. 2024)
 * - curriculum: the pairs from the largest margin to the smallest, easy before hard, for training in the
 * file's order (contrastive post-training: Xu et al. 2023); a share of them is the easiest
 *
 * Rewards of the data's responses are lines of `score` under a reward model, else the data's own scores;
 * curriculum goes by the data's margins where a pair has no rewards. Samples are a file that generate.save
 * wrote, or lines of `generate` with rewards. The same view for any rank count. */
#ifndef COLLIMATE_SELECT_REWARDED_H
#define COLLIMATE_SELECT_REWARDED_H

#include "data/dataset.h"

/* All is borrowed. */
struct rewarded_options {
    struct comm *comm;
    const char *data, *strategy;
    enum data_split split; /* of the data's pairs */
    const char *rewards;   /* lines of `score`; "": the data's scores */
    const char *samples;   /* of filtered */
    const char *output;    /* the view; "": only reported */
    const char *report;    /* JSON; "": beside the output */
    const char *command;   /* the command line, for the view's provenance */
    double fraction;       /* of what is left: the first ones of the order */
    int64_t count;         /* in place of the fraction, 0: not */
    bool trust_data;
};
bool rewarded_knows(const char *strategy);
/* Collective. Fails: ERR_USAGE without samples; ERR_DATA for files that are not of this data, and where no
 * pair is left. */
enum status rewarded_run(const struct rewarded_options *o);

#endif
