#include "few_shot/tasks.h"

#include <stdlib.h>

#include "util/mem.h"

enum status tasks_open(const struct world *w, bool is_test, int64_t targets, uint64_t seed,
                       struct tasks *out) {
    *out = (struct tasks){.world = w,
                          .ids = is_test ? w->test : w->train,
                          .n_ids = is_test ? w->n_test : w->n_train,
                          .targets = targets};
    if (out->n_ids < targets || w->labels < 1) {
        return fail(ERR_DATA, "few-shot data: a user needs %lld pairs, the %s split has %lld",
                    (long long)targets, is_test ? "test" : "train", (long long)out->n_ids);
    }
    if (out->n_ids > UINT32_MAX) {
        return fail(ERR_DATA, "few-shot data: %lld pairs are more than 2^32", (long long)out->n_ids);
    }
    mt_seed_python(&out->draws, seed);
    enum status st = NEW_ARRAY(out->chosen, targets);
    st = st == OK ? NEW_ARRAY(out->scratch, out->n_ids) : st;
    st = st == OK ? NEW_ARRAY(out->seen, out->n_ids) : st;
    if (st != OK) {
        tasks_close(out);
    }
    return st;
}

void tasks_close(struct tasks *t) {
    mem_free(t->chosen);
    mem_free(t->scratch);
    mem_free(t->seen);
    *t = (struct tasks){0};
}

static int ascending(const void *x, const void *y) {
    int64_t a = *(const int64_t *)x;
    int64_t b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

/* CPython's random.sample has two ways, by the size of the set that the second would build. */
static bool uses_pool(int64_t n, int64_t k) {
    int64_t set_size = 21;
    if (k > 5) {
        int64_t power = 1;
        while (power < 3 * k) {
            power *= 4;
        }
        set_size += power;
    }
    return n <= set_size;
}

static void sample(struct tasks *t) {
    int64_t n = t->n_ids;
    if (uses_pool(n, t->targets)) {
        for (int64_t i = 0; i < n; i++) {
            t->scratch[i] = i;
        }
        for (int64_t i = 0; i < t->targets; i++) {
            int64_t j = mt_python_below(&t->draws, (uint32_t)(n - i));
            t->chosen[i] = t->scratch[j];
            t->scratch[j] = t->scratch[n - i - 1];
        }
        return;
    }
    for (int64_t i = 0; i < t->targets; i++) {
        int64_t j = mt_python_below(&t->draws, (uint32_t)n);
        while (t->seen[j]) {
            j = mt_python_below(&t->draws, (uint32_t)n);
        }
        t->seen[j] = 1;
        t->chosen[i] = j;
    }
    for (int64_t i = 0; i < t->targets; i++) {
        t->seen[t->chosen[i]] = 0;
    }
}

int64_t tasks_next(struct tasks *t) {
    int64_t label = mt_python_below(&t->draws, (uint32_t)t->world->labels);
    sample(t);
    for (int64_t i = 0; i < t->targets; i++) {
        t->chosen[i] = t->ids[t->chosen[i]];
    }
    qsort(t->chosen, (size_t)t->targets, sizeof *t->chosen, ascending);
    return label;
}

enum status users_open(const struct network *m, const struct few_shot_limits *limits, struct users *out) {
    *out = (struct users){0};
    int64_t pairs;
    int64_t noise;
    TRY(size_mul(limits->users, limits->targets, "pairs of a few-shot batch", &pairs));
    TRY(size_mul(limits->users * limits->samples, m->shape.latent ? m->shape.hidden : 0, "noise", &noise));
    enum status st = NEW_ARRAY(out->options, pairs * 2 * m->shape.width);
    st = st == OK ? NEW_ARRAY(out->noise, noise) : st;
    st = st == OK ? NEW_ARRAY(out->choices, pairs) : st;
    st = st == OK ? NEW_ARRAY(out->positions, limits->targets) : st;
    st = st == OK ? NEW_ARRAY(out->labels, limits->users) : st;
    if (st != OK) {
        users_close(out);
    }
    return st;
}

void users_close(struct users *u) {
    mem_free(u->options);
    mem_free(u->noise);
    mem_free(u->choices);
    mem_free(u->positions);
    mem_free(u->labels);
    *u = (struct users){0};
}

static void copy_row(const struct world *w, int64_t row, double *to) {
    for (int64_t j = 0; j < w->width; j++) {
        to[j] = w->values[row * w->width + j];
    }
}

static void keep_user(const struct tasks *t, int64_t label, int64_t user, struct users *u) {
    const struct world *w = t->world;
    u->labels[user] = label;
    for (int64_t i = 0; i < t->targets; i++) {
        int64_t pair = user * t->targets + i;
        copy_row(w, w->a[t->chosen[i]], u->options + 2 * pair * w->width);
        copy_row(w, w->b[t->chosen[i]], u->options + (2 * pair + 1) * w->width);
        u->choices[pair] = w->choices[label * w->pairs + t->chosen[i]];
    }
}

/* A permutation of the targets, of which the first k are the context: the same for all users of a batch. */
static void draw_positions(const struct few_shot_draw *draw, int64_t targets, int32_t *positions) {
    struct rng r = rng_stream(draw->seed, RNG_SHUFFLE, draw->context, draw->step);
    for (int64_t i = 0; i < targets; i++) {
        positions[i] = (int32_t)i;
    }
    for (int64_t i = 0; i < targets - 1; i++) {
        int64_t j = i + rng_below(&r, targets - i);
        int32_t at = positions[i];
        positions[i] = positions[j];
        positions[j] = at;
    }
}

static void draw_noise(const struct network *m, const struct few_shot_draw *draw, struct users *u) {
    int64_t h = m->shape.hidden;
    int64_t users = draw->mine.last - draw->mine.first;
    for (int64_t i = 0; i < draw->samples * users; i++) {
        int64_t row = i / users * draw->users + draw->mine.first + i % users;
        struct rng r = rng_stream(draw->seed, RNG_SAMPLE, row, draw->step);
        for (int64_t j = 0; j < h; j++) {
            u->noise[i * h + j] = rng_normal(&r);
        }
    }
}

void users_draw(const struct network *m, struct tasks *t, const struct few_shot_draw *draw, struct users *u) {
    for (int64_t i = 0; i < draw->users; i++) {
        int64_t label = tasks_next(t);
        if (i >= draw->mine.first && i < draw->mine.last) {
            keep_user(t, label, i - draw->mine.first, u);
        }
    }
    draw_positions(draw, t->targets, u->positions);
    if (m->shape.latent) {
        draw_noise(m, draw, u);
    }
    u->batch = (struct few_shot_batch){.users = draw->mine.last - draw->mine.first,
                                       .all_users = draw->users,
                                       .first_user = draw->mine.first,
                                       .targets = t->targets,
                                       .context = draw->context,
                                       .options = u->options,
                                       .choices = u->choices,
                                       .context_at = u->positions,
                                       .samples = draw->samples,
                                       .noise = u->noise,
                                       .seed = draw->seed,
                                       .step = draw->step};
}
