#include "train/loop.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/checkpoint_file.h"
#include "mpi/watchdog.h"
#include "train/bootstrap.h"
#include "train/metrics.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/mem.h"

/* Seconds of a step, on this rank. */
enum span { SPAN_FORWARD, SPAN_BACKWARD, SPAN_WAIT, SPAN_DATA, SPAN_COUNT };

/* Bootstrap resamples for the accuracy of an evaluation during training. */
enum { EVAL_RESAMPLES = 500 };

/* What a rank may take in silence: anything while nothing has been measured, then many times the last step.
 */
static const double first_allowance_s = 1800;
static const double allowed_steps = 20;

/* What the closing reduction carries beside the sums. */
enum closing {
    CLOSE_FAILED = SUM_COUNT, /* ranks that failed in this step */
    CLOSE_SIGNAL,             /* ranks that saw a signal */
    CLOSE_SQUARES,            /* squared gradient norm, this rank's part */
    CLOSE_NEXT_TOKENS,        /* scored target tokens of the next batch */
    CLOSE_SPANS,
    CLOSE_COUNT = CLOSE_SPANS + SPAN_COUNT
};

struct loop {
    const struct training *t;
    struct comm *comm;
    struct model *model;
    struct scorer scorer;
    struct gradient_sum gradient;
    struct batch batch, next;
    struct sums_tree sums;
    struct metrics_file metrics; /* rank 0 */
    enum status metrics_status;  /* rides in the next closing */
    struct progress progress;
    struct checkpoint_state state;
    int64_t n_slots, start_step, saved_step;
    double spans[SPAN_COUNT], step_began_s, optimizer_s;
    struct watchdog *watchdog;
    double allowance_s, saved_s; /* saved_s: what the last checkpoint took */
    double *row_gradient;        /* of a forest's samples */
    int64_t cap_row_gradient;
};

/* What all ranks know after the closing. */
struct verdict {
    struct sums sums;
    double grad_norm, learning_rate, step_s, next_tokens;
    double spans[SPAN_COUNT]; /* mean over ranks */
    bool want_evaluate, want_checkpoint, want_stop;
};

