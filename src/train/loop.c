#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/loop_internal.h"
#include "train/profile.h"
#include "util/clock.h"
#include "util/mem.h"

/* After the first step a rank may be silent for many times the last one. */
static const double allowed_steps = 20;

/* What the closing reduction carries beside the sums. */
enum closing {
    CLOSE_FAILED = SUM_COUNT,                     /* ranks that failed in this step */
    CLOSE_MEASURE,                                /* ranks that want a checkpoint to know what one takes */
    CLOSE_STOPS,                                  /* votes for each reason to stop */
    CLOSE_NEXT_TOKENS = CLOSE_STOPS + STOP_COUNT, /* scored target tokens of the next batch */
    CLOSE_SPANS,
    CLOSE_SQUARES = CLOSE_SPANS + SPAN_COUNT /* of the gradient: one sum, or a sum a grain; each rank adds to
                                                its own places, and likewise to the arrivals after them */
};

/* Seconds at which each rank arrived at the gradient sum: behind the squares. */
static double *arrivals(const struct loop *l) {
    return l->closing + CLOSE_SQUARES + l->n_squares;
}

static int64_t closing_values(const struct loop *l) {
    return CLOSE_SQUARES + l->n_squares + l->comm->size;
}

static void beat(struct loop *l, const char *phase) {
    char what[80];
    snprintf(what, sizeof what, "%s in step %lld", phase, (long long)l->state.step + 1);
    watchdog_allow(l->comm->watchdog, what, l->allowance_s);
}

/* Values and gradients of a forest's rows. Local. */
static enum status forest_values(struct loop *l, const struct forest_cut *cut, struct sums *sums) {
    const struct training *t = l->t;
    const struct batch *b = &l->batch;
    const struct denominators d = {(double)b->place.count, b->global_target_tokens};
    const struct scorer *scorer = &l->scorer;
    int64_t n = cut->last - cut->first;
    TRY(GROW_ARRAY(l->row_gradient, l->cap_row_gradient, scorer->first[n]));
    for (int64_t i = 0; i < n; i++) {
        const struct scored_row row = batch_scored(b, scorer, cut, cut->first + i);
        if (!recipe_row(t->recipe, &row, &d, &l->row_gradient[scorer->first[i]], sums)) {
            bool values = recipe_head(t->recipe) == HEAD_SCORE;
            return fail(ERR_DATA,
                        "step %lld: the loss of row %lld is not finite (%s %g and %g); lower "
                        "train.learning_rate or look at the row; the last checkpoint stays",
                        (long long)b->step + 1, (long long)row.sample->row,
                        values ? "values" : "log-probabilities",
                        values ? row.scores[0].value : row.scores[0].logp,
                        values ? row.scores[1].value : row.scores[1].logp);
        }
    }
    return OK;
}

/* Forward, scores, objective, backward of one forest. Local. */
static enum status forest_step(struct loop *l, int64_t cut_index, struct sums *sums) {
    const struct batch *b = &l->batch;
    const struct forest_cut *cut = &b->cuts[cut_index];
    /* Only the last backward makes gradients final, and only if no partial sums are merged after it. */
    bool is_last = cut_index == b->n_cuts - 1 && (!l->gradient.deterministic || l->n_slots == 1);
    double began = clock_seconds();
    beat(l, "running a forest");
    TRY(scorer_run(&l->scorer, b->samples + cut->first, cut->last - cut->first));
    evaluate_count_work(&l->scorer, 3, sums);
    TRY(forest_values(l, cut, sums));
    double middle = clock_seconds();
    TRY(scorer_backward(&l->scorer, l->row_gradient, is_last ? gradient_final : NULL, &l->gradient));
    l->spans[SPAN_FORWARD] += middle - began;
    l->spans[SPAN_BACKWARD] += clock_seconds() - middle;
    return OK;
}

static enum status slot_step(struct loop *l, int64_t slot, int64_t *next_cut) {
    struct sums sums = {0};
    for (; *next_cut < l->batch.n_cuts && l->batch.cuts[*next_cut].slot == slot; ++*next_cut) {
        TRY(forest_step(l, *next_cut, &sums));
    }
    sums_tree_push(&l->sums, &sums);
    return l->gradient.deterministic ? gradient_push(&l->gradient, slot == l->n_slots - 1) : OK;
}

/* Reads the batch after this one, while this one's buckets are under way. Local. */
static enum status read_next(struct loop *l) {
    double began = clock_seconds();
    enum status st = OK;
    if (l->batch.step + 1 < l->t->steps) {
        st = batch_read(l->t->data, l->batch.step + 1, &l->next);
    } else {
        batch_free(&l->next);
    }
    l->spans[SPAN_DATA] += clock_seconds() - began;
    return st;
}

