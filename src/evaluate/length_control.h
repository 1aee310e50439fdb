/* Win rates at equal length: AlpacaEval 2's generalized linear model (Dubois et al. 2024, "Length-controlled
 * AlpacaEval").
 *
 * P(second preferred) = sigma(w1 tanh(d) + w2 difficulty + w3), d: how much longer the first is, in standard
 * deviations of that difference over the pair's verdicts. Fitted with an L1 penalty whose strength five-fold
 * cross-validation chooses among ten; the length-controlled win rate is the mean prediction at d = 0.
 * Difficulties, and verdicts on two baselines that were told to be short and long, which count 0.1 each, come
 * from AlpacaEval's df_gamed.csv; without it w2 is left out and there are no such rows.
 */
#ifndef COLLIMATE_EVALUATE_LENGTH_CONTROL_H
#define COLLIMATE_EVALUATE_LENGTH_CONTROL_H

#include "evaluate/verdicts.h"

enum { LENGTH_FEATURES = 3 };

/* A table of rows to fit. */
struct length_row {
    double x[LENGTH_FEATURES], preference, weight;
};
struct gamed {
    struct length_row *rows; /* of both baselines */
    int64_t n, capacity;
    double *difficulty; /* by instruction; NaN where unknown */
    int64_t n_difficulty, difficulty_capacity;
};
/* Local. Columns index, instruction_difficulty, std_delta_len, preference, not_gamed_baseline, found by name.
 * Fails: ERR_INPUT, ERR_DATA with the line. */
enum status gamed_read(const char *path, struct gamed *out);
void gamed_free(struct gamed *g);

struct length_controlled {
    double win_rate;       /* of the second */
    double standard_error; /* of the mean of predictions */
    double weights[LENGTH_FEATURES];
};
/* Local. All verdicts on first and second, in the file's order; the rate is second's. Records without a
 * preference are not fitted but predicted, and their lengths count in the deviation, as in the published
 * program. gamed: NULL for none. *out is NaN where a length is unknown, where all lengths are the same
 * distance apart, or where an instruction has no difficulty. */
enum status length_control(const struct verdicts *v, int32_t first, int32_t second, const struct gamed *gamed,
                           struct length_controlled *out);

/* Local. The fit itself, with cross-validation over folds of rows. weights (LENGTH_FEATURES). */
enum status length_fit(const struct length_row *rows, int64_t n, double *weights);

#endif