static void beat(struct loop *l, const char *phase) {
    char what[80];
    snprintf(what, sizeof what, "%s in step %lld", phase, (long long)l->state.step + 1);
    watchdog_allow(l->watchdog, what, l->allowance_s);
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

/* This rank's part of the squared norm of the summed gradient. In deterministic mode every rank takes all of
 * it, in one order. Local. */
static enum status squared_norm(struct loop *l, double *out) {
    struct tensor g = l->model->gradients;
    bool whole = l->gradient.deterministic;
    struct range part = range_part(g.columns, whole ? 0 : l->comm->rank, whole ? 1 : l->comm->size);
    *out = 0;
    if (part.last == part.first) {
        return OK;
    }
    return backend_sum_squares(l->model->backend, tensor_columns(g, part.first, part.last - part.first), out);
}

static bool due(int64_t every, int64_t step) {
    return every > 0 && step % every == 0;
}

static void judge(const struct loop *l, const double *v, struct verdict *out) {
    const struct training *t = l->t;
    int64_t done = l->batch.step + 1;
    *out = (struct verdict){.next_tokens = v[CLOSE_NEXT_TOKENS]};
    memcpy(out->sums.v, v, sizeof out->sums.v);
    for (int i = 0; i < SPAN_COUNT; i++) {
        out->spans[i] = v[CLOSE_SPANS + i] / l->comm->size;
    }
    double ranks_summed = l->gradient.deterministic ? l->comm->size : 1;
    out->grad_norm = sqrt(v[CLOSE_SQUARES] / ranks_summed);
    out->learning_rate = t->optimizer->options.learning_rate *
                         schedule_multiplier(t->schedule, l->batch.step, t->warmup_steps, t->steps);
    out->want_stop = v[CLOSE_SIGNAL] > 0;
    out->want_evaluate =
        t->eval_data && !out->want_stop && (due(t->evaluate_every, done) || done == t->steps);
    out->want_checkpoint = out->want_stop || due(t->checkpoint_every, done) || done == t->steps;
}

/* Collective: one allreduce. st: how this rank's part of the step went. */
static enum status step_close(struct loop *l, enum status st, struct verdict *out) {
    double v[CLOSE_COUNT] = {0};
    if (st == OK) {
        st = squared_norm(l, &v[CLOSE_SQUARES]);
    }
    if (st == OK) {
        st = l->metrics_status;
    }
    memcpy(v, l->sums.total.v, sizeof l->sums.total.v);
    memcpy(v + CLOSE_SPANS, l->spans, sizeof l->spans);
    v[CLOSE_FAILED] = st != OK;
    v[CLOSE_SIGNAL] = comm_signal() != 0;
    v[CLOSE_NEXT_TOKENS] = (double)l->next.target_tokens;
    TRY(sums_reduce(l->comm, l->gradient.deterministic, v, CLOSE_COUNT));
    if (v[CLOSE_FAILED] > 0) {
        return comm_agree(l->comm, st);
    }
    judge(l, v, out);
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
    l->allowance_s = allowed_steps * out->step_s;
    return OK;
}

/* Clipping by the global norm, then the update: the same on every rank. Local. */
static enum status update(struct loop *l, const struct verdict *v) {
    const struct training *t = l->t;
    double began = clock_seconds();
    double scale = t->clip > 0 ? fmin(1, t->clip / (v->grad_norm + 1e-6)) : 1; /* PyTorch's epsilon */
    double multiplier = schedule_multiplier(t->schedule, l->batch.step, t->warmup_steps, t->steps);
    enum status st = optimizer_update(t->optimizer, multiplier, scale);
    l->optimizer_s = clock_seconds() - began;
    l->state.step = l->batch.step + 1;
    l->state.sequence_tokens += v->sums.v[SUM_SEQUENCE_TOKENS];
    return st;
}

static enum status put_speed(const struct loop *l, const struct verdict *v, struct text *line) {
    static const char *const names[SPAN_COUNT] = {"time/forward", "time/backward", "time/wait", "time/data"};
    double seconds = v->step_s > 0 ? v->step_s : 1e-9;
    TRY(metrics_put(line, "", "tokens_per_s", v->sums.v[SUM_FOREST_TOKENS] / seconds));
    char rate[32];
    snprintf(rate, sizeof rate, "%s_per_s", recipe_rows(l->t->recipe));
    TRY(metrics_put(line, "", rate, v->sums.v[SUM_ROWS] / seconds));
    if (l->t->peak_flops > 0) {
        TRY(metrics_put(line, "", "mfu", v->sums.v[SUM_FLOPS] / seconds / l->t->peak_flops));
    }
    TRY(metrics_put(line, "", "padding", 0));
    TRY(metrics_put(line, "", "time/step", v->step_s));
    for (int i = 0; i < SPAN_COUNT; i++) {
        TRY(metrics_put(line, "", names[i], v->spans[i]));
    }
    return metrics_put(line, "", "time/optimizer", l->optimizer_s);
}

static enum status step_line(struct loop *l, const struct verdict *v, struct text *line) {
    const struct batch_plan *plan = &l->t->data->plan;
    int64_t places = l->batch.place.first + l->batch.place.count;
    TRY(text_printf(line, "{\"step\": %lld", (long long)l->state.step));
    TRY(metrics_put_sums(line, "", l->t->recipe, &v->sums));
    TRY(metrics_put(line, "", "grad_norm", v->grad_norm));
    TRY(metrics_put(line, "", "learning_rate", v->learning_rate));
    TRY(metrics_put(line, "", "num_tokens", l->state.sequence_tokens));
    TRY(metrics_put(line, "", "epoch", (double)l->batch.place.epoch + (double)places / (double)plan->rows));
    TRY(put_speed(l, v, line));
    if (plan->deterministic) {
        uint64_t hash;
        char digits[17];
        TRY(model_hash(l->model, &hash));
        hash_text(hash, digits);
        TRY(text_printf(line, ", \"parameters_hash\": \"%s\"", digits));
    }
    return OK;
}

/* Local: rank 0 writes; a failure is reported by the next closing. */
static void metrics_step(struct loop *l, const struct verdict *v) {
    if (l->comm->rank != 0) {
        return;
    }
    struct text line = {0};
    enum status st = step_line(l, v, &line);
    l->metrics_status = st == OK ? metrics_write(&l->metrics, &line) : st;
    text_free(&line);
    if (l->state.step == 1 && recipe_head(l->t->recipe) == HEAD_SCORE) {
        const double *sum = v->sums.v;
        log_root(LOG_INFO,
                 "before the first update: loss %.4f, rewards %.3f to %.3f, mean %.3f, margin %.4f, accuracy "
                 "%.3f on %.0f pairs",
                 recipe_value(l->t->recipe, &v->sums), v->sums.lowest, v->sums.highest,
                 sum[SUM_VALUES] / sum[SUM_RESPONSES],
                 (sum[SUM_REWARD_CHOSEN] - sum[SUM_REWARD_REJECTED]) / sum[SUM_PAIRS],
                 sum[SUM_ACCURATE] / sum[SUM_PAIRS], sum[SUM_PAIRS]);
    }
    char extra[64];
    snprintf(extra, sizeof extra, "loss %.4f, grad norm %.3g", recipe_value(l->t->recipe, &v->sums),
             v->grad_norm);
    progress_update(&l->progress, (double)(l->state.step - l->start_step), extra);
}

/* Accuracy of a reward model over evaluated rows, with its interval. */
struct eval_accuracy {
    struct bootstrap bootstrap;
    double low, high;
};

static void add_accuracy(void *context, const struct scored_row *row) {
    struct eval_accuracy *a = context;
    double accurate = 0;
    double pairs = row->sample->n_pairs;
    for (int32_t i = 0; i < row->sample->n_pairs; i++) {
        const struct sample_pair *p = &row->sample->pairs[i];
        accurate += row->scores[p->chosen].value > row->scores[p->rejected].value;
    }
    bootstrap_add(&a->bootstrap, row->sample->row, &accurate, &pairs);
}

static enum status eval_line(struct loop *l, const struct sums *sums, const struct eval_accuracy *accuracy,
                             double seconds) {
    if (l->comm->rank != 0) {
        return OK;
    }
    struct text line = {0};
    enum status st;
    TRY_TO(done, text_printf(&line, "{\"step\": %lld", (long long)l->state.step));
    TRY_TO(done, metrics_put_sums(&line, "eval_", l->t->recipe, sums));
    if (recipe_head(l->t->recipe) == HEAD_SCORE) {
        TRY_TO(done, metrics_put(&line, "eval_", "accuracy_low", accuracy->low));
        TRY_TO(done, metrics_put(&line, "eval_", "accuracy_high", accuracy->high));
    }
    TRY_TO(done, metrics_put(&line, "eval_", "rows", sums->v[SUM_ROWS]));
    TRY_TO(done, metrics_put(&line, "eval_", "runtime", seconds));
    TRY_TO(done, metrics_write(&l->metrics, &line));
done:
    text_free(&line);
    return st;
}

static void log_evaluation(const struct loop *l, const struct sums *sums, const struct eval_accuracy *a) {
    const struct training *t = l->t;
    const double *v = sums->v;
    bool values = recipe_head(t->recipe) == HEAD_SCORE;
    double pairs = values ? v[SUM_PAIRS] : v[SUM_ROWS];
    struct text line = {0};
    enum status st = text_printf(&line, "step %lld: eval loss %.4f", (long long)l->state.step,
                                 recipe_value(t->recipe, sums));
    if (st == OK && (values || t->recipe->has_reference) && pairs > 0) {
        st = text_printf(&line, ", margin %.4f, accuracy %.3f",
                         (v[SUM_REWARD_CHOSEN] - v[SUM_REWARD_REJECTED]) / pairs, v[SUM_ACCURATE] / pairs);
    }
    if (st == OK && values) {
        st = text_printf(&line, " (%.3f to %.3f), rewards %.3f to %.3f, mean %.3f", a->low, a->high,
                         sums->lowest, sums->highest, v[SUM_VALUES] / v[SUM_RESPONSES]);
    }
    if (st == OK) {
        log_root(LOG_INFO, "%s on %.0f rows", line.data, v[SUM_ROWS]);
    }
    text_free(&line);
}

/* Collective. Sums over the evaluation's rows, and a reward model's accuracy. */
static enum status evaluate_sums(struct loop *l, struct sums *sums, struct eval_accuracy *a) {
    const struct training *t = l->t;
    bool values = recipe_head(t->recipe) == HEAD_SCORE;
    struct scorer scorer = {0};
    enum status st = bootstrap_open(t->eval_data->plan.seed, values ? EVAL_RESAMPLES : 0, 1, &a->bootstrap);
    st = st == OK ? scorer_open(l->model, t->workspace, KEEP_NOTHING, &scorer) : st;
    TRY_TO(done, comm_agree(l->comm, st));
    TRY_TO(done,
           evaluate_rows(l->comm, &scorer, t->eval_data, t->recipe, values ? add_accuracy : NULL, a, sums));
    TRY_TO(done, bootstrap_intervals(l->comm, &a->bootstrap, 0.95, &a->low, &a->high));
done:
    scorer_close(&scorer);
    bootstrap_close(&a->bootstrap);
    return st;
}

/* Collective. The scorer is opened anew because a training pass holds the workspace. */
static enum status evaluate_now(struct loop *l) {
    const struct training *t = l->t;
    double began = clock_seconds();
    struct eval_accuracy accuracy = {0};
    struct sums sums;
    watchdog_allow(l->watchdog, "evaluating", first_allowance_s);
    scorer_close(&l->scorer);
    TRY(evaluate_sums(l, &sums, &accuracy));
    enum status st = eval_line(l, &sums, &accuracy, clock_seconds() - began);
    if (st == OK) {
        st = scorer_open(l->model, t->workspace, t->keep, &l->scorer);
    }
    TRY(comm_agree(l->comm, st));
    log_evaluation(l, &sums, &accuracy);
    l->step_began_s = clock_seconds();
    return OK;
}

static enum status save_now(struct loop *l) {
    l->state.total = l->t->steps;
    double began = clock_seconds();
    watchdog_allow(l->watchdog, "writing a checkpoint",
                   l->saved_s > 0 ? allowed_steps * l->saved_s : first_allowance_s);
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
        struct verdict verdict = {0};
        TRY(step_close(l, st == OK ? summed : st, &verdict)); /* collective: the step's one small sum */
        TRY(update(l, &verdict));
        metrics_step(l, &verdict);
        if (verdict.want_evaluate) {
            TRY(evaluate_now(l)); /* collective, agrees inside */
        }
        if (verdict.want_checkpoint) {
            TRY(save_now(l)); /* collective, agrees inside */
        }
        if (verdict.want_stop) {
            log_root(LOG_WARN, "stopped on a signal after step %lld; run the same command again to go on",
                     (long long)l->state.step);
            return fail(REQUEUE, "stopped on a signal after step %lld", (long long)l->state.step);
        }
        take_next(l, verdict.next_tokens);
    }
    return comm_agree(l->comm, l->metrics_status);
}

