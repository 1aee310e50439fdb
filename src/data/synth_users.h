/* A text world of users who want different things of the same responses: row by row a function of the seed.
 * The rule, by which anybody can tell from a text alone whom it serves, is at the top of synth_users.c. */
#ifndef COLLIMATE_DATA_SYNTH_USERS_H
#define COLLIMATE_DATA_SYNTH_USERS_H

#include <stdint.h>

#include "util/text.h"

enum { SYNTH_USERS_MAX = 4 };

struct synth_users {
    uint64_t seed;
    int users;          /* 2 to SYNTH_USERS_MAX */
    int responses;      /* of a prompt, at least 2 */
    int length;         /* words of a response, about */
    double conflicting; /* share of the prompts on whose responses users differ */
};

/* What was written, for the report. */
struct synth_users_counts {
    int64_t rows, conflicting; /* rows */
    int64_t pairs, ties;       /* pairs of a user's and responses; those whose scores are equal */
};

/* A user's name in the records' scores: the class of words that the user wants. */
const char *synth_user_name(int user);
/* Local. Appends row's JSON line. */
enum status synth_users_row(const struct synth_users *w, int64_t row, struct text *out,
                            struct synth_users_counts *counts);
/* Local. The rule: the score of a text for each user, by its words alone; all 0 where none is of a class. */
void synth_users_scores(const char *text, int users, double *scores);

#endif
