/* Users, their pairs and their contexts: what a few-shot reward model is trained and evaluated on.
 *
 * A user is a label drawn uniformly and `targets` pairs of a split of a world drawn without replacement; they
 * come from one sequence of draws, CPython's (random.choice, random.sample, the ids then sorted, as the
 * published code draws them), so every rank draws all users of a batch and keeps its own.
 */
#ifndef COLLIMATE_FEW_SHOT_TASKS_H
#define COLLIMATE_FEW_SHOT_TASKS_H

#include "few_shot/pass.h"
#include "few_shot/world.h"
#include "util/rng.h"

/* A split's endless sequence of users; copy it to draw the same users again. */
struct np_tasks {
    const struct np_world *world;
    const int64_t *ids;
    int64_t n_ids, targets;
    struct mt19937 draws;
    int64_t *chosen, *scratch; /* targets; n_ids */
    uint8_t *seen;             /* n_ids */
};
/* Fails: ERR_DATA if the split has fewer pairs than targets. */
enum status np_tasks_open(const struct np_world *w, bool is_test, int64_t targets, uint64_t seed,
                          struct np_tasks *out);
void np_tasks_close(struct np_tasks *t);
/* Local. The next user: its label; t->chosen are its pair ids. */
int64_t np_tasks_next(struct np_tasks *t);

/* A batch's arrays on this rank. */
struct np_users {
    struct np_batch batch; /* its pointers are into the arrays below */
    double *options, *noise;
    uint8_t *choices;
    int32_t *positions; /* targets: a permutation; the first k are the context */
    int64_t *labels;    /* users */
};
enum status np_users_open(const struct np_model *m, const struct np_limits *limits, struct np_users *out);
void np_users_close(struct np_users *u);

/* What a batch is drawn by, the same on all ranks. */
struct np_draw {
    int64_t users;     /* on all ranks */
    struct range mine; /* this rank's */
    int64_t context;   /* k */
    int64_t samples;   /* of the latent */
    uint64_t seed;     /* of context positions, noise and dropout */
    int64_t step;      /* likewise: another batch, another step */
};
/* Local. The next draw->users of the tasks. */
void np_users_draw(const struct np_model *m, struct np_tasks *t, const struct np_draw *draw,
                   struct np_users *u);

#endif
