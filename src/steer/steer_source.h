/* Updates of a policy that follows its users: in each a number of users, for each of them `targets` pairs to
 * learn from, of which k are its context; pairs and users as few_shot/tasks.h draws them, k and the positions
 * of the context the same for all users of an update. Which users come in a step is a function of seeds and
 * step.
 */
#ifndef COLLIMATE_STEER_STEER_SOURCE_H
#define COLLIMATE_STEER_STEER_SOURCE_H

#include "data/batch.h"
#include "few_shot/tasks.h"

struct steer_options {
    int64_t users, targets;           /* in an update; pairs of a user */
    int64_t context_min, context_max; /* k is drawn uniformly between them; at most targets */
    uint64_t seed, task_seed;         /* of context; of the users */
};

struct steer_source {
    const struct batch_source *rows; /* of the first file's labeled pairs; borrowed */
    const struct world *world;       /* borrowed */
    struct steer_options options;
    struct tasks tasks;
    int64_t next;    /* the step whose users tasks draws next */
    int64_t *places; /* of the update's rows in the view, user by user */
    int64_t *pairs;  /* likewise in the world */
    int64_t *labels; /* of the users */
    int32_t *positions;
};

/* Local. Fails: ERR_USAGE where a context is larger than a user's pairs, or the least than the most. */
enum status steer_check_contexts(int64_t least, int64_t most, int64_t targets);
/* Local. Fails: ERR_USAGE where a user's context is larger than its pairs; ERR_DATA where pairs of the world
 * are left out of the view, or are too few. */
enum status steer_source_open(const struct batch_source *rows, const struct world *w,
                              const struct steer_options *o, struct steer_source *out);
void steer_source_close(struct steer_source *s);
/* Local. As struct source's read, a struct steer_source as context: the rank's rows of step's users, and all
 * users' choices. */
enum status steer_source_read(void *source, int64_t step, struct batch *b);
/* Local. Embeddings of a user's choices, chosen and rejected of each: pairs[n] of the world as `label` has
 * them, to (n, 2, width). */
void steer_choices(const struct world *w, int64_t label, const int64_t *pairs, int64_t n, float *to);
/* Local. A sample of the first file's pair becomes what `label` prefers. */
void steer_turn(const struct world *w, int64_t label, int64_t pair, struct sample *sample);

#endif
