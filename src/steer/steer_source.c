#include "steer/steer_source.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"

enum status steer_check_contexts(int64_t least, int64_t most, int64_t targets) {
    return least <= most && most <= targets
               ? OK
               : fail(ERR_USAGE,
                      "steer.context_min=%lld, steer.context_max=%lld: contexts are taken of a user's "
                      "steer.targets=%lld pairs; set them from least to most, and steer.targets to no less",
                      (long long)least, (long long)most, (long long)targets);
}

static enum status check(const struct batch_source *rows, const struct world *w,
                         const struct steer_options *o) {
    TRY(steer_check_contexts(o->context_min, o->context_max, o->targets));
    int64_t missing = 0;
    for (int64_t i = 0; i < w->n_train; i++) {
        missing += view_place(rows->view, w->first[w->train[i]]) < 0;
    }
    return missing == 0 ? OK
                        : fail(ERR_DATA,
                               "data: %lld of %lld pairs that all users have are left out of the view; users "
                               "need whole rows: set truncate.max_length higher",
                               (long long)missing, (long long)w->n_train);
}

enum status steer_source_open(const struct batch_source *rows, const struct world *w,
                              const struct steer_options *o, struct steer_source *out) {
    enum status st = OK;
    *out = (struct steer_source){.rows = rows, .world = w, .options = *o};
    TRY(check(rows, w, o));
    TRY(tasks_open(w, false, o->targets, o->task_seed, &out->tasks));
    TRY_TO(failed, NEW_ARRAY(out->places, o->users * o->targets));
    TRY_TO(failed, NEW_ARRAY(out->pairs, o->users * o->targets));
    TRY_TO(failed, NEW_ARRAY(out->labels, o->users));
    TRY_TO(failed, NEW_ARRAY(out->positions, o->targets));
    return OK;
failed:
    steer_source_close(out);
    return st;
}

void steer_source_close(struct steer_source *s) {
    tasks_close(&s->tasks);
    mem_free(s->places);
    mem_free(s->pairs);
    mem_free(s->labels);
    mem_free(s->positions);
    *s = (struct steer_source){0};
}

/* The users of a step: those of the steps before are drawn and forgotten. */
static enum status draw_users(struct steer_source *s, int64_t step) {
    const struct steer_options *o = &s->options;
    if (step < s->next) {
        tasks_close(&s->tasks);
        s->next = 0;
        TRY(tasks_open(s->world, false, o->targets, o->task_seed, &s->tasks));
    }
    for (; s->next <= step; s->next++) {
        for (int64_t i = 0; i < o->users; i++) {
            s->labels[i] = tasks_next(&s->tasks, 0);
            memcpy(s->pairs + i * o->targets, s->tasks.chosen, (size_t)o->targets * sizeof *s->pairs);
        }
    }
    for (int64_t i = 0; i < o->users * o->targets; i++) {
        s->places[i] = view_place(s->rows->view, s->world->first[s->pairs[i]]);
    }
    return OK;
}

/* k, and a permutation of the targets of which the first k are the context. */
static int64_t draw_context(struct steer_source *s, int64_t step) {
    const struct steer_options *o = &s->options;
    struct rng r = rng_stream(o->seed, RNG_SELECT, -1, step);
    int64_t k = o->context_min + rng_below(&r, o->context_max - o->context_min + 1);
    for (int64_t i = 0; i < o->targets; i++) {
        s->positions[i] = (int32_t)i;
    }
    for (int64_t i = 0; i < k; i++) {
        int64_t j = i + rng_below(&r, o->targets - i);
        int32_t at = s->positions[i];
        s->positions[i] = s->positions[j];
        s->positions[j] = at;
    }
    return k;
}

static uint8_t choice_of(const struct world *w, int64_t label, int64_t pair) {
    return w->choices[label * w->pairs + pair];
}

void steer_choices(const struct world *w, int64_t label, const int64_t *pairs, int64_t n, float *to) {
    for (int64_t i = 0; i < n; i++) {
        bool b_wins = choice_of(w, label, pairs[i]);
        const int64_t rows[] = {b_wins ? w->b[pairs[i]] : w->a[pairs[i]],
                                b_wins ? w->a[pairs[i]] : w->b[pairs[i]]};
        for (int side = 0; side < 2; side++) {
            memcpy(to + (2 * i + side) * w->width, w->values + rows[side] * w->width,
                   (size_t)w->width * sizeof *to);
        }
    }
}

/* All users' choices into b. */
static enum status put_choices(struct steer_source *s, int64_t k, struct batch *b) {
    const struct steer_options *o = &s->options;
    int64_t width = s->world->width;
    b->users = (struct batch_users){.n = o->users, .choices = k, .width = width};
    TRY(NEW_ARRAY(b->users.pairs, o->users * k * 2 * width));
    for (int64_t user = 0; user < o->users; user++) {
        for (int64_t i = 0; i < k; i++) {
            int64_t at = user * o->targets + s->positions[i];
            steer_choices(s->world, s->labels[user], &s->pairs[at], 1,
                          b->users.pairs + (user * k + i) * 2 * width);
        }
    }
    return OK;
}

void steer_turn(const struct world *w, int64_t label, int64_t pair, struct sample *sample) {
    struct sample_response chosen = sample->responses[0];
    if (choice_of(w, label, pair) != choice_of(w, 0, pair)) {
        sample->responses[0] = sample->responses[1];
        sample->responses[1] = chosen;
        sample->pairs->margin = NAN; /* the first file's */
    }
}

static void adjust(void *context, int64_t i, struct sample *sample) {
    const struct steer_source *s = context;
    sample->user = (int32_t)(i / s->options.targets);
    steer_turn(s->world, s->labels[sample->user], s->pairs[i], sample);
}

enum status steer_source_read(void *source, int64_t step, struct batch *b) {
    struct steer_source *s = source;
    int64_t n = s->options.users * s->options.targets;
    TRY(draw_users(s, step));
    const struct batch_rows rows = {.n = n, .rows = s->places, .adjust = adjust, .context = s};
    TRY(batch_read_rows(s->rows, step, &rows, b));
    return put_choices(s, draw_context(s, step), b);
}
