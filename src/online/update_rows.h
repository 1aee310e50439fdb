/* Which of a rollout's responses an update learns from, and in what rows. Pure; the same on every rank. */
#ifndef COLLIMATE_ONLINE_UPDATE_ROWS_H
#define COLLIMATE_ONLINE_UPDATE_ROWS_H

#include "online/rollout.h"

/* Row i is a prompt with responses [first[i], first[i + 1]) of the list. Zero-initialised. */
struct update_rows {
    int64_t n;
    int64_t *prompt;   /* of the rollout */
    int64_t *first;    /* n + 1 */
    int64_t *response; /* numbers in the rollout */
    bool is_paired;    /* two responses a row, the first one chosen */
};
void update_rows_free(struct update_rows *r);

/* All Local; out is freed first. A row a prompt, with all of its samples. */
enum status update_rows_groups(const struct rollout *r, struct update_rows *out);
/* A row for each response that the policy drew itself. */
enum status update_rows_own(const struct rollout *r, struct update_rows *out);
/* A row for each of the best responses of all (Dong et al. 2023, RAFT): the share of them with the highest
 * scores, one at least. Ties go to the lower number; rows stand in the order of numbers. */
enum status update_rows_top(const struct rollout *r, const double *scores, double share,
                            struct update_rows *out);
/* A row a prompt: its best response, the lowest number of such. */
enum status update_rows_best(const struct rollout *r, const double *scores, struct update_rows *out);
/* A row a prompt, its best response (the first of such) against its worst (the last of such), as TRL's online
 * DPO does with two; samples >= 2. */
enum status update_rows_pairs(const struct rollout *r, const double *scores, struct update_rows *out);

#endif