/* Collective. */
static enum status resume(struct loop *l) {
    const struct training *t = l->t;
    bool found = false;
    if (t->never_resume) {
        TRY(checkpoint_prune(l->comm, t->checkpoint.run, 0));
    } else {
        TRY(checkpoint_load(l->comm, &t->checkpoint, t->optimizer, &l->state, &found));
    }
    if (t->must_resume && !found) {
        return fail(ERR_INPUT, "train.resume=must: %s/checkpoints holds no checkpoint", t->checkpoint.run);
    }
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
    l->allowance_s = first_allowance_s;
    TRY(comm_agree(l->comm, watchdog_start(l->comm, t->watchdog_s, &l->watchdog)));
    watchdog_allow(l->watchdog, "opening the run", first_allowance_s);
    TRY(resume(l));
    TRY(gradient_open(l->comm, l->model, l->n_slots, deterministic, t->bucket_bytes, &l->gradient));
    TRY(comm_agree(l->comm, scorer_open(l->model, t->workspace, t->keep, &l->scorer)));
    if (t->eval_data && l->state.step == 0) {
        TRY(evaluate_now(l));
    }
    if (l->state.step < t->steps) {
        TRY(first_batch(l));
    }
    progress_start(&l->progress, t->label, "steps", (double)(t->steps - l->start_step));
    l->step_began_s = clock_seconds();
    TRY(run_steps(l));
    progress_end(&l->progress, (double)(l->state.step - l->start_step));
    return l->saved_step == l->state.step ? OK : save_now(l);
}

enum status training_run(const struct training *t) {
    struct loop loop = {.t = t, .comm = t->comm, .model = t->optimizer->model};
    enum status st = loop_run(&loop);
    watchdog_stop(loop.watchdog);
    scorer_close(&loop.scorer);
    gradient_close(&loop.gradient);
    batch_free(&loop.batch);
    batch_free(&loop.next);
    metrics_close(&loop.metrics);
    mem_free(loop.row_gradient);
    return st;
}
