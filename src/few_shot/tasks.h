/* Users, their pairs and their contexts: what a few-shot reward model is trained and evaluated on.
 *
 * A user is a label drawn uniformly and `targets` pairs of a split of a world drawn without replacement; they
 * come from one sequence of draws, CPython's (random.choice, random.sample, the ids then sorted, as the
 * published code draws them), so every rank draws all users of a batch and keeps its own. Where contexts are
 * of another set, a user's are drawn behind its targets in the same way.
 */
#ifndef COLLIMATE_FEW_SHOT_TASKS_H
#define COLLIMATE_FEW_SHOT_TASKS_H

#include "few_shot/pass.h"
#include "few_shot/world.h"
#include "util/rng.h"

/* A split's endless sequence of users; copy it to draw the same users again. */
struct tasks {
    const struct world *world;
    const int64_t *ids;
    int64_t n_ids, targets;
    struct mt19937 draws;
    int64_t *chosen, *scratch; /* targets; the larger of n_ids and n_shown */
    uint8_t *seen;             /* as scratch */
    const int64_t *shown_ids;  /* what contexts are drawn from, where it is another set; NULL: the targets */
    int64_t n_shown;
    int64_t *shown; /* of the user, targets of them at most */
};
/* Fails: ERR_DATA if the split, or its contexts, have fewer pairs than targets. */
enum status tasks_open(const struct world *w, bool is_test, int64_t targets, uint64_t seed,
                       struct tasks *out);
void tasks_close(struct tasks *t);
/* Local. The next user: its label; t->chosen are its pair ids, t->shown the `context` that it is shown, where
 * these are of another set. */
int64_t tasks_next(struct tasks *t, int64_t context);

/* A batch's arrays on this rank. */
struct users {
    struct few_shot_batch batch; /* its pointers are into the arrays below */
    double *options, *noise, *shown;
    uint8_t *choices, *shown_choices;
    int32_t *positions; /* targets: a permutation; the first k are the context */
    int64_t *labels;    /* users */
};
enum status users_open(const struct network *m, const struct world *w, const struct few_shot_limits *limits,
                       struct users *out);
void users_close(struct users *u);

/* What a batch is drawn by, the same on all ranks. */
struct few_shot_draw {
    int64_t users;     /* on all ranks */
    struct range mine; /* this rank's */
    int64_t context;   /* k */
    int64_t samples;   /* of the latent */
    uint64_t seed;     /* of context positions, noise and dropout */
    int64_t step;      /* likewise: another batch, another step */
};
/* Local. The next draw->users of the tasks. */
void users_draw(const struct network *m, struct tasks *t, const struct few_shot_draw *draw, struct users *u);

#endif
