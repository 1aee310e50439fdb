#include "few_shot/tasks.h"

#include <stdlib.h>

#include "util/mem.h"

enum status tasks_open(const struct world *w, bool is_test, int64_t targets, uint64_t seed,
                       struct tasks *out) {
    *out = (struct tasks){.world = w,
                          .ids = is_test ? w->test : w->train,
                          .n_ids = is_test ? w->n_test : w->n_train,
                          .targets = targets,
                          .n_shown = is_test ? w->n_shown_test : w->n_shown_train};
    out->shown_ids = w->n_shown_train + w->n_shown_test > 0 ? is_test ? w->shown_test : w->shown_train : NULL;
    if (out->n_ids < targets || w->labels < 1) {
        return fail(ERR_DATA, "few-shot data: a user needs %lld pairs, the %s split has %lld",
                    (long long)targets, is_test ? "test" : "train", (long long)out->n_ids);
    }
    if (out->shown_ids && out->n_shown < targets) {
        return fail(ERR_DATA,
                    "few-shot data: contexts need up to %lld pairs, the %s split of theirs has %lld",
                    (long long)targets, is_test ? "test" : "train", (long long)out->n_shown);
    }
    if (out->n_ids > UINT32_MAX || out->n_shown > UINT32_MAX) {
        return fail(ERR_DATA, "few-shot data: %lld pairs are more than 2^32", (long long)out->n_ids);
    }
    mt_seed_python(&out->draws, seed);
    enum status st = NEW_ARRAY(out->chosen, targets);
    int64_t most = out->n_ids > out->n_shown ? out->n_ids : out->n_shown;
    st = st == OK ? NEW_ARRAY(out->shown, targets) : st;
    st = st == OK ? NEW_ARRAY(out->scratch, most) : st;
    st = st == OK ? NEW_ARRAY(out->seen, most) : st;
    if (st != OK) {
        tasks_close(out);
    }
    return st;
}

void tasks_close(struct tasks *t) {
    mem_free(t->chosen);
    mem_free(t->shown);
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

/* k of n places, into out. */
static void sample(struct tasks *t, int64_t n, int64_t k, int64_t *out) {
    if (uses_pool(n, k)) {
        for (int64_t i = 0; i < n; i++) {
            t->scratch[i] = i;
        }
        for (int64_t i = 0; i < k; i++) {
            int64_t j = mt_python_below(&t->draws, (uint32_t)(n - i));
            out[i] = t->scratch[j];
            t->scratch[j] = t->scratch[n - i - 1];
        }
        return;
    }
    for (int64_t i = 0; i < k; i++) {
        int64_t j = mt_python_below(&t->draws, (uint32_t)n);
        while (t->seen[j]) {
            j = mt_python_below(&t->draws, (uint32_t)n);
        }
        t->seen[j] = 1;
        out[i] = j;
    }
    for (int64_t i = 0; i < k; i++) {
        t->seen[out[i]] = 0;
    }
}

int64_t tasks_next(struct tasks *t, int64_t context) {
    int64_t label = mt_python_below(&t->draws, (uint32_t)t->world->labels);
    sample(t, t->n_ids, t->targets, t->chosen);
    for (int64_t i = 0; i < t->targets; i++) {
        t->chosen[i] = t->ids[t->chosen[i]];
    }
    qsort(t->chosen, (size_t)t->targets, sizeof *t->chosen, ascending);
    if (t->shown_ids) {
        sample(t, t->n_shown, context, t->shown);
    }
    for (int64_t i = 0; i < context && t->shown_ids; i++) {
        t->shown[i] = t->shown_ids[t->shown[i]];
    }
    return label;
}

enum status users_open(const struct network *m, const struct world *w, const struct few_shot_limits *limits,
                       struct users *out) {
    *out = (struct users){0};
    int64_t pairs;
    int64_t noise;
    TRY(size_mul(limits->users, limits->targets, "pairs of a few-shot batch", &pairs));
    TRY(size_mul(limits->users * limits->samples, m->shape.latent ? m->shape.hidden : 0, "noise", &noise));
    enum status st = NEW_ARRAY(out->options, pairs * 2 * m->shape.width);
    st = st == OK ? NEW_ARRAY(out->noise, noise) : st;
    st = st == OK ? NEW_ARRAY(out->choices, pairs) : st;
    if (w->n_shown_train + w->n_shown_test > 0) {
        st = st == OK ? NEW_ARRAY(out->shown, pairs * 2 * m->shape.width) : st;
        st = st == OK ? NEW_ARRAY(out->shown_choices, pairs) : st;
    }
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
    mem_free(u->shown);
    mem_free(u->shown_choices);
    mem_free(u->positions);
    mem_free(u->labels);
    *u = (struct users){0};
}

static void copy_row(const struct world *w, int64_t row, double *to) {
    for (int64_t j = 0; j < w->width; j++) {
        to[j] = w->values[row * w->width + j];
    }
}

static void copy_pair(const struct world *w, int64_t pair, int64_t label, double *options, uint8_t *choice) {
    copy_row(w, w->a[pair], options);
    copy_row(w, w->b[pair], options + w->width);
    *choice = w->choices[label * w->pairs + pair];
}

static void keep_user(const struct tasks *t, int64_t label, int64_t user, int64_t context, struct users *u) {
    const struct world *w = t->world;
    u->labels[user] = label;
    for (int64_t i = 0; i < t->targets; i++) {
        int64_t at = user * t->targets + i;
        copy_pair(w, t->chosen[i], label, u->options + 2 * at * w->width, &u->choices[at]);
    }
    for (int64_t i = 0; i < context && t->shown_ids; i++) {
        int64_t at = user * context + i;
        copy_pair(w, t->shown[i], label, u->shown + 2 * at * w->width, &u->shown_choices[at]);
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
        int64_t label = tasks_next(t, draw->context);
        if (i >= draw->mine.first && i < draw->mine.last) {
            keep_user(t, label, i - draw->mine.first, draw->context, u);
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
                                       .shown = u->shown,
                                       .shown_choices = u->shown_choices,
                                       .samples = draw->samples,
                                       .noise = u->noise,
                                       .seed = draw->seed,
                                       .step = draw->step};
}
