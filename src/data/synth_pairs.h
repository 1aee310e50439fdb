/* Two users on [0, 1] who want opposite things: the synthetic world of neural-process preference models,
 * drawn as NumPy's legacy generator draws it.
 *
 * rand(N, 2) gives the options a, b of N pairs; user 0's reward is y below 1/2 and 2y from there, user 1's y
 * and 1 - y; rewards are rounded to float32; choice_z is 1 where b's reward is larger, 0 where it is smaller,
 * and randint(0, 2) on a tie, drawn once per user after that user's rewards; then each pair's split is drawn:
 * train, val, test with .8, .1, .1. One sequence of draws cannot be dealt to ranks.
 */
#ifndef COLLIMATE_DATA_SYNTH_PAIRS_H
#define COLLIMATE_DATA_SYNTH_PAIRS_H

#include "util/rng.h"
#include "util/status.h"

enum { SYNTH_USERS = 2 };
enum { SYNTH_TRAIN, SYNTH_VAL, SYNTH_TEST, SYNTH_SPLITS };

struct synth_pair {
    double a, b;
    int split;
    int choices[SYNTH_USERS];
};

/* Rows where a user's two rewards are equal, and what was drawn for them. */
struct synth_ties {
    int64_t *rows;
    uint8_t *choices;
    int64_t count, rows_capacity, choices_capacity;
    int64_t next; /* the first that has not been given yet */
};

struct synth_pairs {
    int64_t next;           /* row */
    struct mt19937 options; /* at the next row's options */
    struct mt19937 splits;  /* at the next row's split */
    struct synth_ties ties[SYNTH_USERS];
    int64_t chosen[SYNTH_USERS], in_split[SYNTH_SPLITS]; /* of the rows given */
};

/* Local. Fails: ERR_USAGE for a seed that NumPy does not take, ERR_SYSTEM. Closed after failures too. */
enum status synth_pairs_open(struct synth_pairs *w, int64_t seed, int64_t rows);
void synth_pairs_close(struct synth_pairs *w);
/* Local. The next of the rows. */
void synth_pairs_next(struct synth_pairs *w, struct synth_pair *out);
float synth_pair_reward(int user, double y);

#endif
