#include "steer/conditional.h"

#include <string.h>

#include "few_shot/tasks.h"
#include "score/work.h"
#include "steer/steer_source.h"
#include "util/mem.h"

struct job {
    const struct conditional_options *o;
    struct conditional *out;
    struct tasks tasks;
    int64_t next;               /* the draw that tasks makes next */
    int64_t choices;            /* of a draw, at most */
    int64_t *pairs, *rows;      /* of a draw: choices, then targets; the targets' rows in the view */
    float *embeddings;          /* (labels, k, 2, width) */
    double *reference, *policy; /* by target: how much more the first file's chosen is worth */
};

int conditional_at(const struct conditional *c, int count, int64_t label, enum conditional_pairs kind) {
    return (int)((count * (c->labels + 1) + label) * PAIRS_KINDS + (int)kind);
}

static enum status open_job(struct job *j) {
    const struct conditional_options *o = j->o;
    const struct world *w = o->world;
    j->choices = o->steering ? o->counts[o->n_counts - 1] : 0;
    int64_t n = j->choices + o->targets;
    TRY(tasks_open(w, w->n_test > 0, n, o->task_seed, &j->tasks)); /* files without splits: all pairs */
    TRY(NEW_ARRAY(j->pairs, n));
    TRY(NEW_ARRAY(j->rows, o->targets));
    TRY(NEW_ARRAY(j->embeddings, w->labels * j->choices * 2 * w->width));
    TRY(NEW_ARRAY(j->reference, o->targets));
    return NEW_ARRAY(j->policy, o->targets);
}

static void close_job(struct job *j) {
    tasks_close(&j->tasks);
    mem_free(j->pairs);
    mem_free(j->rows);
    mem_free(j->embeddings);
    mem_free(j->reference);
    mem_free(j->policy);
}

/* The pairs of a draw, in an order of its own: the first are choices. */
static enum status make_draw(struct job *j, int64_t draw) {
    const struct conditional_options *o = j->o;
    int64_t n = j->choices + o->targets;
    for (; j->next <= draw; j->next++) {
        (void)tasks_next(&j->tasks, 0);
    }
    memcpy(j->pairs, j->tasks.chosen, (size_t)n * sizeof *j->pairs);
    struct rng r = rng_stream(o->seed, RNG_SELECT, draw, -1);
    for (int64_t i = 0; i < n - 1; i++) {
        int64_t k = i + rng_below(&r, n - i), at = j->pairs[i];
        j->pairs[i] = j->pairs[k];
        j->pairs[k] = at;
    }
    for (int64_t i = 0; i < o->targets; i++) {
        int64_t row = o->world->first[j->pairs[j->choices + i]];
        j->rows[i] = view_place(o->view, row);
        if (j->rows[i] < 0) {
            return fail(ERR_DATA, "evaluate: pair %lld is left out of the view; users need whole rows",
                        (long long)row);
        }
    }
    return OK;
}

/* How much more each target's chosen response is worth than its rejected one, under one model. */
static enum status score_targets(struct scorer *scorer, struct sample *samples, int64_t n, int64_t limit,
                                 double *margins) {
    for (int64_t first = 0, last; first < n; first = last) {
        int64_t tokens = sample_tokens(&samples[first]);
        for (last = first + 1; last < n && tokens + sample_tokens(&samples[last]) <= limit; last++) {
            tokens += sample_tokens(&samples[last]);
        }
        TRY(scorer_run(scorer, samples + first, last - first));
        for (int64_t i = first; i < last; i++) {
            const struct response_score *of = &scorer->scores[scorer->first[i - first]];
            margins[i] = of[samples[i].pairs[0].chosen].logp - of[samples[i].pairs[0].rejected].logp;
        }
    }
    return OK;
}

static void count_targets(struct job *j, int count, int64_t label) {
    const struct world *w = j->o->world;
    struct ratios *r = &j->out->ratios;
    for (int64_t i = 0; i < j->o->targets; i++) {
        int64_t pair = j->pairs[j->choices + i];
        uint8_t first = w->choices[pair], own = w->choices[label * w->pairs + pair];
        bool conflicts = false;
        for (int64_t l = 1; l < w->labels; l++) {
            conflicts = conflicts || w->choices[l * w->pairs + pair] != first;
        }
        double margin = j->policy[i] - j->reference[i];
        double right = own == first ? margin > 0 : margin < 0;
        for (int kind = PAIRS_ALL; kind <= (conflicts ? PAIRS_CONFLICTING : PAIRS_ALL); kind++) {
            ratios_count(r, conditional_at(j->out, count, label, kind), right, 1);
            ratios_count(r, conditional_at(j->out, count, w->labels, kind), right * (double)w->labels, 1);
        }
    }
}

