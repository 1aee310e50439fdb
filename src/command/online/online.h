/* What the parts of `online` share. */
#ifndef COLLIMATE_COMMAND_ONLINE_H
#define COLLIMATE_COMMAND_ONLINE_H

#include "command/trainer.h"
#include "online/experience.h"

/* What a method is where settings are silent. */
struct online_way {
    int64_t samples, least; /* of a prompt; at least */
    double kl;
    bool kl_in_reward;
    bool by_group; /* its rows are groups, whose log-probabilities are those at the temperature */
};
const struct online_way *online_way_of(const struct settings *s);
/* Local. Responses that are drawn for a prompt. */
int64_t online_samples(const struct settings *s);
/* Local. Whether the last of them is drawn by another than the policy. */
bool online_has_other(const struct settings *s);
/* Local. Appends the data's answer to a prompt: its first response, as text. trainer: a struct trainer whose
 * data and tokenizer are open. */
enum status online_find_answer(void *trainer, int64_t row, struct text *out, bool *found);
/* Collective. Whether online.reward_match can use the answer of every row: rewards are asked of few rows at a
 * time, and the one that cannot be had is known beforehand. Rows and tokenizer are open. Fails: ERR_DATA with
 * the row. */
enum status online_check_answers(struct trainer *t);
/* Local. online.kl, or what the method has where it is not set. */
double online_kl(const struct run *run);

#endif