static enum status squares_of(const struct loop *l, int64_t first, int64_t last, double *out) {
    struct tensor g = l->model->gradients;
    return last > first ? backend_sum_squares(l->model->backend, tensor_columns(g, first, last - first), out)
                        : OK;
}

/* This rank's part of the squared norm of the summed gradient: one sum in values[0], or, in deterministic
 * mode, grain by grain, so that the grains can be added in one order whoever summed them. Local. */
static enum status squared_norm(struct loop *l, double *values) {
    const struct shard_map *m = &l->shares;
    int64_t step = l->gradient.deterministic ? shard_grain(m->elements) : m->width;
    for (int64_t unit = 0, units = shard_units(m); unit < units; unit++) {
        struct range r = shard_range(m, unit, m->rank);
        for (int64_t first = r.first; first < r.last; first += step) {
            double squares = 0;
            TRY(squares_of(l, first, first + step < r.last ? first + step : r.last, &squares));
            values[l->gradient.deterministic ? first / step : 0] += squares;
        }
    }
    return OK;
}

static bool due(int64_t every, int64_t step) {
    return every > 0 && step % every == 0;
}

static void judge(struct loop *l, struct verdict *out) {
    const double *v = l->closing;
    const struct training *t = l->t;
    int64_t done = l->batch.step + 1;
    out->next_tokens = v[CLOSE_NEXT_TOKENS];
    memcpy(out->sums.v, v, sizeof out->sums.v);
    for (int i = 0; i < SPAN_COUNT; i++) {
        out->spans[i] = v[CLOSE_SPANS + i] / l->comm->size;
    }
    double squares = 0;
    for (int64_t i = 0; i < l->n_squares; i++) {
        squares += v[CLOSE_SQUARES + i];
    }
    out->grad_norm = sqrt(squares);
    out->learning_rate = t->optimizer->options.learning_rate *
                         schedule_multiplier(t->schedule, l->batch.step, t->warmup_steps, t->steps);
    out->straggler = stragglers_add(&l->stragglers, arrivals(l), done);
    for (int why = STOP_NO + 1; why < STOP_COUNT; why++) {
        out->stop = v[CLOSE_STOPS + why] > 0 ? (enum stop)why : out->stop;
    }
    bool is_last = done == t->steps, wants = out->stop != STOP_NO || v[CLOSE_MEASURE] > 0;
    out->want_evaluate = t->eval_data && out->stop == STOP_NO && (due(t->evaluate_every, done) || is_last);
    out->want_checkpoint =
        out->stop != STOP_TERM_TIGHT && (wants || due(t->checkpoint_every, done) || is_last);
}

/* What this rank says about ending the run after this step. Local. */
static void vote(const struct loop *l, double *v) {
    const struct training *t = l->t;
    int64_t next = l->batch.step + 2;
    const struct stop_facts facts = {.signal = comm_signal(),
                                     .signal_age_s = comm_signal_age(),
                                     .now = clock_wall(),
                                     .stop_at = l->batch.step + 1 < t->steps ? t->stop_at : 0,
                                     .step_s = clock_seconds() - l->step_began_s,
                                     .save_s = l->saved_s,
                                     .evaluate_s = due(t->evaluate_every, next) ? l->evaluated_s : 0};
    v[CLOSE_STOPS + stop_vote(&facts)] = 1;
    v[CLOSE_MEASURE] = stop_wants_measure(&facts, t->began);
}

/* Collective: one allreduce. st: how this rank's part of the step went. */
static enum status step_close(struct loop *l, enum status st, struct verdict *out) {
    double *v = l->closing;
    int64_t n = closing_values(l);
    memset(v, 0, (size_t)n * sizeof *v);
    if (st == OK) {
        st = squared_norm(l, &v[CLOSE_SQUARES]);
    }
    if (st == OK) {
        st = l->late_status;
    }
    memcpy(v, l->sums.total.v, sizeof l->sums.total.v);
    memcpy(v + CLOSE_SPANS, l->spans, sizeof l->spans);
    v[CLOSE_FAILED] = st != OK;
    vote(l, v);
    v[CLOSE_NEXT_TOKENS] = (double)l->next.target_tokens;
    arrivals(l)[l->comm->rank] = l->arrival_s;
    double began = clock_seconds();
    TRY(sums_reduce(l->comm, l->gradient.deterministic, v, n));
    out->closing_s = clock_seconds() - began;
    if (v[CLOSE_FAILED] > 0) {
        return comm_agree(l->comm, st);
    }
    judge(l, out);
    if (recipe_head(l->t->recipe) == HEAD_SCORE) {
        TRY(sums_extremes(l->comm, &l->sums.total));
        out->sums.lowest = l->sums.total.lowest;
        out->sums.highest = l->sums.total.highest;
    }
    if (!isfinite(out->grad_norm)) {
        return fail(ERR_DATA,
                    "step %lld: the gradient norm is not finite (places %lld to %lld of epoch %lld); lower "
                    "train.learning_rate or set train.clip; the last checkpoint stays",
                    (long long)l->batch.step + 1, (long long)l->batch.place.first,
                    (long long)(l->batch.place.first + l->batch.place.count - 1),
                    (long long)l->batch.place.epoch);
    }
    double now = clock_seconds();
    out->step_s = now - l->step_began_s;
    l->step_began_s = now;
    l->stragglers.elapsed_s += out->step_s;
    l->allowance_s = allowed_steps * out->step_s;
    return OK;
}

