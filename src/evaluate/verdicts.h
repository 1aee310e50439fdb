/* Verdicts on pairs of answers to the same prompt: which of two systems said it better. */
#ifndef COLLIMATE_EVALUATE_VERDICTS_H
#define COLLIMATE_EVALUATE_VERDICTS_H

#include <stdint.h>

#include "evaluate/replies.h"
#include "util/status.h"

struct verdict {
    int32_t first, second; /* systems; the judge saw them in this order, where it saw both */
    int64_t prompt;        /* what verdicts on the same prompt have in common */
    int64_t record;        /* its instruction's number: what the file says, else which one on this pair of
                            * systems it is, as the file has them, from 0 */
    double preference;     /* of the second: 1, of the first: 0, a tie: 0.5 */
    int64_t length[2];     /* characters of both answers; -1 where unknown */
    bool both_orders;      /* one verdict of a judge that was asked in both orders: */
    double in_order[2];    /* its probability that the second is better, shown last and shown first */
};

struct verdicts {
    char **systems; /* by first appearance */
    int64_t n_systems, systems_capacity;
    struct verdict *list;
    int64_t n, capacity;
    struct verdict *unjudged; /* records that give no preference, which is NaN in them */
    int64_t n_unjudged, unjudged_capacity;
};
void verdicts_free(struct verdicts *v);
/* Local. A system's number; a new name is added. */
enum status verdicts_system(struct verdicts *v, const char *name, int32_t *out);
/* Local. Adds a verdict. */
enum status verdicts_add(struct verdicts *v, struct verdict verdict);

/* Local. Adds a file's verdicts: AlpacaEval's annotations.json (generator_1, generator_2, output_1, output_2,
 * preference 1 to 2, 0 a tie; index where it has one), or {"row": n, "a": name, "b": name, "preference": "a"
 * | "b" | "tie" or 0 to 1 for b}, with "orders", "length_a", "length_b" as `judge.save` has them; an array or
 * JSON Lines. Fails: ERR_INPUT, ERR_DATA with the line. */
enum status verdicts_read(const char *path, struct verdicts *v);
/* Local. Two systems' answers with rewards: on each prompt that both answered, the higher reward is
 * preferred. Fails: ERR_DATA with the line of an answer without reward, or where no prompt is in both. */
enum status verdicts_from_rewards(const struct replies *a, const struct replies *b, struct verdicts *v);

#endif