/* z of every label, from the first k choices. */
static enum status encode(struct job *j, int64_t k) {
    const struct world *w = j->o->world;
    for (int64_t label = 0; label < w->labels; label++) {
        steer_choices(w, label, j->pairs, k, j->embeddings + label * k * 2 * w->width);
    }
    return steering_encode(j->o->steering, w->labels, k, j->embeddings, NULL);
}

static enum status run_count(struct job *j, int count, struct sample *samples) {
    const struct conditional_options *o = j->o;
    int64_t k = o->steering ? o->counts[count] : 0, n = o->targets;
    if (o->steering) {
        TRY(encode(j, k));
        scorer_condition(o->policy, &o->steering->condition);
    }
    for (int64_t label = 0; label < o->world->labels; label++) {
        for (int64_t i = 0; i < n; i++) {
            samples[i].user = (int32_t)label;
        }
        /* Without choices all users are one. */
        TRY(label == 0 || k > 0 ? score_targets(o->policy, samples, n, o->micro_tokens, j->policy) : OK);
        count_targets(j, count, label);
    }
    return OK;
}

static enum status run_draw(struct job *j, int64_t draw) {
    const struct conditional_options *o = j->o;
    struct sample *samples = NULL;
    enum status st = OK;
    TRY(make_draw(j, draw));
    TRY(view_read(o->view, j->rows, o->targets, &samples, NULL));
    if (o->turn) {
        o->turn(o->turn_context, true);
    }
    st = score_targets(o->reference, samples, o->targets, o->micro_tokens, j->reference);
    if (o->turn) {
        o->turn(o->turn_context, false);
    }
    for (int i = 0; i < j->out->n_counts && st == OK; i++) {
        st = run_count(j, i, samples);
    }
    samples_free(samples);
    ratios_end_row(&j->out->ratios, draw);
    return st;
}

static enum status compute(void *context, const int64_t *units, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        TRY(run_draw(context, units[i]));
    }
    return OK;
}

static enum status write_nothing(void *context) {
    (void)context;
    return OK;
}

static enum status run_all(struct job *j) {
    struct work work = {.context = j,
                        .label = "evaluate",
                        .unit = "draws",
                        .phase = "evaluating from draw",
                        .n = j->o->draws,
                        .round = 8 * (int64_t)j->o->comm->size,
                        .compute = compute,
                        .write = write_nothing};
    TRY(work_run(j->o->comm, &work));
    return ratios_reduce(j->o->comm, &j->out->ratios);
}

enum status conditional_run(const struct conditional_options *o, struct conditional *out) {
    struct job j = {.o = o, .out = out};
    *out = (struct conditional){.labels = o->world->labels, .n_counts = o->steering ? o->n_counts : 1};
    memcpy(out->counts, o->counts, sizeof out->counts);
    out->counts[0] = o->steering ? o->counts[0] : 0;
    int n = conditional_at(out, out->n_counts, 0, PAIRS_ALL);
    enum status st = ratios_open(&o->intervals, n, &out->ratios);
    st = st == OK ? open_job(&j) : st;
    st = comm_agree(o->comm, st);
    for (int i = 0; i < out->n_counts && st == OK; i++) {
        ratios_are_shares(&out->ratios, conditional_at(out, i, 0, PAIRS_ALL), (int)out->labels * PAIRS_KINDS);
    }
    st = st == OK ? run_all(&j) : st;
    close_job(&j);
    return st;
}

void conditional_close(struct conditional *c) {
    ratios_close(&c->ratios);
}

/* [{"choices": k, "all": {…}, "conflicting": {…}}, …] */
static enum status print_label(const struct conditional *c, int64_t label, struct text *out) {
    static const char *const kinds[] = {"all", "conflicting"};
    static const char *const keys[2] = {"value", "pairs"};
    for (int i = 0; i < c->n_counts; i++) {
        TRY(text_printf(out, "%s{\"choices\": %lld", i == 0 ? "[" : ", ", (long long)c->counts[i]));
        for (int kind = 0; kind < PAIRS_KINDS; kind++) {
            TRY(text_puts(out, ", "));
            TRY(ratios_put_member(&c->ratios, kinds[kind], conditional_at(c, i, label, kind), keys, out));
        }
        TRY(text_puts(out, "}"));
    }
    return text_puts(out, "]");
}

enum status conditional_print(const struct conditional *c, const char *const *names, struct text *out) {
    TRY(text_puts(out, ", \"accuracy\": {"));
    for (int64_t label = 0; label < c->labels; label++) {
        TRY(text_puts(out, label == 0 ? "" : ", "));
        TRY(text_json(out, names[label], strlen(names[label])));
        TRY(text_puts(out, ": "));
        TRY(print_label(c, label, out));
    }
    TRY(text_puts(out, "}, \"sum\": "));
    return print_label(c, c->labels, out);
}