/* Clipping by the global norm, then the update: the same on every rank. Collective where sharded. */
static enum status update(struct loop *l, const struct verdict *v) {
    const struct training *t = l->t;
    double began = clock_seconds();
    double scale = t->clip > 0 ? fmin(1, t->clip / (v->grad_norm + 1e-6)) : 1; /* PyTorch's epsilon */
    double multiplier = schedule_multiplier(t->schedule, l->batch.step, t->warmup_steps, t->steps);
    enum status st = optimizer_update(t->optimizer, multiplier, scale);
    l->optimizer_s = clock_seconds() - began;
    if (optimizer_is_sharded(t->optimizer)) {
        beat(l, "gathering the parameters");
        st = parameters_gather(l->comm, t->optimizer, st);
        l->gather_s = clock_seconds() - began - l->optimizer_s;
    }
    l->state.step = l->batch.step + 1;
    l->state.sequence_tokens += v->sums.v[SUM_SEQUENCE_TOKENS];
    return st;
}

/* Collective: the hash of all parameters, a part on every rank. */
static enum status hash_parameters(struct loop *l) {
    struct range mine = range_part(model_hash_blocks(l->model), l->comm->rank, l->comm->size);
    enum status st = model_hash_part(l->model, mine.first, mine.last, &l->parameters_hash);
    TRY(comm_sum_u64(l->comm, &l->parameters_hash, 1));
    return st;
}

static enum status save_now(struct loop *l) {
    l->state.total = l->t->steps;
    double began = clock_seconds();
    watchdog_allow(l->comm->watchdog, "writing a checkpoint",
                   l->saved_s > 0 ? allowed_steps * l->saved_s : FIRST_ALLOWANCE_S);
    enum status st = l->late_status; /* nothing is saved of an update that failed */
    st = st == OK && l->comm->rank == 0 ? metrics_sync(&l->metrics) : st;
    TRY(comm_agree(l->comm, st));
    TRY(checkpoint_save(l->comm, &l->t->checkpoint, l->t->optimizer, &l->state));
    l->saved_s = clock_seconds() - began;
    l->saved_step = l->state.step;
    l->step_began_s = clock_seconds();
    return OK;
}

/* The next batch becomes the current one, with its denominators. */
static void take_next(struct loop *l, double target_tokens) {
    struct batch old = l->batch;
    l->batch = l->next;
    l->next = old;
    batch_free(&l->next);
    l->batch.global_target_tokens = target_tokens;
}

/* Collective: the first batch, whose denominators no closing has brought. */
static enum status first_batch(struct loop *l) {
    enum status st = batch_read(l->t->data, l->state.step, &l->next);
    TRY(comm_agree(l->comm, st));
    double tokens = (double)l->next.target_tokens;
    TRY(comm_sum_f64(l->comm, &tokens, 1));
    take_next(l, tokens);
    return OK;
}

static enum status stopped(const struct loop *l, enum stop why) {
    char text[256];
    stop_describe(why, l->state.step, l->saved_step, text, sizeof text);
    log_root(LOG_WARN, "%s", text);
    return fail(REQUEUE, "%s", text);
}

