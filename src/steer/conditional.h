/* How well a policy follows its users: the accuracy of its implicit rewards on pairs that it has not seen of
 * a user, given k of the user's choices.
 *
 * A draw is a number of pairs, some of them choices, the others targets; every user (label) answers the same
 * draw, so a policy that knows no user has accuracies that sum to 100 % of two users where they differ. The
 * targets are the same for every k. Intervals resample draws.
 */
#ifndef COLLIMATE_STEER_CONDITIONAL_H
#define COLLIMATE_STEER_CONDITIONAL_H

#include "data/view.h"
#include "evaluate/ratios.h"
#include "few_shot/world.h"
#include "score/scorer.h"
#include "steer/steering.h"

enum { CONDITIONAL_COUNTS = 16 };

struct conditional_options {
    struct comm *comm;
    const struct world *world;
    struct view *view;         /* of the first file's labeled pairs */
    struct steering *steering; /* NULL: the policy follows nobody, counts are not read */
    struct scorer *policy, *reference;
    void (*turn)(void *context, bool to_reference); /* around the reference's runs; NULL: nothing to do */
    void *turn_context;
    int64_t draws, targets;
    int64_t counts[CONDITIONAL_COUNTS]; /* of choices, ascending */
    int n_counts;
    int64_t micro_tokens;
    uint64_t seed, task_seed; /* of which pairs are choices; of the draws */
    struct interval_options intervals;
};
/* Ratios by count, label (the last: all of them, times their number: the sum) and kind of pair. */
struct conditional {
    int64_t labels, counts[CONDITIONAL_COUNTS];
    int n_counts;
    struct ratios ratios;
};
enum conditional_pairs { PAIRS_ALL, PAIRS_CONFLICTING, PAIRS_KINDS };
int conditional_at(const struct conditional *c, int count, int64_t label, enum conditional_pairs kind);

/* Collective. Closed after failures too. Fails: ERR_DATA where there are too few pairs. */
enum status conditional_run(const struct conditional_options *o, struct conditional *out);
void conditional_close(struct conditional *c);
/* Local. , "accuracy": {"NAME": [{"choices": k, "all": {…}, "conflicting": {…}}, …], …}, "sum": [...]: names
 * of the labels. */
enum status conditional_print(const struct conditional *c, const char *const *names, struct text *out);

#endif
