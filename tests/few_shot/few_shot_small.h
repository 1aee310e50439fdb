/* A small batch of users with drawn embeddings and choices, for the tests of few-shot reward models. */
#ifndef COLLIMATE_TESTS_FEW_SHOT_SMALL_H
#define COLLIMATE_TESTS_FEW_SHOT_SMALL_H

#include <string.h>

#include "few_shot/pass.h"
#include "util/rng.h"

enum { SMALL_USERS = 3, SMALL_TARGETS = 5, SMALL_WIDTH = 3, SMALL_HIDDEN = 4, SMALL_SAMPLES = 2 };

struct small {
    double options[SMALL_USERS * SMALL_TARGETS * 2 * SMALL_WIDTH];
    uint8_t choices[SMALL_USERS * SMALL_TARGETS];
    int32_t positions[SMALL_TARGETS];
    double noise[SMALL_SAMPLES * SMALL_USERS * SMALL_HIDDEN];
    struct few_shot_batch batch;
};

static inline void small_fill(struct small *s, int64_t context, bool latent) {
    struct rng r = rng_stream(3, RNG_CHECK, 0, 0);
    for (size_t i = 0; i < sizeof s->options / sizeof *s->options; i++) {
        s->options[i] = rng_normal(&r);
    }
    for (size_t i = 0; i < sizeof s->choices; i++) {
        s->choices[i] = (uint8_t)rng_below(&r, 2);
    }
    for (size_t i = 0; i < sizeof s->noise / sizeof *s->noise; i++) {
        s->noise[i] = rng_normal(&r);
    }
    static const int32_t positions[SMALL_TARGETS] = {3, 0, 4, 1, 2};
    memcpy(s->positions, positions, sizeof positions);
    s->batch = (struct few_shot_batch){.users = SMALL_USERS,
                                       .all_users = SMALL_USERS,
                                       .targets = SMALL_TARGETS,
                                       .context = context,
                                       .options = s->options,
                                       .choices = s->choices,
                                       .context_at = s->positions,
                                       .samples = latent ? SMALL_SAMPLES : 1,
                                       .noise = s->noise,
                                       .seed = 5};
}

static const struct few_shot_limits small_limits = {SMALL_USERS, SMALL_TARGETS, SMALL_TARGETS, SMALL_SAMPLES};

#endif