static enum status run_steps(struct loop *l) {
    while (l->state.step < l->t->steps) {
        memset(l->spans, 0, sizeof l->spans);
        sums_tree_begin(&l->sums, l->gradient.deterministic);
        enum status st = gradient_begin(&l->gradient);
        int64_t next_cut = 0;
        for (int64_t i = 0; i < l->n_slots && st == OK; i++) {
            st = slot_step(l, i, &next_cut); /* local; buckets leave in the last forest */
        }
        if (st == OK) {
            st = read_next(l); /* local; overlaps with the buckets */
        }
        beat(l, "waiting for the other ranks' gradients");
        enum status summed = gradient_finish(&l->gradient, &l->spans[SPAN_WAIT]); /* collective, always */
        l->arrival_s = clock_seconds() - l->step_began_s - l->spans[SPAN_WAIT];
        struct verdict verdict = {0};
        TRY(step_close(l, st == OK ? summed : st, &verdict)); /* collective: the step's one small sum */
        l->late_status = update(l, &verdict);
        if (l->gradient.deterministic) {
            enum status hashed = hash_parameters(l); /* collective */
            l->late_status = l->late_status == OK ? hashed : l->late_status;
        }
        loop_report(l, &verdict);
        if (verdict.want_evaluate) {
            TRY(loop_evaluate(l)); /* collective, agrees inside */
        }
        if (verdict.want_checkpoint) {
            TRY(save_now(l)); /* collective, agrees inside */
        }
        if (verdict.stop != STOP_NO) {
            return stopped(l, verdict.stop);
        }
        take_next(l, verdict.next_tokens);
    }
    return comm_agree(l->comm, l->late_status);
}

/* Collective. */
static enum status resume(struct loop *l) {
    const struct training *t = l->t;
    bool found = false;
    TRY(checkpoint_load(l->comm, &t->checkpoint, t->optimizer, &l->state, &found));
    if (found) {
        log_root(LOG_INFO, "going on after step %lld of %lld", (long long)l->state.step, (long long)t->steps);
        if (t->schedule != SCHEDULE_CONSTANT && l->state.total != t->steps) {
            return fail(
                ERR_USAGE,
                "train.schedule: the run was started for %lld steps and its rates depend on that; now "
                "it is %lld; set train.steps=%lld or start anew with train.resume=never",
                (long long)l->state.total, (long long)t->steps, (long long)l->state.total);
        }
    }
    l->start_step = l->state.step;
    l->saved_step = found ? l->state.step : -1;
    struct text path = {0};
    enum status st = OK;
    if (l->comm->rank == 0) {
        st = text_printf(&path, "%s/metrics.jsonl", t->checkpoint.run);
        st = st == OK ? metrics_open(path.data, found ? l->state.step : -1, &l->metrics) : st;
    }
    text_free(&path);
    return comm_agree(l->comm, st);
}

static enum status loop_run(struct loop *l) {
    const struct training *t = l->t;
    struct range mine = range_part(t->data->plan.slots, l->comm->rank, l->comm->size);
    bool deterministic = t->data->plan.deterministic;
    l->n_slots = deterministic ? mine.last - mine.first : 1;
    l->allowance_s = FIRST_ALLOWANCE_S;
    watchdog_allow(l->comm->watchdog, "opening the run", FIRST_ALLOWANCE_S);
    TRY(stragglers_open(l->comm, &l->stragglers));
    l->shares = shard_map_over(l->comm, l->model->arena_elements);
    l->n_squares = deterministic ? (l->shares.elements - 1) / shard_grain(l->shares.elements) + 1 : 1;
    TRY(comm_agree(l->comm, NEW_ARRAY(l->closing, closing_values(l))));
    TRY(resume(l));
    double profile_began = 0;
    if (t->profile) {
        TRY(profile_start(l->comm, l->model->backend, &profile_began));
    }
    const struct gradient_options options = {.slots = l->n_slots,
                                             .deterministic = deterministic,
                                             .bucket_bytes = t->bucket_bytes,
                                             .shards = t->optimizer->shards,
                                             .communication = t->communication};
    TRY(gradient_open(l->comm, l->model, &options, &l->gradient));
    TRY(comm_agree(l->comm, scorer_open(l->model, t->workspace, t->keep, &l->scorer)));
    if (t->eval_data && l->state.step == 0) {
        TRY(loop_evaluate(l));
    }
    if (l->state.step < t->steps) {
        TRY(first_batch(l));
    }
    progress_start(&l->progress, t->label, "steps", (double)(t->steps - l->start_step));
    l->step_began_s = clock_seconds();
    TRY(run_steps(l));
    progress_end(&l->progress, (double)(l->state.step - l->start_step));
    if (t->profile) {
        TRY(profile_report(l->comm, l->model->backend, profile_began, l->state.step, &l->metrics));
    }
    return l->saved_step == l->state.step ? OK : save_now(l);
}

enum status training_run(const struct training *t) {
    struct loop loop = {.t = t, .comm = t->comm, .model = t->optimizer->model};
    enum status st = loop_run(&loop);
    watchdog_phase(t->comm->watchdog, "ending the run");
    stragglers_report(&loop.stragglers);
    stragglers_close(&loop.stragglers);
    scorer_close(&loop.scorer);
    gradient_close(&loop.gradient);
    batch_free(&loop.batch);
    batch_free(&loop.next);
    metrics_close(&loop.metrics);
    mem_free(loop.row_gradient);
    mem_free(loop.closing);
    return st;
}
